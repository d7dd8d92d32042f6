"""The page /admin/notification-health: how the traffic is, what is wrong first, and the messages behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from notifyctl.alerts.spike_levels import Thresholds
from notifyctl.bootstrap import Runtime
from notifyctl.http.dependencies import RuntimeDep
from notifyctl.http.pages import listing, page
from notifyctl.http.pages.charts import Chart, traffic_chart
from notifyctl.http.pages.sessions import HOME, SignedIn
from notifyctl.models.message import MessageStatus
from notifyctl.models.template import Channel
from notifyctl.orchestrator import health
from notifyctl.orchestrator.health import MINUTE, Health
from notifyctl.orchestrator.problem import Gravity, Problem
from notifyctl.orchestrator.troubles import folded, problems
from notifyctl.store import templates

DEFAULT_WINDOW = 60
REFRESH_SECONDS = 10
NAMES = {Channel.EMAIL: "Email", Channel.SMS: "SMS"}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Window:
    label: str
    words: str
    bucket_minutes: int


WINDOWS = {
    60: Window("1 h", "the last hour", 2),
    4 * 60: Window("4 h", "the last 4 hours", 5),
    24 * 60: Window("24 h", "the last 24 hours", 30),
    7 * 24 * 60: Window("7 d", "the last 7 days", 4 * 60),
}


@router.get(HOME)
def show(request: Request, runtime: RuntimeDep, caller: SignedIn) -> HTMLResponse:
    asked = listing.read(runtime, request.query_params)
    minutes = _window(request.query_params.get("window_minutes", ""))
    with runtime.database.read() as session:
        values = _look(session, runtime, minutes) | _list(session, asked)
    return page.render(
        "dashboard.html",
        422 if asked.faults else 200,
        caller=caller,
        home=HOME,
        refresh_seconds=REFRESH_SECONDS,
        window_minutes=minutes,
        window=WINDOWS[minutes],
        windows=WINDOWS,
        names=NAMES,
        asked=asked,
        **values,
    )


def _window(text: str) -> int:
    """One of those that there is a button for; the default for anything else."""
    return int(text) if text in map(str, WINDOWS) else DEFAULT_WINDOW


def _look(session: Session, runtime: Runtime, minutes: int) -> dict[str, Any]:
    now, bucket = runtime.clock(), WINDOWS[minutes].bucket_minutes
    found = health.look(session, runtime.settings, now, minutes * MINUTE)
    series = health.timeseries(session, now, window_minutes=minutes, bucket_minutes=bucket)
    return {
        "health": found,
        "charts": _charts(series["buckets"], bucket * MINUTE),
        "standing": Standing.of(problems(found)),
        "levels": {channel: _level(runtime, found, channel) for channel in Channel},
        "pending": sum(backlog.pending + backlog.retrying for backlog in found.backlog.values()),
    }


def _charts(buckets: Sequence[dict[str, Any]], bucket: timedelta) -> Mapping[Channel, Chart]:
    return {channel: traffic_chart(buckets, channel.value, bucket) for channel in Channel}


def _level(runtime: Runtime, found: Health, channel: Channel) -> str:
    """By the thresholds of the spike monitor, so that a colour says what an alert would say."""
    did = found.traffic[channel]
    return Thresholds.of(runtime.settings).level(did.failed, did.sent).value.lower()


def _list(session: Session, asked: listing.Asked) -> dict[str, Any]:
    return {
        "listing": listing.find(session, asked),
        "statuses": list(MessageStatus),
        "reasons": listing.REASONS,
        "template_keys": [template.template_key for template in templates.everything(session)],
    }


@dataclass(frozen=True, slots=True)
class Standing:
    """What is wrong, cut to what a person reads at once."""

    problems: tuple[Problem, ...]
    more: tuple[Problem, ...]
    """Behind a fold."""
    gravity: Gravity | None
    title: str

    @classmethod
    def of(cls, found: Sequence[Problem]) -> "Standing":
        shown, more = folded(found)
        return cls(tuple(shown), tuple(more), found[0].gravity if found else None, _title(found))


def _title(found: Sequence[Problem]) -> str:
    if grave := sum(problem.gravity is not Gravity.NOTE for problem in found):
        return f"{grave} problem{'s' if grave != 1 else ''}"
    return "Worth knowing" if found else "Nothing is wrong"
