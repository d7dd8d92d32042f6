"""One-time codes by SMS, for everyone who offers them: the HTTP shim, a host application, an operator.

Everything about a phone happens in one critical section of its own: its rows are locked, then counts are read, then
the decision is written, and committed also when it is a refusal. The caller gets its answer after the commit.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.log import NewAuditRow
from notifyctl.clients.plans import PlanRegistry
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError, InvalidInput
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, OtpAction, OtpState
from notifyctl.operations.store_state import Mark
from notifyctl.operations.witness import Witness
from notifyctl.orchestrator.orchestrator import CodePipe
from notifyctl.orchestrator.requests import Decision
from notifyctl.otp import store
from notifyctl.otp.codes import PepperRing
from notifyctl.otp.phone_state import (
    CLEAN,
    SOURCE,
    OtpServices,
    PhoneSession,
    PhoneState,
    is_open,
    lock_details,
    merged,
)
from notifyctl.otp.send import SendCode
from notifyctl.otp.store import CodeRow
from notifyctl.settings import Settings
from notifyctl.templates.context import kind_of
from notifyctl.text.addresses import AddressError, normal_phone
from notifyctl.text.choices import member


@dataclass(frozen=True, slots=True)
class CheckedCode:
    is_right: bool
    told: Row[*tuple[object, ...]]
    """Of the audit row, for a witness."""


class VerifyCode(PhoneSession):
    """Whatever comes of it, the phone's count is written with the audit row that tells of it."""

    def run(self, code: str) -> CheckedCode:
        subjects = store.lock_known_phone(self._session, self._hashes)
        state = self._enter(subjects.values())
        # Only of rows that are locked: the first code of a phone may be on its way in at this moment.
        live = store.live(self._session, subjects)
        challenge = next((row for row in live if row.action == self._action), None)
        if state.is_locked(self._now):
            entry = self._entry(AuditAction.OTP_LOCKED_OUT, None, event="refused", **lock_details(state))
        elif challenge is None:
            entry = self._entry(AuditAction.OTP_VERIFY_FAILED, None, cause="no_live_code")
        elif not is_open(challenge, self._now):
            store.end(self._session, self._hashes, OtpState.EXPIRED, now=self._now, action=self._action)
            entry = self._entry(AuditAction.OTP_VERIFY_FAILED, challenge.message_id, cause="expired")
        else:
            counted = state.attempted()
            is_right = self._services.peppers.fits(challenge, self._phone, code)
            return self._accept(challenge, counted) if is_right else self._refuse(challenge, counted)
        # No attempt, but it does the work of one, and so takes as long.
        self._services.peppers.code_hash("", self._phone, self._action, code)
        return CheckedCode(False, self._count(state, entry))

    def _accept(self, challenge: CodeRow, counted: PhoneState) -> CheckedCode:
        store.end(self._session, self._hashes, OtpState.USED, now=self._now, action=self._action)
        entry = self._entry(AuditAction.OTP_VERIFY_SUCCESS, challenge.message_id, attempt=counted.failed_count)
        return CheckedCode(True, self._count(CLEAN, entry))

    def _refuse(self, challenge: CodeRow, counted: PhoneState) -> CheckedCode:
        state = counted.failed(self._now, self._services.lock_policy)
        details = {"cause": "wrong_code", "attempt": counted.failed_count}
        told = self._count(state, self._entry(AuditAction.OTP_VERIFY_FAILED, challenge.message_id, **details))
        if state.is_locked(self._now):
            self._end_live_codes(OtpState.LOCKED, "the phone was locked after too many wrong codes")
            self._record(AuditAction.OTP_LOCKED_OUT, challenge.message_id, event="begun", **lock_details(state))
        return CheckedCode(False, told)

    def _count(self, state: PhoneState, entry: NewAuditRow) -> Row[*tuple[object, ...]]:
        return store.write_counted(self._session, self._hashes, state, entry)


