"""Workers that are stopped, killed and frozen in the middle of their work, and what they work on."""

import random
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.errors import DatabaseError
from notifyctl.models.client import Client
from notifyctl.orchestrator.requests import SendRequest
from tests.support.messages import CODE, WELCOME, code_pipe
from tests.support.processes import NOTIFYCTL, Processes

WORKERS = 4


class Crew:
    """WORKERS processes, each replaced when it has ended."""

    def __init__(
        self, processes: Processes, environment: dict[str, str], program: Sequence[str | Path] = NOTIFYCTL
    ) -> None:
        self._processes = processes
        self._program = program
        self._environment = environment
        self.members: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []

    def man(self) -> None:
        self.members = [member for member in self.members if member.poll() is None]
        while len(self.members) < WORKERS:
            worker = self._processes.start(*self._program, "worker", "--concurrency", "20", env=self._environment)
            self.members.append(worker)
            self._all.append(worker)

    def end(self) -> None:
        """Kills whoever still runs."""
        for worker in self._all:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    def hit(self, rng: random.Random) -> None:
        """It is no member from then on: one that is about to end must not be the one that is frozen."""
        self.members.pop(rng.randrange(len(self.members))).send_signal(rng.choice([signal.SIGTERM, signal.SIGKILL]))

    def freeze_one(self, runtime: Runtime) -> subprocess.Popen[bytes] | None:
        """It stops in the middle of its calls, and another takes its place. None when nobody is found at work."""
        at_work = busy(runtime)
        worker = next((member for member in self.members if member.pid in at_work), None)
        if worker is None:
            return None
        worker.send_signal(signal.SIGSTOP)
        while not _is_stopped(worker.pid):
            sleep(0.001)  # a thread that still runs may take the lock after all
        if runtime.database.is_sqlite and not _can_write(runtime):
            worker.send_signal(signal.SIGCONT)  # it holds SQLite's write lock, and would hold it for good
            return None
        self.members.remove(worker)
        return worker


def queue(runtime: Runtime, emails: int, texts: int) -> None:
    now = runtime.clock()
    about = {"name": "", "timezone": "UTC", "locale": "en", "subscription_status": "active", "sms_enabled": False}
    about |= {"provisioning_status": "COMPLETED", "created_at": now, "updated_at": now}
    clients = [{"id": f"c{n}", "email": f"c{n}@client.example"} | about for n in range(emails)]
    requests = [SendRequest(template_key="WELCOME_EMAIL", client_id=f"c{n}", context=WELCOME) for n in range(emails)]
    codes = [SendRequest(template_key="OTP_CODE_SMS", recipient=f"+4915112{n:06}", context=CODE) for n in range(texts)]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, Client.__table__, clients)  # type: ignore[attr-defined]
        runtime.orchestrator.send_many(session, requests)
        code_pipe(runtime).send_many(session, codes)


def statuses(runtime: Runtime) -> Counter[str]:
    """Waits for a database that is away."""
    deadline = monotonic() + 60
    while True:
        try:
            return _statuses(runtime)
        except DatabaseError:
            if monotonic() > deadline:
                raise
            sleep(0.05)


def _statuses(runtime: Runtime) -> Counter[str]:
    with runtime.database.read() as session:
        counted = session.execute(text("SELECT status, count(*) AS messages FROM message_log GROUP BY 1"))
        return Counter({row.status: row.messages for row in counted})


def busy(runtime: Runtime) -> set[int]:
    """The process ids of those that have messages on their way."""
    with runtime.database.read() as session:
        rows = session.execute(text("SELECT DISTINCT lease_owner FROM message_log WHERE status = 'SENDING'"))
        return {int(name.split(":")[1]) for name in rows.scalars()}


def _is_stopped(pid: int) -> bool:
    """All of its threads are (proc(5)), or it has ended."""
    try:
        stats = [task.read_text() for task in Path("/proc").glob(f"{pid}/task/*/stat")]
    except OSError:  # a thread that has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TZ" for stat in stats)


def _can_write(runtime: Runtime) -> bool:
    connection = sqlite3.connect(str(runtime.database.url.database), timeout=0.2, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


RECORDED_TWICE = """
    SELECT message_id FROM audit_log WHERE action IN ('NOTIFICATION_SENT', 'NOTIFICATION_DELIVERED')
    GROUP BY message_id HAVING count(*) > 1
"""


def thaw_and_stop(frozen: subprocess.Popen[bytes]) -> None:
    """It comes back to answers of calls whose messages others have settled since."""
    frozen.send_signal(signal.SIGCONT)
    sleep(2)
    frozen.send_signal(signal.SIGTERM)
    assert frozen.wait(60) == 0
