"""What nobody foresaw about one message, said without what stands in the message."""

import logging
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


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
