"""What a test must not leave behind for those that come after it, whatever their order."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import sleep
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
KEPT_THREADS = ("sandbox", "api", "AnyIO worker thread", "readyz", "asyncio_")
"""Of servers that serve all tests, and of pools that the libraries keep."""
KEPT_PROCESS = "warm_parent.py"
PYTEST = ("PYTEST_CURRENT_TEST",)


def threads() -> frozenset[str]:
    """The names of those that run, with their number, since a name may be used twice."""
    running = (thread for thread in threading.enumerate() if not thread.name.startswith(KEPT_THREADS))
    return frozenset(f"{thread.name} ({thread.ident})" for thread in running if thread.is_alive())


def children() -> frozenset[str]:
    """Processes that this one has started and nobody has waited for, with what they run. Linux only."""
    found = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in _read(listing).split():
            # That of one which has only just been started is not there yet.
            while not (command := _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()) and _is_alive(pid):
                sleep(0.001)
            if KEPT_PROCESS not in command:
                found.add(f"{pid}: {command or 'a process that has ended and was not waited for'}")
    return frozenset(found)


def _is_alive(pid: str) -> bool:
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name not in PYTEST}


def signals() -> Mapping[str, str]:
    return {number.name: repr(signal.getsignal(number)) for number in SIGNALS}


def loggers() -> Mapping[str, str]:
    ours = logging.getLogger("notifyctl")
    return {"notifyctl": f"{ours.handlers} {ours.level} {ours.propagate}"}


def working_directory() -> Mapping[str, str]:
    return {"cwd": str(Path.cwd())}


LOOKS: Mapping[str, Callable[[], Any]] = {
    "threads": threads,
    "processes": children,
    "environment": environment,
    "signal handlers": signals,
    "logging": loggers,
    "working directory": working_directory,
}


def look() -> Mapping[str, Any]:
    return {name: see() for name, see in LOOKS.items()}


def left_behind(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is there now and was not: a line each."""
    found = []
    for name, now in after.items():
        if isinstance(now, frozenset):
            found += [f"{name}: {item}" for item in sorted(now - before[name])]
        else:
            changed = {key for key in now.keys() | before[name].keys() if now.get(key) != before[name].get(key)}
            found += [f"{name}: {key} was {before[name].get(key)!r}, is {now.get(key)!r}" for key in sorted(changed)]
    return found


NOT_OURS = {
    ".git",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".import_linter_cache",
    ".hypothesis",
}


def files(root: Path) -> frozenset[str]:
    """Files of a checkout that are neither git's nor a tool's cache."""
    found = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        found |= {str(Path(folder, name).relative_to(root)) for name in names}
    return frozenset(found)
