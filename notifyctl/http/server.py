"""The application: its routes, what stands around each of them, and uvicorn as this program runs it."""

import asyncio
import errno
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

from notifyctl import __version__
from notifyctl.bootstrap import Runtime
from notifyctl.errors import NotifyctlError
from notifyctl.http import middleware, webhooks
from notifyctl.http.api import clients, health, messages, metrics, notifications, otp, probes
from notifyctl.http.api.reference import reference_router
from notifyctl.http.connections import Bounds, HttpConnection, OpenConnections
from notifyctl.http.errors import UnexpectedErrors, add_error_handlers
from notifyctl.http.middleware import BodyLimit, HeadRequests, RequestLog, SecurityHeaders, security_headers
from notifyctl.http.pages.errors import PageErrors
from notifyctl.http.pages.sign_in import add_pages
from notifyctl.stopping import FORCED_EXIT, Patience, stop_signals

BACKLOG = 2048
CHECK_EVERY_SECONDS = 1.0
OUT_OF_HANDLES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FINISH_SECONDS = 30
"""Longest wait for requests that are under way when it is told to stop."""

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
        bounds: Bounds | None = None,
    ) -> None:
        bounds = bounds or Bounds()
        self._listener = listener
        self._tell = tell
        self._patience = Patience()
        super().__init__(
            Config(
                app,
                http=HttpConnection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                # So many are also accepted in one go, and asyncio does not leave off when handles run out: with 2048,
                # each second brings as many failures (selector_events.py, _accept_connection).
                backlog=1,
                timeout_keep_alive=bounds.idle,
                timeout_graceful_shutdown=FINISH_SECONDS,
                timeout_notify=int(alive_every or 0),
                callback_notify=self._still_alive if alive_every else None,
            )
        )
        self.open_connections = OpenConnections(bounds)
        self.server_state = self.open_connections

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._listener])
        log.info("stopped")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(BACKLOG)
        self._checking = loop.create_task(self._check_connections())
        self._tell("READY=1")

    async def _check_connections(self) -> None:
        while True:
            await asyncio.sleep(min(CHECK_EVERY_SECONDS, self.open_connections.bounds.head / 4))
            self.open_connections.check_all()

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """What asyncio would log with a traceback. Accepting is tried again in a second."""
        error = context.get("exception")
        log.error("event loop", extra={"error": context["message"], "cause": str(error)})
        if isinstance(error, OSError) and error.errno in OUT_OF_HANDLES:
            self.open_connections.out_of_handles()

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


def api_alone() -> FastAPI:
    """Without what stands around it: what the OpenAPI document tells of."""
    app = FastAPI(
        title="notifyctl",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for module in (otp, notifications, clients, messages, health, metrics, webhooks, probes):
        app.include_router(module.router)
    return app


def create_app(runtime: Runtime, *, body_seconds: float = middleware.BODY_SECONDS) -> FastAPI:
    """`runtime` stays the caller's to close."""
    app = api_alone()
    app.state.runtime = runtime
    app.include_router(reference_router(open_to_all=runtime.settings.http_docs))
    add_pages(app)
    add_error_handlers(app)
    # The one added last is the outermost.
    app.add_middleware(BodyLimit, seconds=body_seconds)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(PageErrors)
    app.add_middleware(SecurityHeaders, headers=security_headers(runtime.settings.public_base_url))
    app.add_middleware(RequestLog)
    app.add_middleware(HeadRequests)
    return app
