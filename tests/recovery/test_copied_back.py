"""A database file that is put back as it was, under real workers and after them: each message once at the provider."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.messages import CODE, WELCOME, code_pipe, send
from tests.support.processes import Environment, Processes
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

pytestmark = [
    pytest.mark.usefixtures("backend"),
    pytest.mark.parametrize("backend", ["sqlite"], indirect=True),
]
SHORT_LEASE = Path(__file__).parents[1] / "support" / "short_lease.py"
MAILS, TEXTS = 30, 40
ENDS = ("", "-wal", "-shm")


class Place:
    """An installation on a SQLite file of its own, which can be saved and put back."""

    def __init__(self, folder: Path, processes: Processes, environment: Environment, sandbox: Sandbox) -> None:
        self.file = folder / "store" / "notifyctl.db"
        self._saved = folder / "saved.db"
        self._processes = processes
        self._sandbox = sandbox
        self.variables = environment(
            DATABASE_URL=f"sqlite:///{self.file}",
            POSTMARK_API_URL=sandbox.url,
            TWILIO_API_URL=sandbox.url,
            NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="1000000",
            NOTIFICATION_SMS_PER_MINUTE_LIMIT="1000000",
            IN_DOUBT_SEARCH_DELAY_SECONDS="1",
        )
        self.file.parent.mkdir()
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

    def _open(self) -> Runtime:
        return open_runtime(make_settings(database_url=f"sqlite:///{self.file}"))

    def work(self, **variables: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, SHORT_LEASE, "worker", "--no-jobs", "--concurrency", "5")
        return self._processes.start(*command, env=self.variables | variables)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._processes.run(sys.executable, "-m", "notifyctl", *command, env=self.variables)

    def save(self) -> None:
        """By SQLite's own way, which may be gone while it is written to."""
        source, copy = sqlite3.connect(self.file), sqlite3.connect(self._saved)
        with source, copy:
            source.backup(copy)
        source.close()
        copy.close()

    def put_back(self) -> None:
        """As an operator does who has copied the folder."""
        self.runtime.close()
        for end in ENDS[1:]:
            Path(f"{self.file}{end}").unlink(missing_ok=True)
        shutil.copy(self._saved, f"{self.file}.new")
        os.replace(f"{self.file}.new", self.file)
        self.runtime = self._open()

    def waiting(self) -> int:
        return self._count("status IN ('QUEUED', 'SENDING', 'IN_DOUBT', 'RETRY_SCHEDULED', 'DEFERRED_THROTTLED')")

    def recovered(self) -> int:
        return self._count("metadata LIKE '%recovered%'")

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


def _phone(number: int) -> str:
    return f"+4915112{number:06}"


EVERYBODY = {f"c{number}@client.example": 1 for number in range(MAILS)} | {_phone(n): 1 for n in range(TEXTS)}


@pytest.fixture
def place(tmp_path: Path, processes: Processes, environment: Environment, sandbox: Sandbox) -> Iterator[Place]:
    for channel in Channel:
        sandbox.set_faults(channel, Faults((Fault("latency", ms=(5, 20)),)))
    made = Place(tmp_path, processes, environment, sandbox)
    yield made
    made.runtime.close()


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


def test_under_a_worker(place: Place, seed: int) -> None:
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
