"""What another's open snapshot costs: a worker's rate, and what a look at the queue touches, with one and without.

    python -m tests.benchmarks.held_snapshot [--messages 20000] [--dead 200000] [--rounds 3]

The snapshot is a REPEATABLE READ transaction that stays open while `--dead` messages are sent, as a backup's would;
then a worker sends `--messages` that were asked for one after the other. Rounds with and without take turns in the same
run, on a PostgreSQL of its own; quote the ratio.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.delivery.lookout import Lookout
from notifyctl.models.enums import Channel
from tests.benchmarks import harness
from tests.benchmarks.harness import Provider, program, queue, ratio, sent, wait_until

CHANNEL = Channel.EMAIL
LATER = 10_000
"""Messages that wait for tomorrow."""
CONCURRENCY = 100
CLIENTS = 5_000


@contextmanager
def snapshot(database: Database, is_held: bool) -> Iterator[None]:
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        if is_held:
            connection.execute(text("SELECT 1 FROM message_log LIMIT 1"))
        yield


def vacuum(database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE message_log, message_payload"))


def ask(runtime: Runtime, first: str, messages: int) -> None:
    """As many as that one, a millisecond apart, each to the next client; their ids are in order, as ours are."""
    copies = (
        "INSERT INTO message_log SELECT copy.* FROM message_log AS first, generate_series(1, :messages) AS place,"
        " LATERAL (SELECT place % :clients AS c, now() - (:messages - place) * interval '1 millisecond' AS at) AS it,"
        " LATERAL (SELECT lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'"
        " || substr(md5(random()::text), 1, 19) AS id) AS named,"
        " jsonb_populate_record(first, jsonb_build_object('id', named.id, 'status', 'QUEUED', 'created_at', at,"
        " 'next_attempt_at', at, 'client_id', 'email' || c, 'recipient', 'c' || c || '@client.example',"
        " 'recipient_hash', md5(c::text))) AS copy WHERE first.id = :first"
    )
    payloads = (
        "INSERT INTO message_payload SELECT copy.* FROM message_log, message_payload AS first,"
        " jsonb_populate_record(first, jsonb_build_object('message_id', message_log.id)) AS copy"
        " WHERE status = 'QUEUED' AND first.message_id = :first"
    )
    with runtime.database.transaction() as session:
        session.execute(text(copies), {"messages": messages, "first": first, "clients": CLIENTS})
        session.execute(text(payloads), {"first": first})


def wait_for_tomorrow(runtime: Runtime, first: str) -> None:
    """As in every store of some size: an index of which nothing is left would be of one page."""
    ask(runtime, first, LATER)
    with runtime.database.transaction() as session:
        session.execute(
            text(
                "UPDATE message_log SET status = 'RETRY_SCHEDULED', next_attempt_at = now() + interval '1 day'"
                " WHERE status = 'QUEUED'"
            )
        )


def send_by_hand(runtime: Runtime, first: str, messages: int) -> None:
    """In the two steps of a worker: each message leaves a dead entry in the queue's index."""
    ask(runtime, first, messages)
    for change in ("status = 'SENDING'", "status = 'SENT', next_attempt_at = NULL, sent_at = created_at"):
        with runtime.database.transaction() as session:
            session.execute(text(f"UPDATE message_log SET {change} WHERE status IN ('QUEUED', 'SENDING')"))


def start_again(runtime: Runtime, first: str) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_payload WHERE message_id <> :first"), {"first": first})
        session.execute(text("DELETE FROM message_log WHERE id <> :first"), {"first": first})
    vacuum(runtime.database)


def buffers(runtime: Runtime) -> tuple[int, int]:
    """Of a look at the whole queues, and of the one after it."""
    touched: list[int] = []
    lookout = Lookout(CHANNEL, runtime.stopwatch)
    with runtime.database.read() as session:
        connection = session.connection()
        for _ in range(2):
            asked: list[tuple[str, Any]] = []

            def note(_c: Any, _cursor: Any, statement: str, values: Any, *_more: Any, asked: Any = asked) -> None:
                asked.append((statement, values))

            event.listen(connection, "before_cursor_execute", note)
            lookout.look(session, now=runtime.clock(), most=CONCURRENCY, paused=())
            event.remove(connection, "before_cursor_execute", note)
            ((statement, values),) = asked
            found = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values
            ).scalar_one()
            plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
            touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return touched[0], touched[1]


def worker_rate(runtime: Runtime, provider: Provider, messages: int) -> float:
    """From the first call to the last commit: messages a second."""
    before = sent(runtime, CHANNEL)
    with program("-m", "notifyctl", "worker", env=harness.environment(runtime.settings)):
        presented = provider.count()
        wait_until(lambda: provider.count() > presented)
        started = perf_counter()
        wait_until(lambda: provider.count() == presented + messages)
        wait_until(lambda: sent(runtime, CHANNEL) == before + messages)
        return messages / (perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--dead", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates: dict[bool, list[float]] = {False: [], True: []}
    with harness.store_and_provider("postgresql") as (runtime, provider):
        queue(runtime, CHANNEL, CLIENTS)
        with runtime.database.transaction() as session:
            statement = "UPDATE message_log SET status = 'CANCELED', next_attempt_at = NULL RETURNING id"
            first = session.execute(text(statement)).scalars().all()[0]
        for number in range(2 * arguments.rounds):
            is_held = number % 2 == 1
            start_again(runtime, first)
            wait_for_tomorrow(runtime, first)
            vacuum(runtime.database)
            with snapshot(runtime.database, is_held):
                send_by_hand(runtime, first, arguments.dead)
                vacuum(runtime.database)
                whole, bounded = buffers(runtime)
                ask(runtime, first, arguments.messages)
                rate = worker_rate(runtime, provider, arguments.messages)
                assert sent(runtime, CHANNEL) == arguments.dead + arguments.messages
            rates[is_held].append(rate)
            name = "with a snapshot held" if is_held else "without"
            print(f"{name:<20} look {bounded:>6,} buffers (whole: {whole:>7,})  {rate:>7,.0f}/s", flush=True)
    print(f"The rate with a snapshot held is {ratio(rates[True], rates[False]):.0%} of that without.")


if __name__ == "__main__":
    main()
