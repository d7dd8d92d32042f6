"""One run of a job: claimed in the store, done, and recorded there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import TypeAlias

from pydantic import SecretStr
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.outcomes import kept_words
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import JobOutcome
from notifyctl.operations import job_runs
from notifyctl.operations.heartbeats import new_name
from notifyctl.providers.results import without_recipients
from notifyctl.text.durations import moment, one_line, worker_place
from notifyctl.worker.jobs.registry import Job, JobContext
from notifyctl.worker.periodic import PeriodicThread

LEASE = timedelta(seconds=60)
"""How long a run is left to a worker that does not renew it."""
RENEW_SECONDS = 10
TRIES = 3
"""At one slot; then its job waits for the next."""
TRY_AGAIN = timedelta(minutes=1)
GRACE_SECONDS = 5.0
"""What a run is given to end by itself when it is to stop."""
MAX_SUMMARY = 300
SHORTEST_SECRET = 8
"""A shorter one, as in a trial, would be found in every other word."""
LOST = "lost: its worker was killed, frozen, or cut off from the database"


@dataclass(frozen=True, slots=True)
class Begun:
    """Ours, for as long as its lease is renewed."""

    id: int
    job: Job
    worker: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Busy:
    """A run of the same job is on its way."""

    worker: str
    since: datetime


@dataclass(frozen=True, slots=True)
class NotDue:
    until: datetime


Claimed: TypeAlias = Begun | Busy | NotDue


@dataclass(frozen=True, slots=True)
class Ended:
    outcome: JobOutcome
    summary: str
    error: BaseException | None = None


def claim(
    runtime: Runtime, job: Job, worker: str, *, run_now: bool = False, patience: timedelta = timedelta()
) -> Claimed:
    """Begins a run if one is due and nobody is at it; `run_now` also one that is not due.

    A run that was lost is ended first, `patience` after its lease, and then taken up again.
    """
    while True:
        with runtime.database.transaction() as session:
            claimed = _claim(session, job, worker, runtime.clock(), run_now, patience)
        if claimed is not None:
            return claimed


def _claim(
    session: Session, job: Job, worker: str, now: datetime, run_now: bool, patience: timedelta
) -> Claimed | None:
    """None when another was faster."""
    lost = job_runs.end_lost(session, job.name, summary=LOST, before=now - patience, now=now)
    running = job_runs.current_run(session, job.name)
    if running is not None:
        return Busy(running.worker, running.started_at)
    # A worker that is ahead of us by a moment may have begun with the next slot. What is later than that was
    # written by a wrong clock, and would hold up the job for as long as the clock was wrong.
    last = job_runs.latest(session, job.name, up_to=job.next_due(now))
    if not run_now and (until := _not_before(job, last, now, lost=lost)) > now:
        return NotDue(until)
    due_at = max(job.due_at(now), last.due_at) if last else job.due_at(now)
    attempt = last.attempt + 1 if last and last.due_at == due_at else 1
    run_id = job_runs.begin(
        session, name=job.name, due_at=due_at, attempt=attempt, worker=worker, now=now, lease_until=now + LEASE
    )
    return None if run_id is None else Begun(run_id, job, worker, now)


def _not_before(job: Job, last: job_runs.RunRow | None, now: datetime, *, lost: bool) -> datetime:
    """Slots that were missed are one run: the one of the last slot."""
    if last is None or last.due_at < job.due_at(now):
        return now
    if last.outcome is JobOutcome.FAILED and last.attempt < TRIES:
        again = now if lost else (last.finished_at or now) + TRY_AGAIN
        return min(again, job.next_due(now))
    return job.next_due(now)


def perform(runtime: Runtime, run: Begun, stopping: Callable[[], bool]) -> Ended:
    """Never in the main thread, where Ctrl-C would be taken for the job's own error."""
    context = JobContext(runtime, run.worker, run.started_at, stopping)
    try:
        return Ended(JobOutcome.DONE, one_line(run.job.do(context))[:MAX_SUMMARY])
    except BaseException as error:  # noqa: BLE001  whatever a job stumbles over is its outcome, and ends nothing else
        return Ended(JobOutcome.FAILED, describe_error(error, runtime), error)
    finally:
        context.close()


def record(runtime: Runtime, run: Begun, ended: Ended) -> bool:
    """False when the run had been ended by another, who took it for lost."""
    with runtime.database.transaction() as session:
        return job_runs.end(session, run.id, ended.outcome, ended.summary, runtime.clock())


def describe_error(error: BaseException, runtime: Runtime) -> str:
    """The class of an error and its words in one line: without addresses, and without what the settings keep secret."""
    words = str(error)
    for secret in _secrets(runtime):
        words = words.replace(secret, "[secret]")
    words = without_recipients(words)
    if not isinstance(error, NotifyctlError):  # somebody else's words, which may quote anything
        words = kept_words(words, "", sensitive=True)
    return one_line(f"{type(error).__name__}: {words}" if words else type(error).__name__)[:MAX_SUMMARY]


def _secrets(runtime: Runtime) -> set[str]:
    values: list[object] = []
    for value in dict(runtime.settings).values():
        values += value if isinstance(value, tuple) else [value]
    secrets = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
    secrets.add(str(runtime.database.url.password or ""))
    return {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}


INTERRUPTED = Ended(JobOutcome.FAILED, "interrupted")


def run_now(runtime: Runtime, job: Job) -> Ended:
    """Does it and records it. Raises NotifyctlError when it is running already; that run is left alone.

    KeyboardInterrupt is recorded and handed on.
    """
    claimed = claim(runtime, job, new_name(), run_now=True)
    if isinstance(claimed, Busy):
        since = moment(claimed.since)
        raise NotifyctlError(
            f"{job.name} is running at {worker_place(claimed.worker)} since {since}; nothing was started"
        )
    assert isinstance(claimed, Begun)
    stop = Event()
    with _held(runtime, claimed, stop):
        ended = _perform(runtime, claimed, stop)
        if not record(runtime, claimed, ended):
            return replace(ended, summary=f"{ended.summary} (its lease was lost: another run is on record)")
    return ended


def _perform(runtime: Runtime, run: Begun, stop: Event) -> Ended:
    """In a thread of its own: Ctrl-C is obeyed also while a library waits for an answer."""
    outcome: list[Ended] = []
    is_over = Event()

    def work() -> None:
        outcome.append(perform(runtime, run, stop.is_set))
        is_over.set()

    Thread(target=work, daemon=True).start()
    try:
        is_over.wait()
    except KeyboardInterrupt:
        stop.set()
        try:
            is_over.wait(GRACE_SECONDS)
        finally:
            record(runtime, run, *(outcome or [INTERRUPTED]))
        raise
    return outcome[0]


@contextmanager
def _held(runtime: Runtime, run: Begun, stop: Event) -> Iterator[None]:
    """Renews the lease meanwhile; `stop` is set when it is lost."""
    over = Event()

    def renew() -> bool:
        with runtime.database.transaction() as session:
            if not job_runs.renew(session, [run.id], runtime.clock() + LEASE):
                stop.set()
        return False

    renewal = PeriodicThread("job-lease", renew, seconds=RENEW_SECONDS, stop=over, failed=lambda _error: stop.set())
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join()
