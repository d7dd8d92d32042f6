"""Real servers that stop being writable, and others that take their place, under a worker and the API."""

import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import pytest
import requests

from notifyctl.bootstrap import open_runtime
from notifyctl.db import bulk
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError
from notifyctl.http import api_keys
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, Scope
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.databases import KeptDatabase, PostgresServer
from tests.support.doors import Door
from tests.support.messages import WELCOME
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.replicas import WRITABLE, Server, free_port, primary_of, standby_of
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("exhaustive", "backend"),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]
SHORT_LEASE = Path(__file__).parents[1] / "support" / "short_lease.py"
STUCK_SECONDS = 3  # as short_lease.py has it
SENDERS = 4
CLIENTS = 6_000


@pytest.fixture
def primary(postgres_server: PostgresServer, kept_database: KeptDatabase) -> Iterator[Server]:
    server = primary_of(postgres_server, kept_database)
    server.start()
    yield server
    server.close()


@pytest.fixture
def standby(primary: Server) -> Iterator[Server]:
    """Of the primary, not started yet."""
    server = standby_of(primary)
    yield server
    server.close()


class Installation:
    """A worker and the API on `url`, and a caller who repeats what is not answered with a yes."""

    def __init__(
        self, processes: Processes, variables: dict[str, str], key: str, of_the_worker: Mapping[str, str]
    ) -> None:
        self._processes = processes
        self._variables = variables
        self._headers = {"Authorization": f"Bearer {key}"}
        self.port = free_port()
        self._of_the_worker = of_the_worker
        self.worker = self.another_worker()
        self.server = processes.notifyctl("serve", "--port", str(self.port), env=variables)

    def another_worker(self) -> subprocess.Popen[bytes]:
        return self._processes.start(
            sys.executable, SHORT_LEASE, "worker", "--no-jobs", env={**self._variables, **self._of_the_worker}
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._processes.run(*NOTIFYCTL, *command, env=self._variables)

    def readiness(self) -> tuple[int, str]:
        try:
            answer = requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=30)
        except requests.ConnectionError:
            return 0, ""
        return answer.status_code, answer.json().get("message", "")

    def ask(self, number: int) -> int:
        """The status of one request to welcome a client."""
        body = {"template_key": "WELCOME_EMAIL", "client_id": f"c{number}", "context": WELCOME}
        body["idempotency_key"] = f"welcome:{number}"
        url = f"http://127.0.0.1:{self.port}/api/notifications"
        return requests.post(url, json=body, headers=self._headers, timeout=60).status_code

    def insist(self, number: int) -> None:
        until(lambda: self.ask(number) == 202)

    def stop(self) -> None:
        for process in (self.worker, self.server):
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in (self.worker, self.server)] == [0, 0]


Install = Callable[..., Installation]


@pytest.fixture
def install(processes: Processes, environment: Environment, sandbox: Sandbox, primary: Server) -> Install:
    def make(url: str, **of_the_worker: str) -> Installation:
        runtime = open_runtime(make_settings(database_url=primary.url()))
        seed_templates(runtime)
        now = runtime.clock()
        about = {"name": "", "timezone": "UTC", "locale": "en", "subscription_status": "active", "sms_enabled": False}
        about |= {"provisioning_status": "COMPLETED", "created_at": now, "updated_at": now}
        clients = [{"id": f"c{number}", "email": address(number)} | about for number in range(CLIENTS)]
        with runtime.database.transaction() as session:
            bulk.insert_rows(session, table(Client), clients)
            key = api_keys.create(session, "a", [Scope.ADMIN], actor="test", now=now, expires_at=None)
        runtime.close()
        variables = environment(
            DATABASE_URL=url,
            POSTMARK_API_URL=sandbox.url,
            TWILIO_API_URL=sandbox.url,
            NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="1000000",
            IN_DOUBT_SEARCH_DELAY_SECONDS="2",
        )
        made = Installation(processes, variables, key, of_the_worker)
        until(lambda: made.readiness() == (200, ""))
        return made

    return make


def address(number: int) -> str:
    return f"c{number}@client.example"


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def arrived(sandbox: Sandbox) -> Counter[str]:
    return Counter(sandbox.accepted_by_recipient(Channel.EMAIL))


def sent_once(sandbox: Sandbox, *numbers: int) -> bool:
    return arrived(sandbox) == {address(number): 1 for number in numbers}


def test_a_server_that_is_read_only_for_a_while(primary: Server, install: Install, sandbox: Sandbox) -> None:
    there = install(primary.url())
    there.insist(1)
    until(lambda: sent_once(sandbox, 1))
    primary.set("default_transaction_read_only", "on")
    primary.end_sessions()
    until(lambda: there.readiness()[0] == 503)
    until(lambda: there.readiness()[1].startswith("The database cannot be written: it is set read-only"))
    assert there.ask(2) == 503
    told = there.run("health", "--format", "json").stdout
    assert '"NOT_WRITABLE"' in told
    assert "nothing is accepted, sent or recorded" in told
    assert "cannot be written: it is set read-only" in there.run("monitor").stdout
    assert "it cannot be written" in there.run("doctor").stdout
    primary.set("default_transaction_read_only", "off")
    there.insist(2)
    until(lambda: sent_once(sandbox, 1, 2))
    until(lambda: there.readiness() == (200, ""))
    there.stop()


