"""Workers send while the schema is upgraded: nothing is lost or doubled, and they hardly notice. Prints its figures."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import psycopg
import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.sandbox import Sandbox
from tests.support.first_release import FirstWorker
from tests.support.messages import CODE, send
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.releases import EXPAND, fill, next_release

pytestmark = [
    pytest.mark.timeout(1_800),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
    pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)]),
]
SOAK = 1_000_000
LONGEST_LOCK, LONGEST_GAP = 1.0, 2.0
"""Seconds, asked for of a million rows only: on few rows everything is quick, unless the machine is busy."""
IN_USE = "message_log", "message_payload", "audit_log", "worker_heartbeat"
HELD = """
    SELECT pid, relation::regclass::text, mode FROM pg_locks
    WHERE granted AND locktype = 'relation' AND relation = ANY(%s::regclass[])
    AND mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')
"""
"""Those that a worker's INSERT or UPDATE waits for."""


class Locks(Thread):
    """Looks every few milliseconds for who holds up writers, and keeps how long each was seen."""

    def __init__(self, url: str) -> None:
        super().__init__(name="locks")
        self._url = url
        self.stop = Event()
        self.longest = (0.0, "nothing")

    def run(self) -> None:
        since: dict[object, float] = {}
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self.stop.wait(0.01):
                now = monotonic()
                held = connection.execute(HELD, [list(IN_USE)]).fetchall()
                since = {lock: since.get(lock, now) for lock in held}
                seen = max(((now - began, str(lock[1:])) for lock, began in since.items()), default=(0.0, ""))
                self.longest = max(self.longest, seen)


@contextmanager
def watched(url: str) -> Iterator[Locks]:
    locks = Locks(url)
    locks.start()
    try:
        yield locks
    finally:
        locks.stop.set()
        locks.join()


def test_a_store_of_the_first_release_is_upgraded_under_its_workers(
    rows: int, empty_database_url: str, processes: Processes, environment: Environment
) -> None:
    database = Database(empty_database_url)
    migrations.upgrade(database, "0001")
    fill(database, rows)
    workers = [FirstWorker(empty_database_url, f"app-1:{number}:aa") for number in range(2)]
    with watched(empty_database_url) as locks:
        for worker in workers:
            worker.start()
        began = monotonic()
        upgrade = processes.run(
            *NOTIFYCTL, "db", "upgrade", env=environment(DATABASE_URL=empty_database_url), timeout=1_500
        )
        took = monotonic() - began
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            worker.join()
    assert upgrade.returncode == 0, upgrade.stderr
    assert [worker.error for worker in workers] == [None, None]
    accepted = sorted(one for worker in workers for one in worker.accepted)
    assert sorted((workers[0].sent + workers[1].sent).elements()) == accepted
    counted = text("SELECT status, count(*) FROM message_log GROUP BY status")
    with database.read() as session:
        statuses = {status: count for status, count in session.execute(counted)}
    database.close()
    assert statuses == {"DELIVERED": rows, "SENT": len(accepted)}
    statement, gap = (max(getattr(one, name) for one in workers) for name in ("longest_statement", "longest_gap"))
    print(
        f"\n{rows:,} rows upgraded in {took:.1f} s under {len(accepted):,} messages; longest lock"
        f" {locks.longest[0]:.2f} s ({locks.longest[1]}), longest statement {statement:.2f} s, longest gap {gap:.2f} s"
    )
    if rows == SOAK:
        assert locks.longest[0] < LONGEST_LOCK
        assert gap < LONGEST_GAP


def test_a_worker_sends_on_while_the_next_release_upgrades_its_store(
    rows: int, runtime: Runtime, database_url: str, processes: Processes, environment: Environment, sandbox: Sandbox,
    tmp_path: Path,
) -> None:  # fmt: skip
    fill(runtime.database, rows)
    release = next_release(tmp_path, (EXPAND, migrations.head_revision()))
    variables = environment(
        TWILIO_API_URL=sandbox.url,
        POSTMARK_API_URL=sandbox.url,
        NOTIFICATION_SMS_PER_MINUTE_LIMIT="1000000",
        IN_DOUBT_SEARCH_DELAY_SECONDS="2",
    )
    worker = processes.notifyctl("worker", "--no-jobs", env=variables)
    sent: list[str] = []

    def send_one() -> None:
        sent.append(f"+49151{len(sent):08}")
        send(runtime, "OTP_CODE_SMS", CODE, recipient=sent[-1])

    with watched(database_url) as locks:
        while len(sent) < 20:
            send_one()
        upgrade = processes.start(*NOTIFYCTL, "db", "upgrade", cwd=release, env=variables, fresh=True)
        while upgrade.poll() is None:
            send_one()
            sleep(0.005)
    assert upgrade.returncode == 0, processes.said_by(upgrade)
    waiting = "SELECT count(*) FROM message_log WHERE template_key = 'OTP_CODE_SMS' AND status <> 'SENT'"
    deadline = monotonic() + 120
    while _one(runtime, waiting):
        assert monotonic() < deadline
        assert worker.poll() is None
        sleep(0.05)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert sandbox.accepted_by_recipient(Channel.SMS) == dict.fromkeys(sent, 1)
    assert _one(runtime, "SELECT count(*) FROM message_log WHERE priority = 1") >= rows
    gap = float(_one(runtime, GAP))
    print(
        f"\n{rows:,} rows upgraded under {len(sent):,} messages; longest lock {locks.longest[0]:.2f} s"
        f" ({locks.longest[1]}), longest gap between sends {gap:.2f} s"
    )
    if rows == SOAK:
        assert locks.longest[0] < LONGEST_LOCK
        assert gap < LONGEST_GAP


GAP = """
    SELECT max(extract(epoch FROM gap)) FROM (
        SELECT sent_at - lag(sent_at) OVER (ORDER BY sent_at) AS gap FROM message_log
        WHERE template_key = 'OTP_CODE_SMS'
        AND sent_at <= (SELECT max(created_at) FROM message_log WHERE template_key = 'OTP_CODE_SMS')
    ) AS gaps
"""
"""While messages came: one whose answer was lost is sent again half a minute after the last of them."""


def _one(runtime: Runtime, statement: str) -> int:
    with runtime.database.read() as session:
        return session.execute(text(statement)).scalar_one()
