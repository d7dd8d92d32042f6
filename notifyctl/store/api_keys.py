"""API keys by their id, and all of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlmodel import Session

from notifyctl.models.access import ApiKey
from notifyctl.models.columns import table

_key = table(ApiKey)


def add(
    session: Session,
    *,
    key_id: str,
    name: str,
    key_hash: str,
    scopes: Sequence[str],
    now: datetime,
    expires_at: datetime | None,
) -> None:
    values = {"id": key_id, "name": name, "key_hash": key_hash, "scopes": list(scopes)}
    session.execute(insert(_key).values(**values, created_at=now, expires_at=expires_at))


def get(session: Session, key_id: str) -> Row[Any] | None:
    return session.execute(select(_key).where(_key.c.id == key_id)).one_or_none()


def every(session: Session) -> Sequence[Row[Any]]:
    """Newest first, without their hashes."""
    shown = [column for column in _key.c if column.name != "key_hash"]
    return session.execute(select(*shown).order_by(_key.c.created_at.desc(), _key.c.id)).all()


def usable(session: Session, name_or_id: str, now: datetime) -> Sequence[Row[Any]]:
    """Those by this name or id that are neither revoked nor expired."""
    is_it = or_(_key.c.id == name_or_id, _key.c.name == name_or_id)
    is_live = or_(_key.c.expires_at.is_(None), _key.c.expires_at > now)
    return session.execute(select(_key).where(is_it, _key.c.revoked_at.is_(None), is_live)).all()


def ending(session: Session, now: datetime, until: datetime) -> Sequence[Row[Any]]:
    """Those that open something now, and will not any more by `until`; the next to end comes first."""
    statement = select(_key).where(_key.c.revoked_at.is_(None), _key.c.expires_at > now, _key.c.expires_at <= until)
    return session.execute(statement.order_by(_key.c.expires_at)).all()


def revoke(session: Session, key_id: str, now: datetime) -> bool:
    """False, and nothing is changed, when it was revoked before."""
    statement = update(_key).where(_key.c.id == key_id, _key.c.revoked_at.is_(None)).values(revoked_at=now)
    return session.execute(statement.returning(_key.c.id)).first() is not None
