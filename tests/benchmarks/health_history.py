"""What summary and timeseries cost when the history grows and the window does not.

    python tests/benchmarks/health_history.py [--rows 10000000] [--window-rows 100000] [--database sqlite|postgresql]

The history is written by the database itself; the last hour has the same rows whatever the size. Each figure is the
median of seven, after one that warms the caches. Beside it, in the same run: the three plain counts over a covering
index of the time that a health page would start from.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from conftest import make_settings
from sqlalchemy import text
from worker_rate import fresh_database

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.orchestrator import health
from notifyctl.store import migrations
from notifyctl.store.database import Database

HOUR = timedelta(hours=1)
COLUMNS = (
    "id, channel, audience, template_key, template_version, recipient, source, rate_subject, status, reason, attempts,"
    " lane, created_at, sent_at, delivered_at, finished_at, throttled_at, lease_generation"
)


def write_history(runtime: Runtime, rows: int, window_rows: int) -> None:
    """`window_rows` in the last hour, the others evenly over 90 days before it; 5 % failed, 3 % throttled."""
    age = f"CASE WHEN n < {window_rows} THEN n * 3599.0 / {window_rows} ELSE 3600 + n * {90 * 86400.0} / {rows} END"
    if runtime.database.is_sqlite:
        source = (
            f"WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {rows - 1}),"
            f" numbered AS (SELECT n, {age} AS age FROM c)"
        )
        at = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || (age{0}) || ' seconds') || '000'"
        row_id = "printf('%08x-%04x-7000-8000-%012x', n / 65536, n % 65536, n)"
    else:
        source = f"WITH numbered AS (SELECT n, {age} AS age FROM generate_series(0, {rows - 1}) AS g(n))"
        at = "clock_timestamp() - make_interval(secs => age{0})"
        row_id = "(lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid"
    channel = "CASE WHEN n % 4 = 0 THEN 'SMS' ELSE 'EMAIL' END"
    failed = "n % 20 = 0"
    template = "CASE n % 3 WHEN 0 THEN 'WELCOME_EMAIL' WHEN 1 THEN 'PAYMENT_FAILED' ELSE 'OTP_CODE_SMS' END"
    values = (
        f"{row_id}, {channel}, 'CLIENT', {template}, 1, 'a@b.example', 'api', '',"
        f" CASE WHEN {failed} THEN 'FAILED' ELSE 'DELIVERED' END,"
        f" CASE WHEN {failed} THEN 'RECIPIENT_INVALID' END, 1, 'TRANSACTIONAL', {at.format(' + 1')},"
        f" CASE WHEN NOT ({failed}) THEN {at.format('')} END, CASE WHEN NOT ({failed}) THEN {at.format('')} END,"
        f" {at.format('')}, CASE WHEN n % 33 = 0 THEN {at.format('')} END, 0"
    )
    with runtime.database.transaction() as session:
        select = f"SELECT {values} FROM numbered ORDER BY n DESC"
        statement = f"{source} INSERT INTO message_log ({COLUMNS}) {select}"
        if runtime.database.is_sqlite:
            statement = f"INSERT INTO message_log ({COLUMNS}) {source} {select}"
        session.execute(text(statement))
    with runtime.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE message_log" if not runtime.database.is_sqlite else "ANALYZE"))


def milliseconds(do: Callable[[], Any]) -> float:
    do()
    taken = []
    for _ in range(7):
        started = monotonic()
        do()
        taken.append((monotonic() - started) * 1000)
    return statistics.median(taken)


def measure(kind: str, rows: int, window_rows: int) -> None:
    with fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        runtime = open_runtime(make_settings(database_url=database_url))
        started = monotonic()
        write_history(runtime, rows, window_rows)
        wrote = monotonic() - started

        def summary() -> dict[str, Any]:
            with runtime.database.read() as session:
                return health.summary(health.look(session, runtime.settings, runtime.clock(), HOUR))

        def timeseries() -> dict[str, Any]:
            with runtime.database.read() as session:
                return health.timeseries(session, runtime.clock(), window_minutes=60, bucket_minutes=15)

        def bare() -> None:
            with runtime.database.read() as session:
                for column in ("sent_at", "delivered_at", "finished_at"):
                    since = runtime.clock() - HOUR
                    stamp = since.strftime("%Y-%m-%d %H:%M:%S.%f") + ("" if runtime.database.is_sqlite else "+00")
                    session.execute(
                        text(f"SELECT channel, count(*) FROM message_log WHERE {column} >= '{stamp}' GROUP BY channel")
                    ).all()

        sent = sum(found["sent"] for found in summary()["channels"].values())
        assert 0.9 * window_rows < sent < window_rows, sent
        assert (
            sum(bucket[name]["sent"] for bucket in timeseries()["buckets"] for name in ("EMAIL", "SMS")) >= sent * 0.7
        )
        took = milliseconds(summary), milliseconds(timeseries)
        if not runtime.database.is_sqlite:
            bare_took = milliseconds(bare)
        else:
            bare_took = milliseconds(bare) if rows <= 1_000_000 else float("nan")
        print(
            f"{kind:<11} {rows:>10,} rows, {sent:,} sent in the window: summary {took[0]:.0f} ms,"
            f" timeseries {took[1]:.0f} ms; three plain counts {bare_took:.0f} ms (written in {wrote:.0f} s)"
        )
        runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--window-rows", type=int, default=100_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        for rows in arguments.rows or [1_000_000, 10_000_000]:
            measure(kind, rows, arguments.window_rows)


if __name__ == "__main__":
    main()
