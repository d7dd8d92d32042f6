"""Who is signed in: a cookie that names a session and the admin key behind it.

It is worth nothing once somebody has signed out with it, or its key is revoked: that ends all of the key's. It is
signed over the key's hash as well, so that the rows of the sessions alone open nothing.
"""

import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import Depends, Request, Response
from pydantic import SecretStr
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.health.installation import names
from notifyctl.http import api_key_store
from notifyctl.http.api_key_store import StoredApiKey
from notifyctl.http.api_keys import KeyState, state_of
from notifyctl.http.auth import Caller, RuntimeDep
from notifyctl.http.errors import ApiError
from notifyctl.http.middleware import origin_of
from notifyctl.keyring import Secret, keyed_hash
from notifyctl.settings import Settings

HOME = "/admin/notification-health"
SIGN_IN = "/admin/login"
COOKIE = "notifyctl_session"
PATH = "/"
"""The reference has its address beside the pages."""
LIFE = timedelta(hours=12)
ID_BYTES = 16

_COOKIE = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{1,64})\.([0-9]{1,11})\.([0-9a-f]{32})", re.ASCII)
_OUR_PAGE = re.compile(r"/docs|/admin/notification-health(?:[/?][A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*)?", re.ASCII)
log = logging.getLogger("notifyctl.http")


@dataclass(frozen=True, slots=True)
class Operator(Caller):
    """Whoever has signed in."""

    form_tokens: tuple[str, ...] = field(repr=False)
    """Of this session, one for each secret key: the first stands in its forms, any of them is taken."""
    installation: str
    """What it is called; who has not signed in does not read it."""


def start(session: Session, response: Response, settings: Settings, key: StoredApiKey, now: datetime) -> None:
    expires, session_id = int((now + LIFE).timestamp()), secrets.token_hex(ID_BYTES)
    api_key_store.open_session(session, session_id, key_id=key.id, now=now, expires_at=now + LIFE)
    mac = _macs(settings.notification_secret_key, session_id, key, expires)[0]
    response.set_cookie(
        COOKIE,
        f"{session_id}.{key.id}.{expires}.{mac}",
        max_age=int(LIFE.total_seconds()),
        path=PATH,
        secure=_is_https(settings),
        httponly=True,
        samesite="strict",
    )


def end(session: Session, response: Response, settings: Settings, cookie: str, now: datetime) -> Operator | None:
    """Whoever has kept the cookie has nothing. Returns whose session it was."""
    caller = holder(session, settings, cookie, now)
    if caller is not None:
        api_key_store.end_session(session, cookie.partition(".")[0])
    response.delete_cookie(COOKIE, path=PATH, secure=_is_https(settings), httponly=True, samesite="strict")
    return caller


def _is_https(settings: Settings) -> bool:
    return (settings.public_base_url or "").startswith("https://")


def _macs(keys: Sequence[SecretStr], session_id: str, key: StoredApiKey, expires: int) -> list[str]:
    """The first signs, any of them verifies."""
    signing = [Secret(secret).derive("page session") for secret in keys]
    return [keyed_hash(signer, session_id, key.id, key.key_hash, str(expires)) for signer in signing]


def holder(session: Session, settings: Settings, cookie: str, now: datetime) -> Operator | None:
    """Whose session it is; None when it is over, or none of ours. Never raises for any text."""
    parts = _COOKIE.fullmatch(cookie)
    key = api_key_store.get(session, parts[2]) if parts else None
    if parts is None or key is None:
        return None
    session_id, expires = parts[1], int(parts[3])
    macs = _macs(settings.notification_secret_key, session_id, key, expires)
    is_ours = any(hmac.compare_digest(mac, parts[4]) for mac in macs)
    if not is_ours or now >= datetime.fromtimestamp(expires, UTC) or state_of(key, now) is not KeyState.ACTIVE:
        return None
    if not api_key_store.is_open(session, session_id, key.id):
        return None
    caller = Caller.of(key)
    if not caller.is_admin:
        return None
    signing = [Secret(secret).derive("page form") for secret in settings.notification_secret_key]
    tokens = tuple(keyed_hash(signer, session_id) for signer in signing)
    return Operator(caller.id, caller.name, caller.scopes, tokens, names(session, settings)[0])


def operator_of(request: Request, runtime: Runtime) -> Operator | None:
    """Who has signed in, by the cookie."""
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return None
    with runtime.database.read() as session:
        return holder(session, runtime.settings, cookie, runtime.clock())


def sign_in_first(request: Request) -> ApiError:
    """Sends to the page to sign in on, and back afterwards."""
    return ApiError(303, "sign_in", "Sign in first.", {"Location": sign_in_address(request)})


def _signed_in(request: Request, runtime: RuntimeDep) -> Operator:
    operator = operator_of(request, runtime)
    if operator is None:
        raise sign_in_first(request)
    request.state.caller = operator
    return operator


SignedIn = Annotated[Operator, Depends(_signed_in)]


def sign_in_address(request: Request) -> str:
    page = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    page_after = safe_next(page if request.method == "GET" else "")
    return SIGN_IN if page_after == HOME else f"{SIGN_IN}?next={quote(page_after, safe='')}"


def safe_next(page: str) -> str:
    """Where to go after signing in: a page of ours, whatever was asked for."""
    return page if _OUR_PAGE.fullmatch(page) else HOME


def _own_origin(request: Request, runtime: RuntimeDep) -> None:
    """Browsers name the origin of every form that is posted; the cookie's SameSite is the other guard.

    Only the host is compared: whether a proxy before us speaks TLS is not known here.
    """
    origin = request.headers.get("origin", "")
    ours = {request.headers.get("host", "").lower(), _host(runtime.settings.public_base_url or "")}
    if _host(origin) not in ours - {""}:
        log.warning("foreign form refused", extra=origin_of(request.scope))
        text = "This form was not sent from a page of this site. Open the page again and repeat what you did."
        raise ApiError(403, "forbidden", text)


OwnForm = Depends(_own_origin)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


async def _fields(request: Request) -> dict[str, str]:
    """Of a form without files. What is twice in it counts as it stands last."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}


Fields = Annotated[dict[str, str], Depends(_fields)]


def _own_session(request: Request, operator: SignedIn, fields: Fields) -> None:
    """Beside its origin, a form of ours brings what only a page of the same session could tell it."""
    presented = fields.get("token", "").encode("utf-8", "surrogatepass")
    if not any([hmac.compare_digest(presented, token.encode()) for token in operator.form_tokens]):
        log.warning("form without its token refused", extra=origin_of(request.scope))
        text = "This form is not of your session. Open the page again and repeat what you did."
        raise ApiError(403, "forbidden", text)


SESSION_FORM = [OwnForm, Depends(_own_session)]
"""For `dependencies=` of whatever a form of somebody who has signed in does."""
