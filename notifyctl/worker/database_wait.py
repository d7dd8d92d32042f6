"""A worker that starts before its database: it waits as it would later on, and systemd sees it alive."""

import logging
from collections.abc import Callable
from threading import Event
from time import monotonic

from notifyctl.errors import DatabaseError, WrongSchema
from notifyctl.worker import service_manager

FIRST_SECONDS = 0.25
MOST_SECONDS = 15.0

log = logging.getLogger("notifyctl.worker")


def wait_for_database(reach: Callable[[], None], stop: Event) -> bool:
    """Calls `reach` until it raises no DatabaseError. False when `stop` was set before that.

    WrongSchema is raised: that is nothing that waiting would mend.
    """
    backoff = FIRST_SECONDS
    while not stop.is_set():
        try:
            reach()
        except WrongSchema:
            raise
        except DatabaseError as error:
            log.warning("database unavailable", extra={"error": str(error), "retry_in_seconds": backoff})
            # Not only when the database is there: a start that lasts too long would be ended (TimeoutStartSec).
            service_manager.notify("READY=1\nSTATUS=waiting for the database")
            _wait_alive(backoff, stop)
            backoff = min(2 * backoff, MOST_SECONDS)
        else:
            service_manager.notify("STATUS=")
            return True
    return False


def _wait_alive(seconds: float, stop: Event) -> None:
    every = service_manager.watchdog_seconds() or seconds
    deadline = monotonic() + seconds
    while (left := deadline - monotonic()) > 0 and not stop.wait(min(every, left)):
        service_manager.notify("WATCHDOG=1")
