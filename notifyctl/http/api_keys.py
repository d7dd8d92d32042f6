"""API keys: made and shown once, recognised by their hash, revoked at once.

A key is `nfy_ID_SECRET`. The id finds its row, and the secret has 256 bits from the system's generator: that is why a
plain SHA-256 of the whole is enough to keep.
"""

import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.http import api_key_store as store
from notifyctl.http.api_key_store import ApiKeyInfo, StoredApiKey
from notifyctl.models.enums import AuditAction, Scope
from notifyctl.models.template import Template
from notifyctl.text.durations import iso, plural

PREFIX = "nfy"
ID_BYTES = 5
SECRET_BYTES = 32
MAX_NAME = 64
_LONGEST_KEY = 128


class KeyState(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a presented key opens nothing. For the log: whoever presents one is told the same whatever the cause."""

    cause: str
    name: str | None = None
    """Of the key that was recognised, and is expired or revoked."""


def create(
    session: Session,
    name: str,
    scopes: Collection[Scope],
    *,
    expires_at: datetime | None,
    actor: str,
    now: datetime,
) -> str:
    """Returns the key, which is not kept and cannot be shown again. Raises InvalidInput."""
    _check_name(name)
    if store.usable(session, name, now):
        raise InvalidInput(f"there is a key {name!r} already; revoke it first, or take another name")
    key_id = secrets.token_hex(ID_BYTES)
    key = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    names = [scope.value for scope in Scope if scope in scopes]
    store.add(
        session,
        key_id=key_id,
        name=name,
        key_hash=_hash(key.encode()),
        scopes=names,
        now=now,
        expires_at=expires_at,
    )
    details = {
        "key_id": key_id,
        "name": name,
        "scopes": names,
        "expires_at": iso(expires_at, "auto") if expires_at else None,
    }
    audit_log.write(session, AuditAction.API_KEY_CREATED, actor=actor, now=now, details=details)
    return key


def revoke(session: Session, name_or_id: str, *, actor: str, now: datetime) -> ApiKeyInfo:
    """The key, which opens nothing any more. Raises NotFound, and InvalidInput for a name that several keys have."""
    matching = store.usable(session, name_or_id, now)
    if not matching:
        raise NotFound(f"there is no active key {name_or_id!r}; `notifyctl keys list` shows those there are")
    if len(matching) > 1:
        ids = ", ".join(row.id for row in matching)
        raise InvalidInput(f"{name_or_id!r} means {plural(len(matching), 'key')}, {ids}; say which by its id")
    key = matching[0]
    if store.revoke(session, key.id, now):
        details = {"key_id": key.id, "name": key.name}
        audit_log.write(session, AuditAction.API_KEY_REVOKED, actor=actor, now=now, details=details)
    return key


def recognise(session: Session, presented: bytes, now: datetime) -> StoredApiKey | Refused:
    """The key, where it is in force. Compares in constant time, on bytes, and never raises for any bytes."""
    key_id = _id_in(presented)
    return _judged(presented, store.get(session, key_id) if key_id else None, now)


def recognise_beside(
    session: Session, presented: bytes, template_key: str, now: datetime
) -> tuple[StoredApiKey | Refused, Template | None]:
    """The same, and a template that is needed as well, in one statement."""
    row, template = store.with_template(session, _id_in(presented) or "", template_key)
    return _judged(presented, row, now), template


def _judged(presented: bytes, row: StoredApiKey | None, now: datetime) -> StoredApiKey | Refused:
    expected = row.key_hash if row else _hash(b"")
    if not hmac.compare_digest(_hash(presented).encode(), expected.encode()) or row is None:
        return Refused("unknown")
    state = state_of(row, now)
    return row if state is KeyState.ACTIVE else Refused(state.value, row.name)


def state_of(key: ApiKeyInfo, now: datetime) -> KeyState:
    if key.revoked_at is not None:
        return KeyState.REVOKED
    is_over = key.expires_at is not None and key.expires_at <= now
    return KeyState.EXPIRED if is_over else KeyState.ACTIVE


def _id_in(presented: bytes) -> str | None:
    if len(presented) > _LONGEST_KEY or not presented.isascii():
        return None
    prefix, _, rest = presented.decode("ascii").partition("_")
    key_id, separator, _ = rest.partition("_")
    is_one = prefix == PREFIX and separator and key_id.isalnum()
    return key_id if is_one else None


def _check_name(name: str) -> None:
    if not name or name != name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput(
            f"{name[:MAX_NAME]!r} cannot be a key's name: it has 1 to {MAX_NAME} printable characters,"
            " and no blank at either end"
        )


def _hash(key: bytes) -> str:
    return sha256(key).hexdigest()
