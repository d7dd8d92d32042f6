"""Through a real PgBouncer with its own defaults: it takes no parameters of a session, and in transaction mode a
session lasts for a transaction.
"""

import signal
from contextlib import ExitStack
from time import monotonic, sleep

import psycopg
import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.db.wakeup import Watcher, require_listening
from notifyctl.errors import DatabaseError
from notifyctl.sandbox import Sandbox
from tests.support.messages import CODE, message, send
from tests.support.poolers import Pooled
from tests.support.processes import NOTIFYCTL, Environment, Processes

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
each_mode = pytest.mark.parametrize("mode", ["session", "transaction"])
ONE_SERVER = "default_pool_size = 1"


@each_mode
def test_a_worker_sends_through_it(
    mode: str, pooled: Pooled, runtime: Runtime, environment: Environment, processes: Processes, sandbox: Sandbox
) -> None:
    way = environment(DATABASE_URL=pooled(mode), TWILIO_API_URL=sandbox.url, POSTMARK_API_URL=sandbox.url)
    worker = processes.notifyctl("worker", "--no-jobs", env=way)
    decisions = [send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+49151123450{number:02}") for number in range(30)]
    deadline = monotonic() + 60
    while any(message(runtime, one.message_id).status != "SENT" for one in decisions):
        assert monotonic() < deadline, processes.said_by(worker)
        assert worker.poll() is None
        sleep(0.05)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert "unavailable" not in processes.said_by(worker)


def test_limits_hold_for_each_transaction_and_are_left_in_no_session(pooled: Pooled) -> None:
    way = pooled("transaction", ONE_SERVER)
    database = Database(way, patience_seconds=3)
    with database.transaction() as session:
        assert [
            session.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout", "transaction_isolation")
        ] == ["3s", "30s", "read committed"]
    with psycopg.connect(way) as other:
        assert other.execute("SHOW lock_timeout").fetchone() == ("0",)
        assert other.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("0",)
    database.close()


def test_statements_run_on_whichever_session_is_free(pooled: Pooled) -> None:
    database = Database(pooled("transaction", "default_pool_size = 2"))
    for _ in range(10):
        with database.transaction() as first, database.transaction() as second:
            for session in (first, second, second):
                session.execute(text("SELECT status FROM message_log WHERE recipient = :recipient"), {"recipient": "x"})
    with ExitStack() as both:
        sessions = [both.enter_context(database.read()) for _ in range(2)]
        found = [
            session.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() for session in sessions
        ]
    assert found == [0, 0]
    database.close()


@each_mode
def test_the_watch_sees_new_messages_without_listening(mode: str, pooled: Pooled, runtime: Runtime) -> None:
    database = Database(pooled(mode))
    watcher = Watcher(database)
    assert not watcher.is_listening
    assert not watcher.wait(0.3)
    send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345000")
    assert watcher.wait(30)
    watcher.close()
    database.close()


@pytest.mark.parametrize("listen_by", ["the server", "session mode"])
def test_the_watch_listens_where_a_url_for_that_is_given(
    listen_by: str, pooled: Pooled, runtime: Runtime, database_url: str
) -> None:
    listen_url = database_url if listen_by == "the server" else pooled("session")
    database = Database(pooled("transaction"), listen_url=listen_url)
    require_listening(database)
    watcher = Watcher(database)
    assert watcher.is_listening
    send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345000")
    assert watcher.wait(30)
    watcher.close()
    database.close()


def test_a_listen_url_that_hears_nothing_ends_the_worker_with_one_line(
    pooled: Pooled, postgres: str, environment: Environment, processes: Processes
) -> None:  # fmt: skip
    for listen_url, words in (
        (postgres, "is of another database than DATABASE_URL"),
        (pooled("transaction"), "leads through a pooler in transaction mode"),
    ):
        ran = processes.run(
            *NOTIFYCTL, "worker", "--no-jobs",
            env=environment(DATABASE_LISTEN_URL=listen_url),
        )  # fmt: skip
        assert ran.returncode == 2
        (line,) = [line for line in ran.stderr.splitlines() if line.startswith("notifyctl:")]
        assert f"DATABASE_LISTEN_URL {words}" in line
        assert "name the server itself" in line


def test_a_parameter_that_it_refuses_is_named(pooled: Pooled) -> None:
    database = Database(f"{pooled('transaction')}?options=-c%20work_mem%3D8MB")
    with pytest.raises(DatabaseError, match=r"unsupported startup parameter: options; take it out of DATABASE_URL"):
        database.clock()
    database.close()


def test_a_worker_opens_no_more_connections_than_it_may(
    runtime: Runtime, environment: Environment, processes: Processes, sandbox: Sandbox
) -> None:
    few = environment(
        DATABASE_POOL_SIZE="4",
        TWILIO_API_URL=sandbox.url,
        POSTMARK_API_URL=sandbox.url,
        NOTIFICATION_SMS_PER_MINUTE_LIMIT="1000",
    )
    worker = processes.notifyctl("worker", env=few)
    decisions = [send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+49151123450{number:02}") for number in range(30)]
    runtime.database.close()
    deadline = monotonic() + 60
    waiting = [one.message_id for one in decisions]
    while waiting:
        with runtime.database.read() as session:
            opened = session.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ).scalar_one()
        assert opened <= 4
        assert monotonic() < deadline, processes.said_by(worker)
        waiting = [one for one in waiting if message(runtime, one).status != "SENT"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert "unavailable" not in processes.said_by(worker)
