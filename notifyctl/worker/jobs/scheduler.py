"""The jobs of a worker. `schedule` says when to look at each, and the store whether its run is still to be had."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from math import ceil
from time import monotonic, sleep

import schedule

from notifyctl import errors
from notifyctl.bootstrap import Runtime
from notifyctl.clock import ClockWatch
from notifyctl.errors import DatabaseError
from notifyctl.models.enums import JobOutcome
from notifyctl.operations import job_runs
from notifyctl.worker.jobs import runs
from notifyctl.worker.jobs.registry import Job
from notifyctl.worker.jobs.runs import Begun, Ended, NotDue

TICK_SECONDS = 0.1
LOOK_SECONDS = 60
"""How long a look is put off at most: a run by hand may have changed what is due."""
BUSY_SECONDS = 5
"""How soon to look again while a run is on its way, or the database away."""
MAX_BACKOFF_SECONDS = 5.0
OFTEN = timedelta(hours=1)
"""A job of a shorter period is logged when it says something else than the last time."""
SETTLED_AFTER = 120.0
"""Seconds after the clock was set. By then all workers have measured it again and renewed their leases, and what was
sent before is old enough to be found at the provider."""
FOR_EVER = timedelta(days=3_650)
STOPPED = Ended(JobOutcome.FAILED, "lost: its worker was stopped")

log = logging.getLogger("notifyctl.worker")


class RunThread(threading.Thread):
    """Does a run and records it. Nobody waits for it: a job that hangs holds up nothing but itself."""

    def __init__(self, runtime: Runtime, run: Begun, stop: threading.Event, said: dict[str, str]) -> None:
        """`said` is what the last run of each job on this worker has said."""
        super().__init__(name=f"notifyctl-job-{run.job.name}", daemon=True)
        self.begun = run
        self.lost = threading.Event()
        self._runtime = runtime
        self._stopping = stop
        self._said = said

    def run(self) -> None:
        begun = monotonic()
        ended = runs.perform(self._runtime, self.begun, lambda: self._stopping.is_set() or self.lost.is_set())
        log_fields = {"job": self.begun.job.name, "seconds": round(monotonic() - begun, 3), "summary": ended.summary}
        if ended.error is None:
            log.log(self._level(ended.summary), "job done", extra=log_fields)
        else:
            log.error("job failed", extra=log_fields, exc_info=ended.error if log.isEnabledFor(logging.DEBUG) else None)
        self._record(ended)

    def _level(self, summary: str) -> int:
        """Twice a minute nothing new is no news; `jobs history` has every run."""
        job = self.begun.job
        said, self._said[job.name] = self._said.get(job.name), summary
        return logging.DEBUG if said == summary and job.period < OFTEN else logging.INFO

    def _record(self, ended: Ended) -> None:
        backoff = 1.0
        while True:
            try:
                if not runs.record(self._runtime, self.begun, ended):
                    log.warning("job ended after its lease was lost", extra={"job": self.begun.job.name})
                return
            except DatabaseError as error:
                log.warning("database unavailable", extra={"job": self.begun.job.name, "error": str(error)})
                sleep(backoff)
                backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)


class JobScheduler(threading.Thread):
    """Runs `jobs`, each in a thread of its own, until `stop` is set; then gives them a few seconds to end."""

    def __init__(
        self,
        runtime: Runtime,
        jobs: Sequence[Job],
        worker: str,
        *,
        stop: threading.Event,
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="notifyctl-jobs", daemon=True)
        self._runtime = runtime
        self._jobs = jobs
        self._worker = worker
        self._stopping = stop
        self._failed = failed
        self._scheduler = schedule.Scheduler()
        self._running: list[RunThread] = []
        self._said: dict[str, str] = {}
        self._clock_watch = ClockWatch(runtime.clock, runtime.stopwatch)
        self._away_at: float | None = None
        """When the database was last seen to be away, by the monotonic clock."""

    def run(self) -> None:
        try:
            self.plan()
            while not self._stopping.wait(TICK_SECONDS):
                self.turn()
            self._wind_up()
        except BaseException as error:  # noqa: BLE001  a thread's error must reach the main thread
            self._failed(error)

    def plan(self) -> None:
        self._scheduler.clear()
        self._scheduler.every(runs.RENEW_SECONDS).seconds.do(self._renew)
        for job in self._jobs:
            self._look_in(1, job)

    def turn(self) -> None:
        # `schedule` goes by the local time of the host, which goes back by an hour in autumn: nothing waits for that.
        idle = self._scheduler.idle_seconds
        if idle is not None and idle > runs.RENEW_SECONDS + 1:
            self.plan()
        self._scheduler.run_pending()

    def _look_in(self, seconds: int, job: Job) -> None:
        self._scheduler.every(seconds).seconds.do(self._look, job)

    def _look(self, job: Job) -> type[schedule.CancelJob]:
        """Each look says when the next one is."""
        try:
            self._look_in(self._begin_if_due(job), job)
        except DatabaseError as error:
            self._is_away(error, job.name)
            self._look_in(BUSY_SECONDS, job)
        except Exception as error:  # noqa: BLE001  one job is no reason to give up the others, and the sending
            errors.report(log, "job cannot be begun", error, job=job.name)
            self._look_in(BUSY_SECONDS, job)
        return schedule.CancelJob

    def _begin_if_due(self, job: Job) -> int:
        """In how many seconds to look again."""
        now = self._runtime.clock()
        claimed = runs.claim(self._runtime, job, self._worker, patience=self._patience())
        if isinstance(claimed, Begun):
            run = RunThread(self._runtime, claimed, self._stopping, self._said)
            self._running.append(run)
            run.start()
        until = claimed.until if isinstance(claimed, NotDue) else job.next_due(now)
        most = LOOK_SECONDS if isinstance(claimed, NotDue) else BUSY_SECONDS
        return max(1, min(ceil((until - now).total_seconds()), most))

    def _patience(self) -> timedelta:
        """While the database was away nobody could renew: after that, others are given the time to do it.

        By a clock that was set forward every lease has ended: until all have renewed theirs, none is believed to.
        """
        if self._clock_watch.was_set_forward_within(SETTLED_AFTER):
            return FOR_EVER
        if self._away_at is None or monotonic() - self._away_at > runs.LEASE.total_seconds():
            return timedelta()
        return runs.LEASE

    def _renew(self) -> None:
        self._running = [run for run in self._running if run.is_alive()]
        if not self._running:
            return
        try:
            with self._runtime.database.transaction() as session:
                until = self._runtime.clock() + runs.LEASE
                held = job_runs.renew(session, [run.begun.id for run in self._running], until)
        except DatabaseError as error:
            self._is_away(error, "renewal")
            return
        except Exception as error:  # noqa: BLE001  it is tried again before they end
            errors.report(log, "job leases cannot be renewed", error)
            return
        for run in self._running:
            if run.begun.id not in held:
                run.lost.set()

    def _is_away(self, error: DatabaseError, job: str) -> None:
        self._away_at = monotonic()
        log.warning("database unavailable", extra={"job": job, "error": str(error)})

    def _wind_up(self) -> None:
        deadline = monotonic() + runs.GRACE_SECONDS
        for run in self._running:
            run.join(max(0.0, deadline - monotonic()))
        for run in [run for run in self._running if run.is_alive()]:
            log.warning("job left behind", extra={"job": run.begun.job.name})
            try:
                runs.record(self._runtime, run.begun, STOPPED)
            except DatabaseError as error:
                self._is_away(error, run.begun.job.name)
