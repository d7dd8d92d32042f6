"""The health views over HTTP: the same text as `notifyctl health --format json`."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from notifyctl.http.auth import Caller, require
from notifyctl.http.dependencies import RuntimeDep
from notifyctl.http.errors import ApiError, documented
from notifyctl.http.fields import Moment
from notifyctl.models.access import Scope
from notifyctl.models.template import Channel
from notifyctl.orchestrator import health
from notifyctl.orchestrator.health import LONGEST_WINDOW_MINUTES, MOST_BUCKETS, MOST_RECENT
from notifyctl.orchestrator.problem import Code, Gravity
from notifyctl.orchestrator.troubles import problems

router = APIRouter(prefix="/api/admin/notification-health", tags=["health"])

Reader = Annotated[Caller, Depends(require(Scope.READ))]
WindowMinutes = Annotated[int, Query(ge=1, le=LONGEST_WINDOW_MINUTES, description="How far to look back.")]


class Latency(BaseModel):
    """From acceptance to the provider's yes, by nearest rank; null when nothing was sent."""

    p50: float | None
    p95: float | None


class ChannelHealth(BaseModel):
    sent: int
    failed: int
    delivered: int
    bounced: int
    blocked: int
    failure_rate: float = Field(description="failed / (failed + sent), 0 when there was nothing.")
    latency_seconds: Latency
    pending: int = Field(description="Now: QUEUED, DEFERRED_THROTTLED, SENDING.")
    retrying: int = Field(description="Now.")
    in_doubt: int = Field(description="Now.")


class Channels(BaseModel):
    EMAIL: ChannelHealth
    SMS: ChannelHealth


class FailedTemplate(BaseModel):
    template_key: str
    failed: int


class FailureReason(BaseModel):
    reason: str
    failed: int


class Paused(BaseModel):
    channel: str | None
    template_key: str | None
    client_id: str | None
    reason: str
    actor: str
    since: Moment
    held: int


class Spike(BaseModel):
    channel: str
    level: str
    since: Moment
    problem: str = Field(description="What the monitor found last, and when; what is so now stands in problems.")


class Codes(BaseModel):
    sent: int
    verified: int


class InstallationView(BaseModel):
    name: str
    database: str = Field(description="Its kind and place, without user or password.")


class ProblemView(BaseModel):
    level: Gravity
    code: Code
    channel: Channel | None
    since: Moment | None
    text: str
    remedy: str | None = Field(description="What to do; null where there is nothing to do but wait.")


class Summary(BaseModel):
    window_minutes: int
    from_: Moment = Field(alias="from")
    to: Moment
    channels: Channels
    top_failed_templates: list[FailedTemplate]
    top_failure_reasons: list[FailureReason]
    throttled_count: int
    oldest_pending_seconds: int
    drain_seconds: int = Field(description="When the backlog will be gone, at today's limits.")
    unconfirmed: int = Field(description="Sent 1 to 24 h ago, without a receipt.")
    paused: list[Paused]
    spikes: list[Spike]
    otp: Codes
    workers: int = Field(description="At work: seen within the last minute.")
    installation: InstallationView
    problems: list[ProblemView] = Field(description="What is wrong now, the gravest first; empty when nothing is.")


class Counts(BaseModel):
    sent: int
    failed: int
    throttled: int


class BucketView(BaseModel):
    start: Moment
    EMAIL: Counts
    SMS: Counts


class Timeseries(BaseModel):
    window_minutes: int
    bucket_minutes: int
    buckets: list[BucketView]


class RecentMessage(BaseModel):
    id: str
    status: str
    reason: str | None
    channel: str
    template_key: str
    recipient: str | None = Field(description="Masked without the scope admin.")
    error_code: str | None
    error: str | None
    attempts: int
    created_at: Moment
    sent_at: Moment | None
    finished_at: Moment | None


class Recent(BaseModel):
    items: list[RecentMessage]


@router.get("/summary", response_model=Summary, responses=documented(401, 403, 422))
def summary(runtime: RuntimeDep, _: Reader, window_minutes: WindowMinutes = 60) -> Response:
    """Each channel in a window that ends now, and its backlog."""
    with runtime.database.read() as session:
        found = health.look(session, runtime.settings, runtime.clock(), timedelta(minutes=window_minutes))
    return _answer(health.summary(found, problems(found)))


@router.get("/timeseries", response_model=Timeseries, responses=documented(401, 403, 422))
def timeseries(
    runtime: RuntimeDep,
    _: Reader,
    window_minutes: WindowMinutes = 240,
    bucket_minutes: Annotated[int, Query(ge=1, le=24 * 60)] = 15,
) -> Response:
    """Exactly ceil(window / bucket) buckets on multiples of the bucket; the last one has now in it."""
    if window_minutes > bucket_minutes * MOST_BUCKETS:
        raise ApiError(422, "invalid_request", f"window_minutes: makes over {MOST_BUCKETS} buckets; take longer ones")
    with runtime.database.read() as session:
        now = runtime.clock()
        found = health.timeseries(session, now, window_minutes=window_minutes, bucket_minutes=bucket_minutes)
    return _answer(found)


@router.get("/recent", response_model=Recent, responses=documented(401, 403, 422))
def recent(runtime: RuntimeDep, caller: Reader, limit: Annotated[int, Query(ge=1, le=MOST_RECENT)] = 100) -> Response:
    """The newest messages first."""
    with runtime.database.read() as session:
        return _answer(health.recent(session, limit, reveal=caller.is_admin))


def _answer(value: dict[str, Any]) -> Response:
    return Response(health.to_json(value), media_type="application/json")
