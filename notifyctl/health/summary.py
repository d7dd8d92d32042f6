"""How the traffic is, declared once for the terminal, HTTP, the page and Prometheus.

`read_health` asks the store. `summary` is what programs get of it: its fields are the JSON, the schema of HTTP, the
columns of the tables and, where they have a Gauge, what Prometheus reads.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Annotated, TypeVar

from pydantic import Field
from sqlmodel import Session

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.alerts.spikes.levels import Thresholds
from notifyctl.alerts.spikes.store import Attempts
from notifyctl.health import reports
from notifyctl.health.installation import Installation, read_installation
from notifyctl.health.reports import Backlog, BucketView, QueueDepth, RecentMessage, Traffic
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.operations import breakers, limits, pauses
from notifyctl.operations.problem import Problem, ProblemView
from notifyctl.settings import Settings
from notifyctl.text.durations import iso, moment
from notifyctl.text.masking import mask

T = TypeVar("T")
MINUTE = timedelta(minutes=1)
LONGEST_WINDOW_MINUTES = 7 * 24 * 60
MOST_BUCKETS = 1_000
MOST_RECENT = 1_000
RECENT = tuple(field.name for field in fields(RecentMessage))


@dataclass(frozen=True, slots=True)
class Gauge:
    """Prometheus reads the figure by this name, with its description as help."""

    name: str


@dataclass(frozen=True, slots=True)
class Latency:
    """From acceptance to the provider's yes, by nearest rank; null when nothing was sent."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    sent: int
    failed: int
    delivered: int
    bounced: int
    blocked: int
    failure_rate: Annotated[float, Field(description="failed / (failed + sent), 0 when there was nothing.")]
    latency_seconds: Latency
    pending: Annotated[int, Field(description="Now: QUEUED, DEFERRED_THROTTLED, SENDING.")]
    retrying: Annotated[int, Field(description="Now.")]
    in_doubt: Annotated[int, Field(description="Now.")]


@dataclass(frozen=True, slots=True)
class Channels:
    EMAIL: ChannelHealth
    SMS: ChannelHealth


def _published_as(name: str) -> Callable[[type[T]], type[T]]:
    """The name in the OpenAPI document."""

    def renamed(shape: type[T]) -> type[T]:
        shape.__name__ = shape.__qualname__ = name
        return shape

    return renamed


@dataclass(frozen=True, slots=True)
class FailedTemplate:
    template_key: str
    failed: int


@dataclass(frozen=True, slots=True)
@_published_as("FailureReason")
class FailedReason:
    reason: str
    failed: int


@dataclass(frozen=True, slots=True)
class BlockedReason:
    reason: str
    blocked: int


@dataclass(frozen=True, slots=True)
class Paused:
    channel: str | None
    template_key: str | None
    client_id: str | None
    reason: str
    actor: str
    since: datetime
    held: int

    @property
    def scope(self) -> pauses.PauseScope:
        return pauses.PauseScope(self.channel, self.template_key, self.client_id)


@dataclass(frozen=True, slots=True)
class Spike:
    channel: str
    level: str
    since: datetime
    problem: Annotated[
        str, Field(description="What the monitor found last, and when; what is so now stands in problems.")
    ]


@dataclass(frozen=True, slots=True)
class Codes:
    sent: int
    verified: int


@dataclass(frozen=True, slots=True)
class InstallationView:
    name: Annotated[str, Field(description="INSTALLATION_NAME; the database's where that is not set.")]
    database: Annotated[str, Field(description="Its kind and place, without user or password.")]


@dataclass(frozen=True, slots=True)
class Summary:
    window_minutes: int
    from_: Annotated[datetime, Field(alias="from")]
    to: datetime
    channels: Channels
    top_failed_templates: list[FailedTemplate]
    top_failure_reasons: list[FailedReason]
    top_block_reasons: list[BlockedReason]
    throttled_count: int
    oldest_pending_seconds: int
    drain_seconds: Annotated[int, Field(description="When the backlog will be gone, at today's limits.")]
    unconfirmed: Annotated[
        int, Field(description="Sent 1 to 24 h ago, without a receipt."), Gauge("notifyctl_unconfirmed_messages")
    ]
    paused: list[Paused]
    spikes: list[Spike]
    otp: Codes
    failing: Annotated[
        dict[Channel, int], Field(description="Messages whose attempt failed lately, in the monitor's window.")
    ]
    workers: Annotated[int, Field(description="At work: seen within the last minute.")]
    installation: InstallationView
    problems: Annotated[
        list[ProblemView], Field(description="What is wrong now, the gravest first; empty when nothing is.")
    ]


