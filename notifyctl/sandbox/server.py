"""Runs the sandbox: the fake APIs, the inbox and the controls on one address, in this process or in a thread."""

import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifyctl.clock import Clock, system_clock
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.sandbox.client import SandboxClient
from notifyctl.sandbox.connection import SandboxProtocol
from notifyctl.sandbox.control_api import Controls
from notifyctl.sandbox.faults.faults import Faults
from notifyctl.sandbox.inbox_page import InboxPage
from notifyctl.sandbox.inbox_store import KEEP, InboxStore
from notifyctl.sandbox.postmark.api import FakePostmark
from notifyctl.sandbox.receipts.replies import Replies
from notifyctl.sandbox.receipts.settings import Receipts
from notifyctl.sandbox.state import SandboxState
from notifyctl.sandbox.stripe.api import FakeStripe
from notifyctl.sandbox.twilio.api import FakeTwilio

LOOPBACK = "127.0.0.1"
_BACKLOG = 2048
_STARTUP_SECONDS = 10
_SHUTDOWN_SECONDS = 2


def run(
    host: str = LOOPBACK,
    port: int = 0,
    *,
    inbox: InboxStore | None = None,
    faults: Mapping[str, Faults] | None = None,
    receipts: Receipts | None = None,
    ready: Callable[[str], None] | None = None,
    until: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Serves until one of these signals, then returns; a second SIGINT drops what is in flight.

    Port 0 is any free port. `ready` is called with the base URL once the server answers. Raises InvalidInput
    when the address cannot be listened on. Call it in the main thread, since it listens to signals.
    """
    state = SandboxState(inbox or InboxStore(), system_clock)
    for api, fault_plan in (faults or {}).items():
        state.faults.set_faults(api, fault_plan)
    with _listen(host, port) as listening:
        state.receipts.set(receipts)
        server = _Server(application(state), listening, ready)
        try:
            with _signals_sent_to(server.handle_exit, until):
                server.run(sockets=[listening])
        finally:
            state.receipts.stop()


class Sandbox(SandboxClient):
    """The server in a background thread, for as long as the `with` block runs.

    >>> with Sandbox() as sandbox:
    ...     client = PostmarkClient(server_token="any", root_api_url=sandbox.url)
    """

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int = 0,
        *,
        keep: int = KEEP,
        search_delay: timedelta = timedelta(),
        clock: Clock = system_clock,
        postmark_token: str | None = None,
        twilio_token: str | None = None,
    ) -> None:
        self._address = (host, port)
        super().__init__(SandboxState(InboxStore(keep, search_delay), clock))
        self._app = application(self._state, postmark_token=postmark_token, twilio_token=twilio_token)
        self.url = ""

    def __enter__(self) -> Self:
        self._listening = _listen(*self._address)
        self.url = _url(self._listening)
        answers = threading.Event()
        self._server = _Server(self._app, self._listening, lambda _: answers.set())
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), name="sandbox", daemon=True)
        self._thread.start()
        if not answers.wait(_STARTUP_SECONDS):
            raise NotifyctlError(f"the sandbox did not answer within {_STARTUP_SECONDS} seconds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()
        self._state.receipts.stop()


def application(
    state: SandboxState,
    *,
    postmark_token: str | None = None,
    twilio_token: str | None = None,
) -> ASGIApp:
    """A token that is None lets any non-empty one in."""
    app = Starlette(
        routes=[
            # Routes are tried in order, so what is called most stands first.
            *FakeTwilio(state, twilio_token).routes(),
            *FakePostmark(state, postmark_token).routes(),
            *FakeStripe(state).routes(),
            *InboxPage(state).routes(),
            *Controls(state).routes(),
            *Replies(state).routes(),
        ]
    )
    return _dated(app, lambda: state.clock())


def _dated(app: ASGIApp, clock: Clock) -> ASGIApp:
    """Every answer says when it was given, by the same clock as the times in it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", format_datetime(clock(), usegmt=True).encode())]
            await send(message)

        await app(scope, receive, send_dated)

    return answer


class _Server(uvicorn.Server):
    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        ready: Callable[[str], None] | None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=SandboxProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # the application's own clock tells it
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        self._url = _url(listening)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            self._ready(self._url)


@contextmanager
def _signals_sent_to(
    handler: Callable[[int, FrameType | None], None], until: Sequence[signal.Signals]
) -> Iterator[None]:
    # uvicorn raises a signal once more after a clean stop; with no handler here that would kill the process.
    previous = {number: signal.signal(number, handler) for number in until}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; else an answer takes 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        raise InvalidInput(_why_not(host, port, error)) from error
    return listening


def _why_not(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken. Choose another with --port (0 takes any free one)."
    return f"Cannot listen on {host} port {port}: {error}. Choose another with --port."


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
