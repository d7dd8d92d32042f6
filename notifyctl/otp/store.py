"""Phones and their codes. A phone's rows are locked first: whoever counts, compares or sends waits for his turn."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from itertools import starmap
from typing import NamedTuple

from sqlalchemy import BindParameter, Row, bindparam, func, insert, select, text, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.log import NewAuditRow
from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import OtpAction, OtpState
from notifyctl.models.otp import LIVE_INDEX, OtpChallenge, OtpSubject

_subject = table(OtpSubject)
_challenge = table(OtpChallenge)

BUDGET_LOCK_SPACE = 0x6F74
"""PostgreSQL advisory locks of the budgets: senders to one prefix take turns while they count."""


@dataclass(frozen=True, slots=True)
class PhoneFailures:
    """What is kept of a phone under one of its hashes; otp_subject says what each is."""

    failed_count: int = 0
    consecutive_failures: int = 0
    locked_until: datetime | None = None
    hard_locked_at: datetime | None = None


class CodeRow(NamedTuple):
    id: str
    action: OtpAction
    code_hash: str
    key_id: str
    message_id: str | None
    created_at: datetime
    expires_at: datetime


# Made once: building a statement takes longer than running it.
_HASHES: BindParameter[list[str]] = bindparam("hashes", expanding=True)
_FAILURES = [field.name for field in fields(PhoneFailures)]
_PHONE = select(_subject.c.phone_hash, *(_subject.c[name] for name in _FAILURES)).where(
    _subject.c.phone_hash.in_(_HASHES)
)
# In one order for everyone: nobody waits in a circle.
_LOCKED_PHONE = _PHONE.order_by(_subject.c.phone_hash).with_for_update()
_WRITE_PHONE = (
    update(_subject)
    .where(_subject.c.phone_hash.in_(_HASHES))
    .values({name: bindparam(name, type_=_subject.c[name].type) for name in (*_FAILURES, "updated_at")})
)
_LIVE = (
    select(*(_challenge.c[name] for name in CodeRow._fields))
    .where(_challenge.c.phone_hash.in_(_HASHES), LIVE_INDEX)
    .order_by(_challenge.c.created_at.desc())
)
_LAST = (
    select(_challenge.c.created_at)
    .where(_challenge.c.phone_hash.in_(_HASHES))
    .order_by(_challenge.c.created_at.desc())
    .limit(1)
)


def lock_phone(session: Session, phone_hashes: Mapping[str, str], *, now: datetime) -> dict[str, PhoneFailures]:
    """The phone's rows by their hash, made where they are missing, and locked until the transaction ends.

    `phone_hashes`: hash -> the id of its pepper. The clock is to be read after this: it may have waited.
    """
    subjects = lock_known_phone(session, phone_hashes)
    if len(subjects) == len(phone_hashes):
        return subjects
    blank = {"failed_count": 0, "consecutive_failures": 0, "updated_at": now}
    missing = sorted(phone_hashes.keys() - subjects.keys())
    values = [{"phone_hash": phone_hash, "key_id": phone_hashes[phone_hash], **blank} for phone_hash in missing]
    session.execute(bulk.upsert(session, _subject).values(values).on_conflict_do_nothing())
    return lock_known_phone(session, phone_hashes)


def lock_known_phone(session: Session, phone_hashes: Collection[str]) -> dict[str, PhoneFailures]:
    rows = session.execute(_LOCKED_PHONE, _hashes(phone_hashes))
    return {phone_hash: PhoneFailures(*failures) for phone_hash, *failures in rows}


def phone(session: Session, phone_hashes: Collection[str]) -> Sequence[PhoneFailures]:
    return [PhoneFailures(*failures) for _, *failures in session.execute(_PHONE, _hashes(phone_hashes))]


def write_phone(session: Session, phone_hashes: Collection[str], failures: PhoneFailures, *, now: datetime) -> None:
    session.execute(_WRITE_PHONE, _hashes(phone_hashes) | asdict(failures) | {"updated_at": now})


def write_counted(
    session: Session, phone_hashes: Collection[str], failures: PhoneFailures, row: NewAuditRow
) -> Row[*tuple[object, ...]]:
    """The same with the audit row that tells of it, of which it returns what a witness keeps."""
    values = _hashes(phone_hashes) | asdict(failures) | {"updated_at": row.created_at}
    return audit_log.write_with(session, _WRITE_PHONE, values, row)


def live(session: Session, phone_hashes: Collection[str]) -> Sequence[CodeRow]:
    """The phone's live codes of all actions, the newest first."""
    return list(starmap(CodeRow, session.execute(_LIVE, _hashes(phone_hashes))))