@dataclass(frozen=True, slots=True)
class Timeseries:
    window_minutes: int
    bucket_minutes: int
    buckets: list[BucketView]


@dataclass(frozen=True, slots=True)
class Recent:
    items: list[RecentMessage]


@dataclass(frozen=True, slots=True)
class Health:
    """A window that ends now, and what is before us."""

    since: datetime
    until: datetime
    traffic: Mapping[Channel, Traffic]
    depths: Sequence[QueueDepth]
    backlog: Mapping[Channel, Backlog]
    limits: Mapping[Channel, int]
    top_templates: Sequence[tuple[str, int]]
    top_reasons: Sequence[tuple[str, int]]
    block_reasons: Sequence[tuple[str, int]]
    unconfirmed: int
    paused: Sequence[Paused]
    spikes: Sequence[Spike]
    codes: Codes
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
        return self._seconds_since(backlog.oldest_due_at for backlog in self.backlog.values())

    def stalled_seconds(self, channel: Channel) -> int:
        """The same of a channel, without what waits for its minute as long as there is somebody who may send it."""
        backlog, is_run = self.backlog[channel], self.installation.is_run
        return self._seconds_since([backlog.oldest_unthrottled_at if is_run else backlog.oldest_due_at])

    def _seconds_since(self, moments: Iterable[datetime | None]) -> int:
        oldest = min(filter(None, moments), default=self.until)
        return max(0, int((self.until - oldest).total_seconds()))

    @property
    def drain_seconds(self) -> int:
        """When the last message of the slower channel will have gone, at today's limits and without new ones."""
        waiting = {channel: backlog.pending + backlog.retrying for channel, backlog in self.backlog.items()}
        return max(ceil(count * 60 / self.limits[channel]) for channel, count in waiting.items())

    @property
    def drains_in_seconds(self) -> int:
        """The same for a reader, who takes it for a promise: 0 where a channel is held or down, or nobody sends."""
        is_held = any(pause.scope == pauses.PauseScope(pause.channel) for pause in self.paused)
        return self.drain_seconds if self.installation.is_run and not is_held and not self.open_breakers else 0


def read_health(session: Session, settings: Settings, now: datetime, window: timedelta) -> Health:
    since = now - window
    paused, down = _paused(session), breakers.not_closed(session)
    installation = read_installation(session, settings, now)
    thresholds = Thresholds.of(settings)
    traffic, depths = reports.traffic(session, since, now), reports.queue_depths(session)
    return Health(
        since=since,
        until=now,
        traffic=traffic,
        depths=depths,
        backlog=reports.backlog(session, now, depths, [pause.scope for pause in paused]),
        limits={each: limits.per_minute(session, each) or settings.per_minute_limit(each) for each in Channel},
        top_templates=reports.top_ends(session, since, now, "template_key"),
        top_reasons=reports.top_ends(session, since, now, "reason"),
        block_reasons=reports.top_ends(session, since, now, "reason", MessageStatus.BLOCKED),
        unconfirmed=reports.unconfirmed(session, now),
        paused=paused,
        spikes=_spikes(session),
        codes=Codes(sum(did.codes for did in traffic.values()), reports.verified_codes(session, since, now)),
        open_breakers=down,
        open_since={each: row.opened_at for each in down if (row := breakers.get(session, each)) and row.opened_at},
        workers=installation.workers,
        thresholds=thresholds,
        lately=spike_store.attempts(session, now - thresholds.window),
        installation=installation,
    )


