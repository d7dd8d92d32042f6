"""Where looks at the queues begin: nothing is overlooked, and others' snapshots cost nothing."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.clock import Stopwatch
from notifyctl.db.database import Database
from notifyctl.delivery import outbox
from notifyctl.delivery.lookout import COMMITTED_WITHIN, FULL_LOOK_SECONDS, Lookout
from notifyctl.delivery.outbox import QUEUES, Queue
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.operations.controls import pause
from notifyctl.operations.pauses import PauseScope
from notifyctl.worker.channel_loop import ChannelLoop
from tests.support.clocks import NOON
from tests.support.delivery import MakeDispatcher

MANY = 20_000
A_SECOND = timedelta(seconds=1)
pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
WELCOMES = PauseScope(Channel.EMAIL, "WELCOME_EMAIL", None)


class Watch:
    """A stopwatch that stands until it is turned."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def lookout(self) -> Lookout:
        return Lookout(Channel.EMAIL, Stopwatch("test", lambda: self.seconds))


@pytest.fixture
def backup(database: Database) -> Iterator[Any]:
    """Begins a transaction that keeps its snapshot, as a backup does; to be closed."""
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def write(
    session: Session,
    *,
    count: int = 1,
    due_at: datetime,
    apart: timedelta = timedelta(0),
    queue: Queue = QUEUES[-1],
    template: str = "WELCOME_EMAIL",
) -> None:
    """Emails of a queue, the first due at `due_at`, each of the others `apart` from the one before."""
    statement = (
        "INSERT INTO message_log (id, channel, audience, template_key, template_version, recipient, source,"
        " rate_subject, status, attempts, lane, next_attempt_at, created_at, lease_generation)"
        " SELECT gen_random_uuid(), 'EMAIL', 'CLIENT', :template, 1, 'a@b.example', 'api', '', :status, 0, :lane,"
        " CAST(:due_at AS timestamptz) + n * CAST(:apart AS interval), CAST(:due_at AS timestamptz), 0"
        " FROM generate_series(0, :count - 1) AS g(n)"
    )
    values = {"count": count, "due_at": due_at, "apart": apart, "template": template}
    session.execute(text(statement), values | {"status": queue.status, "lane": queue.lane})


