"""A link that signs somebody in once: made on the command line by whoever may read the secrets, redeemed on the page.

It stands beside the sessions, as the digest of its code: to take it is to delete it, so that one of all processes can.
"""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.errors import InvalidInput
from notifyctl.http import api_key_store, api_keys
from notifyctl.http.api_key_store import ApiKeyInfo, StoredApiKey
from notifyctl.http.api_keys import KeyState
from notifyctl.models.enums import AuditAction, Scope
from notifyctl.settings import Settings
from notifyctl.text.durations import exact_duration

LIFE = timedelta(minutes=10)
LIFE_IN_WORDS = exact_duration(int(LIFE.total_seconds()))
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  told apart, not listened on


def page_url(settings: Settings) -> str:
    """Where the server of these settings has its page."""
    host = settings.http_host
    host = ANY_HOST.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{settings.public_base_url or f'http://{host}:{settings.http_port}'}/admin"


def make(session: Session, *, actor: str, now: datetime) -> str:
    """The end of its address, which stands nowhere else. Its session will be of a key that has the actor's name."""
    key = _key_of(session, actor, now)
    code = secrets.token_urlsafe(32)
    api_key_store.open_session(session, _row_id(code), key_id=key.id, now=now, expires_at=now + LIFE)
    details = {"detail": "a link was made that signs in on the page", "key_id": key.id}
    audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)
    return f"/login?code={code}"


def redeem(session: Session, code: str, now: datetime) -> StoredApiKey | None:
    """The key to sign in with; None when the link was used, is too old, or never was. Never raises for any text."""
    key_id = api_key_store.take_session(session, _row_id(code), now)
    key = api_key_store.get(session, key_id) if key_id else None
    if key is None or api_keys.state_of(key, now) is not KeyState.ACTIVE:
        return None
    details = {"detail": "signed in on the page by a link", "key_id": key.id}
    audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=f"key:{key.name}", now=now, details=details)
    return key


def _key_of(session: Session, actor: str, now: datetime) -> ApiKeyInfo:
    """The key itself is thrown away: it opens sessions by links alone, and revoking it ends them."""
    known = api_key_store.usable(session, actor, now)
    if not known:
        api_keys.create(session, actor, [Scope.ADMIN], expires_at=None, actor=actor, now=now)
        known = api_key_store.usable(session, actor, now)
    if Scope.ADMIN not in known[0].scopes:
        raise InvalidInput(f"the key {actor} lacks the scope admin; revoke it, and try again")
    return known[0]


def _row_id(code: str) -> str:
    return f"link:{sha256(code.encode('utf-8', 'surrogatepass')).hexdigest()}"
