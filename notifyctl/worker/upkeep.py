"""What a worker does beside sending: its heartbeat, its leases and those of vanished workers, what is in its way."""

import logging
import os
import socket
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from threading import Event

from sqlmodel import Session

from notifyctl import __version__
from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.clock import ClockWatch
from notifyctl.db import clock_steps, failures
from notifyctl.db.migrations import head_revision, require_fitting_schema
from notifyctl.delivery import outbox
from notifyctl.delivery.claims import LEASE
from notifyctl.errors import DatabaseError, WrongSchema
from notifyctl.models.enums import AuditAction
from notifyctl.operations import heartbeats
from notifyctl.operations.witness import Witness
from notifyctl.text.durations import one_line
from notifyctl.worker import systemd
from notifyctl.worker.jobs import runs
from notifyctl.worker.jobs.scheduler import SETTLED_AFTER

LOST_AFTER = timedelta(minutes=10)
"""How long a killed worker is still listed."""
LEFT_KEPT = timedelta(hours=3)
"""How long one that has left is remembered: longer than its trace says anything (health.installation)."""

log = logging.getLogger("notifyctl.worker")


class Upkeep:
    """`keep_up` and `look_for_obstacle` run in a thread each. `failed` is told what must end the worker."""

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        *,
        once: bool,
        stop: Event,
        held_ids: Callable[[], Iterable[str]],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._once = once
        self._stop = stop
        self._held_ids = held_ids
        self._failed = failed
        self._started_at: datetime | None = None
        self._dropped = runtime.database.dropped
        """As of the connections by which the schema was looked at."""
        self.clock_watch = ClockWatch(runtime.clock, runtime.stopwatch)
        self._is_away = False
        """The database could not be asked; `systemctl status` says so until it can."""
        self.obstacle: tuple[str, str] | None = None
        """Why nothing can be written, and what to do; None where it can be, and where nobody can tell."""

    def look_for_obstacle(self) -> bool:
        """Says once that nothing can be written, and once that it can again. Raises DatabaseError.

        Who waits for the commit that a replica should confirm is not told of it, and gets no error to tell.
        """
        before, self.obstacle = self.obstacle, None
        try:
            with self._runtime.database.read() as session:
                found = self.obstacle = failures.obstacle(session)
        except DatabaseError as error:
            self._is_away = True
            systemd.notify(f"STATUS={one_line(str(error))}")
            raise
        was_away, self._is_away = self._is_away, False
        if found and found != before:
            log.warning("database cannot be written", extra={"reason": found[0], "remedy": found[1]})
            systemd.notify(f"STATUS=the database cannot be written: {found[0]}")
        elif before and not found:
            log.info("database can be written again")
        if (before or was_away) and not found:
            systemd.notify("STATUS=")
        return False

    def keep_up(self) -> bool:
        """Heartbeat, leases renewed, and those of vanished workers ended."""
        self._follow_schema()
        with self._runtime.database.transaction() as session:
            now = self._runtime.clock()
            self._follow_clock(session, now)
            self.beat(session, now)
            heartbeats.forget(session, lost_before=now - LOST_AFTER, left_before=now - LEFT_KEPT)
            outbox.renew_leases(session, self._name, list(self._held_ids()), now + LEASE)
            # By a clock that was set forward all the others' leases have ended, and they are sending.
            is_unsettled = self.clock_watch.was_set_forward_within(SETTLED_AFTER)
            lost = [] if is_unsettled else outbox.expire_leases(session, now)
            entries = [
                audit_log.for_message(
                    AuditAction.NOTIFICATION_IN_DOUBT,
                    message,
                    actor=self._name,
                    now=now,
                    details={"attempt": message.attempts, "lost_worker": message.lease_owner},
                )
                for message in lost
            ]
            audit_log.write_many(session, entries)
        if lost:
            log.warning("leases of a lost worker ended", extra={"messages": len(lost)})
        return False

    def beat(self, session: Session, now: datetime) -> None:
        self._started_at = self._started_at or now
        heartbeats.beat(
            session,
            worker=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            now=now,
            stopping=self._stop.is_set(),
            once=self._once,
            revision=head_revision(),
        )

    def _follow_schema(self) -> None:
        """Behind new connections may be another server, or a backup that was restored."""
        database = self._runtime.database
        if database.dropped == self._dropped:
            return
        dropped = database.dropped
        try:
            require_fitting_schema(database)
        except WrongSchema as error:
            self._failed(error)
        self._dropped = dropped

    def _follow_clock(self, session: Session, now: datetime) -> None:
        """PostgreSQL's clock is its server's, and not ours to follow."""
        if not self._runtime.database.is_sqlite:
            return
        step = clock_steps.follow(session, now, longest_lease=max(LEASE, runs.LEASE))
        if step is not None:
            seconds = round(step.total_seconds(), 1)
            log.warning("the clock was set back", extra={"seconds": seconds})
            details = {"command": "worker", "clock_set_back_seconds": seconds}
            audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=self._name, now=now, details=details)

    def say_goodbye(self, witness: Witness) -> None:
        try:
            with self._runtime.database.transaction() as session:
                heartbeats.leave(session, self._name, self._runtime.clock())
            witness.catch_up()
        except DatabaseError as error:
            log.warning("leaving not recorded", extra={"error": str(error)})
