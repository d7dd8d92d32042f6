"""When a job is due, and how it stands."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notifyctl.errors import NotFound
from notifyctl.health.installation import JobState, job_status
from notifyctl.models.enums import JobOutcome
from notifyctl.operations.heartbeats import new_name
from notifyctl.operations.job_runs import JobRecord
from notifyctl.text.durations import worker_place
from notifyctl.worker.jobs.registry import JOBS, Job, find_job

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)


def job(every: timedelta | time = FIVE_MINUTES) -> Job:
    return Job("probe", every, lambda _: "")


@pytest.mark.parametrize(
    ("every", "now", "due_at"),
    [
        (FIVE_MINUTES, NOON, NOON),
        (FIVE_MINUTES, NOON + timedelta(minutes=4, seconds=59), NOON),
        (FIVE_MINUTES, NOON - timedelta(microseconds=1), NOON - FIVE_MINUTES),
        (timedelta(hours=1), NOON + timedelta(minutes=59), NOON),
        (time(6, 30), NOON, datetime(2026, 3, 2, 6, 30, tzinfo=UTC)),
        (time(6, 30), datetime(2026, 3, 2, 6, 29, 59, tzinfo=UTC), datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        (time(0), NOON, datetime(2026, 3, 2, tzinfo=UTC)),
    ],
    ids=["on time", "late", "just before", "hourly", "daily", "daily, not yet", "midnight"],
)
def test_a_job_is_due_at_the_last_slot_up_to_now(every: timedelta | time, now: datetime, due_at: datetime) -> None:
    assert job(every).due_at(now) == due_at
    assert job(every).next_due(now) == due_at + job(every).period


@pytest.mark.parametrize(
    ("every", "words"),
    [
        (timedelta(seconds=30), "every 30 s"),
        (FIVE_MINUTES, "every 5 min"),
        (timedelta(hours=1), "every 1 h"),
        (time(6, 5), "daily at 06:05Z"),
    ],
    ids=str,
)
def test_a_schedule_is_told_in_words(every: timedelta | time, words: str) -> None:
    assert job(every).schedule == words


def test_a_name_that_no_job_has_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"no job is called 'nonsense'; there is .*in_doubt_reconciler"):
        find_job("nonsense")


def test_no_two_jobs_have_the_same_name() -> None:
    assert len({one.name for one in JOBS}) == len(JOBS)
    assert all(one.period >= timedelta(seconds=2) for one in JOBS)


@pytest.mark.parametrize("one", JOBS, ids=lambda one: one.name)
def test_a_job_stands_in_the_documentation_with_its_times(one: Job) -> None:
    when = one.schedule.removesuffix("Z")
    assert f"\n| `{one.name}` | {when} | " in OPERATIONS.read_text(encoding="utf-8")


def test_the_place_of_a_worker_is_its_host_and_process() -> None:
    assert worker_place("web1:312:a0b1c2") == "web1 (process 312)"
    assert "(process " in worker_place(new_name())


def record(outcome: JobOutcome, *, started: timedelta, done: timedelta | None, **more: Any) -> JobRecord:
    """Both so long before noon."""
    started_at = NOON - started
    values = {
        "outcome": outcome,
        "started_at": started_at,
        "due_at": job().due_at(started_at),
        "lease_until": NOON + timedelta(seconds=30) if outcome is JobOutcome.RUNNING else None,
        "worker": "web1:312:a0b1c2",
        "summary": "ValueError: no",
    }
    return JobRecord(SimpleNamespace(**(values | more)), None if done is None else NOON - done)  # type: ignore[arg-type]


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


STANDINGS = {
    "done": (record(JobOutcome.DONE, started=minutes(3), done=minutes(3)), JobState.DONE, ""),
    "running": (record(JobOutcome.RUNNING, started=minutes(1), done=minutes(5)), JobState.RUNNING, ""),
    "failed": (
        record(JobOutcome.FAILED, started=minutes(3), done=minutes(8)),
        JobState.FAILED,
        "probe failed: ValueError: no",
    ),
    "overdue": (
        record(JobOutcome.DONE, started=minutes(16), done=minutes(16)),
        JobState.OVERDUE,
        "probe (every 5 min) was last done 16 min ago",
    ),
    "within the grace": (record(JobOutcome.DONE, started=minutes(15), done=minutes(15)), JobState.DONE, ""),
    "failing for long": (
        record(JobOutcome.FAILED, started=minutes(1), done=minutes(60)),
        JobState.OVERDUE,
        "probe (every 5 min) was last done 1 h ago; the last run failed: ValueError: no",
    ),
    "never done": (
        record(JobOutcome.FAILED, started=minutes(1), done=None),
        JobState.OVERDUE,
        "probe (every 5 min) was never done; the last run failed: ValueError: no",
    ),
    "hung": (
        record(JobOutcome.RUNNING, started=minutes(16), done=minutes(21)),
        JobState.HUNG,
        "probe hangs at web1 (process 312) since 2026-03-02 11:44:00Z",
    ),
    "lost": (
        record(JobOutcome.RUNNING, started=minutes(2), done=minutes(6), lease_until=NOON - minutes(1)),
        JobState.LOST,
        "probe was lost, having run at web1 (process 312) since 2026-03-02 11:58:00Z",
    ),
    "never run though others do": (None, JobState.OVERDUE, "probe has never run"),
}


@pytest.mark.parametrize(("known", "state", "problem"), STANDINGS.values(), ids=STANDINGS)
def test_how_a_job_stands(known: JobRecord | None, state: JobState, problem: str) -> None:
    found = job_status(job(), known, NOON - timedelta(days=1), NOON)
    assert (found.state, found.problem) == (state, problem)
    assert bool(found.remedy) == bool(problem)


def test_where_no_job_has_run_yet_none_is_overdue() -> None:
    found = job_status(job(), None, None, NOON)
    assert (found.state, found.problem, found.next_due) == (JobState.NEVER, "", NOON)


def test_a_run_that_is_still_to_be_had_is_due_in_the_past() -> None:
    late = record(JobOutcome.DONE, started=minutes(8), done=minutes(8))
    assert job_status(job(), late, None, NOON + minutes(1)).next_due == NOON
    on_time = record(JobOutcome.DONE, started=minutes(0), done=minutes(0))
    assert job_status(job(), on_time, None, NOON + minutes(1)).next_due == NOON + minutes(5)
