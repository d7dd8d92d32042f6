"""One line an event on stderr: for a person on a terminal, as JSON for all else, with a priority for the journal."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import TextIO

from notifyctl.text.durations import iso

_FIRST_OWN = len(logging.makeLogRecord({}).__dict__)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName"}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Of syslog(3); 7 is debug."""

_encode = json.JSONEncoder(default=str).encode
"""Made once: json.dumps makes one for each line."""


def configure_logging(*, debug: bool = False, quiet: bool = False) -> None:
    """`quiet` has warnings only: for what cron runs, and mails about."""
    _ask_for_less()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter_for(sys.stderr))
    root = logging.getLogger("notifyctl")
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    root.propagate = False


def _formatter_for(stream: TextIO) -> logging.Formatter:
    if stream.isatty():
        return TerminalFormatter()
    return JournalFormatter() if _is_journal(stream) else JsonFormatter()


def _is_journal(stream: TextIO) -> bool:
    """systemd names the journal's stream (systemd.exec(5)); a shell may have led ours elsewhere since."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{file.st_dev}:{file.st_ino}"


def _ask_for_less() -> None:
    """No line of ours says which code, process or thread it came from: to find that out costs more than to write it
    (Logging HOWTO, Optimization).
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What stands behind the standard ones: a record has those from the first."""
    own = islice(record.__dict__.items(), _FIRST_OWN, None)
    return {name: value for name, value in own if name not in _STANDARD}


def _moment(record: logging.LogRecord) -> str:
    return iso(datetime.fromtimestamp(record.created, UTC))


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {"time": _moment(record), "level": record.levelname.lower(), "event": record.getMessage()}
        line = head | _fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class JournalFormatter(JsonFormatter):
    """Each line after `<priority>` (sd-daemon(3)), which the journal takes off: `journalctl --priority warning`."""

    def format(self, record: logging.LogRecord) -> str:
        below = (number for level, number in _PRIORITIES if record.levelno >= level)
        return f"<{next(below, 7)}>{super().format(record)}"


class TerminalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        text = f"{_moment(record)[11:19]} {record.levelname.lower():<7} {record.getMessage()}  {fields}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