def add(session: Session, code: CodeRow, *, phone_hash: str, prefix_hash: str) -> None:
    hashes = {"phone_hash": phone_hash, "prefix_hash": prefix_hash}
    session.execute(insert(_challenge), code._asdict() | hashes | {"state": OtpState.LIVE})


def end(
    session: Session, phone_hashes: Collection[str], state: OtpState, *, now: datetime, action: OtpAction | None = None
) -> list[str]:
    """The phone's live codes, or those of one action, live no more. Returns their messages' ids."""
    statement = _ended(of_one_action=action is not None)
    values = _hashes(phone_hashes) | {"state": state, "finished_at": now, "of_action": action}
    return [message_id for message_id in session.execute(statement, values).scalars() if message_id]


@cache
def _ended(*, of_one_action: bool) -> ReturningUpdate[tuple[str | None]]:
    statement = update(_challenge).where(_challenge.c.phone_hash.in_(_HASHES), LIVE_INDEX)
    if of_one_action:
        statement = statement.where(_challenge.c.action == bindparam("of_action", type_=_challenge.c.action.type))
    new = {name: bindparam(name, type_=_challenge.c[name].type) for name in ("state", "finished_at")}
    return statement.values(new).returning(_challenge.c.message_id)


def _hashes(phone_hashes: Collection[str]) -> dict[str, object]:
    return {"hashes": sorted(phone_hashes)}


def last_made_at(session: Session, phone_hashes: Collection[str]) -> datetime | None:
    last: datetime | None = session.execute(_LAST, _hashes(phone_hashes)).scalar_one_or_none()
    return last


def made_since(
    session: Session,
    moment: datetime,
    *,
    most: int,
    phone_hashes: Collection[str] | None = None,
    prefix_hashes: Collection[str] | None = None,
) -> int:
    """How many codes were made after `moment`, for any of these hashes, counted up to `most`."""
    hashes_by_column = {"phone_hash": phone_hashes, "prefix_hash": prefix_hashes}
    chosen = [_challenge.c[name].in_(sorted(hashes)) for name, hashes in hashes_by_column.items() if hashes is not None]
    first = select(_challenge.c.id).where(_challenge.c.created_at > moment, *chosen).limit(most).subquery()
    return int(session.execute(select(func.count()).select_from(first)).scalar_one())


def lock_budget(session: Session, name: str) -> None:
    """Until the transaction ends. SQLite's write lock is already held."""
    if bulk.dialect(session) != "sqlite":
        statement = text(f"SELECT pg_advisory_xact_lock({BUDGET_LOCK_SPACE}, hashtext(:name))")
        session.execute(statement, {"name": name})


def conversion(session: Session, since: datetime, until: datetime) -> tuple[int, int]:
    """How many codes were made in [since, until), and how many of these were used."""
    used = func.count().filter(_challenge.c.state == OtpState.USED)
    counts = select(func.count(), used).where(_challenge.c.created_at >= since, _challenge.c.created_at < until)
    row = session.execute(counts).one()
    return int(row[0]), int(row[1])


def keys_in_use(session: Session, now: datetime) -> dict[str, int]:
    """Pepper id -> how many phones are locked, or have failures to remember, under it."""
    remembered = (_subject.c.consecutive_failures > 0) | (_subject.c.locked_until > now)
    statement = select(_subject.c.key_id, func.count()).where(remembered).group_by(_subject.c.key_id)
    return {key: count for key, count in session.execute(statement)}
