"""Who gets a run: one worker a slot, one run of a job at a time, on both databases."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from notifyctl.bootstrap import Runtime
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import JobOutcome
from notifyctl.operations import job_runs
from notifyctl.worker.jobs import runs
from notifyctl.worker.jobs.registry import Job, JobContext
from notifyctl.worker.jobs.runs import LEASE, Begun, Busy, Ended, NotDue
from notifyctl.worker.jobs.scheduler import JobScheduler
from tests.support.clocks import NOON, StandingClock
from tests.support.runtimes import open_shared
from tests.support.settings import PEPPER, SECRET, make_settings

DONE = Ended(JobOutcome.DONE, "done")
FAILED = Ended(JobOutcome.FAILED, "ValueError: no")
PERIOD = timedelta(minutes=5)
JOB = Job("probe", PERIOD, lambda _: "did it")


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def runtime(database_url: str, clock: StandingClock) -> Iterator[Runtime]:
    opened = open_shared(make_settings(database_url=database_url), clock=clock)
    yield opened
    opened.close()


def take(runtime: Runtime, worker: str = "a", **options: Any) -> Begun:
    claimed = runs.claim(runtime, JOB, worker, **options)
    assert isinstance(claimed, Begun)
    return claimed


def history(runtime: Runtime, name: str = "probe") -> list[Any]:
    """Latest first."""
    with runtime.database.read() as session:
        return list(job_runs.history(session, name, 100))


def test_a_run_that_one_has_no_other_gets(runtime: Runtime, clock: StandingClock) -> None:
    clock.turn(seconds=30)
    run = take(runtime)
    assert runs.claim(runtime, JOB, "b") == Busy("a", clock.now)
    assert runs.record(runtime, run, DONE)
    assert runs.claim(runtime, JOB, "b") == NotDue(NOON + PERIOD)
    clock.turn(minutes=4, seconds=30)
    assert isinstance(runs.claim(runtime, JOB, "b"), Begun)
    assert [(row.due_at, row.worker, row.outcome) for row in history(runtime)] == [
        (NOON + PERIOD, "b", "RUNNING"),
        (NOON, "a", "DONE"),
    ]


def test_slots_that_were_missed_are_caught_up_by_one_run(runtime: Runtime, clock: StandingClock) -> None:
    runs.record(runtime, take(runtime), DONE)
    clock.turn(hours=3, minutes=2)
    runs.record(runtime, take(runtime), DONE)
    assert runs.claim(runtime, JOB, "a") == NotDue(NOON + timedelta(hours=3) + PERIOD)
    assert [row.due_at for row in history(runtime)] == [NOON + timedelta(hours=3), NOON]


def test_a_run_that_has_failed_is_tried_again_after_a_minute_and_at_most_twice(
    runtime: Runtime, clock: StandingClock
) -> None:
    for attempt in (1, 2, 3):
        runs.record(runtime, take(runtime), FAILED)
        if attempt < 3:
            assert runs.claim(runtime, JOB, "b") == NotDue(clock.now + timedelta(minutes=1))
            clock.turn(minutes=1)
    assert runs.claim(runtime, JOB, "b") == NotDue(NOON + PERIOD)
    assert [(row.due_at, row.attempt) for row in history(runtime)] == [(NOON, 3), (NOON, 2), (NOON, 1)]


def test_a_lost_run_is_ended_and_taken_up_and_its_worker_has_no_say_any_more(
    runtime: Runtime, clock: StandingClock
) -> None:
    lost = take(runtime)
    clock.now += LEASE
    assert isinstance(runs.claim(runtime, JOB, "b"), Busy)
    clock.turn(seconds=1)
    again = take(runtime, "b")
    assert not runs.record(runtime, lost, DONE)
    assert runs.record(runtime, again, DONE)
    assert [(row.worker, row.attempt, row.outcome, row.summary) for row in history(runtime)] == [
        ("b", 2, "DONE", "done"),
        ("a", 1, "FAILED", runs.LOST),
    ]


def test_a_run_that_takes_its_worker_along_each_time_is_left_alone_until_the_next_slot(
    runtime: Runtime, clock: StandingClock
) -> None:
    for _ in range(3):
        take(runtime)
        clock.now += LEASE + timedelta(seconds=1)
    assert runs.claim(runtime, JOB, "b") == NotDue(NOON + PERIOD)
    clock.now = NOON + PERIOD
    assert isinstance(runs.claim(runtime, JOB, "b"), Begun)


def test_a_renewed_run_is_not_lost_however_long_it_takes(runtime: Runtime, clock: StandingClock) -> None:
    run = take(runtime)
    for _ in range(20):
        clock.turn(seconds=50)
        with runtime.database.transaction() as session:
            assert job_runs.renew(session, [run.id], clock.now + LEASE) == {run.id}
        assert isinstance(runs.claim(runtime, JOB, "b"), Busy)


def test_after_an_outage_its_worker_is_given_time_to_renew(runtime: Runtime, clock: StandingClock) -> None:
    run = take(runtime)
    clock.now += LEASE + timedelta(seconds=30)
    assert isinstance(runs.claim(runtime, JOB, "b", patience=LEASE), Busy)
    with runtime.database.transaction() as session:
        assert job_runs.renew(session, [run.id], clock.now + LEASE) == {run.id}
    assert isinstance(runs.claim(runtime, JOB, "b"), Busy)


def test_a_run_on_demand_counts_as_the_one_that_is_due(runtime: Runtime, clock: StandingClock) -> None:
    runs.record(runtime, take(runtime, "cron", run_now=True), DONE)
    assert runs.claim(runtime, JOB, "a") == NotDue(NOON + PERIOD)


def test_a_run_on_demand_is_had_whenever_none_is_on_its_way(runtime: Runtime) -> None:
    runs.record(runtime, take(runtime), DONE)
    on_demand = take(runtime, "cron", run_now=True)
    assert runs.claim(runtime, JOB, "other", run_now=True) == Busy("cron", NOON)
    runs.record(runtime, on_demand, DONE)
    assert [(row.due_at, row.attempt) for row in history(runtime)] == [(NOON, 2), (NOON, 1)]


def test_a_worker_a_moment_behind_another_does_not_repeat_its_slot(runtime: Runtime, clock: StandingClock) -> None:
    clock.now = NOON + timedelta(milliseconds=5)
    runs.record(runtime, take(runtime), DONE)
    clock.now = NOON - timedelta(milliseconds=5)
    assert runs.claim(runtime, JOB, "b") == NotDue(NOON)


def test_a_run_that_a_wrong_clock_has_put_into_the_future_holds_up_nothing(
    runtime: Runtime, clock: StandingClock
) -> None:
    clock.now = NOON + timedelta(days=4000)
    runs.record(runtime, take(runtime), DONE)
    clock.now = NOON
    runs.record(runtime, take(runtime), DONE)
    assert runs.claim(runtime, JOB, "a") == NotDue(NOON + PERIOD)


def test_of_many_workers_that_ask_at_once_one_gets_each_slot(runtime: Runtime, clock: StandingClock) -> None:
    workers, slots = 8, 15
    start = threading.Barrier(workers)
    end = threading.Barrier(workers, action=lambda: clock.turn(minutes=5))
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(slots):
                start.wait()
                claimed = runs.claim(runtime, JOB, name)
                if isinstance(claimed, Begun):
                    runs.record(runtime, claimed, DONE)
                end.wait()
        except BaseException as error:  # noqa: BLE001  a thread's error must reach the test
            errors.append(error)
            start.abort()
            end.abort()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert [row.due_at for row in reversed(history(runtime))] == [NOON + PERIOD * number for number in range(slots)]


def test_of_many_who_find_a_lost_run_one_takes_it_up(runtime: Runtime, clock: StandingClock) -> None:
    take(runtime)
    clock.now += LEASE + timedelta(seconds=1)
    start = threading.Barrier(8)
    claimed: list[Any] = []

    def work(name: str) -> None:
        start.wait()
        claimed.append(runs.claim(runtime, JOB, name))

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(type(found).__name__ for found in claimed) == ["Begun"] + ["Busy"] * 7
    assert sorted(row.outcome for row in history(runtime)) == ["FAILED", "RUNNING"]


def perform(runtime: Runtime, do: Callable[[JobContext], str]) -> Ended:
    return runs.perform(runtime, Begun(1, Job("probe", PERIOD, do), "a", NOON), lambda: False)


def failing_with(error: BaseException) -> Callable[[JobContext], str]:
    def do(_: JobContext) -> str:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (ValueError("a\nb\x1b[31m"), "ValueError: a b [31m"),
        (KeyError(), "KeyError"),
        (SystemExit(3), "SystemExit: 3"),
        (RuntimeError(f"refused {SECRET} and {PEPPER}"), "RuntimeError: refused [secret] and [secret]"),
        (OSError("no https://x.example/reset/t0k3n for a@b.example"), "OSError: no [link] for [address]"),
        (RuntimeError("code 493027 to +4915112345678"), "RuntimeError: code [digits] to [number]"),
        (NotifyctlError("code 21610 of 5 for a@b.example"), "NotifyctlError: code 21610 of 5 for [address]"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 288),
    ],
    ids=["lines", "no words", "exit", "secrets", "links", "codes", "our own words", "long"],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_is_told_of_an_error_is_one_clean_line(runtime: Runtime, error: BaseException, summary: str) -> None:
    ended = perform(runtime, failing_with(error))
    assert (ended.outcome, ended.summary, ended.error) == (JobOutcome.FAILED, summary, error)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_summary_is_one_line_and_keeps_its_numbers(runtime: Runtime) -> None:
    assert perform(runtime, lambda _: "1234567 rows\nremoved").summary == "1234567 rows removed"


def test_history_is_forgotten_but_for_the_last_run_and_the_last_that_was_done(
    runtime: Runtime, clock: StandingClock
) -> None:
    for ended in (DONE, DONE, FAILED, FAILED):
        runs.record(runtime, take(runtime), ended)
        clock.turn(minutes=5)
    take(runtime)
    with runtime.database.transaction() as session:
        assert job_runs.forget(session, NOON + timedelta(days=1)) == 3
    assert [row.outcome for row in history(runtime)] == ["RUNNING", "DONE"]
    with runtime.database.transaction() as session:
        assert job_runs.forget(session, NOON) == 0


def test_what_is_known_of_a_job_is_its_last_run_and_when_one_was_last_done(
    runtime: Runtime, clock: StandingClock
) -> None:
    with runtime.database.read() as session:
        assert job_runs.records(session) == {}
        assert job_runs.first_start(session) is None
    runs.record(runtime, take(runtime), DONE)
    clock.turn(minutes=5)
    runs.record(runtime, take(runtime), FAILED)
    with runtime.database.read() as session:
        known = job_runs.records(session)["probe"]
        assert job_runs.first_start(session) == NOON
    assert (known.last.outcome, known.last.summary, known.done_at) == ("FAILED", "ValueError: no", NOON)


class Scheduled:
    """A scheduler that the test drives, and the runs that it began."""

    def __init__(self, runtime: Runtime, every: timedelta | time, said: Sequence[str] = ()) -> None:
        self.said = list(said)
        self.began: list[datetime] = []
        self.errors: list[BaseException] = []
        job = Job("probe", every, self._note)
        self.scheduler = JobScheduler(runtime, [job], "a", stop=threading.Event(), failed=self.errors.append)
        self.scheduler.plan()

    def _note(self, context: JobContext) -> str:
        self.began.append(context.now)
        return self.said.pop(0) if self.said else ""

    def turn(self) -> None:
        self.scheduler.turn()
        for thread in threading.enumerate():
            if thread.name.startswith("notifyctl-job-"):
                thread.join()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_by_schedule_a_day_has_each_run_in_its_time(database_url: str) -> None:
    with freeze_time("2026-03-02T05:59:30") as frozen:
        runtime = open_shared(make_settings(database_url=database_url))
        scheduled = Scheduled(runtime, time(6))
        for seconds in [60] * 10 + [600] * 143 + [60] * 10 + [600] * 143 + [60] * 10:
            frozen.tick(seconds)
            scheduled.turn()
        runtime.close()
    assert [began.isoformat(timespec="minutes") for began in scheduled.began] == [
        "2026-03-02T06:00+00:00",
        "2026-03-03T06:00+00:00",
        "2026-03-04T06:00+00:00",
    ]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_by_schedule_a_run_begins_within_a_second_or_two_of_its_slot(database_url: str) -> None:
    with freeze_time("2026-03-02T12:00:00") as frozen:
        runtime = open_shared(make_settings(database_url=database_url))
        scheduled = Scheduled(runtime, timedelta(seconds=30))
        for _ in range(10 * 60 * 2):
            frozen.tick(0.5)
            scheduled.turn()
        runtime.close()
    late = [(began - JOB30.due_at(began)).total_seconds() for began in scheduled.began]
    assert len(late) == 21
    assert max(late) <= 2


JOB30 = Job("probe", timedelta(seconds=30), lambda _: "")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("every", "said", "logged"),
    [
        (timedelta(seconds=30), ["0 rows", "0 rows", "0 rows", "3 rows", "0 rows"], ["0 rows", "3 rows", "0 rows"]),
        (timedelta(hours=1), ["all well", "all well"], ["all well", "all well"]),
    ],
    ids=["twice a minute", "hourly"],
)
def test_a_job_that_comes_often_is_logged_when_it_has_something_new_to_say(
    database_url: str, caplog: pytest.LogCaptureFixture, every: timedelta, said: list[str], logged: list[str]
) -> None:
    caplog.set_level("INFO", "notifyctl.worker")
    with freeze_time("2026-03-02T12:00:00") as frozen:
        runtime = open_shared(make_settings(database_url=database_url))
        scheduled = Scheduled(runtime, every, said)
        while scheduled.said:
            frozen.tick(1 if every < PERIOD else 60)
            scheduled.turn()
        runtime.close()
    assert [record.summary for record in caplog.records if record.message == "job done"] == logged


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_local_time_that_goes_back_by_an_hour_holds_up_no_job(database_url: str, clock: StandingClock) -> None:
    """`schedule` goes by local time; ours does not go back."""
    with freeze_time("2026-10-25T02:59:00") as frozen:
        runtime = open_shared(make_settings(database_url=database_url), clock=clock)
        scheduled = Scheduled(runtime, PERIOD)
        for minute in range(30):
            frozen.tick(60)
            clock.turn(minutes=1)
            if minute == 5:
                frozen.move_to("2026-10-25T02:05:00")
            scheduled.turn()
        runtime.close()
    assert len(scheduled.began) >= 6
    assert datetime(2026, 3, 2, tzinfo=UTC) < scheduled.began[0]
