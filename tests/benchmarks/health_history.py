"""What summary and timeseries cost when the history grows and the window does not.

    python -m tests.benchmarks.health_history [--rows 10000000] [--window-rows 100000] [--database sqlite|postgresql]

The history is written by the database itself; the last hour has the same rows whatever the size. Each figure is the
median of seven, after one that warms the caches. Beside them, in the same run, what the plainest health page would ask
(counts of 60 minutes, series of 240, top errors) of a covering index that is made for nothing else. Ten million rows
take six gigabytes in the folder for temporary files, and ten minutes a database.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.health import summary as health
from notifyctl.health.problems import problems
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel
from notifyctl.models.message import MessageLog
from tests.benchmarks.harness import fresh_database
from tests.support.settings import make_settings

HOUR = timedelta(hours=1)
COLUMNS = (
    "id, channel, audience, template_key, template_version, recipient, source, rate_subject, status, reason, attempts,"
    " lane, created_at, sent_at, delivered_at, finished_at, throttled_at, lease_generation"
)


def write_history(runtime: Runtime, now: datetime, rows: int, window_rows: int) -> None:
    """`window_rows` in the hour before `now`, the others evenly over 90 days before it; 5 % failed, 3 % throttled."""
    age = f"CASE WHEN n < {window_rows} THEN n * 3599.0 / {window_rows} ELSE 3600 + n * {90 * 86400.0} / {rows} END"
    if runtime.database.is_sqlite:
        source = (
            f"WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {rows - 1}),"
            f" numbered AS (SELECT n, {age} AS age FROM c)"
        )
        at = f"strftime('%Y-%m-%d %H:%M:%f', '{now:%Y-%m-%d %H:%M:%S}', '-' || (age{{0}}) || ' seconds') || '000'"
        row_id = "printf('%08x-%04x-7000-8000-%012x', n / 65536, n % 65536, n)"
    else:
        source = f"WITH numbered AS (SELECT n, {age} AS age FROM generate_series(0, {rows - 1}) AS g(n))"
        at = f"timestamptz '{now:%Y-%m-%d %H:%M:%S}+00' - make_interval(secs => age{{0}})"
        row_id = "(lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid"
    channel = "CASE WHEN n % 4 = 0 THEN 'SMS' ELSE 'EMAIL' END"
    failed = "n % 20 = 0"
    template = "CASE n % 3 WHEN 0 THEN 'WELCOME_EMAIL' WHEN 1 THEN 'PAYMENT_FAILED' ELSE 'OTP_CODE_SMS' END"
    created = at.format(" + 0.05 + n % 10007 * 7919 % 10007 / 1000.0")
    values = (
        f"{row_id}, {channel}, 'CLIENT', {template}, 1, 'a@b.example', 'api', '',"
        f" CASE WHEN {failed} THEN 'FAILED' ELSE 'DELIVERED' END,"
        f" CASE WHEN {failed} THEN 'RECIPIENT_INVALID' END, 1, 'TRANSACTIONAL', {created},"
        f" CASE WHEN NOT ({failed}) THEN {at.format('')} END, CASE WHEN NOT ({failed}) THEN {at.format('')} END,"
        f" {at.format('')}, CASE WHEN n % 33 = 0 THEN {at.format('')} END, 0"
    )
    select = f"SELECT {values} FROM numbered ORDER BY n DESC"
    statement = f"{source} INSERT INTO message_log ({COLUMNS}) {select}"
    if runtime.database.is_sqlite:
        statement = f"INSERT INTO message_log ({COLUMNS}) {source} {select}"
    with runtime.database.transaction() as session, without_indexes(session):
        session.execute(text(statement))
    tidy(runtime.database)


def tidy(database: Database) -> None:
    """What the databases do by themselves, in time."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE message_log"))


@contextmanager
def without_indexes(session: Session) -> Iterator[None]:
    """They are built at the end, which is several times faster than row by row."""
    indexes = table(MessageLog).indexes
    for index in indexes:
        index.drop(session.connection())
    yield
    for index in indexes:
        index.create(session.connection())


def milliseconds(do: Callable[[], Any]) -> float:
    do()
    taken = []
    for _ in range(7):
        started = monotonic()
        do()
        taken.append((monotonic() - started) * 1000)
    return statistics.median(taken)


def plain_questions(is_sqlite: bool) -> list[str]:
    quarter = "strftime('%s', finished_at) / 900" if is_sqlite else "date_bin('15 minutes', finished_at, '2000-01-01')"
    return [
        "SELECT channel, status, count(*) FROM message_log WHERE finished_at >= :hour AND finished_at < :now"
        " GROUP BY channel, status",
        f"SELECT {quarter}, channel, status, count(*) FROM message_log"
        " WHERE finished_at >= :four_hours AND finished_at < :now GROUP BY 1, 2, 3",
        "SELECT reason, count(*) FROM message_log WHERE finished_at >= :hour AND finished_at < :now"
        " AND status = 'FAILED' GROUP BY reason ORDER BY 2 DESC LIMIT 5",
    ]


def measure(kind: str, rows: int, window_rows: int) -> None:
    with fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        runtime = open_runtime(make_settings(database_url=database_url))
        now = runtime.clock().replace(microsecond=0)
        started = monotonic()
        write_history(runtime, now, rows, window_rows)
        wrote = monotonic() - started
        now += timedelta(milliseconds=1)

        def summary() -> health.Summary:
            with runtime.database.read() as session:
                found = health.read_health(session, runtime.settings, now, HOUR)
                return health.summary(found, problems(found))

        def timeseries() -> health.Timeseries:
            with runtime.database.read() as session:
                return health.timeseries(session, now, window_minutes=240, bucket_minutes=15)

        moments = {"now": now, "hour": now - HOUR, "four_hours": now - 4 * HOUR}
        if runtime.database.is_sqlite:
            moments = {name: f"{moment:%Y-%m-%d %H:%M:%S.%f}" for name, moment in moments.items()}
        questions = [text(question) for question in plain_questions(runtime.database.is_sqlite)]

        def plain() -> None:
            with runtime.database.read() as session:
                for question in questions:
                    session.execute(question, moments).all()

        sent = sum(getattr(summary().channels, channel).sent for channel in Channel)
        assert sent == window_rows - window_rows // 20, sent
        assert sent <= sum(bucket.of(channel).sent for bucket in timeseries().buckets for channel in Channel)
        took = milliseconds(summary), milliseconds(timeseries)
        with runtime.database.transaction() as session:
            session.execute(text("CREATE INDEX plain ON message_log (finished_at, channel, status, reason)"))
        tidy(runtime.database)
        plain_took = milliseconds(plain)
        print(
            f"{kind:<11} {rows:>10,} rows, {sent:,} sent in the window: summary {took[0]:.0f} ms,"
            f" timeseries {took[1]:.0f} ms; the plain questions {plain_took:.0f} ms (written in {wrote:.0f} s)",
            flush=True,
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
