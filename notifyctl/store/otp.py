"""Phones and their codes. A phone's rows are locked first: whoever counts, compares or sends waits for his turn."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.otp import LIVE_INDEX, OtpAction, OtpChallenge, OtpState, OtpSubject

_subject = table(OtpSubject)
_challenge = table(OtpChallenge)

BUDGET_LOCK_SPACE = 0x6F74
"""PostgreSQL advisory locks of the budgets: senders to one prefix take turns while they count."""


def lock_phone(session: Session, phone_hashes: Mapping[str, str], *, now: datetime) -> Sequence[Row[Any]]:
    """The phone's rows, made where they are missing, and locked until the transaction ends.

    `phone_hashes`: hash -> the id of its pepper. The clock is to be read after this: it may have waited.
    """
    rows = lock_known_phone(session, phone_hashes)
    if len(rows) == len(phone_hashes):
        return rows
    make: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    blank = {"failed_count": 0, "consecutive_failures": 0, "updated_at": now}
    missing = sorted(phone_hashes.keys() - {row.phone_hash for row in rows})
    values = [{"phone_hash": found, "key_id": phone_hashes[found], **blank} for found in missing]
    session.execute(make(_subject).values(values).on_conflict_do_nothing())
    return lock_known_phone(session, phone_hashes)


def lock_known_phone(session: Session, phone_hashes: Collection[str]) -> Sequence[Row[Any]]:
    statement = select(_subject).where(_subject.c.phone_hash.in_(sorted(phone_hashes)))
    # In one order for everyone: nobody waits in a circle.
    return session.execute(statement.order_by(_subject.c.phone_hash).with_for_update()).all()


def phone(session: Session, phone_hashes: Collection[str]) -> Sequence[Row[Any]]:
    return session.execute(select(_subject).where(_subject.c.phone_hash.in_(sorted(phone_hashes)))).all()


def write_standing(
    session: Session, phone_hashes: Collection[str], values: Mapping[str, Any], *, now: datetime
) -> None:
    statement = update(_subject).where(_subject.c.phone_hash.in_(sorted(phone_hashes)))
    session.execute(statement.values(**values, updated_at=now))


def live(session: Session, phone_hashes: Collection[str]) -> Sequence[Row[Any]]:
    """The phone's live codes of all actions, the newest first."""
    statement = select(_challenge).where(_challenge.c.phone_hash.in_(sorted(phone_hashes)), LIVE_INDEX)
    return session.execute(statement.order_by(_challenge.c.created_at.desc())).all()


def add(session: Session, values: Mapping[str, Any]) -> None:
    session.execute(insert(_challenge).values(state=OtpState.LIVE, **values))


def end(
    session: Session, phone_hashes: Collection[str], state: OtpState, *, now: datetime, action: OtpAction | None = None
) -> list[str]:
    """The phone's live codes, or those of one action, live no more. Returns their messages' ids."""
    chosen: list[Any] = [_challenge.c.phone_hash.in_(sorted(phone_hashes)), LIVE_INDEX]
    if action is not None:
        chosen.append(_challenge.c.action == action)
    statement = update(_challenge).where(*chosen).values(state=state, finished_at=now)
    return [found for found in session.execute(statement.returning(_challenge.c.message_id)).scalars() if found]


def last_made_at(session: Session, phone_hashes: Collection[str]) -> datetime | None:
    statement = select(_challenge.c.created_at).where(_challenge.c.phone_hash.in_(sorted(phone_hashes)))
    found: datetime | None = session.execute(
        statement.order_by(_challenge.c.created_at.desc()).limit(1)
    ).scalar_one_or_none()
    return found


def made_since(session: Session, moment: datetime, *, most: int, where: Mapping[str, Collection[str]]) -> int:
    """How many codes were made after `moment`, counted up to `most`. `where`: column -> any of these hashes."""
    chosen = [_challenge.c[name].in_(sorted(values)) for name, values in where.items()]
    first = select(_challenge.c.id).where(_challenge.c.created_at > moment, *chosen).limit(most).subquery()
    return int(session.execute(select(func.count()).select_from(first)).scalar_one())


def lock_budget(session: Session, name: str) -> None:
    """Until the transaction ends. SQLite's write lock is already held."""
    if session.get_bind().dialect.name != "sqlite":
        statement = text(f"SELECT pg_advisory_xact_lock({BUDGET_LOCK_SPACE}, hashtext(:name))")
        session.execute(statement, {"name": name})


def conversion(session: Session, since: datetime, until: datetime) -> tuple[int, int]:
    """How many codes were made in [since, until), and how many of these were used."""
    used = func.count().filter(_challenge.c.state == OtpState.USED)
    made = select(func.count(), used).where(_challenge.c.created_at >= since, _challenge.c.created_at < until)
    row = session.execute(made).one()
    return int(row[0]), int(row[1])


def keys_in_use(session: Session, now: datetime) -> dict[str, int]:
    """Pepper id -> how many phones are locked, or have failures to remember, under it."""
    remembered = (_subject.c.consecutive_failures > 0) | (_subject.c.locked_until > now)
    statement = select(_subject.c.key_id, func.count()).where(remembered).group_by(_subject.c.key_id)
    return {key: count for key, count in session.execute(statement)}
