"""The loop of one channel: a turn of its Dispatcher after the other until told to stop."""

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic, sleep

from notifyctl import errors
from notifyctl.delivery.dispatch import Dispatcher
from notifyctl.errors import DatabaseError

COLLECT_SECONDS = 0.02
"""Longest wait for an answer while there is room for more: new work must not wait behind slow calls."""
LOOK_SECONDS = 1.0
"""How often to look for due work when nobody says there is any: retries come due without a word."""
MAX_BACKOFF_SECONDS = 5.0
"""With what it takes to find the new server, sending goes on within 15 seconds of its being there."""

log = logging.getLogger("notifyctl.worker")


class ChannelLoop(threading.Thread):
    """Runs until `stop` is set and nothing is on the way any more; with `once`, until nothing is due.

    `wake` is set from outside when there may be new work, and when `stop` was set.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        stop: threading.Event,
        once: bool,
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name=f"notifyctl-{dispatcher.channel.lower()}", daemon=True)
        self.wake = threading.Event()
        self.channel = dispatcher.channel
        self._dispatcher = dispatcher
        self._stopping = stop
        self._once = once
        self._failed = failed
        self._looked_at = -LOOK_SECONDS
        self._backoff = 0.0
        self.came_round_at = monotonic()

    @property
    def totals(self) -> Mapping[str, int]:
        """Status -> how many messages this loop has brought there."""
        return self._dispatcher.totals

    def held_ids(self) -> list[str]:
        return self._dispatcher.held_ids()

    def run(self) -> None:
        self.came_round_at = monotonic()
        try:
            while self._step():
                pass
        except BaseException as error:  # noqa: BLE001  a thread's error must reach the main thread
            self._failed(error)

    def _step(self) -> bool:
        """Whether there is another step."""
        if self._stopping.is_set() and self._dispatcher.is_idle:
            return False
        looking = not self._stopping.is_set() and self._dispatcher.has_room and self._is_time_to_look()
        try:
            claimed = self._dispatcher.turn(claiming=looking, timeout=COLLECT_SECONDS)
        except DatabaseError as error:
            self._wait_for_database(error)
            return True
        except Exception as error:  # noqa: BLE001  the other channel, and this one's next turn, may do better
            self._wait_after(error)
            return True
        self.came_round_at = monotonic()
        self._backoff = 0.0
        if claimed:
            self.wake.set()  # where there was some, there may be more
        elif self._dispatcher.is_idle and not self._stopping.is_set():
            if self._once and looking:
                if self._dispatcher.has_looked_everywhere:
                    return False
                self._dispatcher.look_everywhere()
                self.wake.set()
                return True
            self.wake.wait(LOOK_SECONDS)
        return True

    def _is_time_to_look(self) -> bool:
        if not self.wake.is_set() and monotonic() - self._looked_at < LOOK_SECONDS:
            return False
        self.wake.clear()
        self._looked_at = monotonic()
        return True

    def _wait_for_database(self, error: DatabaseError) -> None:
        if self._once:
            raise error
        self.came_round_at = monotonic()
        self._back_off()
        log.warning("database unavailable", extra={"error": str(error), "retry_in_seconds": self._backoff})
        self._pause()

    def _wait_after(self, error: Exception) -> None:
        """What is no single message's fault may be over by the next turn; if not, the watchdog ends this process."""
        if self._once:
            raise error
        self._back_off()
        channel = self._dispatcher.channel
        errors.report(log, "turn failed", error, channel=channel, retry_in_seconds=self._backoff)
        self._pause()

    def _back_off(self) -> None:
        self._backoff = min(MAX_BACKOFF_SECONDS, self._backoff * 2 or 0.25)

    def _pause(self) -> None:
        if self._stopping.is_set():
            sleep(min(self._backoff, 1.0))  # what is not recorded yet keeps us, but not busy
        else:
            self._stopping.wait(self._backoff)
        self.wake.set()
