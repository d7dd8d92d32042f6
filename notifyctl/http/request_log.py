"""One line a request: which route, never the path that was asked for, which may have personal data in it."""

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUIET = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds, by machines."""
LONGEST_METHOD = 16
NO_ROUTE = "(none)"

log = logging.getLogger("notifyctl.http")


class RequestLog:
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
            _write(scope, status, perf_counter() - started)


def _write(scope: Scope, status: int, seconds: float) -> None:
    """Status 0: the caller was gone before there was an answer."""
    route = route_of(scope)
    fields = {"method": method_of(scope), "route": route, "status": status, "ms": round(seconds * 1000, 1)}
    caller = scope["state"].get("caller")
    if caller is not None:
        fields["key"] = caller.name
    log.log(logging.DEBUG if route in QUIET and status < 500 else logging.INFO, "request", extra=fields)


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
