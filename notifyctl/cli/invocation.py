"""How the program was called, and what stands between that and a command. Imported by all, so it imports little."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from typer.exceptions import TyperException


@dataclass(frozen=True, slots=True)
class Invocation:
    """What stands before the command's name."""

    env_file: Path | None = None
    debug: bool = False


invocation: ContextVar[Invocation] = ContextVar("invocation", default=Invocation())  # noqa: B039  it is frozen
"""Set once by the root command."""


def program() -> str:
    """How to call it again from here, with the same settings."""
    file = invocation.get().env_file
    return f"notifyctl --env-file {file}" if file else "notifyctl"


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """For what cron starts and people type all day: what its imports make lasts to the end, and is never looked
    through for garbage. Freezing it saves the look at the exit too. Together that is a fifth of the whole run.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_PYDANTICS_WORDS = {
    r"Input should be a valid integer.*": "it must be a whole number",
    r"Input should be a valid number.*": "it must be a number",
    r"Input should be (greater|less) than or equal to (\S+)": r"it must be \2 or \1",
    r"Value error, ": "",
}
"""Typer reads values by pydantic, and hands its words on."""


def usage_words(error: TyperException) -> str:
    """What is wrong with the command line, for a line that goes on with a semicolon."""
    text = error.format_message()
    for theirs, ours in _PYDANTICS_WORDS.items():
        text = re.sub(theirs, ours, text)
    return text.rstrip(".")
