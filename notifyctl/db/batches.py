"""Much work in short transactions: each as large as its time allows, and a pause after it."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep

TRANSACTION_SECONDS = 0.05
"""For so long others may wait for a lock: on SQLite all who write."""
FEWEST, MOST = 50, 5_000
LEAST_PAUSE_SECONDS = 0.02
"""SQLite's lock goes to whoever asks first, which would be us again."""


def batches(
    rows: int, *, stopping: Callable[[], bool], pausing: bool = True, seconds: Callable[[], float] = monotonic
) -> Iterator[int]:
    """How many rows to take, `rows` to begin with: by what the last transaction took, which ends before the next one
    is asked for.

    The pause is as long as the transaction was, so that the other half of the time is everybody else's.
    """
    while not stopping():
        started = seconds()
        yield rows
        took = seconds() - started
        rows = _next_size(rows, took)
        if pausing:
            sleep(max(LEAST_PAUSE_SECONDS, took))


def _next_size(rows: int, took: float) -> int:
    """At most twice as many, since how long that takes is not known before."""
    fitting = int(rows * TRANSACTION_SECONDS / took) if took > 0 else MOST
    return max(min(rows, FEWEST), min(fitting, 2 * rows, max(rows, MOST)))
