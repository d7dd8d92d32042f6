"""A request's body is read before anything is done with it, and refused as soon as it is too long or takes too long."""

import asyncio
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifyctl.http.errors import CODES, MESSAGES, error_response

KIB = 1024
DEFAULT_BYTES = 64 * KIB
BYTES = {"/api/webhooks/stripe": 1024 * KIB}
SECONDS = 30.0
"""For the whole of it: who sends a byte now and then would never be late with the next one."""


class BodyLimit:
    """Reads without a thread: someone who sends a byte a minute holds up nobody else."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Mapping[str, int] = BYTES,
        default: int = DEFAULT_BYTES,
        seconds: float = SECONDS,
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
        most = self._limits.get(scope["path"], self._default)
        try:
            async with asyncio.timeout(self._seconds):
                body = None if _announced(scope) > most else await _read(receive, most)
        except ClientDisconnect:
            return
        except TimeoutError:
            await error_response(408, CODES[408], MESSAGES[408], {"Connection": "close"})(scope, receive, send)
            return
        if body is None:
            text = f"The body is longer than {most // KIB} KiB."
            await error_response(413, CODES[413], text)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


def _has_two_lengths(scope: Scope) -> bool:
    """A proxy in front that believes the other one takes what follows for another request (RFC 9112, 6.3 and 11.2)."""
    names = [name for name, _ in scope["headers"]]
    return b"content-length" in names and b"transfer-encoding" in names


def _announced(scope: Scope) -> int:
    """Content-Length; 0 where there is none, as in a body that comes in chunks."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(value) for value in lengths if value.isdigit() and len(value) < 20), default=0)


async def _read(receive: Receive, most: int) -> bytes | None:
    """None when there is more than that. Raises ClientDisconnect: half a body is none."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    handed_on = False

    async def replay() -> Message:
        nonlocal handed_on
        if handed_on:
            return await receive()
        handed_on = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
