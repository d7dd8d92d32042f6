"""One run of a job outside of a worker: for an operator, or for cron."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread

from notifyctl.bootstrap import Runtime
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import JobOutcome
from notifyctl.orchestrator.words import moment, worker_place
from notifyctl.store import job_runs
from notifyctl.worker import runs
from notifyctl.worker.chore import PeriodicThread
from notifyctl.worker.jobs.registry import Job
from notifyctl.worker.names import new_name
from notifyctl.worker.runs import Begun, Busy, Ended

INTERRUPTED = Ended(JobOutcome.FAILED, "interrupted")


def run_now(runtime: Runtime, job: Job) -> Ended:
    """Does it and records it. Raises NotifyctlError when it is running already; that run is left alone.

    KeyboardInterrupt is recorded and handed on.
    """
    claimed = runs.claim(runtime, job, new_name(), run_now=True)
    if isinstance(claimed, Busy):
        since = moment(claimed.since)
        raise NotifyctlError(
            f"{job.name} is running at {worker_place(claimed.worker)} since {since}; nothing was started"
        )
    assert isinstance(claimed, Begun)
    stop = Event()
    with _held(runtime, claimed, stop):
        ended = _perform(runtime, claimed, stop)
        if not runs.record(runtime, claimed, ended):
            return replace(ended, summary=f"{ended.summary} (its lease was lost: another run is on record)")
    return ended


def _perform(runtime: Runtime, run: Begun, stop: Event) -> Ended:
    """In a thread of its own: Ctrl-C is obeyed also while a library waits for an answer."""
    outcome: list[Ended] = []
    is_over = Event()

    def work() -> None:
        outcome.append(runs.perform(runtime, run, stop.is_set))
        is_over.set()

    Thread(target=work, daemon=True).start()
    try:
        is_over.wait()
    except KeyboardInterrupt:
        stop.set()
        try:
            is_over.wait(runs.GRACE_SECONDS)
        finally:
            runs.record(runtime, run, *(outcome or [INTERRUPTED]))
        raise
    return outcome[0]


@contextmanager
def _held(runtime: Runtime, run: Begun, stop: Event) -> Iterator[None]:
    """Renews the lease meanwhile; `stop` is set when it is lost."""
    over = Event()

    def renew() -> bool:
        with runtime.database.transaction() as session:
            if not job_runs.renew(session, [run.id], runtime.clock() + runs.LEASE):
                stop.set()
        return False

    renewal = PeriodicThread(
        "job-lease", renew, seconds=runs.RENEW_SECONDS, stop=over, failed=lambda _error: stop.set()
    )
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join()
