"""What a phone has failed so far, and what one more attempt makes of it; and the critical section around a phone.

The count belongs to the phone, not to a code: a new code brings no new guesses (NIST SP 800-63B-4, 3.1.3.2), and no
more than a hundred may fail in a row over all locks (3.2.2).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.log import NewAuditRow
from notifyctl.clock import Clock
from notifyctl.models.enums import AuditAction, OtpAction, OtpState
from notifyctl.orchestrator.cancel import withdraw
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.orchestrator.orchestrator import CodePipe
from notifyctl.otp import store
from notifyctl.otp.codes import PepperRing
from notifyctl.otp.store import CodeRow, PhoneFailures
from notifyctl.settings import Settings
from notifyctl.text.durations import iso

MAX_CONSECUTIVE_FAILURES = 100
CLOCK_SET_BACK = timedelta(seconds=60)
"""A code that was made longer than this after now is not believed."""
SOURCE = "otp"


@dataclass(frozen=True, slots=True)
class LockPolicy:
    max_attempts: int
    lockout: timedelta


@dataclass(frozen=True, slots=True)
class PhoneState(PhoneFailures):
    def is_locked(self, now: datetime) -> bool:
        return self.hard_locked_at is not None or (self.locked_until is not None and now < self.locked_until)

    def at(self, now: datetime) -> "PhoneState":
        """A lock that has ended gives back the guesses; the count over all locks stays."""
        if self.locked_until is None or now < self.locked_until:
            return self
        return replace(self, failed_count=0, locked_until=None)

    def attempted(self) -> "PhoneState":
        """Counted before the code is compared."""
        return replace(self, failed_count=self.failed_count + 1, consecutive_failures=self.consecutive_failures + 1)

    def failed(self, now: datetime, policy: LockPolicy) -> "PhoneState":
        """What the attempt that was counted leads to when the code was wrong."""
        until = now + policy.lockout if self.failed_count >= policy.max_attempts else None
        hard = now if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES else None
        return replace(self, locked_until=until, hard_locked_at=hard)


CLEAN = PhoneState()


def merged(rows: Collection[PhoneFailures]) -> PhoneState:
    """The worst of a phone's rows. It has one for each pepper while peppers are being exchanged."""
    return PhoneState(
        failed_count=max((row.failed_count for row in rows), default=0),
        consecutive_failures=max((row.consecutive_failures for row in rows), default=0),
        locked_until=max((row.locked_until for row in rows if row.locked_until), default=None),
        hard_locked_at=max((row.hard_locked_at for row in rows if row.hard_locked_at), default=None),
    )


def is_open(code: CodeRow, now: datetime) -> bool:
    """Whether a live code may still be used."""
    return code.created_at - CLOCK_SET_BACK <= now < code.expires_at


@dataclass(frozen=True, slots=True)
class OtpServices:
    """What sending and verifying need."""

    settings: Settings
    clock: Clock
    pipe: CodePipe
    peppers: PepperRing

    @property
    def lock_policy(self) -> LockPolicy:
        return LockPolicy(self.settings.otp_max_attempts, timedelta(seconds=self.settings.otp_lockout_seconds))


class PhoneSession:
    """`run` reads and writes in the caller's transaction, which is to be committed whatever it returns."""

    def __init__(self, services: OtpServices, session: Session, phone: str, action: OtpAction, actor: str) -> None:
        self._services = services
        self._session = session
        self._phone = phone
        self._action = action
        self._actor = actor
        self._hashes = services.peppers.phone_hashes(phone)
        self._phone_hash = next(iter(self._hashes))
        self._now = services.clock()

    def _enter(self, rows: Collection[PhoneFailures]) -> PhoneState:
        """After the lock: the clock is read again, since the wait for it takes time."""
        self._now = self._services.clock()
        return merged(rows).at(self._now)

    def _end_live_codes(self, state: OtpState, detail: str, action: OtpAction | None = None) -> None:
        """Their messages are withdrawn where they have not gone out."""
        ended = store.end(self._session, self._hashes, state, now=self._now, action=action)
        if ended:
            withdraw(self._session, MessageFilter(ids=ended), detail, actor=self._actor, now=self._now)

    def _record(self, what: AuditAction, message_id: str | None = None, /, **details: object) -> None:
        audit_log.write_many(self._session, [self._entry(what, message_id, **details)])

    def _entry(self, what: AuditAction, message_id: str | None, /, **details: object) -> NewAuditRow:
        details = {"phone_hash": self._phone_hash, "action": self._action, **details}
        return audit_log.entry(what, actor=self._actor, now=self._now, message_id=message_id, details=details)


def lock_details(state: PhoneState) -> dict[str, object]:
    if state.hard_locked_at is not None or state.locked_until is None:
        return {"until": None, "consecutive_failures": state.consecutive_failures}
    return {"until": iso(state.locked_until)}