@dataclass(frozen=True, slots=True)
class LiveCode:
    action: OtpAction
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PhoneStatus:
    phone: str
    state: PhoneState
    is_locked: bool
    sent_in_window: int
    live: tuple[LiveCode, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """What somebody typed, and `actor`, who asks for him."""

    phone: str
    action: OtpAction
    code: str
    actor: str = SOURCE


class OneTimeCodes:
    """Each call is a transaction of its own.

    Raises AddressError for what is no phone number, InvalidInput for another kind of value, and DatabaseError.
    """

    def __init__(
        self, *, settings: Settings, database: Database, keys: KeyRing, plans: PlanRegistry, clock: Clock
    ) -> None:
        self._database = database
        pipe = CodePipe(settings=settings, keys=keys, plans=plans, clock=clock)
        self._services = OtpServices(settings, clock, pipe, PepperRing(settings.otp_pepper))
        self._witness = Witness(database, clock)

    def send(self, phone: str, action: OtpAction, *, actor: str = SOURCE, locale: str | None = None) -> Decision:
        """Makes a code and queues its SMS, unless the phone is locked or something limits it.

        A new code takes the place of the phone's earlier one for this action; after a refusal the earlier one stays
        good. The decision is for logs and operators: whoever asked for the code must not learn it. `actor`, who
        asks, is for the audit log. `locale`, as `de-AT`, is that of the SMS; one that nobody knows is none.
        """
        phone, action = self._normal(phone), member(OtpAction, action, "action")
        with self._counted() as (session, seen):
            decision = SendCode(self._services, session, phone, action, actor).run(locale)
            seen.append(self._witness.newest(session))
        return decision

    def verify(self, phone: str, action: OtpAction, code: str, *, actor: str = SOURCE) -> bool:
        """Whether `code` is the live code of this phone and action. It works once.

        A wrong one counts against the phone over all actions; the last that may fail ends its live codes and locks
        it. While it is locked, and without a live code, nothing is right and nothing is counted.
        """
        _require_text("code", code)
        guess = Guess(self._normal(phone), member(OtpAction, action, "action"), code, actor)
        with self._counted() as (session, seen):
            return self._check(session, seen, guess)

    def verify_together(self, guesses: Sequence[Guess]) -> list[bool | Exception | None]:
        """As many calls of `verify`, one after the other in one transaction. An exception is to be raised where a call
        would; None is of a guess that was not tried, and is to be given to `verify`.

        For SQLite, where each would wait for the others. On PostgreSQL they would hold many phones' rows at once.
        """
        answers: list[bool | Exception | None] = [None] * len(guesses)
        is_committing = False
        try:
            with self._counted() as (session, seen):
                for number, guess in enumerate(guesses):
                    try:
                        known = replace(guess, phone=self._normal(guess.phone))
                    except AddressError as error:
                        answers[number] = error
                    else:
                        answers[number] = self._check(session, seen, known)
                is_committing = True
        except Exception as error:  # noqa: BLE001  each raises it, or finds out alone whether it was to blame
            # What may be committed must not be tried again: a code works once.
            is_of_all = is_committing or isinstance(error, DatabaseError)
            return [error if is_of_all else None] * len(guesses)
        return answers

    def _check(self, session: Session, seen: list[Mark | None], guess: Guess) -> bool:
        checked = VerifyCode(self._services, session, guess.phone, guess.action, guess.actor).run(guess.code)
        seen.append(self._witness.mark_of(checked.told))
        return checked.is_right

    @contextmanager
    def _counted(self) -> Iterator[tuple[Session, list[Mark | None]]]:
        """A transaction, and where to put what is to be kept of it. Raises DatabaseError for a store that has gone back
        in time and is not recovered yet: it does not know what was counted since, and would give anybody as many
        guesses again.
        """
        seen: list[Mark | None] = []
        with self._database.transaction() as session:
            is_whole = self._witness.permits(session, sends=False)
            if is_whole:
                yield session, seen
        if not is_whole:
            self._witness.examine()
            raise DatabaseError(f"database {self._database} is to be recovered before any code is tried; try again")
        for mark in seen:
            self._witness.keep(mark)

    def status(self, phone: str) -> PhoneStatus:
        phone = self._normal(phone)
        hashes = self._services.peppers.phone_hashes(phone)
        now = self._services.clock()
        count, window = self._services.settings.otp_rate
        with self._database.read() as session:
            state = merged(store.phone(session, hashes)).at(now)
            live = [code for code in store.live(session, hashes) if is_open(code, now)]
            sent = store.made_since(session, now - window, most=count, phone_hashes=hashes)
        codes = tuple(LiveCode(code.action, code.created_at, code.expires_at) for code in live)
        return PhoneStatus(phone, state, state.is_locked(now), sent, codes)

    def unlock(self, phone: str, *, actor: str) -> PhoneState | None:
        """Forgets the phone's failures and ends its lock. Returns what was forgotten, None if there was nothing.

        Codes that the lock ended stay dead, and the sends of its window stay counted.
        """
        phone = self._normal(phone)
        hashes = self._services.peppers.phone_hashes(phone)
        with self._database.transaction() as session:
            state = merged(store.lock_known_phone(session, hashes).values())
            if state == CLEAN:
                return None
            now = self._services.clock()
            store.write_phone(session, hashes, CLEAN, now=now)
            details = {
                "phone_hash": next(iter(hashes)),
                "was_locked": state.is_locked(now),
                "consecutive_failures": state.consecutive_failures,
            }
            audit_log.write(session, AuditAction.OTP_UNLOCKED, actor=actor, now=now, details=details)
        return state

    def _normal(self, phone: str) -> str:
        _require_text("phone", phone)
        return normal_phone(phone, self._services.settings.otp_default_region)


def _require_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string, got {kind_of(value)}")