def sent(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'SENT', next_attempt_at = NULL"))


def vacuum(database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE message_log"))


def look(database: Database, lookout: Lookout, now: datetime) -> tuple[Mapping[Queue, int], int]:
    """What it saw, and how many buffers it touched."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        asked.append((statement, parameters))

    with database.read() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", note)
        _, seen = lookout.look(session, now=now, most=500, paused=())
        event.remove(connection, "before_cursor_execute", note)
        ((statement, parameters),) = asked
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        found = explained.scalar_one()
        (plan,) = json.loads(found) if isinstance(found, str) else found
        return seen, plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


def test_a_snapshot_that_others_hold_costs_a_look_at_most_as_much_again(database: Database, backup: Any) -> None:
    watch = Watch()
    lookout = watch.lookout()
    with database.transaction() as session:
        write(session, count=MANY, due_at=NOON - MANY * A_SECOND, apart=A_SECOND)
    vacuum(database)
    backup.execute(text("SELECT 1 FROM message_log LIMIT 1"))
    sent(database)
    vacuum(database)
    _, whole = look(database, lookout, NOON)
    seen, bounded = look(database, lookout, NOON)
    backup.rollback()
    vacuum(database)
    watch.seconds += FULL_LOOK_SECONDS[1]
    _, unhindered = look(database, lookout, NOON)
    assert not seen
    assert whole > 10 * unhindered, "the snapshot held nothing back: nothing was tried"
    assert bounded <= 2 * unhindered


def test_while_a_backlog_is_sent_a_look_begins_where_it_has_come_to(database: Database, backup: Any) -> None:
    lookout = Watch().lookout()
    with database.transaction() as session:
        write(session, count=MANY, due_at=NOON - MANY * A_SECOND, apart=A_SECOND)
    vacuum(database)
    backup.execute(text("SELECT 1 FROM message_log LIMIT 1"))
    _, unhindered = look(database, lookout, NOON)
    with database.transaction() as session:
        half = {"half": NOON - MANY // 2 * A_SECOND}
        session.execute(text("UPDATE message_log SET status = 'SENT' WHERE next_attempt_at < :half"), half)
    look(database, lookout, NOON)
    seen, bounded = look(database, lookout, NOON)
    assert seen == {QUEUES[-1]: 500}
    assert bounded <= 2 * unhindered
    with database.transaction() as session:
        since, _ = lookout.look(session, now=NOON, most=10, paused=())
        queue = QUEUES[-1]
        first = outbox.lock_due(session, Channel.EMAIL, queue, now=NOON, most=10, since=since[queue])
        assert [row.id for row in first] == [
            row.id for row in outbox.lock_due(session, Channel.EMAIL, queue, now=NOON, most=10)
        ]


def test_what_is_committed_late_waits_for_the_next_look_at_the_whole_queues(database: Database) -> None:
    watch = Watch()
    lookout = watch.lookout()
    late, in_time = NOON - 2 * COMMITTED_WITHIN, NOON - COMMITTED_WITHIN
    with database.transaction() as session:
        lookout.look(session, now=NOON, most=9, paused=())
        write(session, due_at=late)
        assert lookout.look(session, now=NOON, most=9, paused=())[1] == {}
        write(session, due_at=in_time)
        assert lookout.look(session, now=NOON, most=9, paused=())[1] == {QUEUES[-1]: 1}
        watch.seconds += FULL_LOOK_SECONDS[0]
        assert lookout.look(session, now=NOON, most=9, paused=())[1] == {QUEUES[-1]: 2}


@pytest.mark.parametrize("reason", ["asked to", "a pause was lifted", "the clock was set back"])
def test_where_what_was_seen_says_nothing_any_more_a_look_is_whole(database: Database, reason: str) -> None:
    lookout = Watch().lookout()
    paused = (WELCOMES,) if reason == "a pause was lifted" else ()
    early = NOON - timedelta(hours=1)
    with database.transaction() as session:
        lookout.look(session, now=NOON, most=9, paused=paused)
        write(session, due_at=early)
        assert lookout.look(session, now=NOON, most=9, paused=paused)[1] == {}
        if reason == "asked to":
            lookout.forget()
        now = NOON - timedelta(minutes=1) if reason == "the clock was set back" else NOON
        assert lookout.look(session, now=now, most=9, paused=())[1] == {QUEUES[-1]: 1}
        assert lookout.was_whole


def test_once_ends_where_a_pause_lets_nothing_be_looked_for(runtime: Runtime, dispatcher: MakeDispatcher) -> None:
    made = dispatcher()
    for _ in range(2):
        made.turn(claiming=True, timeout=0)
    assert not made.has_looked_everywhere
    with runtime.database.transaction() as session:
        pause(session, PauseScope(Channel.EMAIL), reason="a test", actor="test", now=runtime.clock())
    failures: list[BaseException] = []
    stop = Event()
    loop = ChannelLoop(made, stop=stop, once=True, failed=failures.append)
    loop.start()
    loop.join(30)
    has_ended = not loop.is_alive()
    stop.set()
    loop.join()
    assert has_ended
    assert failures == []


@pytest.mark.parametrize("due_at", ["infinity", "-infinity", None])
def test_a_moment_that_is_none_is_met_as_before(database: Database, due_at: str | None) -> None:
    lookout = Watch().lookout()
    deferred = Queue(Lane.URGENT, MessageStatus.DEFERRED_THROTTLED)
    with database.transaction() as session:
        write(session, due_at=NOON, queue=deferred)
        session.execute(
            text("UPDATE message_log SET next_attempt_at = CAST(:due_at AS timestamptz)"), {"due_at": due_at}
        )
        since, seen = lookout.look(session, now=NOON, most=9, paused=())
        assert (since, seen) == ({}, {deferred: 1})


def test_how_long_a_look_takes_says_when_the_next_is_whole(database: Database) -> None:
    """A slow one is dear, so the next comes later; but it comes."""
    for took, next_after in ((0.0, 1.0), (0.04, 4.0), (9.0, 30.0)):
        watch = Watch()
        lookout = watch.lookout()
        with database.transaction() as session:
            connection = session.connection()

            def passes(*_arguments: Any, took: float = took, watch: Watch = watch) -> None:
                watch.seconds += took

            event.listen(connection, "after_cursor_execute", passes)
            lookout.look(session, now=NOON, most=9, paused=())
            event.remove(connection, "after_cursor_execute", passes)
            for share, is_whole in ((0.9, False), (0.2, True)):
                watch.seconds += next_after * share
                lookout.look(session, now=NOON, most=9, paused=())
                assert lookout.was_whole is is_whole


MOVES = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(QUEUES), st.integers(-90, 90)),
    st.tuples(st.sampled_from(["send", "put off", "give back", "defer"]), st.sampled_from(QUEUES), st.integers(0, 90)),
    st.tuples(st.just("pause"), st.none(), st.integers(0, 1)),
    st.tuples(st.just("clock"), st.none(), st.integers(-60, 60)),
    st.tuples(st.just("look"), st.none(), st.integers(0, 1)),
)


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(MOVES, max_size=25))
def test_nothing_is_ever_overlooked(database: Database, moves: list[tuple[str, Queue | None, int]]) -> None:
    """Whatever happens between looks: what a look saw, or what came in time, the next one sees; and the whole look all.

    What a look counts, the claim after it finds.
    """
    with database.transaction() as session:
        _play(session, moves)
        session.rollback()


def _play(session: Session, moves: list[tuple[str, Queue | None, int]]) -> None:
    watch, now = Watch(), NOON
    lookout = watch.lookout()
    paused: tuple[PauseScope, ...] = ()
    overlooked_until: dict[Queue, datetime] = {}
    for move, queue, number in moves:
        at = now + timedelta(seconds=number)
        if move == "write":
            assert queue is not None
            write(session, due_at=at, queue=queue, template=("WELCOME_EMAIL", "PAYMENT_FAILED")[number % 2])
        elif move == "pause":
            paused = (WELCOMES,) if number else ()
        elif move == "clock":
            now = at
        elif move == "look":
            watch.seconds += number * FULL_LOOK_SECONDS[0]
            since, seen = lookout.look(session, now=now, most=99, paused=paused)
            for each in QUEUES:
                found = outbox.lock_due(
                    session, Channel.EMAIL, each, now=now, most=99, paused=paused, since=since.get(each)
                )
                assert len(found) == seen.get(each, 0)
            assert all(since[each] <= overlooked_until.get(each, now) for each in since)
            # What is live and due now is what the next look must not begin behind.
            overlooked_until = {each: _lowest(session, each, seen, since, now, paused) for each in QUEUES}
        elif queue is not None:
            _move_first(session, move, queue, now, number)
    watch.seconds += FULL_LOOK_SECONDS[1]
    assert lookout.look(session, now=now, most=99, paused=paused)[1] == outbox.due(
        session, Channel.EMAIL, now=now, most=99, paused=paused
    )


def _lowest(
    session: Session,
    queue: Queue,
    seen: Mapping[Queue, int],
    since: Mapping[Queue, datetime],
    now: datetime,
    paused: tuple[PauseScope, ...],
) -> datetime:
    """The first moment among what was seen, or the one from which on what comes is in time."""
    in_time = now - COMMITTED_WITHIN
    if queue not in seen:
        return in_time
    ids = [
        row.id
        for row in outbox.lock_due(
            session, Channel.EMAIL, queue, now=now, most=99, paused=paused, since=since.get(queue)
        )
    ]
    statement = text("SELECT min(next_attempt_at) FROM message_log WHERE id = ANY(CAST(:ids AS uuid[]))")
    return min(in_time, session.execute(statement, {"ids": ids}).scalar_one())


def _move_first(session: Session, move: str, queue: Queue, now: datetime, number: int) -> None:
    written = {
        "send": "status = 'SENT', next_attempt_at = NULL",
        "put off": "status = 'QUEUED', next_attempt_at = :at",
        "defer": "status = 'DEFERRED_THROTTLED', next_attempt_at = :at",
        "give back": "status = 'QUEUED', next_attempt_at = :now",
    }[move]
    first = "SELECT id FROM message_log WHERE status = :status AND lane = :lane ORDER BY next_attempt_at LIMIT 1"
    values = {"at": now + timedelta(seconds=number), "now": now, "status": queue.status, "lane": queue.lane}
    session.execute(text(f"UPDATE message_log SET {written} WHERE id IN ({first})"), values)
