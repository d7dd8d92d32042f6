"""How many callers there may be at once, and for how long one may keep us waiting.

Everything here is before the key: a stranger can open connections and say nothing. Whoever keeps us waiting longest
leaves first when it gets crowded, so that such a stranger only displaces others like him; a request that has arrived
is never given up for another. Past that, the probes are answered and nothing else.
"""

import asyncio
import json
import logging
import resource
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from time import monotonic
from typing import cast

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from notifyctl.http.errors import CODES, MESSAGES, RETRY_AFTER_SECONDS, error_response
from notifyctl.http.middleware import HEADERS

PROBES = ("/healthz", "/readyz")
MOST_CONNECTIONS = 1_000
FEWEST_CONNECTIONS = 16
ROOM_FOR_PROBES = 16
OTHER_HANDLES = 96
"""Of files that a process has open besides: database connections (up to 25), their files on SQLite, logs, threads."""
SPARE_HANDLES = 8
"""That are given back when there are none any more."""
WARN_EVERY_SECONDS = 60

log = logging.getLogger("notifyctl.http")


def most_connections() -> int:
    """As many as leave the process enough of the handles that it may have (RLIMIT_NOFILE)."""
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if handles == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, handles - ROOM_FOR_PROBES - OTHER_HANDLES))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one process; seconds."""

    head: float = 10
    """From the connection, or from the first byte of a later request, to the end of the request's head."""
    answer: float = 60
    """For a caller to take the answer that has been written."""
    idle: int = 75
    """Longer than proxies keep theirs (nginx: 60 s): the one that closes must not be the one that is written to."""
    connections: int = field(default_factory=most_connections)
    for_probes: int = ROOM_FOR_PROBES
    """So many more are let in, to be answered if it is a probe."""


class Phase(Enum):
    HEAD = auto()
    """A request's head is expected, or has begun. Also what follows a request that was refused before its end."""
    BODY = auto()
    WORK = auto()
    """The request has arrived: it is for us to go on."""
    IDLE = auto()


class OpenConnections(ServerState):
    """All connections of a process."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.bounds = bounds
        self.waiting_on: dict[HttpConnection, None] = {}
        """Those that keep us waiting, the longest first."""
        self._most = bounds.connections
        """Fewer for a while, when handles ran out before."""
        self._warned_at = float("-inf")

    def admit(self, newcomer: "HttpConnection") -> None:
        if len(self.connections) <= self._most:
            return
        self._warn()
        if self._drop_slowest():
            return
        if len(self.connections) > self._most + self.bounds.for_probes:
            newcomer.drop()
        else:
            newcomer.app = _ProbesOnly(newcomer.app)

    def out_of_handles(self) -> None:
        """Somebody else has them: gives some back, and keeps to fewer connections than that."""
        self._most = max(1, len(self.connections) - SPARE_HANDLES)
        self._warn()
        while len(self.connections) > self._most and self._drop_slowest():
            pass

    def _drop_slowest(self) -> bool:
        """The one that keeps us waiting longest. False when none does."""
        longest = next(iter(self.waiting_on), None)
        if longest is not None:
            longest.drop()
        return longest is not None

    def check_all(self) -> None:
        self._most = min(self.bounds.connections, self._most + 1)
        now = monotonic()
        for connection in list(self.connections):
            cast(HttpConnection, connection).check(now)

    def _warn(self) -> None:
        now = monotonic()
        if now - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = now
            log.warning("too many connections", extra={"connections": len(self.connections)})


class HttpConnection(H11Protocol):
    """Not uvicorn's faster one: that keeps any length of headers in memory, and drops the body of a request that
    offers HTTP/2 (`Upgrade: h2c`, as Java's client does by itself).
    """

    def __init__(
        self,
        config: Config,
        server_state: OpenConnections,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._open = server_state
        self._phase = Phase.HEAD
        self._since = monotonic()
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._open.admit(self)
        if not transport.is_closing():
            self._open.waiting_on[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.waiting_on.pop(self, None)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._enter(self._present_phase())

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._enter(self._present_phase())

    def _present_phase(self) -> Phase:
        if self.cycle is not None and not self.cycle.response_complete:
            return Phase.BODY if self.cycle.more_body else Phase.WORK
        is_between = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        return Phase.IDLE if is_between and self.cycle is not None else Phase.HEAD

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase or self.transport.is_closing():
            return
        # A body goes on from its head: whoever is slow with both has kept us waiting since the beginning.
        if (self._phase, phase) != (Phase.HEAD, Phase.BODY):
            self._since = monotonic()
            self._open.waiting_on.pop(self, None)
        if phase is not Phase.WORK:
            self._open.waiting_on[self] = None
        self._phase = phase

    def check(self, now: float) -> None:
        """Ends it where it has taken too long. A slow body is ended by BodyLimit."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > self._open.bounds.answer:
            self.drop()
            return
        bounds = self._open.bounds
        seconds = {Phase.HEAD: bounds.head, Phase.IDLE: bounds.idle}.get(self._phase)
        if seconds is not None and now - self._since > seconds and not self.transport.is_closing():
            self._refuse_late()

    def _refuse_late(self) -> None:
        """Whoever has said nothing is told nothing: browsers and proxies connect ahead of need."""
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408)
        else:
            self.transport.close()

    def drop(self) -> None:
        """Now, whatever was not written yet."""
        self._open.waiting_on.pop(self, None)
        self._open.connections.discard(self)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What is not even HTTP never reaches the application, and gets an answer in the same shape."""
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        peer = self.client[0] if self.client else None
        log.warning("not HTTP" if status == 400 else "request too slow", extra={"peer": peer})
        body = json.dumps({"error": CODES[status], "message": MESSAGES[status]})
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (headers | HEADERS).items()]
        self.transport.write("\r\n".join([*lines, "", body]).encode())
        self.transport.close()


class _ProbesOnly:
    """What answers on a connection that is one too many, and ends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in PROBES:
            headers = HEADERS | {"Connection": "close", "Retry-After": str(RETRY_AFTER_SECONDS)}
            text = "There are too many connections at the moment; try again."
            await error_response(503, "busy", text, headers)(scope, receive, send)
            return

        async def and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, and_close)
