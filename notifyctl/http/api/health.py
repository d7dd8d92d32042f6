"""The health views over HTTP: the same text as `notifyctl health --format json`."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from notifyctl.health import summary as health_summary
from notifyctl.health.problems import problems
from notifyctl.health.summary import LONGEST_WINDOW_MINUTES, MOST_BUCKETS, MOST_RECENT, Recent, Summary, Timeseries
from notifyctl.http.auth import Caller, RuntimeDep, require
from notifyctl.http.errors import ApiError, Once, documented
from notifyctl.models.enums import Scope

router = APIRouter(prefix="/api/admin/notification-health", tags=["health"])

Reader = Annotated[Caller, Depends(require(Scope.READ))]
WindowMinutes = Annotated[int, Field(ge=1, le=LONGEST_WINDOW_MINUTES, description="How far to look back.")]


class SummaryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    window_minutes: WindowMinutes = 60


class TimeseriesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    window_minutes: WindowMinutes = 240
    bucket_minutes: int = Field(15, ge=1, le=24 * 60)


class RecentQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=MOST_RECENT)


@router.get("/summary", operation_id="getHealthSummary", response_model=Summary, responses=documented(401, 403, 422))
def summary(runtime: RuntimeDep, _: Reader, __: Once, query: Annotated[SummaryQuery, Query()]) -> Response:
    """Each channel in a window that ends now, and its backlog."""
    with runtime.database.read() as session:
        window = timedelta(minutes=query.window_minutes)
        figures = health_summary.read_health(session, runtime.settings, runtime.clock(), window)
    return _answer(health_summary.summary(figures, problems(figures)))


@router.get(
    "/timeseries", operation_id="getHealthTimeseries", response_model=Timeseries, responses=documented(401, 403, 422)
)
def timeseries(runtime: RuntimeDep, _: Reader, __: Once, query: Annotated[TimeseriesQuery, Query()]) -> Response:
    """Exactly ceil(window / bucket) buckets on multiples of the bucket; the last one has now in it."""
    window_minutes, bucket_minutes = query.window_minutes, query.bucket_minutes
    if window_minutes > bucket_minutes * MOST_BUCKETS:
        raise ApiError(422, "invalid_request", f"window_minutes: makes over {MOST_BUCKETS} buckets; take longer ones")
    with runtime.database.read() as session:
        now = runtime.clock()
        series = health_summary.timeseries(session, now, window_minutes=window_minutes, bucket_minutes=bucket_minutes)
    return _answer(series)


@router.get("/recent", operation_id="getRecentMessages", response_model=Recent, responses=documented(401, 403, 422))
def recent(runtime: RuntimeDep, caller: Reader, _: Once, query: Annotated[RecentQuery, Query()]) -> Response:
    """The newest messages first."""
    with runtime.database.read() as session:
        return _answer(health_summary.recent(session, query.limit, reveal=caller.is_admin))


def _answer(value: Summary | Timeseries | Recent) -> Response:
    return Response(health_summary.to_json(value), media_type="application/json")