def test_a_standby_in_the_place_of_the_primary(primary: Server, install: Install, sandbox: Sandbox) -> None:
    there = install(primary.url())
    there.insist(1)
    until(lambda: sent_once(sandbox, 1))
    standby = standby_of(primary, port=primary.port)
    try:
        primary.stop()
        standby.start()
        until(lambda: there.readiness()[1].startswith("The database cannot be written: it is a replica"))
        assert there.ask(2) == 503
        ran = there.run("clients", "set", "c2", "--name", "Two")
        (line,) = ran.stderr.splitlines()
        assert (ran.returncode, "if it is a replica, name the primary in DATABASE_URL" in line) == (5, True)
        standby.promote()
        there.insist(2)
        until(lambda: sent_once(sandbox, 1, 2))
        until(lambda: there.readiness() == (200, ""))
        there.stop()
    finally:
        standby.close()


def test_a_way_that_leads_to_another_server_while_the_one_before_stays_up(
    primary: Server, standby: Server, install: Install, sandbox: Sandbox
) -> None:
    """A virtual address, or a proxy: what is connected stays so, for as long as nobody closes it."""
    door = Door(("127.0.0.1", primary.port))
    door.open()
    try:
        there = install(f"postgresql://postgres@127.0.0.1:{door.port}/{KeptDatabase.NAME}")
        there.insist(1)
        until(lambda: sent_once(sandbox, 1))
        until(lambda: primary.listeners() == 1)
        standby.start()
        standby.catch_up_with(primary)
        standby.promote()
        primary.set("default_transaction_read_only", "on")
        door.behind = ("127.0.0.1", standby.port)
        there.insist(2)
        until(lambda: sent_once(sandbox, 1, 2))
        until(lambda: standby.listeners() == 1)
        assert primary.listeners() == 0
        there.stop()
    finally:
        door.close()


def test_a_primary_that_dies_and_its_standby_that_takes_over_lose_nothing_and_double_nothing(
    primary: Server, standby: Server, install: Install, sandbox: Sandbox
) -> None:
    standby.start()
    primary.set("synchronous_standby_names", "standby")
    until(lambda: primary.synchronous() == ["standby"])
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("latency", ms=(20, 60)),)))
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    there = install(f"postgresql://postgres@/{KeptDatabase.NAME}?{hosts}&{WRITABLE}")
    number, is_over = iter(range(CLIENTS)), Event()

    def call() -> int:
        """How many have been said yes to."""
        calls = 0
        while not is_over.is_set():
            there.insist(next(number))
            calls += 1
        return calls

    with ThreadPoolExecutor(SENDERS) as pool:
        try:
            callers = [pool.submit(call) for _ in range(SENDERS)]
            until(lambda: sandbox.accepted(Channel.EMAIL) >= 100)
            primary.kill()
            until(lambda: there.readiness()[1] == "The database cannot be written: no server that may be is there.")
            standby.promote()
            writable_at, before = monotonic(), sandbox.accepted(Channel.EMAIL)
            until(lambda: sandbox.accepted(Channel.EMAIL) > before)
            print(f"sending again {monotonic() - writable_at:.1f} s after a server could be written", end=", ")
            until(lambda: there.readiness() == (200, ""))
            print(f"ready {monotonic() - writable_at:.1f} s")
            before = sandbox.accepted(Channel.EMAIL)
            until(lambda: sandbox.accepted(Channel.EMAIL) >= before + 100)
        finally:
            is_over.set()
        taken = sum(caller.result() for caller in callers)
    until(lambda: statuses(standby) == {"SENT": taken})
    assert arrived(sandbox) == {address(each): 1 for each in range(taken)}
    assert recoveries(standby) == [False]
    there.stop()


def test_a_synchronous_replica_that_is_away_is_named_and_waited_for(
    primary: Server, standby: Server, install: Install, sandbox: Sandbox, processes: Processes
) -> None:
    """Who waits for such a commit gets no error, however long it takes."""
    standby.start()
    primary.set("synchronous_standby_names", "standby")
    until(lambda: primary.synchronous() == ["standby"])
    why, remedy = "commits wait for a synchronous replica that is away", "synchronous_standby_names (standby)"
    with Systemd(processes.folder / "systemd") as systemd, ThreadPoolExecutor(1) as pool:
        there = install(primary.url(), **systemd.variables)
        there.insist(1)
        until(lambda: sent_once(sandbox, 1))
        sandbox.set_faults(Channel.EMAIL, Faults((Fault("latency", ms=(2_000, 2_000)),)))
        there.insist(2)
        until(lambda: len(sandbox.presented(Channel.EMAIL)) == 2)
        standby.stop()  # before the answer, whose recording will wait
        try:
            asked = pool.submit(there.ask, 3)
            until(lambda: f"STATUS=the database cannot be written: {why}" in systemd.heard)
            said_at = monotonic()
            until(lambda: monotonic() - said_at > STUCK_SECONDS)
            before = len(systemd.heard)
            until(lambda: "WATCHDOG=1" in systemd.heard[before:])
            # And not because the loop has come round with an error, as it does when it waits for a lock meanwhile.
            assert "database unavailable" not in processes.said_by(there.worker)
            until(lambda: there.readiness() == (503, f"The database cannot be written: {why}."))
            for command in (["health"], ["doctor"], ["monitor"], ["worker", "--once"]):
                ran = there.run(*command)
                told = " ".join((ran.stdout + ran.stderr).split())
                assert why in told
                assert remedy in told
            assert processes.said_by(there.worker).count("database cannot be written") == 1
        finally:
            standby.start()
        assert asked.result() == 202
        until(lambda: sent_once(sandbox, 1, 2, 3))
        until(lambda: there.readiness() == (200, ""))
        until(lambda: "database can be written again" in processes.said_by(there.worker))
        there.stop()


