"""What a worker does beside sending goes on, whatever it stumbles over."""

import logging
from threading import Event

import pytest

from notifyctl.errors import DatabaseError
from notifyctl.worker.periodic import PeriodicThread


@pytest.mark.parametrize(
    "error", [ValueError("+4915112345678"), MemoryError(), RecursionError(), DatabaseError("away")]
)
def test_a_thread_that_fails_is_done_again_and_ends_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    stop, done_again, failed = Event(), Event(), []
    calls = []

    def do() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise error
        done_again.set()
        return False

    with caplog.at_level(logging.WARNING, logger="notifyctl"):
        thread = PeriodicThread("test", do, seconds=0.01, stop=stop, failed=failed.append)
        thread.start()
        assert done_again.wait(5)
        stop.set()
        thread.join(5)
    assert failed == []
    assert caplog.records
    assert "4915112345678" not in str([record.__dict__ for record in caplog.records])
