"""Something a worker does again and again beside its channel loops."""

import logging
import threading
from collections.abc import Callable

from notifyctl import errors
from notifyctl.errors import DatabaseError

log = logging.getLogger("notifyctl.worker")


class PeriodicThread(threading.Thread):
    """Calls `do` every `seconds`, at once again while it returns True, until `stop` is set.

    A database that is away is waited for. Whatever else `do` raises is logged, and it is done again in its time: no
    message that it stumbles over may end the worker.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[], bool],
        *,
        seconds: float,
        stop: threading.Event,
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name=f"notifyctl-{name}", daemon=True)
        self._do = do
        self._seconds = seconds
        self._stopping = stop
        self._failed = failed

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._once():
                    self._stopping.wait(self._seconds)
        except BaseException as error:  # noqa: BLE001  a thread's error must reach the main thread
            self._failed(error)

    def _once(self) -> bool:
        try:
            return self._do()
        except DatabaseError as error:
            log.warning("database unavailable", extra={"chore": self.name, "error": str(error)})
            return False
        except Exception as error:  # noqa: BLE001  the next round may do better
            errors.report(log, "chore failed", error, chore=self.name)
            return False
