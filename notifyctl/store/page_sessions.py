"""Who is signed in on the page."""

from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlmodel import Session

from notifyctl.models.access import PageSession
from notifyctl.models.columns import table

_session = table(PageSession)


def open_session(session: Session, session_id: str, *, key_id: str, now: datetime, expires_at: datetime) -> None:
    """Removes those that have expired besides: nobody else does."""
    session.execute(delete(_session).where(_session.c.expires_at <= now))
    values = {"id": session_id, "key_id": key_id, "created_at": now, "expires_at": expires_at}
    session.execute(insert(_session).values(**values))


def is_open(session: Session, session_id: str, key_id: str) -> bool:
    statement = select(_session.c.id).where(_session.c.id == session_id, _session.c.key_id == key_id)
    return session.execute(statement).first() is not None


def end_session(session: Session, session_id: str) -> None:
    session.execute(delete(_session).where(_session.c.id == session_id))
