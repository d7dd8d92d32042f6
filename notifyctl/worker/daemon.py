"""One worker process: a loop a channel, the watch for new work, the renewal of leases, and the way out."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Mapping
from time import monotonic
from types import FrameType

from notifyctl import __version__
from notifyctl.bootstrap import Runtime
from notifyctl.delivery.dispatch import LEASE, Dispatcher
from notifyctl.errors import DatabaseError
from notifyctl.models.audit import AuditAction
from notifyctl.models.template import Channel
from notifyctl.providers.base import Sender
from notifyctl.store import audit, outbox, workers
from notifyctl.store.database import Database
from notifyctl.store.wakeup import Watcher
from notifyctl.worker.loop import ChannelLoop

UPKEEP_SECONDS = 10.0
FORCED_EXIT = 1

log = logging.getLogger("notifyctl.worker")


class Worker:
    """`run` blocks until a signal, until nothing is due (`once`), or until a loop fails."""

    def __init__(self, runtime: Runtime, senders: Mapping[Channel, Sender], *, once: bool = False) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._runtime = runtime
        self._senders = senders
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._started_at = runtime.clock()
        self._loops = [
            ChannelLoop(self._dispatcher(channel, sender), stop=self._stop, once=once, failed=self._fail)
            for channel, sender in senders.items()
        ]

    def _dispatcher(self, channel: Channel, sender: Sender) -> Dispatcher:
        return Dispatcher(
            channel=channel,
            sender=sender,
            database=self._runtime.database,
            clock=self._runtime.clock,
            keys=self._runtime.keys,
            plans=self._runtime.plans,
            sms_enabled=self._runtime.settings.sms_enabled,
            owner=self.name,
        )

    def run(self) -> None:
        """Raises what ended a loop, if that was neither a signal nor the end of the work."""
        log.info("worker started", extra={"worker": self.name, "database": str(self._runtime.database)})
        self._upkeep()
        for loop in self._loops:
            loop.start()
        watch = threading.Thread(target=self._watch, name="notifyctl-watch", daemon=True)
        watch.start()
        self._keep_up()
        for sender in self._senders.values():
            sender.close()
        self._stop.set()
        watch.join(UPKEEP_SECONDS)
        self._say_goodbye()
        if self._error is not None:
            raise self._error
        log.info("worker stopped", extra={"worker": self.name})

    def stop(self) -> None:
        """Claims no more, finishes what is on the way. May be called from any thread, and from a signal handler."""
        self._stop.set()
        for loop in self._loops:
            loop.wake.set()

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT stop it; a second one ends the process at once and leaves its leases to run out."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            os._exit(FORCED_EXIT)
        self.stop()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()

    def _keep_up(self) -> None:
        """Renews leases while the loops work. A short wait, so that signals are served and the end is seen."""
        kept_up_at = monotonic()
        while any(loop.is_alive() for loop in self._loops):
            for loop in self._loops:
                loop.join(0.05)
            if monotonic() - kept_up_at >= UPKEEP_SECONDS:
                self._upkeep()
                kept_up_at = monotonic()

    def _upkeep(self) -> None:
        database = self._runtime.database
        try:
            with database.transaction() as session:
                now = self._runtime.clock()
                workers.beat(
                    session,
                    worker=self.name,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    version=__version__,
                    started_at=self._started_at,
                    now=now,
                    stopping=self._stop.is_set(),
                )
                outbox.renew_leases(session, self.name, now + LEASE)
                for lost in outbox.expire_leases(session, now):
                    details = {"attempt": lost.attempts, "lost_worker": lost.lease_owner}
                    audit.write(
                        session,
                        AuditAction.NOTIFICATION_IN_DOUBT,
                        actor=self.name,
                        now=now,
                        client_id=lost.client_id,
                        message_id=lost.id,
                        details=details,
                    )
        except DatabaseError as error:
            log.warning("leases not renewed", extra={"error": str(error)})

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch_until_stopped(self._runtime.database)
            except DatabaseError as error:
                log.warning("watch for new work lost", extra={"error": str(error)})
                self._stop.wait(1.0)

    def _watch_until_stopped(self, database: Database) -> None:
        watcher = Watcher(database)
        try:
            while not self._stop.is_set():
                if watcher.wait(timeout=0.5):
                    for loop in self._loops:
                        loop.wake.set()
        finally:
            watcher.close()

    def _say_goodbye(self) -> None:
        try:
            with self._runtime.database.transaction() as session:
                workers.leave(session, self.name)
        except DatabaseError as error:
            log.warning("heartbeat not removed", extra={"error": str(error)})
