"""What a worker asks of the C library."""

import platform
import sys

import pytest

from tests.support.processes import Processes

THREADS = """
import ctypes, threading
from notifyctl.cli.admin import worker

worker._return_memory_early()
libc = ctypes.CDLL(None)
together = threading.Barrier(8)

def take() -> None:
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have no heap for each thread")
def test_threads_share_two_heaps(processes: Processes) -> None:
    ran = processes.run(sys.executable, "-c", THREADS)
    assert (ran.returncode, ran.stderr.count("Arena ")) == (0, 2), ran.stderr
