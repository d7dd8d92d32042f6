"""Every error that notifyctl raises on purpose. Each says what is wrong, which value, and what to do.

NotifyctlError                      exit 1
├── InvalidInput                    exit 2   a value that the caller can correct
│   ├── ConfigurationError                   settings; lists every fault at once
│   └── TemplateError                        a template file that cannot be read or does not lint
├── RefusedByGate                   exit 3   `send`: a gate said no
├── NotFound                        exit 4   nothing by that name
├── DatabaseError                   exit 5   unreachable or locked: may be over in a moment
│   ├── NotWritable                      read-only, full, or not ours to write: reading may go on
│   └── WrongSchema                          older or newer than the code: somebody has to upgrade
├── ProviderError                   exit 6   Postmark or Twilio refuses our account, or its key is missing
└── IdempotencyConflict             exit 1   a key used again for another message
"""

import logging
import traceback
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    DATABASE = 5
    PROVIDER = 6
    INTERRUPTED = 130


class NotifyctlError(Exception):
    exit_code: ExitCode = ExitCode.FAILED


class InvalidInput(NotifyctlError):
    exit_code = ExitCode.USAGE

    def __init__(self, *faults: str) -> None:
        """Each is a line of its own on a terminal."""
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class ConfigurationError(InvalidInput):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(*faults)


class TemplateError(InvalidInput):
    pass


class RefusedByGate(NotifyctlError):
    exit_code = ExitCode.REFUSED


class NotFound(NotifyctlError):
    exit_code = ExitCode.NOT_FOUND


class DatabaseError(NotifyctlError):
    exit_code = ExitCode.DATABASE


class NotWritable(DatabaseError):
    pass


class WrongSchema(DatabaseError):
    pass


class ProviderError(NotifyctlError):
    exit_code = ExitCode.PROVIDER


class IdempotencyConflict(NotifyctlError):
    pass


PACKAGE = Path(__file__).parent


def describe(error: Exception) -> str:
    """`unexpected MemoryError at orchestrator/render.py:96`: an error's own text could quote a value."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(frame.filename).parents]
    if not frames:
        return f"unexpected {type(error).__name__}"
    last = frames[-1]
    return f"unexpected {type(error).__name__} at {Path(last.filename).relative_to(PACKAGE)}:{last.lineno}"


def report(log: logging.Logger, event: str, error: Exception, **log_fields: object) -> None:
    """One line at level ERROR. The traceback, which may quote anything, is for `--debug` alone."""
    shown = error if log.isEnabledFor(logging.DEBUG) else None
    log.error(event, extra={**log_fields, "error": describe(error)}, exc_info=shown)
