"""Random histories, and every figure of the health views computed from their rows plainly, one by one."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.models.columns import new_message_id, table
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.models.message import FINAL, MessageLog

NOW = datetime(2026, 3, 2, 12, 7, 31, 250_000, tzinfo=UTC)
S = MessageStatus
DAY = 86_400 * 10**6
"""In microseconds."""
TEMPLATES = ("WELCOME_EMAIL", "PASSWORD_RESET", "PAYMENT_FAILED", "OTP_CODE_SMS", "A", "B", "C")
REASONS = ("RECIPIENT_INVALID", "PROVIDER_UNAVAILABLE", "UNKNOWN", None)


def history(seed: int, size: int) -> list[dict[str, Any]]:
    """Rows as they might stand, with many moments on the very edges of windows and buckets."""
    dice = random.Random(seed)

    def moment() -> datetime:
        # The second and the third are 12:00 and 11:45, where buckets meet.
        edge = dice.choice([0, 451.25, 1351.25, 900, 3600, 4 * 3600, 24 * 3600, 27 * 3600])
        nudge = dice.choice([0, -1, 1, 999_600, dice.randrange(10_000_000_000)])
        return NOW - timedelta(seconds=edge, microseconds=nudge)

    rows = []
    for _ in range(size):
        status = dice.choice(list(S))
        last = moment()
        waited = timedelta(
            microseconds=dice.choice([0, 1, 999_999, 1_000_001, dice.randrange(10**9), 3 * DAY + dice.randrange(DAY)])
        )
        has_gone = status in (S.SENT, S.DELIVERED, S.BOUNCED)
        rows.append(
            {
                "id": new_message_id(), "channel": dice.choice(list(Channel)), "audience": "CLIENT",
                "template_key": dice.choice(TEMPLATES), "template_version": 1, "source": "test",
                "recipient": "anna@acme.example", "rate_subject": "", "status": status, "attempts": 1,
                "reason": dice.choice(REASONS) if status in (S.FAILED, S.BOUNCED, S.BLOCKED) else None,
                "lane": dice.choice(list(Lane)), "lease_generation": 0,
                "created_at": last - waited if has_gone else last,
                "next_attempt_at": None if status in FINAL else moment(),
                "last_attempt_at": last if status is S.RETRY_SCHEDULED else None,
                "sent_at": last if has_gone else None,
                "delivered_at": moment() if status is S.DELIVERED else None,
                "finished_at": moment() if status in FINAL and status is not S.SENT else None,
                "throttled_at": moment() if dice.random() < 0.3 else None,
            }
        )  # fmt: skip
    return rows


def within(rows: list[dict[str, Any]], name: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
    return [row for row in rows if row[name] is not None and since <= row[name] < until]


def nearest_rank(values: list[float], percent: int) -> float | None:
    return sorted(values)[ceil(len(values) * percent / 100) - 1] if values else None


def plain_channel(rows: list[dict[str, Any]], since: datetime) -> dict[str, Any]:
    sent = within(rows, "sent_at", since, NOW)
    ended = Counter(row["status"] for row in within(rows, "finished_at", since, NOW))
    now = Counter(row["status"] for row in rows)
    waits = [(row["sent_at"] - row["created_at"]).total_seconds() for row in sent]
    failed = ended[S.FAILED]
    return {
        "sent": len(sent), "failed": failed, "delivered": len(within(rows, "delivered_at", since, NOW)),
        "bounced": ended[S.BOUNCED], "blocked": ended[S.BLOCKED],
        "failure_rate": failed / (failed + len(sent)) if failed else 0.0,
        "latency_seconds": {"p50": nearest_rank(waits, 50), "p95": nearest_rank(waits, 95)},
        "pending": now[S.QUEUED] + now[S.DEFERRED_THROTTLED] + now[S.SENDING],
        "retrying": now[S.RETRY_SCHEDULED], "in_doubt": now[S.IN_DOUBT],
    }  # fmt: skip


def top(rows: list[dict[str, Any]], since: datetime, name: str, status: S = S.FAILED) -> list[dict[str, Any]]:
    ended = [row for row in within(rows, "finished_at", since, NOW) if row["status"] is status]
    counts = Counter(row[name] or "UNKNOWN" for row in ended)
    return [
        {name: key, status.lower(): count}
        for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    ]


def plain_summary(rows: list[dict[str, Any]], window: timedelta) -> dict[str, Any]:
    since = NOW - window
    waiting = (S.QUEUED, S.DEFERRED_THROTTLED, S.RETRY_SCHEDULED)
    due = [row["next_attempt_at"] for row in rows if row["status"] in waiting and row["next_attempt_at"] <= NOW]
    of = {channel: [row for row in rows if row["channel"] is channel] for channel in Channel}
    backlog = {channel: sum(row["status"] in (*waiting, S.SENDING) for row in of[channel]) for channel in Channel}
    hour, day = timedelta(hours=1), timedelta(hours=24)
    unconfirmed = [row for row in within(rows, "sent_at", NOW - day, NOW - hour) if row["status"] is S.SENT]
    codes = [row for row in within(rows, "sent_at", since, NOW) if row["template_key"] == "OTP_CODE_SMS"]
    return {
        "window_minutes": int(window / timedelta(minutes=1)), "from": since, "to": NOW,
        "channels": {channel.value: plain_channel(of[channel], since) for channel in Channel},
        "top_failed_templates": top(rows, since, "template_key"),
        "top_failure_reasons": top(rows, since, "reason"),
        "top_block_reasons": top(rows, since, "reason", S.BLOCKED),
        "throttled_count": len(within(rows, "throttled_at", since, NOW)),
        "oldest_pending_seconds": int((NOW - min(due)).total_seconds()) if due else 0,
        "drain_seconds": max(backlog[Channel.EMAIL], 2 * backlog[Channel.SMS]),
        "unconfirmed": len(unconfirmed), "paused": [], "spikes": [],
        "otp": {"sent": len(codes), "verified": 0},
    }  # fmt: skip


def plain_series(rows: list[dict[str, Any]], window: int, bucket: int) -> list[dict[str, Any]]:
    size = bucket * 60
    last = int(NOW.timestamp()) // size
    found = []
    for number in range(last - ceil(window / bucket) + 1, last + 1):
        start = datetime.fromtimestamp(number * size, UTC)
        until = start + timedelta(seconds=size)

        def count(channel: Channel, name: str, *statuses: MessageStatus) -> int:
            chosen = within(rows, name, start, until)  # noqa: B023  called in this turn only
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
