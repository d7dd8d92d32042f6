"""Callers who say nothing, speak slowly, do not listen, or are too many."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event
from time import monotonic, sleep

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.http.connections import Bounds
from notifyctl.http.server import create_app
from tests.support.api import serving
from tests.support.settings import make_settings

QUICK = Bounds(head=0.3, answer=0.5, idle=1, connections=1_000)
PATIENT = 20.0
"""Far longer than any limit of these tests."""
CROWDED = Bounds(head=PATIENT, connections=8, for_probes=2)
HEAD = b"POST /api/otp/send HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Caller:
    def __init__(self, url: str, *, buffer: int | None = None) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENT)
        self.socket.connect((host, int(port)))

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> "Caller":
        self.socket.sendall(data)
        return self

    def hear(self) -> bytes:
        """All until the other side ends it, in whatever way."""
        found = bytearray()
        try:
            while data := self.socket.recv(65_536):
                found += data
        except ConnectionResetError:
            pass
        return bytes(found)

    def hear_one(self) -> bytes:
        """One answer, of a few bytes."""
        found = b""
        while not found.partition(b"\r\n\r\n")[2] and (data := self.socket.recv(65_536)):
            found += data
        return found

    def is_ended(self) -> bool:
        """For one who has heard all that there was."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(65_536) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.settimeout(PATIENT)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Of a database that is not there: who is not heard out never gets as far."""
    opened = open_runtime(make_settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('bare') / 'unused.db'}"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def quick(bare: Runtime) -> Iterator[str]:
    app = create_app(bare, body_seconds=0.3)
    app.add_api_route("/large", lambda: {"text": "x" * 40_000_000})
    with serving(app, QUICK) as url:
        yield url


@contextmanager
def crowd(url: str, count: int, data: bytes = b"") -> Iterator[list[Caller]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Caller(url)).say(data) for _ in range(count)]


def until(condition: Callable[[], bool], every: float = 0.01) -> None:
    deadline = monotonic() + PATIENT / 2
    while not condition():
        assert monotonic() < deadline
        sleep(every)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", None),
        (b"GET", 408),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", 408),
        (HEAD, 408),
        (HEAD + b"{", 408),
        (b"POST /api/otp/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 408),
        (b"POST /api/otp/send HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{", 413),
        (PROBE, 200),
        (PROBE + b"GET", 200),
    ],
    ids=["nothing", "a word", "half a head", "no body", "half a body", "half a chunk", "refused", "idle", "next one"],
)
def test_whoever_goes_silent_is_answered_and_ended(quick: str, said: bytes, status: int | None) -> None:
    began = monotonic()
    with Caller(quick) as caller:
        heard = caller.say(said).hear()

    assert monotonic() - began < PATIENT / 2
    assert heard[9:12] == (b"" if status is None else str(status).encode())
    if status == 408:
        assert json.loads(heard.split(b"\r\n\r\n")[1]) == {
            "error": "request_timeout",
            "message": "The request took too long to arrive.",
        }
        assert b"\r\nconnection: close\r\n" in heard.lower()
        assert b"content-security-policy" in heard.lower()


@pytest.mark.parametrize(
    ("begun", "drop"),
    [(b"GET /healthz HTTP/1.1\r\nX: ", b"x"), (HEAD, b"{"), (PROBE + b"GET /", b"x")],
    ids=["head", "body", "a later head"],
)
def test_a_byte_now_and_then_gains_no_time(quick: str, begun: bytes, drop: bytes) -> None:
    with Caller(quick) as caller:
        caller.say(begun)
        until(lambda: _cannot_say(caller, drop), every=0.05)


def _cannot_say(caller: Caller, drop: bytes) -> bool:
    try:
        caller.say(drop)
    except OSError:
        return True
    return False


