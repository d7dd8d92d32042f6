"""What stands around every route: a body's limits, headers that bind a browser, HEAD, and a line in the log."""

import asyncio
import logging
from collections.abc import Mapping
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifyctl.http.errors import CODES, MESSAGES, error_response

log = logging.getLogger("notifyctl.http")

KIB = 1024
DEFAULT_BODY_BYTES = 64 * KIB
BODY_BYTES = {"/api/webhooks/stripe": 1024 * KIB}
BODY_SECONDS = 30.0
"""For the whole body: a limit between two bytes would let a slow sender go on for ever."""

QUIET_ROUTES = ("/healthz", "/readyz", "/metrics")
"""Machines ask them every few seconds."""
LONGEST_METHOD = 16
NO_ROUTE = "(none)"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}
HTTPS_HEADERS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}


class BodyLimit:
    """Reads the whole body before the route runs, and without a thread: a slow sender holds up nobody else."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Mapping[str, int] = BODY_BYTES,
        default: int = DEFAULT_BODY_BYTES,
        seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._seconds = seconds
        self._limits = limits
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _has_two_lengths(scope):
            await error_response(400, CODES[400], MESSAGES[400], {"Connection": "close"})(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._default)
        try:
            async with asyncio.timeout(self._seconds):
                body = None if _content_length(scope) > limit else await _read_body(receive, limit)
        except ClientDisconnect:
            return
        except TimeoutError:
            await error_response(408, CODES[408], MESSAGES[408], {"Connection": "close"})(scope, receive, send)
            return
        if body is None:
            text = f"The body is longer than {limit // KIB} KiB."
            await error_response(413, CODES[413], text)(scope, receive, send)
            return
        await self._app(scope, _replay_body(body, receive), send)


def _has_two_lengths(scope: Scope) -> bool:
    """A proxy in front that believes the other one takes what follows for another request (RFC 9112, 6.3 and 11.2)."""
    names = [name for name, _ in scope["headers"]]
    return b"content-length" in names and b"transfer-encoding" in names


def _content_length(scope: Scope) -> int:
    """Content-Length; 0 where there is none, as in a body that comes in chunks."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(value) for value in lengths if value.isdigit() and len(value) < 20), default=0)


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """None when it is longer than `limit`. Raises ClientDisconnect, also in the middle of a body."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay_body(body: bytes, receive: Receive) -> Receive:
    handed_on = False

    async def replay() -> Message:
        nonlocal handed_on
        if handed_on:
            return await receive()
        handed_on = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class RequestLog:
    """One line for each request, without anything that the caller wrote."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        started, status = perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            _log_request(scope, status, perf_counter() - started)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Status 0: the caller hung up before the answer."""
    route = route_of(scope)
    fields = {"method": method_of(scope), "route": route, "status": status, "ms": round(seconds * 1000, 1)}
    caller = scope["state"].get("caller")
    if caller is not None:
        fields["key"] = caller.name
    log.log(logging.DEBUG if route in QUIET_ROUTES and status < 500 else logging.INFO, "request", extra=fields)


def method_of(scope: Scope) -> str:
    """The beginning of it: a caller may have made up its own."""
    return str(scope["method"])[:LONGEST_METHOD]


def route_of(scope: Scope) -> str:
    """As /api/notifications/{message_id}."""
    return getattr(scope.get("route"), "path_format", NO_ROUTE)


def peer_of(scope: Scope) -> str | None:
    """The address that the request came from."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else None


def origin_of(scope: Scope) -> dict[str, object]:
    """For the log."""
    return {"route": route_of(scope), "peer": peer_of(scope)}


def security_headers(public_base_url: str | None) -> dict[str, str]:
    return HEADERS | (HTTPS_HEADERS if (public_base_url or "").startswith("https://") else {})


class SecurityHeaders:
    """A response that has one of them already keeps its own: a page says itself what it loads."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add)


class HeadRequests:
    """HEAD is GET without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def drop_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, drop_body)
