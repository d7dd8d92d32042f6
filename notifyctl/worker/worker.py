"""One worker process: a loop a channel, the watch for new work, the periodic threads beside it, and the way out."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from threading import Event
from time import monotonic
from types import FrameType

from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.db.migrations import require_fitting_schema
from notifyctl.db.wakeup import EVERYTHING, Watcher, require_listening
from notifyctl.delivery.claims import LEASE, Claimer, Rules
from notifyctl.delivery.dispatch import Dispatcher
from notifyctl.delivery.in_doubt import Reconciler
from notifyctl.delivery.lookout import Lookout
from notifyctl.delivery.memory import SendingMemory
from notifyctl.delivery.pace.allowance import Allowance
from notifyctl.delivery.pace.breaker import Breaker
from notifyctl.delivery.receipts.apply import retry_early_receipts
from notifyctl.errors import DatabaseError, WrongSchema
from notifyctl.models.enums import Channel, Lane
from notifyctl.operations.heartbeats import new_name
from notifyctl.operations.witness import Witness
from notifyctl.orchestrator.holds import QuietHours
from notifyctl.providers.contract import Lookup, Sender
from notifyctl.recovery.recover import Recovery, StoreKeeper
from notifyctl.stopping import FORCED_EXIT, Patience, stop_signals
from notifyctl.worker import systemd
from notifyctl.worker.channel_loop import ChannelLoop
from notifyctl.worker.jobs.registry import Job
from notifyctl.worker.jobs.scheduler import SETTLED_AFTER, JobScheduler
from notifyctl.worker.periodic import PeriodicThread
from notifyctl.worker.upkeep import Upkeep

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 5.0
UPKEEP_SECONDS = 10.0
ATTEND_SECONDS = 1.0
RECONCILE_SECONDS = 2.0
EARLY_RECEIPTS_SECONDS = 2.0
OBSTACLE_SECONDS = 5.0
STUCK_SECONDS = 120.0
"""A loop that has not come round for this long gets no more WATCHDOG=1; the longest call takes a quarter of it."""

log = logging.getLogger("notifyctl.worker")


def wait_for_database(reach: Callable[[], None], stop: Event) -> bool:
    """Calls `reach` until it raises no DatabaseError. False when `stop` was set before that.

    WrongSchema is raised: that is nothing that waiting would mend.
    """
    backoff = FIRST_RETRY_SECONDS
    while not stop.is_set():
        try:
            reach()
        except WrongSchema:
            raise
        except DatabaseError as error:
            log.warning("database unavailable", extra={"error": str(error), "retry_in_seconds": backoff})
            # Not only when the database is there: a start that lasts too long would be ended (TimeoutStartSec).
            systemd.notify("READY=1\nSTATUS=waiting for the database")
            _wait_alive(backoff, stop)
            backoff = min(2 * backoff, LONGEST_RETRY_SECONDS)
        else:
            systemd.notify("STATUS=")
            return True
    return False


def _wait_alive(seconds: float, stop: Event) -> None:
    every = systemd.watchdog_seconds() or seconds
    deadline = monotonic() + seconds
    while (left := deadline - monotonic()) > 0 and not stop.wait(min(every, left)):
        systemd.notify("WATCHDOG=1")


class Worker:
    """`run` blocks until a signal, until nothing is due (`once`), or until a part of it fails.

    `urgent` senders are for lane URGENT alone: a channel that sends in batches would keep it waiting for their answers.
    With `once` no jobs are run.
    """

    def __init__(
        self,
        runtime: Runtime,
        senders: Mapping[Channel, Sender],
        lookups: Mapping[Channel, Lookup] | None = None,
        *,
        urgent: Mapping[Channel, Sender] | None = None,
        jobs: Sequence[Job] = (),
        once: bool = False,
    ) -> None:
        self.name = new_name()
        self._runtime = runtime
        self._senders = [*senders.values(), *(urgent or {}).values()]
        self._lookups = lookups or {}
        self._jobs = jobs
        self._once = once
        self._stop = threading.Event()
        self._patience = Patience()
        self._drained = threading.Event()
        """Set once the loops have ended: until then leases are renewed, also while it is stopping."""
        self._error: BaseException | None = None
        self._memory = SendingMemory()
        self._witness = Witness(runtime.database, runtime.clock)
        self._upkeep = Upkeep(
            runtime, self.name, once=once, stop=self._stop, held_ids=self._held_ids, failed=self._fail
        )
        settings = runtime.settings
        recovery = Recovery(
            settings,
            runtime.database,
            runtime.clock,
            runtime.keys,
            self.name,
            replay_stripe=runtime.replay_stripe,
        )
        self._keeper = StoreKeeper(recovery, runtime.database, runtime.clock, self._witness, self.name)
        self._loops = [self._loop(channel, sender, tuple(Lane)) for channel, sender in senders.items()]
        self._loops += [self._loop(channel, sender, (Lane.URGENT,)) for channel, sender in (urgent or {}).items()]
        self._reconciler = Reconciler(
            lookups=self._lookups, database=runtime.database, clock=runtime.clock, keys=runtime.keys, owner=self.name
        )

    def _loop(self, channel: Channel, sender: Sender, lanes: Collection[Lane]) -> ChannelLoop:
        dispatcher = make_dispatcher(self._runtime, channel, sender, self.name, lanes, self._memory, self._witness)
        return ChannelLoop(dispatcher, stop=self._stop, once=self._once, failed=self._fail)

    def _held_ids(self) -> list[str]:
        return [message_id for loop in self._loops for message_id in loop.held_ids()]

    def run(self) -> None:
        """Raises what ended a part of it, if that was neither a signal nor the end of the work.

        A database that is away is waited for; with `once`, and where its schema is not ours, DatabaseError is raised.
        """
        log.info("worker started", extra={"worker": self.name, "database": str(self._runtime.database)})
        if self._once:
            self._arrive()
        elif not wait_for_database(self._arrive, self._stop):
            log.info("worker stopped", extra={"worker": self.name})
            return
        if self._once:
            self._retry_receipts()
            while self._reconcile():
                pass
        parts = [*self._loops, *self._periodic_threads(), *self._schedulers()]
        for part in parts:
            part.start()
        systemd.notify("READY=1")
        self._wait_for_loops()
        systemd.notify("STOPPING=1")
        self._stop.set()
        self._drained.set()
        for part in parts:
            part.join(UPKEEP_SECONDS)
        for sender in self._senders:
            sender.close()
        for lookup in self._lookups.values():
            lookup.close()
        self._upkeep.say_goodbye(self._witness)
        if self._error is not None:
            raise self._error
        log.info("worker stopped", extra={"worker": self.name, **self._totals()})

    def keep_marks(self) -> None:
        """What it has seen committed is kept in a file, for those that come after it."""
        self._witness.keep_file()

    def stop(self) -> None:
        """Claims no more, finishes what is on the way. May be called from any thread, and from a signal handler."""
        self._stop.set()
        self._wake()

    def stop_on_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP stop it; a second SIGTERM or SIGINT ends the process at once and leaves its leases
        to run out.
        """
        for number in stop_signals():
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._patience.is_over(number):
            os._exit(FORCED_EXIT)
        self.stop()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()

    def _wake(self, channels: Collection[Channel] = EVERYTHING) -> None:
        for loop in self._loops:
            if loop.channel in channels:
                loop.wake.set()

    def _periodic_threads(self) -> list[PeriodicThread]:
        periodic = partial(PeriodicThread, failed=self._fail)
        threads = [
            periodic("watch", self._watch, seconds=1.0, stop=self._stop),
            periodic("store", self._attend, seconds=ATTEND_SECONDS, stop=self._drained),
            periodic("upkeep", self._upkeep.keep_up, seconds=UPKEEP_SECONDS, stop=self._drained),
        ]
        if not self._once:
            threads += [
                periodic("reconcile", self._reconcile, seconds=RECONCILE_SECONDS, stop=self._stop),
                periodic("receipts", self._retry_receipts, seconds=EARLY_RECEIPTS_SECONDS, stop=self._stop),
                periodic("obstacles", self._upkeep.look_for_obstacle, seconds=OBSTACLE_SECONDS, stop=self._drained),
            ]
        return threads

    def _schedulers(self) -> list[JobScheduler]:
        if self._once or not self._jobs:
            return []
        return [JobScheduler(self._runtime, self._jobs, self.name, stop=self._stop, failed=self._fail)]

    def _wait_for_loops(self) -> None:
        """In short waits, so that signals are served at once."""
        watchdog = systemd.watchdog_seconds()
        told_at = monotonic()
        while any(loop.is_alive() for loop in self._loops):
            for loop in self._loops:
                loop.join(0.05)
            if watchdog is not None and monotonic() - told_at >= watchdog and self._is_coming_round():
                systemd.notify("WATCHDOG=1")
                told_at = monotonic()

    def _is_coming_round(self) -> bool:
        """A database that cannot be written is waited for, as one that is away: to start anew would mend nothing."""
        return self._upkeep.obstacle is not None or all(
            not loop.is_alive() or monotonic() - loop.came_round_at < STUCK_SECONDS for loop in self._loops
        )

    def _reconcile(self) -> bool:
        if self._upkeep.clock_watch.was_set_forward_within(SETTLED_AFTER):
            return False  # what was sent a moment ago looks as if the provider should have it by now
        return self._reconciler.run() > 0

    def _retry_receipts(self) -> bool:
        return retry_early_receipts(self._runtime.database, self._runtime.keys, self._runtime.clock()) > 0

    def _arrive(self) -> None:
        require_fitting_schema(self._runtime.database)
        self._runtime.database.require_writable()
        if not self._once:
            require_listening(self._runtime.database)
        self._witness.examine()  # before anything of ours is written
        self._upkeep.keep_up()
        self._attend()
        while self._once and not self._keeper.is_whole and not self._stop.wait(ATTEND_SECONDS):
            self._attend()

    def _attend(self) -> bool:
        if self._keeper.attend(self._write_again):
            self._wake()
        return False

    def _write_again(self, session: Session, now: datetime) -> int:
        self._upkeep.beat(session, now)
        count = self._memory.write_again(session, self.name, now=now, lease_until=now + LEASE)
        if count:
            log.warning("the database had forgotten messages that went out", extra={"count": count})
        return count

    def _watch(self) -> bool:
        watcher = Watcher(self._runtime.database)
        try:
            while not self._stop.is_set() and not watcher.is_stale:
                self._wake(watcher.wait(timeout=0.5))
        finally:
            watcher.close()
        return False

    def _totals(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for loop in self._loops:
            for status, count in loop.totals.items():
                totals[status.lower()] = totals.get(status.lower(), 0) + count
        return totals


def make_dispatcher(
    runtime: Runtime,
    channel: Channel,
    sender: Sender,
    owner: str,
    lanes: Collection[Lane] = tuple(Lane),
    memory: SendingMemory | None = None,
    witness: Witness | None = None,
) -> Dispatcher:
    """`memory` and `witness` are those of the other loops of the same worker."""
    settings = runtime.settings
    rules = Rules(runtime.keys, runtime.plans, settings.sms_enabled, QuietHours(*settings.quiet_span))
    limit = settings.per_minute_limit(channel)
    allowance = Allowance(channel, limit, runtime.clock, stopwatch=runtime.stopwatch)
    lookout = Lookout(channel, runtime.stopwatch)
    claimer = Claimer(lookout, allowance, Breaker(channel), rules, owner, lanes=lanes)
    return Dispatcher(
        claimer=claimer,
        sender=sender,
        database=runtime.database,
        clock=runtime.clock,
        keys=runtime.keys,
        owner=owner,
        memory=memory or SendingMemory(),
        witness=witness or Witness(runtime.database, runtime.clock),
    )
