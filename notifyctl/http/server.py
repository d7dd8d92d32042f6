"""uvicorn, as this program runs it: on a socket of its own, ended in good order, quiet except for our log."""

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from notifyctl.errors import NotifyctlError
from notifyctl.http.errors import CODES, MESSAGES
from notifyctl.http.security_headers import HEADERS
from notifyctl.stopping import Patience, stop_signals

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep theirs (nginx: 60 s): the one that closes must not be the one that is written to."""
FINISH_SECONDS = 30
"""Longest wait for requests that are under way when it is told to stop."""
FORCED_EXIT = 1

log = logging.getLogger("notifyctl.http")


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes any free one. Raises NotifyctlError."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named: asyncio switches Nagle's delay off (TCP_NODELAY) only where it sees that it is TCP.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or "is no address"
        raise NotifyctlError(f"cannot listen on {host}:{port}: {cause}; give another --host or --port") from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class ApiServer(Server):
    """`run` blocks until SIGTERM, SIGINT or SIGHUP, answers what was asked already, and returns. A second SIGTERM or
    SIGINT exits at once.

    `tell` hears READY=1, STOPPING=1 and, every `alive_every` seconds for as long as requests are served, WATCHDOG=1.
    """

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        *,
        tell: Callable[[str], None] = lambda _state: None,
        alive_every: float | None = None,
    ) -> None:
        self._listener = listener
        self._tell = tell
        self._patience = Patience()
        super().__init__(
            Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=FINISH_SECONDS,
                timeout_notify=int(alive_every or 0),
                callback_notify=self._still_alive if alive_every else None,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._listener])
        log.info("stopped")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tell("STOPPING=1")
        await super().shutdown(sockets)

    async def _still_alive(self) -> None:
        self._tell("WATCHDOG=1")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would die of the signal again in the end: it is told to stop, and that is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._patience.is_over(sig):
            os._exit(FORCED_EXIT)
        self.should_exit = True


class _Protocol(H11Protocol):
    """Not uvicorn's faster one: that keeps any length of headers in memory, and drops the body of a request that
    offers HTTP/2 (`Upgrade: h2c`, as Java's client does by itself).
    """

    def send_400_response(self, msg: str) -> None:
        """What is not even HTTP never reaches the application, and gets an answer in the same shape."""
        peer = self.client[0] if self.client else None
        log.warning("not HTTP", extra={"peer": peer})
        body = json.dumps({"error": CODES[400], "message": MESSAGES[400]})
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in (headers | HEADERS).items())]
        self.transport.write("\r\n".join([*lines, "", body]).encode())
        self.transport.close()
