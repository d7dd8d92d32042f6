"""One phone's critical section: what sending and verifying have in common."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlmodel import Session

from notifyctl.clock import Clock
from notifyctl.models.enums import AuditAction, OtpAction, OtpState
from notifyctl.orchestrator.code_pipe import CodePipe
from notifyctl.orchestrator.withdrawal import withdraw
from notifyctl.orchestrator.words import iso
from notifyctl.otp.codes import PepperRing
from notifyctl.otp.phone_state import LockPolicy, PhoneState, merged
from notifyctl.settings import Settings
from notifyctl.store import audit
from notifyctl.store import otp as store
from notifyctl.store.messages import Filter
from notifyctl.store.otp import PhoneFailures

SOURCE = "otp"


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

    def _write(self, state: PhoneState) -> None:
        store.write_phone(self._session, self._hashes, state, now=self._now)

    def _end_live_codes(self, state: OtpState, detail: str, action: OtpAction | None = None) -> None:
        """Their messages are withdrawn where they have not gone out."""
        ended = store.end(self._session, self._hashes, state, now=self._now, action=action)
        if ended:
            withdraw(self._session, Filter(ids=ended), detail, actor=self._actor, now=self._now)

    def _record(self, what: AuditAction, message_id: str | None = None, /, **details: object) -> None:
        details = {"phone_hash": self._phone_hash, "action": self._action, **details}
        audit.write(self._session, what, actor=self._actor, now=self._now, message_id=message_id, details=details)


def lock_details(state: PhoneState) -> dict[str, object]:
    if state.hard_locked_at is not None or state.locked_until is None:
        return {"until": None, "consecutive_failures": state.consecutive_failures}
    return {"until": iso(state.locked_until)}
