"""For Prometheus. Every figure is read from the store when it is asked for: any process tells the same."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, get_type_hints

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from pydantic.fields import FieldInfo
from sqlmodel import Session

from notifyctl import __version__
from notifyctl.alerts.spikes import store as spike_store
from notifyctl.bootstrap import Runtime
from notifyctl.health import latencies, reports, summary
from notifyctl.health.problems import problems
from notifyctl.health.summary import Gauge, Health, Summary
from notifyctl.http.auth import Caller, RuntimeDep, require
from notifyctl.http.errors import documented
from notifyctl.models.enums import Channel, Scope, SpikeLevel
from notifyctl.operations import heartbeats, job_runs
from notifyctl.operations.problem import Problem

HOUR = timedelta(hours=1)
BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
"""Seconds from acceptance to the provider's yes."""

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses=documented(401, 403) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(runtime: RuntimeDep, _: Annotated[Caller, Depends(require(Scope.READ))]) -> Response:
    """In Prometheus' text format. Windows end now: what is counted "in the last hour" is a gauge, and can fall."""
    registry = CollectorRegistry()
    registry.register(_Store(runtime))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Store(Collector):
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        now = self._runtime.clock()
        with self._runtime.database.read() as session:
            figures = summary.read_health(session, self._runtime.settings, now, HOUR)
            wrong = problems(figures)
            yield InfoMetricFamily("notifyctl_build", "The version of notifyctl.", {"version": __version__})
            yield from _traffic(session, figures)
            yield from _backlog(figures)
            for name, words, value in gauges(summary.summary(figures, wrong)):
                yield GaugeMetricFamily(name, words, value=value)
            yield from _state(session, figures, wrong)
            yield from _machinery(session)

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before the store is asked, and registering must not ask it."""
        return iter(())


def _traffic(session: Session, figures: Health) -> Iterator[Metric]:
    counted = GaugeMetricFamily(
        "notifyctl_messages_last_hour",
        "Messages of the last hour, each by the moment that it was sent, delivered, failed, bounced or blocked.",
        labels=["channel", "status", "template_key", "reason"],
    )
    for row in reports.outcomes(session, figures.since, figures.until):
        counted.add_metric([row.channel, row.what.upper(), row.template_key, row.reason], row.messages)
    yield counted
    throttled = GaugeMetricFamily(
        "notifyctl_throttled_messages_last_hour",
        "Messages that had to wait for their channel's minute.",
        labels=["channel"],
    )
    latency = GaugeHistogramMetricFamily(
        "notifyctl_send_latency_last_hour_seconds", "From acceptance to the provider's yes.", labels=["channel"]
    )
    for channel, (counts, total) in latencies.histogram(session, figures.since, figures.until, BOUNDS).items():
        throttled.add_metric([channel], figures.traffic[channel].throttled)
        names = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
        latency.add_metric([channel], list(zip(names, counts, strict=True)), total)
    yield throttled
    yield latency


def _backlog(figures: Health) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "notifyctl_queue_messages", "Messages that are not finished.", labels=["channel", "lane", "status"]
    )
    for row in figures.depths:
        depth.add_metric([row.channel, row.lane, row.status], row.messages)
    yield depth
    oldest = GaugeMetricFamily(
        "notifyctl_queue_oldest_due_seconds", "How long the oldest message that is due has been so.", labels=["channel"]
    )
    limit = GaugeMetricFamily("notifyctl_limit_per_minute", "Messages a minute, at most.", labels=["channel"])
    for channel, backlog in figures.backlog.items():
        due = backlog.oldest_due_at
        oldest.add_metric([channel], max(0.0, (figures.until - due).total_seconds()) if due else 0.0)
        limit.add_metric([channel], figures.limits[channel])
    yield oldest
    yield limit


def _state(session: Session, figures: Health, wrong: Sequence[Problem]) -> Iterator[Metric]:
    breaker = GaugeMetricFamily("notifyctl_breaker_open", "1 while its provider is taken for down.", labels=["channel"])
    spike = GaugeMetricFamily("notifyctl_spike_level", "0 none, 1 warning, 2 critical.", labels=["channel"])
    raised = {row.channel: row.level for row in spike_store.raised(session)}
    for channel in Channel:
        breaker.add_metric([channel], float(channel in figures.open_breakers))
        spike.add_metric([channel], raised.get(channel, SpikeLevel.OK).gravity)
    yield breaker
    yield spike
    counted = GaugeMetricFamily("notifyctl_problems", "What is wrong now, as health says it.", labels=["level", "code"])
    for (level, code), count in Counter((problem.gravity, problem.code) for problem in wrong).items():
        counted.add_metric([level, code], count)
    yield counted
    held = GaugeMetricFamily(
        "notifyctl_paused_messages", "Messages that a pause holds.", labels=["channel", "template_key", "client_id"]
    )
    for pause in figures.paused:
        held.add_metric([pause.channel or "", pause.template_key or "", pause.client_id or ""], pause.held)
    yield held


def _machinery(session: Session) -> Iterator[Metric]:
    seen = GaugeMetricFamily(
        "notifyctl_worker_last_seen_timestamp_seconds", "When a worker last gave a sign of life.", labels=["worker"]
    )
    for row in heartbeats.present(session):
        seen.add_metric([row.worker], row.seen_at.timestamp())
    yield seen
    done = GaugeMetricFamily(
        "notifyctl_job_last_success_timestamp_seconds", "When a job last ended well.", labels=["job"]
    )
    for name, record in job_runs.records(session).items():
        if record.done_at is not None:
            done.add_metric([name], record.done_at.timestamp())
    yield done


def gauges(figures: Summary) -> Iterator[tuple[str, str, float]]:
    """Name, help and value of the figures that Prometheus reads one by one."""
    for name, hint in get_type_hints(Summary, include_extras=True).items():
        about = getattr(hint, "__metadata__", ())
        for gauge in about:
            if isinstance(gauge, Gauge):
                words = next(one.description for one in about if isinstance(one, FieldInfo))
                yield gauge.name, words or "", getattr(figures, name)
