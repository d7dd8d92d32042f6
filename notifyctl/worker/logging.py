"""One line an event on stderr: for a person on a terminal, as JSON for everything else."""

import json
import logging
import sys
from datetime import UTC, datetime

from notifyctl.text.durations import iso

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName"}


_encode = json.JSONEncoder(default=str).encode
"""Made once: json.dumps makes one for each line."""


def configure_logging(*, debug: bool = False, quiet: bool = False) -> None:
    """`quiet` has warnings only: for what cron runs, and mails about."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger("notifyctl")
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    root.propagate = False


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _moment(record: logging.LogRecord) -> str:
    return iso(datetime.fromtimestamp(record.created, UTC))


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {"time": _moment(record), "level": record.levelname.lower(), "event": record.getMessage()}
        line = head | _fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class TerminalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        text = f"{_moment(record)[11:19]} {record.levelname.lower():<7} {record.getMessage()}  {fields}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
