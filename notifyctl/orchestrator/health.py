"""How the traffic is, in the shapes that the terminal, HTTP, the page and Prometheus share."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.models.operations import BreakerState
from notifyctl.models.template import Channel
from notifyctl.orchestrator.installation import Installation
from notifyctl.orchestrator.installation import look as look_at_installation
from notifyctl.orchestrator.masking import mask
from notifyctl.orchestrator.problem import Problem
from notifyctl.orchestrator.thresholds import Thresholds
from notifyctl.orchestrator.words import iso, moment
from notifyctl.settings import Settings
from notifyctl.store import breakers, limits, pauses, reports, spikes
from notifyctl.store.reports import Backlog, Bucket, Traffic

MINUTE = timedelta(minutes=1)
LONGEST_WINDOW_MINUTES = 7 * 24 * 60
MOST_BUCKETS = 1_000
MOST_RECENT = 1_000
RECENT = (
    "id", "status", "reason", "channel", "template_key", "recipient", "error_code", "error", "attempts", "created_at",
    "sent_at", "finished_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempts:
    failed: int
    sent: int


@dataclass(frozen=True, slots=True)
class Health:
    """A window that ends now, and what is before us."""

    since: datetime
    until: datetime
    traffic: Mapping[Channel, Traffic]
    backlog: Mapping[Channel, Backlog]
    limits: Mapping[Channel, int]
    top_templates: Sequence[tuple[str, int]]
    top_reasons: Sequence[tuple[str, int]]
    unconfirmed: int
    paused: Sequence[Mapping[str, Any]]
    spikes: Sequence[Mapping[str, Any]]
    codes: tuple[int, int]
    """Sent, and verified."""
    open_breakers: Mapping[Channel, str]
    """Channels whose provider is taken for down, and what it said last."""
    workers: int
    """Those that were seen within the last minute."""
    thresholds: Thresholds
    """Those of the spike monitor: from when on a channel is called failing."""
    lately: Mapping[Channel, Attempts]
    """In the monitor's window, and as it counts: messages whose attempts failed, whatever became of them since."""
    open_since: Mapping[Channel, datetime]
    """When those breakers opened."""
    installation: Installation

    @property
    def oldest_pending_seconds(self) -> int:
        """How long the oldest message that is due has been so; 0 when nothing is."""
        return self._seconds_since(found.oldest_due_at for found in self.backlog.values())

    def stalled_seconds(self, channel: Channel) -> int:
        """The same of a channel, without what waits for its minute as long as there is somebody who may send it."""
        found = self.backlog[channel]
        is_run = self.workers or self.installation.lives_by_cron
        return self._seconds_since([found.oldest_unthrottled_at if is_run else found.oldest_due_at])

    def _seconds_since(self, moments: Iterable[datetime | None]) -> int:
        oldest = min(filter(None, moments), default=self.until)
        return max(0, int((self.until - oldest).total_seconds()))

    @property
    def drain_seconds(self) -> int:
        """When the last message of the slower channel will have gone, at today's limits and without new ones."""
        waiting = {channel: found.pending + found.retrying for channel, found in self.backlog.items()}
        return max(ceil(count * 60 / self.limits[channel]) for channel, count in waiting.items())


def look(session: Session, settings: Settings, now: datetime, window: timedelta) -> Health:
    since = now - window
    held = pauses.everything(session)
    down, installation = _down(session), look_at_installation(session, settings, now)
    thresholds = Thresholds.of(settings)
    traffic = reports.traffic(session, since, now)
    return Health(
        since=since,
        until=now,
        traffic=traffic,
        backlog=reports.backlog(session, now, [pauses.scope_of(row) for row in held]),
        limits={
            channel: limits.per_minute(session, channel) or settings.per_minute_limit(channel) for channel in Channel
        },
        top_templates=reports.top_failures(session, since, now, "template_key"),
        top_reasons=reports.top_failures(session, since, now, "reason"),
        unconfirmed=reports.unconfirmed(session, now),
        paused=[_pause(session, row) for row in held],
        spikes=[_spike(row) for row in spikes.raised(session)],
        codes=(sum(did.codes for did in traffic.values()), reports.verified_codes(session, since, now)),
        open_breakers={channel: row.reason or "no answer" for channel, row in down.items()},
        open_since={channel: row.opened_at for channel, row in down.items() if row.opened_at is not None},
        workers=installation.workers,
        thresholds=thresholds,
        lately=_lately(session, now - thresholds.window),
        installation=installation,
    )


