"""`notifyctl serve` as real processes: ports, signals, keep-alive, several processes on one socket."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from time import monotonic, sleep

import pytest
import requests

from notifyctl.bootstrap import Runtime
from notifyctl.http import api_keys
from notifyctl.http.server import listen, url_of
from notifyctl.models.enums import Scope
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.settings import PEPPER, SECRET

Serve = Callable[..., "Server"]


class Server:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def url(self) -> str:
        """Waits until it listens."""
        return wait_for(lambda: re.search(r"http://[^\s\"]+", self.log.read_text()), self.log)[0]

    @property
    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def wait_for(condition: Callable[[], object], log: Path) -> object:
    deadline = monotonic() + 60
    while not (found := condition()):
        assert monotonic() < deadline, log.read_text()
        sleep(0.02)
    return found


@pytest.fixture
def serve(processes: Processes, environment: Environment, runtime: Runtime, tmp_path: Path) -> Serve:
    numbers = count()

    def start(*options: str, **variables: str) -> Server:
        log = tmp_path / f"serve-{next(numbers)}.log"
        return Server(processes.notifyctl("serve", *options, env=environment(**variables), log=log), log)

    return start


@pytest.fixture
def key(runtime: Runtime) -> str:
    with runtime.database.transaction() as session:
        return api_keys.create(session, "test", [Scope.ADMIN], expires_at=None, actor="test", now=runtime.clock())


def test_it_says_where_it_listens_answers_and_ends_with_0(serve: Serve, key: str) -> None:
    server = serve("--port", "0")
    answer = requests.get(
        f"{server.url}/api/admin/message-logs", headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
    code = server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]

    assert (answer.status_code, code) == (200, 0)
    assert [line["event"] for line in lines] == ["listening", "request", "stopped"]
    assert not server.url.endswith(":0")


def test_host_and_port_come_from_the_settings_when_not_given(serve: Serve) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    server = serve(HTTP_HOST="127.0.0.1", HTTP_PORT=str(port))

    assert server.url == f"http://127.0.0.1:{port}"
    assert serve("--port", "0", HTTP_HOST="::1").url.startswith("http://[::1]:")


@pytest.mark.parametrize(
    ("host", "told"), [("127.0.0.1", "Address already in use"), ("no.such.host.invalid", "cannot listen on no.such")]
)
def test_where_it_cannot_listen_it_says_so_in_one_line(serve: Serve, host: str, told: str) -> None:
    with listen("127.0.0.1", 0) as taken:
        server = serve("--host", host, "--port", str(taken.getsockname()[1]))
        code = server.process.wait(60)

    assert code == 1
    assert told in server.log.read_text()
    assert server.log.read_text().count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_is_under_way_is_answered_after_the_signal(
    serve: Serve, key: str, number: signal.Signals
) -> None:
    server = serve("--port", "0")
    with socket.create_connection(_address(server.url), timeout=60), _half_asked(server, key) as connection:
        server.process.send_signal(number)
        wait_for(lambda: _is_refused(*_address(server.url)), server.log)
        connection.sendall(b': "Acm"}')
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(60) == 0


def test_a_second_signal_ends_it_at_once(serve: Serve, key: str) -> None:
    server = serve("--port", "0")
    with _half_asked(server, key):
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _is_refused(*_address(server.url)), server.log)
        assert server.process.poll() is None
        assert server.stop() == 1


def _half_asked(server: Server, key: str) -> socket.socket:
    """A request that the server has begun to read: it has asked for the body, of which half is there."""
    connection = socket.create_connection(_address(server.url), timeout=60)
    head = f"PUT /api/clients/acme HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 15\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
    assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b'{"name"')
    return connection


@pytest.mark.parametrize("handles", [24, 100, 256])
def test_silent_connections_keep_nobody_out_and_it_spins_at_no_limit_of_handles(serve: Serve, handles: int) -> None:
    """Also where others have taken the handles that it counts on: 24 are hardly more than it begins with."""
    server = serve("--port", "0")
    url = server.url
    assert requests.get(f"{url}/readyz", timeout=30).status_code == 200
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (handles, handles))
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(socket.create_connection(_address(url), timeout=60))
        before = _seconds_of_work(server.process.pid)
        sleep(1)
        assert _seconds_of_work(server.process.pid) - before < 0.6
        for path in ("/healthz", "/readyz"):
            assert requests.get(url + path, timeout=30).status_code == 200
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def _seconds_of_work(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_several_processes_answer_on_one_port_and_one_that_dies_is_replaced(serve: Serve) -> None:
    server = serve("--port", "0", "--processes", "2")
    url = server.url
    first = wait_for(lambda: len(server.children) == 2 and server.children, server.log)
    assert isinstance(first, list)
    wait_for(lambda: requests.get(f"{url}/healthz", timeout=30).status_code == 200, server.log)
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: len(server.children) == 2 and first[0] not in server.children, server.log)

    assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
    assert server.stop() == 0
    assert _is_refused(*_address(url))


def test_a_signal_while_one_that_died_is_being_replaced_ends_it_all(serve: Serve) -> None:
    server = serve("--port", "0", "--processes", "2")
    url = server.url
    wait_for(lambda: requests.get(f"{url}/healthz", timeout=30).status_code == 200, server.log)
    os.kill(server.children[0], signal.SIGKILL)
    wait_for(lambda: "worker process ended" in server.log.read_text(), server.log)

    assert server.stop() == 0
    assert _is_refused(*_address(url))


def test_a_database_that_is_not_migrated_is_refused_before_it_listens(
    processes: Processes, empty_database_url: str, tmp_path: Path
) -> None:
    variables = {"HOME": str(tmp_path), "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER}
    variables |= {"DATABASE_URL": empty_database_url}
    ran = processes.run(*NOTIFYCTL, "serve", "--port", "0", env=variables)

    assert ran.returncode == 5
    assert "notifyctl db upgrade" in ran.stderr
    assert "listening" not in ran.stderr


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        server = serve("--port", "0", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
        told = [manager.recv(100) for _ in range(2)]
        assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200
        server.process.terminate()
        while (heard := manager.recv(100)) != b"STOPPING=1":
            assert heard == b"WATCHDOG=1"

    assert sorted(told) == [b"READY=1", b"WATCHDOG=1"]
    assert server.process.wait(60) == 0


def test_what_it_listens_on_is_known_as_tcp() -> None:
    """Else asyncio leaves Nagle's delay on: 40 ms for each answer that is written in two parts."""
    with listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
        accepted.close()
        inherited = socket.socket(fileno=socket.dup(listener.fileno()))
        inherited.close()

        assert (listener.proto, accepted.proto, inherited.proto) == (socket.IPPROTO_TCP,) * 3
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def _is_refused(host: str, port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((host, port)) != 0
