"""One phone's critical section: what sending and guessing have in common."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlmodel import Session

from notifyctl.clock import Clock
from notifyctl.models.audit import AuditAction
from notifyctl.models.otp import OtpAction, OtpState
from notifyctl.orchestrator.code_pipe import CodePipe
from notifyctl.orchestrator.withdrawal import withdraw
from notifyctl.orchestrator.words import iso
from notifyctl.otp.codes import PepperRing
from notifyctl.otp.standing import Limits, Standing, merged
from notifyctl.settings import Settings
from notifyctl.store import audit
from notifyctl.store import otp as store
from notifyctl.store.messages import Filter

SOURCE = "otp"


@dataclass(frozen=True, slots=True)
class Desk:
    """What every visit needs."""

    settings: Settings
    clock: Clock
    pipe: CodePipe
    peppers: PepperRing

    @property
    def limits(self) -> Limits:
        return Limits(self.settings.otp_max_attempts, timedelta(seconds=self.settings.otp_lockout_seconds))


class Visit:
    """`run` reads and writes in the caller's transaction, which is to be committed whatever it returns."""

    def __init__(self, desk: Desk, session: Session, phone: str, action: OtpAction, actor: str) -> None:
        self._desk = desk
        self._session = session
        self._phone = phone
        self._action = action
        self._actor = actor
        self._hashes = desk.peppers.phone_hashes(phone)
        self._phone_hash = next(iter(self._hashes))
        self._now = desk.clock()

    def _enter(self, rows: Any) -> Standing:
        """After the lock: the clock is read again, since the wait for it takes time."""
        self._now = self._desk.clock()
        return merged(rows).at(self._now)

    def _write(self, standing: Standing) -> None:
        store.write_standing(self._session, self._hashes, asdict(standing), now=self._now)

    def _end_live_codes(self, state: OtpState, detail: str, action: OtpAction | None = None) -> None:
        """Their messages are withdrawn where they have not gone out."""
        ended = store.end(self._session, self._hashes, state, now=self._now, action=action)
        if ended:
            withdraw(self._session, Filter(ids=ended), detail, actor=self._actor, now=self._now)

    def _record(self, what: AuditAction, message_id: str | None = None, **details: Any) -> None:
        about = {"phone_hash": self._phone_hash, "action": self._action, **details}
        audit.write(self._session, what, actor=self._actor, now=self._now, message_id=message_id, details=about)


def told(standing: Standing) -> dict[str, Any]:
    if standing.hard_locked_at is not None or standing.locked_until is None:
        return {"until": None, "consecutive_failures": standing.consecutive_failures}
    return {"until": iso(standing.locked_until)}