def _down(session: Session) -> dict[Channel, Row[Any]]:
    rows = {channel: breakers.get(session, channel) for channel in Channel}
    return {channel: row for channel, row in rows.items() if row is not None and row.state is not BreakerState.CLOSED}


def _lately(session: Session, since: datetime) -> dict[Channel, Attempts]:
    failures, sent = spikes.failures(session, since), spikes.sent(session, since)
    return {channel: Attempts(failures[channel].failed, sent[channel]) for channel in Channel}


def summary(health: Health, problems: Sequence[Problem]) -> dict[str, Any]:
    """`problems` are orchestrator.troubles.problems of the same health."""
    sent, verified = health.codes
    installation = health.installation
    return {
        "window_minutes": int((health.until - health.since) / MINUTE),
        "from": health.since,
        "to": health.until,
        "channels": {channel.value: _channel(health.traffic[channel], health.backlog[channel]) for channel in Channel},
        "top_failed_templates": [{"template_key": key, "failed": count} for key, count in health.top_templates],
        "top_failure_reasons": [{"reason": reason, "failed": count} for reason, count in health.top_reasons],
        "throttled_count": sum(found.throttled for found in health.traffic.values()),
        "oldest_pending_seconds": health.oldest_pending_seconds,
        "drain_seconds": health.drain_seconds,
        "unconfirmed": health.unconfirmed,
        "paused": list(health.paused),
        "spikes": list(health.spikes),
        "otp": {"sent": sent, "verified": verified},
        "workers": health.workers,
        "installation": {"name": installation.name, "database": installation.database},
        "problems": [problem.fields() for problem in problems],
    }


def _channel(found: Traffic, backlog: Backlog) -> dict[str, Any]:
    return {
        "sent": found.sent,
        "failed": found.failed,
        "delivered": found.delivered,
        "bounced": found.bounced,
        "blocked": found.blocked,
        "failure_rate": found.failure_rate,
        "latency_seconds": {"p50": found.p50_seconds, "p95": found.p95_seconds},
        "pending": backlog.pending,
        "retrying": backlog.retrying,
        "in_doubt": backlog.in_doubt,
    }


def _pause(session: Session, row: Any) -> dict[str, Any]:
    scope = pauses.scope_of(row)
    return {
        "channel": row.channel,
        "template_key": row.template_key,
        "client_id": row.client_id,
        "reason": row.reason,
        "actor": row.actor,
        "since": row.created_at,
        "held": pauses.held(session, scope),
    }


def _spike(row: Any) -> dict[str, Any]:
    # What was found then, and may be so no more: what is so now are the problems.
    problem = f"as of {moment(row.measured_at)}: {row.problem}" if row.problem else ""
    return {"channel": row.channel, "level": row.level, "since": row.raised_at, "problem": problem}


def timeseries(session: Session, now: datetime, *, window_minutes: int, bucket_minutes: int) -> dict[str, Any]:
    """Exactly ceil(window / bucket) buckets, empty ones as well."""
    count = ceil(window_minutes / bucket_minutes)
    found = reports.series(session, now, count, timedelta(minutes=bucket_minutes))
    return {
        "window_minutes": window_minutes,
        "bucket_minutes": bucket_minutes,
        "buckets": [{"start": bucket.start} | _bucket(bucket) for bucket in found],
    }


def _bucket(bucket: Bucket) -> dict[str, Any]:
    return {
        channel.value: {
            "sent": bucket.sent[channel],
            "failed": bucket.failed[channel],
            "throttled": bucket.throttled[channel],
        }
        for channel in Channel
    }


def to_json(value: Any) -> str:
    """The one text of these shapes, on the command line and over HTTP."""
    return json.dumps(value, default=_jsonable, indent=2) + "\n"


def _jsonable(value: Any) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)


def recent(session: Session, limit: int, *, reveal: bool) -> dict[str, Any]:
    """Newest first, with recipients masked unless `reveal`."""
    items = [{name: row._mapping[name] for name in RECENT} for row in reports.recent(session, limit)]
    for item in items:
        if not reveal:
            item["recipient"] = mask(item["recipient"]) or None
    return {"items": items}
