"""Every figure of the health views, against the same figure computed plainly from random histories."""

import json
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from notifyctl.bootstrap import Runtime
from notifyctl.health import summary as health
from notifyctl.health.problems import problems
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.operations.problem import Gravity
from notifyctl.text.durations import iso
from tests.support.plain_health import NOW, S, history, plain_series, plain_summary, write


@pytest.mark.usefixtures("exhaustive")
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
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
        look = health.read_health(session, runtime.settings, NOW, timedelta(minutes=window))
        summary = json.loads(health.to_json(health.summary(look, [])))
        series = health.timeseries(session, NOW, window_minutes=window, bucket_minutes=bucket)

    beside = {name: summary.pop(name) for name in ("failing", "workers", "installation", "problems")}
    assert summary == json.loads(json.dumps(plain_summary(rows, timedelta(minutes=window)), default=iso))
    assert (beside["workers"], beside["problems"], set(beside["failing"])) == (0, [], set(Channel))
    assert [asdict(one) for one in series.buckets] == plain_series(rows, window, bucket)


@pytest.mark.parametrize(("window", "bucket", "count"), [(240, 15, 16), (1, 15, 1), (16, 15, 2), (60, 7, 9)])
def test_buckets_are_as_many_as_fit_and_end_with_now(runtime: Runtime, window: int, bucket: int, count: int) -> None:
    with runtime.database.read() as session:
        buckets = health.timeseries(session, NOW, window_minutes=window, bucket_minutes=bucket).buckets

    assert len(buckets) == count
    assert all(int(found.start.timestamp()) % (bucket * 60) == 0 for found in buckets)
    assert buckets[-1].start <= NOW < buckets[-1].start + timedelta(minutes=bucket)


def test_recent_is_newest_first_and_masked(runtime: Runtime) -> None:
    rows = history(7, 30)
    write(runtime, rows)
    with runtime.database.read() as session:
        masked = health.recent(session, 10, reveal=False).items
        revealed = health.recent(session, 10, reveal=True).items

    assert [item.id for item in masked] == sorted((row["id"] for row in rows), reverse=True)[:10]
    assert {item.recipient for item in masked} == {"a***@acme.example"}
    assert {item.recipient for item in revealed} == {"anna@acme.example"}


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
        found = health.read_health(session, runtime.settings, NOW, timedelta(hours=1))
        found = replace(found, workers=workers, installation=replace(found.installation, workers=workers))

    assert found.oldest_pending_seconds == 600
    assert any(problem.gravity is Gravity.CRITICAL for problem in problems(found)) is is_critical