class Systemd:
    """Hears what a worker tells it: whoever tells something waits until it is heard."""

    def __init__(self, path: Path) -> None:
        self.variables = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._hearing = Thread(target=self._hear)

    def __enter__(self) -> "Systemd":
        self._hearing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._hearing.join()
        self._socket.close()

    def _hear(self) -> None:
        while told := self._socket.recv(1_000):
            self.heard.append(told.decode())


def test_a_standby_that_lacks_the_last_commits_doubles_nothing(
    primary: Server, standby: Server, install: Install, sandbox: Sandbox, seed: int
) -> None:
    lose_commits(primary, standby, install, sandbox, seed)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(25))
def test_again_and_again(
    primary: Server, standby: Server, install: Install, sandbox: Sandbox, seed: int, number: int
) -> None:
    lose_commits(primary, standby, install, sandbox, seed + 1 + number)


def lose_commits(primary: Server, standby: Server, install: Install, sandbox: Sandbox, seed: int) -> None:
    rng = random.Random(seed)
    standby.start()
    until(lambda: bool(standby.ask("SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'")))
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("latency", ms=(20, 60)),), seed=seed))
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    there = install(f"postgresql://postgres@/{KeptDatabase.NAME}?{hosts}&{WRITABLE}")
    second = there.another_worker()
    number, is_over = iter(range(CLIENTS)), Event()

    def call() -> None:
        while not is_over.is_set():
            there.insist(next(number))

    with ThreadPoolExecutor(SENDERS) as pool:
        try:
            callers = [pool.submit(call) for _ in range(SENDERS)]
            until(lambda: sandbox.accepted(Channel.EMAIL) >= rng.randrange(40, 80))
            stopped = standby.stop_hearing()
            lost_from = sandbox.accepted(Channel.EMAIL)
            until(lambda: sandbox.accepted(Channel.EMAIL) >= lost_from + rng.randrange(20, 120))
            primary.kill()
            standby.take_over(stopped)
            until(lambda: there.readiness() == (200, ""))
            before = sandbox.accepted(Channel.EMAIL)
            until(lambda: sandbox.accepted(Channel.EMAIL) >= before + 40)
        finally:
            is_over.set()
        for caller in callers:
            caller.result()
    until(lambda: statuses(standby).keys() == {"SENT"})
    by_id = sandbox.accepted_by_message_id(Channel.EMAIL)
    assert by_id == dict.fromkeys(by_id, 1)
    known = {message_id for (message_id,) in standby.ask("SELECT id::text FROM message_log")}
    assert known == by_id.keys()
    assert True in recoveries(standby)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    there.stop()


def recoveries(server: Server) -> list[bool]:
    """Of each, whether something was known to be missing."""
    rows = server.ask(
        "SELECT (metadata ->> 'is_proven')::bool FROM audit_log WHERE action = 'OPERATOR_ACTION'"
        " AND metadata ->> 'command' = 'db recover' ORDER BY id"
    )
    return [is_proven for (is_proven,) in rows]


def statuses(server: Server) -> dict[str, int]:
    return dict(server.ask("SELECT status, count(*) FROM message_log GROUP BY 1"))


def test_a_several_hosts_url_without_a_server_that_can_be_written_is_one_line(primary: Server) -> None:
    primary.set("default_transaction_read_only", "on")
    database = Database(f"{primary.url()}?{WRITABLE}")
    with pytest.raises(DatabaseError, match=r"has no server that can be written: .*promote one"), database.read():
        pass
    database.close()


def test_the_clock_is_measured_anew_by_the_server_that_took_over(primary: Server) -> None:
    primary.set("log_connections", "on")
    database = Database(primary.url())
    until(lambda: primary.ask("SHOW log_connections") == [("on",)])
    assert ([database.clock() for _ in range(3)], connected(primary))[1] == 1
    database.drop_connections()
    assert ([database.clock() for _ in range(3)], connected(primary))[1] == 2
    database.close()


def connected(server: Server) -> int:
    """How often we have."""
    return server.log().count("application_name=notifyctl")
