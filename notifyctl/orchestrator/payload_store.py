"""The contexts of messages: what of them is erased, and when a client is."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import Executable, delete, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.message import MessageLog, MessagePayload

_message = table(MessageLog)
_payload = table(MessagePayload)


def erase_payloads(session: Session, ids: Sequence[str]) -> None:
    if ids:
        dialect = bulk.dialect(session)
        bulk.execute(
            session, _erase_statement(dialect), bulk.encode(dialect, [{"id": message_id} for message_id in ids])
        )


@cache
def _erase_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return delete(_payload).where(_payload.c.message_id.in_(select(rows.c.id)))


def in_the_clear(session: Session, message_id: str) -> str | None:
    """The values of a message that is not sensitive, while they are kept."""
    statement = select(_payload.c.context).where(_payload.c.message_id == message_id, _payload.c.sealed.is_(None))
    return session.execute(statement).scalar_one_or_none()


def forget(session: Session, ids: Sequence[str]) -> None:
    """Addresses and contexts of messages whose client was erased while they were being accepted."""
    if ids:
        erase_payloads(session, ids)
        session.execute(update(_message).where(_message.c.id.in_(ids)).values(recipient=None, subject=None))


def erase_sealed(session: Session, ids: Sequence[str]) -> None:
    """The contexts of sensitive messages among these."""
    session.execute(delete(_payload).where(_payload.c.message_id.in_(ids), _payload.c.sealed.is_not(None)))
