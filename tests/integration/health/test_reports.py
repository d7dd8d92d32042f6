"""Every figure of the health views, against the same figure computed plainly from random histories."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.models.columns import new_message_id, table
from notifyctl.models.message import FINAL, MessageLog, MessageStatus
from notifyctl.models.template import Channel, Lane
from notifyctl.orchestrator import health
from notifyctl.orchestrator.troubles import Gravity, problems
from notifyctl.store import bulk

NOW = datetime(2026, 3, 2, 12, 7, 31, 250_000, tzinfo=UTC)
S = MessageStatus
TEMPLATES = ("WELCOME_EMAIL", "PASSWORD_RESET", "PAYMENT_FAILED", "OTP_CODE_SMS", "A", "B", "C")
REASONS = ("RECIPIENT_INVALID", "PROVIDER_UNAVAILABLE", "UNKNOWN", None)


def history(seed: int, size: int) -> list[dict[str, Any]]:
    """Rows as they might stand, with many moments on the very edges of windows and buckets."""
    dice = random.Random(seed)

    def moment() -> datetime:
        edge = dice.choice([0, 0, 900, 3600, 4 * 3600, 24 * 3600, 27 * 3600])
        nudge = dice.choice([0, -1, 1, 999_600, dice.randrange(10_000_000_000)])
        return NOW - timedelta(seconds=edge, microseconds=nudge)

    rows = []
    for _ in range(size):
        status = dice.choice(list(S))
        created = moment()
        waited = timedelta(microseconds=dice.choice([0, 1, 999_999, 1_000_001, dice.randrange(10**9)]))
        has_gone = status in (S.SENT, S.DELIVERED, S.BOUNCED)
        rows.append(
            {
                "id": new_message_id(), "channel": dice.choice(list(Channel)), "audience": "CLIENT",
                "template_key": dice.choice(TEMPLATES), "template_version": 1, "source": "test",
                "recipient": "anna@acme.example", "rate_subject": "", "status": status, "attempts": 1,
                "reason": dice.choice(REASONS) if status in (S.FAILED, S.BOUNCED, S.BLOCKED) else None,
                "lane": dice.choice(list(Lane)), "lease_generation": 0, "created_at": created,
                "next_attempt_at": None if status in FINAL else moment(),
                "sent_at": created + waited if has_gone else None,
                "delivered_at": moment() if status is S.DELIVERED else None,
                "finished_at": moment() if status in FINAL and status is not S.SENT else None,
                "throttled_at": moment() if dice.random() < 0.3 else None,
            }
        )  # fmt: skip
    return rows


def _within(rows: list[dict[str, Any]], name: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
    return [row for row in rows if row[name] is not None and since <= row[name] < until]


def _nearest_rank(values: list[float], percent: int) -> float | None:
    return sorted(values)[ceil(len(values) * percent / 100) - 1] if values else None


def _plain_channel(rows: list[dict[str, Any]], since: datetime) -> dict[str, Any]:
    sent = _within(rows, "sent_at", since, NOW)
    ended = Counter(row["status"] for row in _within(rows, "finished_at", since, NOW))
    now = Counter(row["status"] for row in rows)
    waits = [(row["sent_at"] - row["created_at"]).total_seconds() for row in sent]
    failed = ended[S.FAILED]
    return {
        "sent": len(sent), "failed": failed, "delivered": len(_within(rows, "delivered_at", since, NOW)),
        "bounced": ended[S.BOUNCED], "blocked": ended[S.BLOCKED],
        "failure_rate": failed / (failed + len(sent)) if failed else 0.0,
        "latency_seconds": {"p50": _nearest_rank(waits, 50), "p95": _nearest_rank(waits, 95)},
        "pending": now[S.QUEUED] + now[S.DEFERRED_THROTTLED] + now[S.SENDING],
        "retrying": now[S.RETRY_SCHEDULED], "in_doubt": now[S.IN_DOUBT],
    }  # fmt: skip


def _top(rows: list[dict[str, Any]], since: datetime, name: str) -> list[dict[str, Any]]:
    failed = [row for row in _within(rows, "finished_at", since, NOW) if row["status"] is S.FAILED]
    counts = Counter(row[name] or "UNKNOWN" for row in failed)
    return [
        {name: key, "failed": count} for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    ]


def _plain_summary(rows: list[dict[str, Any]], window: timedelta) -> dict[str, Any]:
    since = NOW - window
    waiting = (S.QUEUED, S.DEFERRED_THROTTLED, S.RETRY_SCHEDULED)
    due = [row["next_attempt_at"] for row in rows if row["status"] in waiting and row["next_attempt_at"] <= NOW]
    of = {channel: [row for row in rows if row["channel"] is channel] for channel in Channel}
    backlog = {channel: sum(row["status"] in (*waiting, S.SENDING) for row in of[channel]) for channel in Channel}
    hour, day = timedelta(hours=1), timedelta(hours=24)
    unconfirmed = [row for row in _within(rows, "sent_at", NOW - day, NOW - hour) if row["status"] is S.SENT]
    codes = [row for row in _within(rows, "sent_at", since, NOW) if row["template_key"] == "OTP_CODE_SMS"]
    return {
        "window_minutes": int(window / timedelta(minutes=1)), "from": since, "to": NOW,
        "channels": {channel.value: _plain_channel(of[channel], since) for channel in Channel},
        "top_failed_templates": _top(rows, since, "template_key"),
        "top_failure_reasons": _top(rows, since, "reason"),
        "throttled_count": len(_within(rows, "throttled_at", since, NOW)),
        "oldest_pending_seconds": int((NOW - min(due)).total_seconds()) if due else 0,
        "drain_seconds": max(backlog[Channel.EMAIL], 2 * backlog[Channel.SMS]),
        "unconfirmed": len(unconfirmed), "paused": [], "spikes": [],
        "otp": {"sent": len(codes), "verified": 0},
    }  # fmt: skip


def _plain_series(rows: list[dict[str, Any]], window: int, bucket: int) -> list[dict[str, Any]]:
    size = bucket * 60
    last = int(NOW.timestamp()) // size
    found = []
    for number in range(last - ceil(window / bucket) + 1, last + 1):
        start = datetime.fromtimestamp(number * size, UTC)
        until = start + timedelta(seconds=size)

        def count(channel: Channel, name: str, *statuses: MessageStatus) -> int:
            chosen = _within(rows, name, start, until)  # noqa: B023
            return sum(row["channel"] is channel and row["status"] in (statuses or S) for row in chosen)

        found.append(
            {"start": start}
            | {
                channel.value: {
                    "sent": count(channel, "sent_at"),
                    "failed": count(channel, "finished_at", S.FAILED),
                    "throttled": count(channel, "throttled_at"),
                }
                for channel in Channel
            }
        )
    return found


def write(runtime: Runtime, rows: list[dict[str, Any]]) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_log"))
        bulk.insert_rows(session, table(MessageLog), rows)


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 120),
    window=st.sampled_from([1, 15, 60, 240, 1440, 1620]),
    bucket=st.sampled_from([1, 7, 15, 60]),
)
def test_every_figure_equals_a_plain_computation(
    runtime: Runtime, seed: int, size: int, window: int, bucket: int
) -> None:
    rows = history(seed, size)
    write(runtime, rows)
    with runtime.database.read() as session:
        found = health.look(session, runtime.settings, NOW, timedelta(minutes=window))
        told = health.summary(found)
        series = health.timeseries(session, NOW, window_minutes=window, bucket_minutes=bucket)

    assert told == _plain_summary(rows, timedelta(minutes=window))
    assert series["buckets"] == _plain_series(rows, window, bucket)


@pytest.mark.parametrize(("window", "bucket", "count"), [(240, 15, 16), (1, 15, 1), (16, 15, 2), (60, 7, 9)])
def test_buckets_are_as_many_as_fit_and_end_with_now(runtime: Runtime, window: int, bucket: int, count: int) -> None:
    with runtime.database.read() as session:
        buckets = health.timeseries(session, NOW, window_minutes=window, bucket_minutes=bucket)["buckets"]

    assert len(buckets) == count
    assert all(int(found["start"].timestamp()) % (bucket * 60) == 0 for found in buckets)
    assert buckets[-1]["start"] <= NOW < buckets[-1]["start"] + timedelta(minutes=bucket)


def test_recent_is_newest_first_and_masked(runtime: Runtime) -> None:
    rows = history(7, 30)
    write(runtime, rows)
    with runtime.database.read() as session:
        masked = health.recent(session, 10, reveal=False)["items"]
        revealed = health.recent(session, 10, reveal=True)["items"]

    assert [item["id"] for item in masked] == sorted((row["id"] for row in rows), reverse=True)[:10]
    assert {item["recipient"] for item in masked} == {"a***@acme.example"}
    assert {item["recipient"] for item in revealed} == {"anna@acme.example"}


def _waiting(status: MessageStatus, minutes: int) -> dict[str, Any]:
    row = next(row for row in history(3, 60) if row["status"] is status)
    return row | {"next_attempt_at": NOW - timedelta(minutes=minutes)}


@pytest.mark.parametrize(
    ("status", "workers", "is_critical"),
    [(S.QUEUED, 1, True), (S.QUEUED, 0, True), (S.DEFERRED_THROTTLED, 1, False), (S.DEFERRED_THROTTLED, 0, True)],
)
def test_a_throttled_backlog_is_no_standstill_while_there_are_workers(
    runtime: Runtime, status: MessageStatus, workers: int, is_critical: bool
) -> None:
    write(runtime, [_waiting(status, 10)])
    with runtime.database.read() as session:
        found = replace(health.look(session, runtime.settings, NOW, timedelta(hours=1)), workers=workers)

    assert found.oldest_pending_seconds == 600
    assert any(problem.gravity is Gravity.CRITICAL for problem in problems(found)) is is_critical