def test_whoever_does_not_take_his_answer_is_ended(quick: str) -> None:
    """Closing would wait for ever for what was written before."""
    with Caller(quick, buffer=4_096) as caller:
        caller.say(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        sleep(1.5)
        assert len(caller.hear()) < 40_000_000


def test_a_quick_caller_is_served_again_and_again(quick: str) -> None:
    with Caller(quick) as caller:
        for _ in range(5):
            assert caller.say(PROBE).hear_one().startswith(b"HTTP/1.1 200 ")
            sleep(0.1)


def test_silent_callers_displace_each_other_and_nobody_else(runtime: Runtime) -> None:
    with serving(create_app(runtime), CROWDED) as url, crowd(url, 40) as silent:
        until(lambda: sum(caller.is_ended() for caller in silent) >= 32)
        assert not silent[-1].is_ended()
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/api/admin/message-logs", 401)):
            assert requests.get(url + path, timeout=PATIENT).status_code == status


@pytest.mark.parametrize("said", [HEAD, PROBE + HEAD], ids=["the first request", "a later one"])
def test_callers_who_never_finish_their_body_are_displaced_too(bare: Runtime, said: bytes) -> None:
    with serving(create_app(bare), CROWDED) as url, crowd(url, 40, said) as slow:
        until(lambda: sum(caller.is_ended() for caller in slow) >= 32)
        assert requests.get(url + "/api/admin/message-logs", timeout=PATIENT).status_code == 401


def test_whoever_waits_between_two_requests_longest_leaves_first(bare: Runtime) -> None:
    with serving(create_app(bare), CROWDED) as url, crowd(url, 8, PROBE) as idle:
        assert all(caller.hear_one() for caller in idle)
        assert idle[0].say(PROBE).hear_one()
        with crowd(url, 3, PROBE) as later:
            assert all(caller.hear_one() for caller in later)
            until(lambda: [caller.is_ended() for caller in idle] == [False, True, True, True, *[False] * 4])


@contextmanager
def busy(app: FastAPI, url: str, count: int) -> Iterator[None]:
    """Requests that have arrived and are being worked on: as many as threads or more."""
    with crowd(url, count, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") as callers:
        until(lambda: app.state.begun >= min(count, 40))
        yield
        app.state.go_on.set()
        assert all(caller.hear_one().startswith(b"HTTP/1.1 200 ") for caller in callers)


def _with_slow_route(runtime: Runtime) -> FastAPI:
    app = create_app(runtime)
    app.state.begun, app.state.go_on = 0, Event()

    def slow() -> None:
        app.state.begun += 1
        app.state.go_on.wait(PATIENT)

    app.add_api_route("/slow", slow)
    return app


def test_room_is_kept_for_probes_when_all_are_busy(runtime: Runtime) -> None:
    app = _with_slow_route(runtime)
    with serving(app, CROWDED) as url, busy(app, url, 8):
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/api/admin/message-logs", 503), ("/", 503)):
            answer = requests.get(url + path, timeout=PATIENT)
            assert (path, answer.status_code, answer.headers["connection"]) == (path, status, "close")
        assert answer.json()["error"] == "busy"
        assert int(answer.headers["retry-after"]) > 0
        assert "content-security-policy" in answer.headers
        with crowd(url, 10) as silent:
            assert requests.get(f"{url}/healthz", timeout=PATIENT).status_code == 200
            until(lambda: sum(caller.is_ended() for caller in silent) >= 8)
    with serving(app, CROWDED) as url:
        assert requests.get(f"{url}/api/admin/message-logs", timeout=PATIENT).status_code == 401


def test_probes_wait_for_no_thread(runtime: Runtime) -> None:
    app = _with_slow_route(runtime)
    with serving(app) as url, busy(app, url, 60):
        began = monotonic()
        assert requests.get(f"{url}/healthz", timeout=PATIENT).status_code == 200
        assert requests.get(f"{url}/readyz", timeout=PATIENT).status_code == 200
        assert monotonic() - began < PATIENT / 2
