"""Signing in with an admin key, and out."""

import logging
from collections import deque
from datetime import datetime, timedelta
from math import ceil
from threading import Lock
from typing import cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from notifyctl.bootstrap import Runtime
from notifyctl.http import api_keys
from notifyctl.http.api_key_store import StoredApiKey
from notifyctl.http.api_keys import Refused
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.middleware import peer_of
from notifyctl.http.pages import actions, dashboard, links, message, page, sessions
from notifyctl.http.pages.page import render
from notifyctl.http.pages.sessions import HOME, SIGN_IN, Fields, OwnForm, safe_next
from notifyctl.models.enums import Scope

USED = "This link was used already, or is too old. Make another with `notifyctl open`."
WRONG = "This key does not open the page. It must be a key in force with the scope admin."

log = logging.getLogger("notifyctl.http")
router = APIRouter(include_in_schema=False)


class FailedSignIns:
    """No more than MOST a minute are told that their key is wrong, and logged, in this process.

    A key cannot be guessed; this keeps those who try anyway from our log. The right key is taken at any time: strangers
    must not be able to lock the admins out, and behind a proxy they all come from one address.
    """

    MOST = 30
    WINDOW = timedelta(minutes=1)

    def __init__(self) -> None:
        self._moments: deque[datetime] = deque(maxlen=self.MOST)
        self._lock = Lock()

    def add(self, now: datetime) -> None:
        with self._lock:
            self._moments.append(now)

    def wait_seconds(self, now: datetime) -> int:
        """0 when another may be told."""
        with self._lock:
            is_full = len(self._moments) == self.MOST
            left = self._moments[0] + self.WINDOW - now if is_full else timedelta()
        return max(0, ceil(left.total_seconds()))


@router.get(SIGN_IN)
def form(request: Request) -> HTMLResponse:
    return _form(request.query_params.get("next", ""), code=request.query_params.get("code", ""))


def _form(page_after: str, fault: str = "", status: int = 200, *, code: str = "") -> HTMLResponse:
    return render("sign_in.html", status, next=safe_next(page_after), fault=fault, code=code)


def _try_later(page_after: str, wait_seconds: int) -> HTMLResponse:
    text = "This does not open the page, and too much else did not lately. The right key does at any time."
    answer = _form(page_after, text, 429)
    answer.headers["Retry-After"] = str(wait_seconds)
    return answer


@router.post(SIGN_IN, dependencies=[OwnForm])
def sign_in(request: Request, runtime: RuntimeDep, fields: Fields) -> Response:
    now, page_after = runtime.clock(), fields.get("next", "")
    failed = cast(FailedSignIns, request.app.state.failed_sign_ins)
    peer = peer_of(request.scope)
    by_link = "code" in fields
    key = _key_of_link(runtime, fields["code"], now) if by_link else _key(runtime, fields.get("key", ""), now)
    if isinstance(key, Refused):
        if wait := failed.wait_seconds(now):
            return _try_later(page_after, wait)
        failed.add(now)
        log.warning("sign-in refused", extra={"peer": peer, "cause": key.cause, "key": key.name})
        return _form(page_after, USED if by_link else WRONG, 401)
    log.info("signed in", extra={"peer": peer, "key": key.name})
    answer = RedirectResponse(safe_next(page_after), 303)
    with runtime.database.transaction() as session:
        sessions.start(session, answer, runtime.settings, key, now)
    return answer


def _key(runtime: Runtime, text: str, now: datetime) -> StoredApiKey | Refused:
    with runtime.database.read() as session:
        key = api_keys.recognise(session, text.strip().encode("utf-8", "surrogatepass"), now)
    if not isinstance(key, Refused) and Scope.ADMIN not in key.scopes:
        return Refused("lacks the scope admin", key.name)
    return key


def _key_of_link(runtime: Runtime, code: str, now: datetime) -> StoredApiKey | Refused:
    with runtime.database.transaction() as session:
        return links.redeem(session, code, now) or Refused("link used, too old or unknown")


@router.post("/admin/logout", dependencies=[OwnForm])
def sign_out(request: Request, runtime: RuntimeDep) -> Response:
    answer, cookie = RedirectResponse(SIGN_IN, 303), request.cookies.get(sessions.COOKIE, "")
    with runtime.database.transaction() as session:
        caller = sessions.end(session, answer, runtime.settings, cookie, runtime.clock())
    if caller is not None:
        log.info("signed out", extra={"key": caller.name})
    return answer


@router.get("/")
@router.get("/admin")
@router.get("/admin/")
def home() -> Response:
    return RedirectResponse(HOME, 303)


def add_pages(app: FastAPI) -> None:
    app.state.failed_sign_ins = FailedSignIns()
    for pages in (router, dashboard.router, message.router, actions.router, page.router):
        app.include_router(pages)
