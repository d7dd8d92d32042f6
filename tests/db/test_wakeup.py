"""Who is told of new messages, and when: after the commit, whoever commits, and at no price but that of a word."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session as AnySession
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.db.wakeup import CHANNEL, WAKE_LOCKS, Watcher
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.requests import SendRequest
from tests.support.clients import a_client
from tests.support.messages import CODE, WELCOME, code_pipe
from tests.support.poolers import Pooled

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
Heard = Callable[[], int]


@pytest.fixture
def heard(database_url: str) -> Iterator[Heard]:
    """How many words have come since it was asked last. They come in the order of commits, so nobody waits for none."""
    with (
        psycopg.connect(database_url, autocommit=True) as listener,
        psycopg.connect(database_url, autocommit=True) as other,
    ):
        listener.execute(f"LISTEN {CHANNEL}")

        def count() -> int:
            other.execute(f"NOTIFY {CHANNEL}, 'the last'")
            words = []
            while "the last" not in words:
                words += [word.payload for word in listener.notifies(timeout=60, stop_after=1)]
            return len(words) - 1

        yield count


@pytest.fixture
def host(database: Database) -> Iterator[Engine]:
    """A host application's own, as SQLAlchemy makes it."""
    engine = create_engine(database.url)
    yield engine
    engine.dispose()


def ask(runtime: Runtime, session: Session, number: int = 0) -> None:
    request = SendRequest(template_key="OTP_CODE_SMS", context=CODE, recipient=f"+49151123450{number:02}")
    code_pipe(runtime).send(session, request)


def welcome(runtime: Runtime, session: Session, client_id: str) -> None:
    runtime.orchestrator.send(session, SendRequest(template_key="WELCOME_EMAIL", context=WELCOME, client_id=client_id))


def written(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM message_log WHERE status = 'QUEUED'")).scalar_one())


def test_the_commit_of_our_own_transaction_is_told_of_once_however_many_it_wrote(
    runtime: Runtime, heard: Heard
) -> None:
    requests = [
        SendRequest(template_key="OTP_CODE_SMS", context=CODE, recipient=f"+4915112345{number:03}")
        for number in range(200)
    ]
    with runtime.database.transaction() as session:
        code_pipe(runtime).send_many(session, requests[:100])
        code_pipe(runtime).send_many(session, requests[100:])
        assert heard() == 0
    assert heard() == 1


def test_the_commit_of_a_host_s_own_session_is_told_of(runtime: Runtime, heard: Heard, host: Engine) -> None:
    with Session(host) as session:
        ask(runtime, session)
        assert heard() == 0
        session.commit()
        assert heard() == 1
        session.execute(text("SELECT 1"))
        session.commit()
        assert heard() == 0
    assert written(runtime) == 1


def test_what_is_rolled_back_is_not_told_of_nor_the_commit_after_it(
    runtime: Runtime, heard: Heard, host: Engine
) -> None:
    with Session(host) as session:
        ask(runtime, session)
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
    assert heard() == 0


def test_a_savepoint_is_told_of_when_the_transaction_around_it_is_committed(
    runtime: Runtime, heard: Heard, host: Engine
) -> None:
    with Session(host) as session:
        with session.begin_nested():
            ask(runtime, session)
        assert heard() == 0
        session.commit()
        assert heard() == 1


def test_a_session_within_the_transaction_of_its_connection_commits_nothing_of_it(
    runtime: Runtime, heard: Heard, host: Engine
) -> None:
    with host.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="rollback_only") as session:
            ask(runtime, session)
            session.commit()
        outer.rollback()
    assert (heard(), written(runtime)) == (0, 0)


def test_a_send_that_was_refused_is_nothing_to_wake_for(runtime: Runtime, heard: Heard) -> None:
    with runtime.database.transaction() as session:
        request = SendRequest(template_key="OTP_CODE_SMS", context=CODE, recipient="nobody")
        code_pipe(runtime).send(session, request)
    assert heard() == 0


@pytest.mark.parametrize("loss", ["connection", "statement"])
def test_a_word_that_cannot_be_sent_fails_nobody(
    runtime: Runtime, heard: Heard, host: Engine, database_url: str, loss: str
) -> None:
    with host.connect() as connection, Session(connection) as session:

        def lose(_session: Session) -> None:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            if loss == "statement":
                with suppress(psycopg.Error):
                    driver.execute("SELECT 1 / 0")
                return
            with psycopg.connect(database_url, autocommit=True) as server:
                server.execute("SELECT pg_terminate_backend(%s, 10000)", [driver.info.backend_pid])

        ask(runtime, session)
        event.listen(AnySession, "after_commit", lose, insert=True)  # before the word is sent
        try:
            session.commit()
        finally:
            event.remove(AnySession, "after_commit", lose)
        if loss == "statement":
            assert session.execute(text("SELECT 1")).scalar_one() == 1
    assert (heard(), written(runtime)) == (0, 1)
    with Session(host) as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1


def test_who_finds_another_at_the_word_leaves_it_to_him(runtime: Runtime, heard: Heard, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [WAKE_LOCKS[Channel.SMS]])
        with runtime.database.transaction() as session:
            ask(runtime, session)
    assert (heard(), written(runtime)) == (0, 1)


def test_what_comes_right_after_a_word_has_none_of_its_own_and_is_looked_for(runtime: Runtime, heard: Heard) -> None:
    watcher = Watcher(runtime.database)
    for number in range(50):
        with runtime.database.transaction() as session:
            ask(runtime, session, number)
    assert 1 <= heard() < 50
    while watcher.wait(0.2):
        pass
    with runtime.database.transaction() as session:
        ask(runtime, session)
    assert [watcher.wait(60), watcher.wait(60), watcher.wait(0)] == [{Channel.SMS}, {Channel.SMS}, set()]
    watcher.close()


def test_a_word_is_of_the_channels_that_were_written_to(runtime: Runtime, heard: Heard) -> None:
    """One right after the other: a word of one says nothing of the other."""
    watcher = Watcher(runtime.database)
    a_client(runtime)
    a_client(runtime, "other", email="other@client.example")
    with runtime.database.transaction() as session:
        ask(runtime, session)
    with runtime.database.transaction() as session:
        welcome(runtime, session, "acme")
    assert heard() == 2
    assert watcher.wait(60) | watcher.wait(60) == {Channel.SMS, Channel.EMAIL}
    while watcher.wait(0.2):
        pass
    with runtime.database.transaction() as session:
        welcome(runtime, session, "other")
        ask(runtime, session, 1)
    assert watcher.wait(60) | watcher.wait(60) == {Channel.SMS, Channel.EMAIL}
    watcher.close()


def test_a_word_of_the_version_before_is_of_every_channel(database: Database) -> None:
    watcher = Watcher(database)
    with database.transaction() as session:
        session.execute(text(f"NOTIFY {CHANNEL}"))
    assert watcher.wait(60) == {Channel.SMS, Channel.EMAIL}
    watcher.close()


def test_a_word_goes_through_a_pooler(runtime: Runtime, heard: Heard, pooled: Pooled) -> None:
    database = Database(pooled("transaction"))
    for number in range(8):
        with database.transaction() as session:
            ask(runtime, session, number)
    database.close()
    assert heard() >= 1
