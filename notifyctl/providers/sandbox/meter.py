"""When the providers were called: the exact moments, and the most messages within any minute."""

import threading
from collections import deque
from time import monotonic

from notifyctl.models.template import Channel

WINDOW_SECONDS = 60.0
CALLS_KEPT = 200_000


class Meter:
    """Written by the server's thread, read by any. Each attempt counts, whatever the answer; a lookup does not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._lanes = {channel: _Lane() for channel in Channel}

    def present(self, channel: Channel, messages: int, at: float) -> None:
        """`at` is monotonic, and never before that of an earlier call."""
        with self._lock:
            self._lanes[channel].present(messages, at)

    def presented(self, channel: Channel) -> list[float]:
        """One moment a message, of the last CALLS_KEPT calls."""
        with self._lock:
            calls = list(self._lanes[channel].calls)
        return [at for at, messages in calls for _ in range(messages)]

    def total(self, channel: Channel) -> int:
        with self._lock:
            return self._lanes[channel].total

    def peak_per_minute(self, channel: Channel) -> int:
        """Over all calls since the start, also those whose moments are kept no more."""
        with self._lock:
            return self._lanes[channel].peak

    def last_minute(self, channel: Channel) -> int:
        with self._lock:
            return self._lanes[channel].since(monotonic() - WINDOW_SECONDS)


class _Lane:
    def __init__(self) -> None:
        self.calls: deque[tuple[float, int]] = deque(maxlen=CALLS_KEPT)
        self.total = 0
        self.peak = 0
        # The window that ends with the last call: the fullest of all windows ends with some call.
        self._window: deque[tuple[float, int]] = deque()
        self._in_window = 0

    def present(self, messages: int, at: float) -> None:
        self.calls.append((at, messages))
        self._window.append((at, messages))
        self.total += messages
        self._in_window += messages
        # What is exactly a minute apart is in no window together.
        while at - self._window[0][0] >= WINDOW_SECONDS:
            self._in_window -= self._window.popleft()[1]
        self.peak = max(self.peak, self._in_window)

    def since(self, moment: float) -> int:
        return sum(messages for at, messages in self._window if at > moment)