def of_span(session: Session, health: Health, since: datetime, until: datetime) -> Health:
    """The same with the figures of another span. What waits, and what is wrong, stays as it is now."""
    traffic = reports.traffic(session, since, until)
    return replace(
        health,
        traffic=traffic,
        top_templates=reports.top_ends(session, since, until, "template_key"),
        top_reasons=reports.top_ends(session, since, until, "reason"),
        block_reasons=reports.top_ends(session, since, until, "reason", MessageStatus.BLOCKED),
        codes=Codes(sum(did.codes for did in traffic.values()), reports.verified_codes(session, since, until)),
    )


def _paused(session: Session) -> list[Paused]:
    rows = [(row, pauses.held(session, pauses.scope_of(row))) for row in pauses.everything(session)]
    return [
        Paused(row.channel, row.template_key, row.client_id, row.reason, row.actor, row.created_at, held)
        for row, held in rows
    ]


def _spikes(session: Session) -> list[Spike]:
    return [  # what was found then, and may be so no more: what is so now are the problems
        Spike(row.channel, row.level, row.raised_at, row.problem and f"as of {moment(row.measured_at)}: {row.problem}")
        for row in spike_store.raised(session)
        if row.raised_at is not None
    ]


def summary(health: Health, problems: Sequence[Problem]) -> Summary:
    """`problems` are health.problems.problems of the same health."""
    return Summary(
        window_minutes=int((health.until - health.since) / MINUTE),
        from_=health.since,
        to=health.until,
        channels=Channels(**{channel: _channel(health, channel) for channel in Channel}),
        top_failed_templates=[FailedTemplate(key, count) for key, count in health.top_templates],
        top_failure_reasons=[FailedReason(reason, count) for reason, count in health.top_reasons],
        top_block_reasons=[BlockedReason(reason, count) for reason, count in health.block_reasons],
        throttled_count=sum(traffic.throttled for traffic in health.traffic.values()),
        oldest_pending_seconds=health.oldest_pending_seconds,
        drain_seconds=health.drain_seconds,
        unconfirmed=health.unconfirmed,
        paused=list(health.paused),
        spikes=list(health.spikes),
        otp=health.codes,
        failing={channel: lately.failed for channel, lately in health.lately.items()},
        workers=health.workers,
        installation=InstallationView(health.installation.name, health.installation.database),
        problems=[problem.view for problem in problems],
    )


def _channel(health: Health, channel: Channel) -> ChannelHealth:
    traffic, backlog = health.traffic[channel], health.backlog[channel]
    return ChannelHealth(
        sent=traffic.sent,
        failed=traffic.failed,
        delivered=traffic.delivered,
        bounced=traffic.bounced,
        blocked=traffic.blocked,
        failure_rate=traffic.failure_rate,
        latency_seconds=Latency(traffic.p50_seconds, traffic.p95_seconds),
        pending=backlog.pending,
        retrying=backlog.retrying,
        in_doubt=backlog.in_doubt,
    )


def timeseries(session: Session, now: datetime, *, window_minutes: int, bucket_minutes: int) -> Timeseries:
    """Exactly ceil(window / bucket) buckets, empty ones as well."""
    count = ceil(window_minutes / bucket_minutes)
    buckets = reports.series(session, now, count, timedelta(minutes=bucket_minutes))
    return Timeseries(window_minutes, bucket_minutes, buckets)


def recent(session: Session, limit: int, *, reveal: bool) -> Recent:
    """Newest first, with recipients masked unless `reveal`."""
    messages = reports.recent(session, limit)
    if not reveal:
        messages = [replace(message, recipient=mask(message.recipient) or None) for message in messages]
    return Recent(messages)


def as_fields(value: object) -> dict[str, object]:
    """Of one of the shapes above, by the names that JSON has."""
    assert is_dataclass(value)
    return {field.name.rstrip("_"): getattr(value, field.name) for field in fields(value)}


def to_json(value: Summary | Timeseries | Recent) -> str:
    """The one text of these shapes, on the command line and over HTTP."""
    return json.dumps(value, default=_jsonable, indent=2) + "\n"


def _jsonable(value: object) -> object:
    return iso(value) if isinstance(value, datetime) else as_fields(value)
