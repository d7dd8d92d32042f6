"""The page /admin/notification-health: how the traffic is, what is wrong first, and the messages behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from notifyctl.alerts.spikes.levels import Thresholds
from notifyctl.bootstrap import Runtime
from notifyctl.health import reports
from notifyctl.health.problems import folded, problems
from notifyctl.health.summary import MINUTE, Health, of_span, read_health
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.pages.charts import Chart, traffic_chart
from notifyctl.http.pages.listing import ListingQuery, find_messages, read_query
from notifyctl.http.pages.page import render
from notifyctl.http.pages.sessions import HOME, SignedIn
from notifyctl.http.pages.span import DEFAULT_MINUTES, WINDOWS, ShownSpan, ViewerZone, read_span
from notifyctl.models.enums import CHANNELS, Channel, Lane, MessageStatus
from notifyctl.operations.pauses import PauseScope
from notifyctl.operations.problem import Gravity, Problem
from notifyctl.orchestrator.filters import REASONS
from notifyctl.templates import store as template_store
from notifyctl.text.durations import plural

REFRESH_SECONDS = 10
NAMES = {channel: spec.label for channel, spec in CHANNELS.items()}

router = APIRouter(include_in_schema=False)


@router.get(HOME)
def show(request: Request, runtime: RuntimeDep, caller: SignedIn, zone: ViewerZone) -> HTMLResponse:
    query = read_query(runtime, request.query_params, zone)
    now = runtime.clock()
    span = read_span(request.query_params, now, zone)
    with runtime.database.read() as session:
        values = _health_values(session, runtime, now, span, zone) | _list_values(session, query)
    return render(
        "dashboard.html",
        422 if query.faults or span.fault else 200,
        caller=caller,
        home=HOME,
        refresh_seconds=REFRESH_SECONDS,
        span=span,
        windows=WINDOWS,
        names=NAMES,
        query=query,
        zone=zone,
        now=now,
        **values,
    )


def _health_values(
    session: Session, runtime: Runtime, now: datetime, span: ShownSpan, zone: ZoneInfo
) -> dict[str, object]:
    health = read_health(session, runtime.settings, now, (span.minutes or DEFAULT_MINUTES) * MINUTE)
    wrong = problems(health)
    if span.minutes is None:
        health = of_span(session, health, span.since, span.until)
    return {
        "health": health,
        "charts": _charts(session, span, zone),
        "summary": ProblemSummary.of(wrong),
        "levels": {channel: _level(runtime, health, channel) for channel in Channel},
        "paused_channels": [pause.channel for pause in health.paused if pause.scope == PauseScope(pause.channel)],
        "pending": sum(backlog.pending + backlog.retrying for backlog in health.backlog.values()),
    }


def _charts(session: Session, span: ShownSpan, zone: ZoneInfo) -> dict[Channel, Chart]:
    buckets = reports.series(session, span.last_moment.astimezone(zone), span.buckets, span.bucket)
    end = "now" if span.minutes is not None else f"{span.until.astimezone(zone):%H:%M}"
    return {channel: traffic_chart(buckets, channel, span.bucket, end) for channel in Channel}


def _level(runtime: Runtime, health: Health, channel: Channel) -> str:
    """By the thresholds of the spike monitor, so that a colour says what an alert would say."""
    traffic = health.traffic[channel]
    return Thresholds.of(runtime.settings).level(traffic.failed, traffic.sent).value.lower()


def _list_values(session: Session, query: ListingQuery) -> dict[str, object]:
    return {
        "listing": find_messages(session, query),
        "statuses": list(MessageStatus),
        "lanes": list(Lane),
        "reasons": REASONS,
        "template_keys": [template.template_key for template in template_store.everything(session)],
    }


@dataclass(frozen=True, slots=True)
class ProblemSummary:
    """What is wrong, cut to what a person reads at once."""

    problems: tuple[Problem, ...]
    more: tuple[Problem, ...]
    """Behind a fold."""
    gravity: Gravity | None
    title: str

    @classmethod
    def of(cls, every: Sequence[Problem]) -> "ProblemSummary":
        shown, more = folded(every)
        return cls(tuple(shown), tuple(more), every[0].gravity if every else None, _title(every))


def _title(every: Sequence[Problem]) -> str:
    if grave := sum(problem.gravity is not Gravity.NOTE for problem in every):
        return plural(grave, "problem")
    return "Worth knowing" if every else "Nothing is wrong"
