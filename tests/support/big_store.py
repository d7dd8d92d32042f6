"""A store as years of traffic leave it, written by the database itself: finished messages with their audit rows, and
what waits.

The last hour has the same traffic whatever the size, so that two sizes differ in their history alone.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import md5

from sqlalchemy import Connection, text

from notifyctl.bootstrap import Runtime

SPAN = timedelta(days=730)
LAST_HOUR = 3_600
MESSAGES_A_CLIENT = 60


@dataclass(frozen=True, slots=True)
class Size:
    finished: int
    waiting: int
    in_last_hour: int = 2_000

    @property
    def clients(self) -> int:
        return max(1, self.finished // MESSAGES_A_CLIENT)


def fill(runtime: Runtime, size: Size, now: datetime) -> None:
    """Into an empty store with its templates."""
    with runtime.database.engine.connect() as connection:
        if runtime.database.is_sqlite:
            connection.info["begin"] = "IMMEDIATE"
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.create_function("md5", 1, lambda value: md5(str(value).encode()).hexdigest(), deterministic=True)
            driver.create_function("to_hex", 1, lambda number: f"{number:x}", deterministic=True)
            driver.create_function("lpad", 3, lambda value, width, fill: value.rjust(width, fill), deterministic=True)
        with connection.begin():
            _fill(connection, size, now)
    tidy(runtime)


def _fill(connection: Connection, size: Size, now: datetime) -> None:
    on_sqlite = connection.dialect.name == "sqlite"
    if not on_sqlite:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
        # Rows that follow in the same transaction need no WAL where wal_level is minimal.
        connection.execute(text("TRUNCATE message_log, message_payload, audit_log"))
    write = _Statements(on_sqlite, size, int(now.timestamp()))
    with _without_indexes(connection, on_sqlite):
        for statement in (write.clients(), write.messages(), write.audit(), write.waiting(), write.payloads()):
            connection.exec_driver_sql(statement if on_sqlite else statement.replace("%", "%%"))
        if not on_sqlite:
            connection.execute(text("SELECT setval('audit_log_id_seq', (SELECT max(id) FROM audit_log))"))


@contextmanager
def _without_indexes(connection: Connection, on_sqlite: bool) -> Iterator[None]:
    """They are built at the end, which is several times faster than row by row."""
    listed = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name IN ('message_log', 'audit_log')"
        if on_sqlite
        else "SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index WHERE NOT indisprimary"
        " AND indrelid IN ('message_log'::regclass, 'audit_log'::regclass)"
    )
    indexes = connection.exec_driver_sql(listed).all()
    for name, _definition in indexes:
        connection.exec_driver_sql(f"DROP INDEX {name}")
    yield
    for _name, definition in indexes:
        connection.exec_driver_sql(definition)


def tidy(runtime: Runtime) -> None:
    """What the databases do by themselves, in time."""
    with runtime.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if runtime.database.is_sqlite else "VACUUM (ANALYZE, FREEZE)"))


class _Statements:
    def __init__(self, on_sqlite: bool, size: Size, now: int) -> None:
        self._on_sqlite, self._size, self._now = on_sqlite, size, now

    def clients(self) -> str:
        created = self._moment(f"{self._now - SPAN.total_seconds()}")
        yes = "1" if self._on_sqlite else "true"
        return self._insert(
            "client",
            self._size.clients,
            id="'c' || n",
            name="'Client ' || n",
            email="'c' || n || '@client.example'",
            phone_e164="'+4915' || lpad(CAST(n AS text), 9, '0')",
            timezone="'UTC'",
            locale="'en'",
            plan="'PRO'",
            provisioning_status="'COMPLETED'",
            subscription_status="'active'",
            sms_enabled=yes,
            created_at=created,
            updated_at=created,
        )

    def messages(self) -> str:
        size = self._size
        sent_one = "s < 930 OR s BETWEEN 960 AND 974"
        code = "template_key = 'OTP_CODE_SMS'"
        return self._insert(
            "message_log",
            size.finished,
            with_columns=self._finished(),
            id="id",
            idempotency_key=f"CASE WHEN NOT ({code}) THEN 'import:' || md5('k' || n) END",
            fingerprint=f"CASE WHEN NOT ({code}) THEN md5('f' || n) || md5('g' || n) END",
            client_id=f"CASE WHEN NOT ({code}) THEN client END",
            channel="channel",
            audience="'CLIENT'",
            template_key="template_key",
            template_version="1",
            recipient="CASE WHEN channel = 'EMAIL' THEN client || '@client.example' ELSE '+4915' || client END",
            recipient_hash="md5(channel || client)",
            subject="CASE WHEN channel = 'EMAIL' THEN 'A licence of yours expires soon' END",
            source="'api'",
            rate_subject="CASE WHEN lane = 'BULK' THEN 'item_reference=TL-' || n ELSE '' END",
            status=(
                "CASE WHEN s < 900 THEN 'DELIVERED' WHEN s < 930 THEN 'SENT' WHEN s < 960 THEN 'FAILED'"
                " WHEN s < 975 THEN 'BOUNCED' WHEN s < 995 THEN 'BLOCKED' ELSE 'EXPIRED' END"
            ),
            reason=(
                "CASE WHEN s BETWEEN 930 AND 974 THEN 'RECIPIENT_INVALID' WHEN s BETWEEN 975 AND 994"
                " THEN 'RATE_LIMITED' END"
            ),
            attempts="CASE WHEN s < 975 THEN 1 ELSE 0 END",
            lane="lane",
            expires_at=self._moment("at + 86400"),
            throttled_at=f"CASE WHEN n % 33 = 0 THEN {self._moment('at + 1')} END",
            last_attempt_at=f"CASE WHEN s < 975 THEN {self._moment('at + 1')} END",
            provider="CASE WHEN channel = 'EMAIL' THEN 'postmark' ELSE 'twilio' END",
            provider_message_id=f"CASE WHEN {sent_one} THEN provider_message_id END",
            created_at=self._moment("at"),
            sent_at=f"CASE WHEN {sent_one} THEN {self._moment('at + 1.5 + n % 7')} END",
            delivered_at=f"CASE WHEN s < 900 THEN {self._moment('at + 9 + n % 7')} END",
            finished_at=f"CASE WHEN s < 900 OR s >= 930 THEN {self._moment('at + 9 + n % 7')} END",
            lease_owner="'app-1:4711:ab12cd'",
            lease_generation="CASE WHEN s < 975 THEN 1 ELSE 0 END",
        )

    def audit(self) -> str:
        """Two rows a message: that it was queued, and that it was sent."""
        queued = (
            """'{"template_key":"' || template_key || '","passed":["TEMPLATE_DISABLED","CLIENT_UNKNOWN","""
            """"CONTEXT_INVALID","RECIPIENT_MISSING","RECIPIENT_INVALID","SMS_DISABLED","SUBSCRIPTION_INACTIVE","""
            """"PLAN_FEATURE_MISSING","SUPPRESSED","RATE_LIMITED"]}'"""
        )
        sent = """'{"attempt":1,"seconds":0.004,"provider_message_id":"' || provider_message_id || '"}'"""
        details = f"CASE WHEN step = 0 THEN {queued} ELSE {sent} END"
        return self._insert(
            "audit_log",
            self._size.finished,
            with_columns=self._finished(),
            joined="CROSS JOIN (SELECT 0 AS step UNION ALL SELECT 1) AS steps",
            id="n * 2 + 1000 + step",
            action=(
                "CASE WHEN step = 0 THEN 'NOTIFICATION_QUEUED' WHEN s BETWEEN 930 AND 959 THEN 'NOTIFICATION_FAILED'"
                " ELSE 'NOTIFICATION_SENT' END"
            ),
            actor="CASE WHEN step = 0 THEN 'api' ELSE 'app-1:4711:ab12cd' END",
            client_id="CASE WHEN template_key != 'OTP_CODE_SMS' THEN client END",
            message_id="id",
            metadata=details if self._on_sqlite else f"({details})::jsonb",
            created_at=self._moment("at + step * 1.5"),
        )

    def waiting(self) -> str:
        template, lane = "COMPLIANCE_EXPIRY_REMINDER", "BULK"
        return self._insert(
            "message_log",
            self._size.waiting,
            with_columns=self._waits(),
            id="id",
            client_id="client",
            channel="'EMAIL'",
            audience="'CLIENT'",
            template_key=f"'{template}'",
            template_version="1",
            recipient="client || '@client.example'",
            recipient_hash="md5('EMAIL' || client)",
            source="'api'",
            rate_subject="'item_reference=WL-' || n",
            status="'QUEUED'",
            attempts="0",
            lane=f"'{lane}'",
            next_attempt_at=self._moment("at"),
            expires_at=self._moment("at + 31 * 86400"),
            created_at=self._moment("at"),
            lease_generation="0",
        )

    def payloads(self) -> str:
        context = (
            """'{"client_name":"Acme","days_left":30,"expires_on":"2026-04-01","item_name":"Trade licence","""
            """"item_reference":"TL-20","renew_url":"https://cloud.example/renew"}'"""
        )
        waits = self._waits()
        return self._insert("message_payload", self._size.waiting, with_columns=waits, message_id="id", context=context)

    def _finished(self) -> dict[str, str]:
        size = self._size
        before = max(1, size.finished - size.in_last_hour)
        start = self._now - SPAN.total_seconds()
        return {
            # Oldest first; the end of each message is in the past.
            "at": (
                f"CASE WHEN n < {before} THEN {start} + n * {(SPAN.total_seconds() - LAST_HOUR) / before}"
                f" ELSE {self._now - LAST_HOUR} + (n - {before}) * {(LAST_HOUR - 20) / size.in_last_hour} END"
            ),
            "k": "n * 48271 % 101",
            "s": "n * 69623 % 1009 * 1000 / 1009",
            "client": f"'c' || (n * 40507 % {size.clients})",
            "template_key": (
                "CASE WHEN k < 35 THEN 'COMPLIANCE_EXPIRY_REMINDER' WHEN k < 55 THEN 'COMPLIANCE_EXPIRY_REMINDER_SMS'"
                " WHEN k < 75 THEN 'OTP_CODE_SMS' WHEN k < 85 THEN 'PASSWORD_RESET'"
                " WHEN k < 93 THEN 'SUBSCRIPTION_CONFIRMED' WHEN k < 98 THEN 'PAYMENT_FAILED' ELSE 'WELCOME_EMAIL' END"
            ),
            "channel": "CASE WHEN k BETWEEN 35 AND 74 THEN 'SMS' ELSE 'EMAIL' END",
            "lane": "CASE WHEN k < 55 THEN 'BULK' WHEN k < 85 THEN 'URGENT' ELSE 'TRANSACTIONAL' END",
            "provider_message_id": "CASE WHEN k BETWEEN 35 AND 74 THEN 'SM' ELSE '' END || md5('p' || n)",
            "id": self._id("7"),
        }

    def _waits(self) -> dict[str, str]:
        since = self._now - 7_200
        return {
            "at": f"{since} + n * {3_600 / max(1, self._size.waiting)}",
            "client": f"'c' || (n * 40507 % {self._size.clients})",
            "id": self._id("7a"),
        }

    def _insert(
        self,
        table: str,
        rows: int,
        *,
        with_columns: dict[str, str] | None = None,
        joined: str = "",
        **values: str,
    ) -> str:
        """Each of `with_columns` may name those before it."""
        counted = (
            f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows - 1})"
            if self._on_sqlite
            else f"WITH numbers AS (SELECT n FROM generate_series(0::bigint, {rows - 1}) AS g(n))"
        )
        source = "numbers"
        if with_columns:
            later = {
                name for name in with_columns if name in ("template_key", "channel", "lane", "provider_message_id")
            }
            early = ", ".join(
                f"{value} AS {name}" for name, value in with_columns.items() if name not in later | {"id"}
            )
            late = ", ".join(f"{with_columns[name]} AS {name}" for name in [*sorted(later), "id"])
            source = f"(SELECT early.*, {late} FROM (SELECT n, {early} FROM numbers) AS early) AS late"
        listed = ", ".join(f"{value} AS {name}" for name, value in values.items())
        return f"INSERT INTO {table} ({', '.join(values)}) {counted} SELECT {listed} FROM {source} {joined}"

    def _moment(self, seconds: str) -> str:
        if self._on_sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%f000', {seconds}, 'unixepoch')"
        return f"to_timestamp({seconds})"

    def _id(self, version: str) -> str:
        """A UUID of version 7 that was made `at`."""
        rest = f"{version}{'0' * (4 - len(version))}"
        milliseconds = "lpad(to_hex(CAST(at * 1000 AS bigint)), 12, '0')"
        text_of = (
            f"substr({milliseconds}, 1, 8) || '-' || substr({milliseconds}, 9, 4) || '-{rest}-8000-'"
            " || lpad(to_hex(n), 12, '0')"
        )
        return text_of if self._on_sqlite else f"({text_of})::uuid"
