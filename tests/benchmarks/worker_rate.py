"""How fast real worker processes send a backlog, beside a bare loop in the same run.

    python -m tests.benchmarks.worker_rate [--messages 20000] [--latency-ms 0] [--rounds 3]
        [--database sqlite|postgresql]

The bare loop claims 500, hands them to the very same sender, and records 500 in one commit: no gates, no audit, no
leases. Quote the ratio; absolute figures drift with the machine.
"""

import argparse
import statistics
import subprocess
import sys
from time import perf_counter

from sqlalchemy import text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import Accepted, OutboundMessage
from notifyctl.providers.registry import build_senders
from tests.benchmarks.harness import environment, fresh_database, provider, queue, rewind, sent
from tests.support.settings import make_settings
from tests.support.templates import seed_templates


def bare_loop(runtime: Runtime, channel: Channel, concurrency: int) -> None:
    sender = build_senders(runtime.settings, [channel], concurrency)[channel]
    lock = "" if runtime.database.is_sqlite else " FOR UPDATE SKIP LOCKED"
    html = "<p>" + "x" * 6_000 + "</p>" if channel is Channel.EMAIL else None
    while True:
        with runtime.database.transaction() as session:
            claimed = session.execute(
                text(
                    "UPDATE message_log SET status = 'SENDING' WHERE id IN (SELECT id FROM message_log"
                    f" WHERE status = 'QUEUED' LIMIT 500{lock}) RETURNING id, recipient"
                )
            ).all()
        if not claimed:
            break
        outbound = [OutboundMessage(str(row.id), "X", row.recipient, "Hello", "Hello", html) for row in claimed]
        answers = []
        while outbound or sender.in_flight:
            free = sender.free
            sender.submit(outbound[:free])
            del outbound[:free]
            answers += sender.collect(1)
        assert all(isinstance(answer.result, Accepted) for answer in answers)
        with runtime.database.transaction() as session:
            dialect = bulk.dialect(session)
            rows = bulk.encode(dialect, [{"id": answer.message_id} for answer in answers])
            ids = "SELECT value ->> '$.id' FROM json_each(:document)" if dialect == "sqlite" else (
                "SELECT (value ->> 'id')::uuid FROM jsonb_array_elements(CAST(:document AS jsonb))"
            )  # fmt: skip
            session.execute(text(f"UPDATE message_log SET status = 'SENT' WHERE id IN ({ids})"), rows)
    sender.close()


def workers(runtime: Runtime, concurrency: int, processes: int) -> None:
    command = [sys.executable, "-m", "notifyctl", "worker", "--once", "--concurrency", str(concurrency)]
    running = [
        subprocess.Popen(command, env=environment(runtime.settings), stderr=subprocess.DEVNULL)
        for _ in range(processes)
    ]
    for process in running:
        assert process.wait() == 0


def start_up(runtime: Runtime, concurrency: int) -> float:
    """A worker's start and end without any work: taken off, since a daemon starts once."""
    started = perf_counter()
    workers(runtime, concurrency, 1)
    return perf_counter() - started


def measure(kind: str, channel: Channel, arguments: argparse.Namespace) -> None:
    with provider(arguments.latency_ms) as url, fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        settings = make_settings(database_url=database_url, postmark_api_url=url, twilio_api_url=url)
        runtime = open_runtime(settings)
        seed_templates(runtime)
        empty = statistics.median(start_up(runtime, arguments.concurrency) for _ in range(3))
        queue(runtime, channel, arguments.messages)
        rates: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name, run, overhead in (
                ("bare loop", lambda: bare_loop(runtime, channel, arguments.concurrency), 0.0),
                ("1 worker", lambda: workers(runtime, arguments.concurrency, 1), empty),
                ("2 workers", lambda: workers(runtime, arguments.concurrency, 2), empty),
            ):
                rewind(runtime)
                started = perf_counter()
                run()
                seconds = perf_counter() - started - overhead
                assert sent(runtime, channel) == arguments.messages, f"{name} left some"
                rates.setdefault(name, []).append(arguments.messages / seconds)
        runtime.close()
    bare = statistics.median(rates["bare loop"])
    for name, found in rates.items():
        rate = statistics.median(found)
        what = f"{kind:<11} {channel:<6} {arguments.latency_ms:>4.0f} ms  {name:<10}"
        print(f"{what} {rate:>8,.0f}/s  {rate / bare:5.0%} of bare")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--channel", choices=["SMS", "EMAIL"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        for channel in arguments.channel or ["SMS", "EMAIL"]:
            measure(kind, Channel(channel), arguments)


if __name__ == "__main__":
    main()
