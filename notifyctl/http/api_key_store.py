"""API keys by their id, and who is signed in on the page with one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from itertools import starmap

from sqlalchemy import ColumnElement, delete, insert, or_, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.operations import ApiKey, PageSession
from notifyctl.models.template import Template
from notifyctl.orchestrator.filters import LEAST_DIGITS
from notifyctl.templates import store as template_store

_key = table(ApiKey)
_session = table(PageSession)


@dataclass(frozen=True, slots=True)
class ApiKeyInfo:
    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredApiKey(ApiKeyInfo):
    key_hash: str


_INFO = [_key.c[field.name] for field in fields(ApiKeyInfo)]


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


def get(session: Session, key_id: str) -> StoredApiKey | None:
    return with_template(session, key_id, "")[0]


def with_template(session: Session, key_id: str, template_key: str) -> tuple[StoredApiKey | None, Template | None]:
    """The key, and a template, in one statement; None for what is unknown."""
    statement = _with_template(bulk.dialect(session))
    (row,) = bulk.run(session, statement, {"id": key_id, "template_key": template_key})
    known, document, found, name, scopes, created_at, expires_at, revoked_at, key_hash = row
    template = template_store.from_one(document) if known else None
    if not found:
        return None, template
    key = StoredApiKey(
        id=found,
        name=name,
        scopes=json.loads(scopes),
        created_at=bulk.moment(created_at),
        expires_at=expires_at and bulk.moment(expires_at),
        revoked_at=revoked_at and bulk.moment(revoked_at),
        key_hash=key_hash,
    )
    return key, template


@cache
def _with_template(dialect: str) -> str:
    return f"""
        SELECT t.template_key, {template_store.in_one(dialect)},
            k.id, k.name, CAST(k.scopes AS text), k.created_at, k.expires_at, k.revoked_at, k.key_hash
        FROM (SELECT 1) AS here
        LEFT JOIN notification_template AS t ON t.template_key = :template_key
        LEFT JOIN notification_template_version AS v ON v.template_key = t.template_key AND v.version = t.version
        LEFT JOIN api_key AS k ON k.id = :id
    """  # noqa: S608  our own words


def every(session: Session) -> Sequence[ApiKeyInfo]:
    """Newest first."""
    return list(starmap(ApiKeyInfo, session.execute(select(*_INFO).order_by(_key.c.created_at.desc(), _key.c.id))))


def usable(session: Session, named: str, now: datetime) -> Sequence[ApiKeyInfo]:
    """Those by this name or id that are neither revoked nor expired; where there are none, by a part of their id."""
    of_id = or_(_key.c.id.startswith(named, autoescape=True), _key.c.id.endswith(named, autoescape=True))
    found = _usable(session, or_(_key.c.id == named, _key.c.name == named), now)
    return found or (_usable(session, of_id, now) if len(named) >= LEAST_DIGITS else [])


def _usable(session: Session, is_it: ColumnElement[bool], now: datetime) -> Sequence[ApiKeyInfo]:
    is_live = or_(_key.c.expires_at.is_(None), _key.c.expires_at > now)
    statement = select(*_INFO).where(is_it, _key.c.revoked_at.is_(None), is_live)
    return list(starmap(ApiKeyInfo, session.execute(statement)))


def expiring(session: Session, now: datetime, until: datetime) -> Sequence[ApiKeyInfo]:
    """Those that open something now, and will not any more by `until`; the next to end comes first."""
    statement = select(*_INFO).where(_key.c.revoked_at.is_(None), _key.c.expires_at > now, _key.c.expires_at <= until)
    return list(starmap(ApiKeyInfo, session.execute(statement.order_by(_key.c.expires_at))))


def revoke(session: Session, key_id: str, now: datetime) -> bool:
    """False, and nothing is changed, when it was revoked before."""
    statement = update(_key).where(_key.c.id == key_id, _key.c.revoked_at.is_(None)).values(revoked_at=now)
    return session.execute(statement.returning(_key.c.id)).first() is not None


def open_session(session: Session, session_id: str, *, key_id: str, now: datetime, expires_at: datetime) -> None:
    """Removes those that have expired besides: nobody else does."""
    session.execute(delete(_session).where(_session.c.expires_at <= now))
    values = {"id": session_id, "key_id": key_id, "created_at": now, "expires_at": expires_at}
    session.execute(insert(_session).values(**values))


def is_open(session: Session, session_id: str, key_id: str) -> bool:
    statement = select(_session.c.id).where(_session.c.id == session_id, _session.c.key_id == key_id)
    return session.execute(statement).first() is not None


def take_session(session: Session, session_id: str, now: datetime) -> str | None:
    """Ends it, and returns its key; None where another was faster, or it has expired."""
    statement = delete(_session).where(_session.c.id == session_id, _session.c.expires_at > now)
    return session.execute(statement.returning(_session.c.key_id)).scalar_one_or_none()


def end_session(session: Session, session_id: str) -> None:
    session.execute(delete(_session).where(_session.c.id == session_id))
