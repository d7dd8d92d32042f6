"""What became of messages, written on their rows: by a worker behind its fence, and by whoever holds their locks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from operator import attrgetter

from sqlalchemy import Executable, FromClause, Update, bindparam, func, update
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.enums import BlockReason, FailureReason, MessageStatus
from notifyctl.models.message import MessageLog
from notifyctl.store import bulk

_message = table(MessageLog)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """What became of a message. The fields are the columns that are written."""

    id: str
    lease_generation: int | None = None
    """The claim that the result is of. None where the row is locked, and nobody else can have claimed it."""
    status: MessageStatus
    reason: BlockReason | FailureReason | None = None
    error_code: str | None = None
    error: str | None = None
    subject: str | None = None
    """None leaves the one that is on the row."""
    provider_message_id: str | None = None
    next_attempt_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    finished_at: datetime | None = None


_RESULT = tuple(field.name for field in fields(AttemptResult))
_values_of = attrgetter(*_RESULT)
RECORDED = tuple(name for name in _RESULT if name not in ("id", "lease_generation", "subject"))


def encode_results(dialect: str, results: Sequence[AttemptResult]) -> dict[str, str]:
    """The parameter of a statement over `result_rows`."""
    return bulk.encode(dialect, [dict(zip(_RESULT, _values_of(result), strict=True)) for result in results])


def result_rows(dialect: str) -> FromClause:
    return bulk.unpack(dialect, bulk.column_types(_message, *_RESULT))


def write_results(rows: FromClause) -> Update:
    """The UPDATE that writes them, without a fence."""
    written = {name: rows.c[name] for name in RECORDED}
    subject = func.coalesce(rows.c.subject, _message.c.subject)
    return update(_message).where(_message.c.id == rows.c.id).values(**written, subject=subject, lease_until=None)


def close_unclaimed(session: Session, results: Sequence[AttemptResult]) -> None:
    """Writes what became of locked messages that are not to be sent."""
    if results:
        dialect = bulk.dialect(session)
        session.execute(_close_statement(dialect), encode_results(dialect, results))


@cache
def _close_statement(dialect: str) -> Executable:
    return write_results(result_rows(dialect))


def record(session: Session, owner: str, results: Sequence[AttemptResult]) -> set[str]:
    """Writes what became of claimed messages. Returns the ids of those that were written.

    The fence: a message that was claimed again since, or is another worker's, is left as it is. One that was only
    declared in doubt meanwhile is still ours to settle.
    """
    dialect = bulk.dialect(session)
    values = {"owner": owner} | encode_results(dialect, results)
    return set(session.execute(_record_statement(dialect), values).scalars())


@cache
def _record_statement(dialect: str) -> Executable:
    rows = result_rows(dialect)
    fence = (
        _message.c.status.in_([MessageStatus.SENDING, MessageStatus.IN_DOUBT]),
        _message.c.lease_owner == bindparam("owner"),
        _message.c.lease_generation == rows.c.lease_generation,
    )
    return write_results(rows).where(*fence).returning(_message.c.id)
