"""Answers that are none: a connection that is held, closed, or closed in the middle of the answer."""

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "notifyctl.sandbox.connection"


class SandboxProtocol(HttpToolsProtocol):
    """uvicorn's own, which also lets the application close it: ASGI itself has no word for that."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._held = False
        self._stopping = asyncio.Event()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: self}  # type: ignore[dict-item]

    def shutdown(self) -> None:
        """Also ends what would wait on: a client that is never answered must not hold up the end."""
        super().shutdown()
        self._stopping.set()
        if self._held:
            self.transport.close()

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def hold(self, receive: Receive) -> None:
        """Until the client gives up, or the server stops."""
        self._held = True
        if self._stopping.is_set():
            self.transport.close()
        await _gone(receive)

    async def close(self, receive: Receive) -> None:
        """Sends what is still to be sent, then closes."""
        self.transport.close()
        # uvicorn answers for an application that returns without an answer, unless the client is gone.
        await _gone(receive)


def connection_of(scope: Scope) -> SandboxProtocol:
    connection: SandboxProtocol = scope["extensions"][_EXTENSION]
    return connection


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class NoAnswer(Response):
    """Holds the connection open."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await connection_of(scope).hold(receive)


class ClosedConnection(Response):
    """Closes the connection without a byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await connection_of(scope).close(receive)


class HalfAnswer(Response):
    """Announces the whole answer, and closes the connection after half of it."""

    def __init__(self, whole: Response) -> None:
        super().__init__(whole.body, whole.status_code, media_type=whole.media_type)
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await connection_of(scope).close(receive)


async def pause(request: Request, seconds: float) -> None:
    if seconds:
        await connection_of(request.scope).pause(seconds)
