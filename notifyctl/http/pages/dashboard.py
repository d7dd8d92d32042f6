"""The page /admin/notification-health: how the traffic is, what is wrong first, and the messages behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from notifyctl.alerts.spikes.levels import Thresholds
from notifyctl.bootstrap import Runtime
from notifyctl.health import reports
from notifyctl.health.problems import folded, problems
from notifyctl.health.summary import MINUTE, Health, read_health
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.pages.charts import Chart, traffic_chart
from notifyctl.http.pages.listing import ListingQuery, find_messages, read_query
from notifyctl.http.pages.page import render
from notifyctl.http.pages.sessions import HOME, SignedIn
from notifyctl.models.enums import CHANNELS, Channel, Lane, MessageStatus
from notifyctl.operations.pauses import PauseScope
from notifyctl.operations.problem import Gravity, Problem
from notifyctl.orchestrator.filters import REASONS
from notifyctl.templates import store as template_store
from notifyctl.text.durations import plural

DEFAULT_WINDOW = 60
REFRESH_SECONDS = 10
NAMES = {channel: spec.label for channel, spec in CHANNELS.items()}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class DashboardWindow:
    label: str
    words: str
    bucket_minutes: int


WINDOWS = {
    60: DashboardWindow("1 h", "the last hour", 2),
    4 * 60: DashboardWindow("4 h", "the last 4 hours", 5),
    24 * 60: DashboardWindow("24 h", "the last 24 hours", 30),
    7 * 24 * 60: DashboardWindow("7 d", "the last 7 days", 4 * 60),
}


@router.get(HOME)
def show(request: Request, runtime: RuntimeDep, caller: SignedIn) -> HTMLResponse:
    query = read_query(runtime, request.query_params)
    minutes = _window(request.query_params.get("window_minutes", ""))
    with runtime.database.read() as session:
        values = _health_values(session, runtime, minutes) | _list_values(session, query)
    return render(
        "dashboard.html",
        422 if query.faults else 200,
        caller=caller,
        home=HOME,
        refresh_seconds=REFRESH_SECONDS,
        window_minutes=minutes,
        window=WINDOWS[minutes],
        windows=WINDOWS,
        names=NAMES,
        query=query,
        **values,
    )


def _window(text: str) -> int:
    """One of those that there is a button for; the default for anything else."""
    return int(text) if text in map(str, WINDOWS) else DEFAULT_WINDOW


def _health_values(session: Session, runtime: Runtime, minutes: int) -> dict[str, object]:
    now = runtime.clock()
    health = read_health(session, runtime.settings, now, minutes * MINUTE)
    return {
        "health": health,
        "charts": _charts(session, now, minutes),
        "summary": ProblemSummary.of(problems(health)),
        "levels": {channel: _level(runtime, health, channel) for channel in Channel},
        "paused_channels": [pause.channel for pause in health.paused if pause.scope == PauseScope(pause.channel)],
        "pending": sum(backlog.pending + backlog.retrying for backlog in health.backlog.values()),
    }


def _charts(session: Session, now: datetime, minutes: int) -> dict[Channel, Chart]:
    bucket_minutes = WINDOWS[minutes].bucket_minutes
    length = bucket_minutes * MINUTE
    buckets = reports.series(session, now, minutes // bucket_minutes, length)
    return {channel: traffic_chart(buckets, channel, length) for channel in Channel}


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
