"""How the program was called, and what stands between that and a command. Imported by all, so it imports little."""

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import get_args

import typer
from typer.core import TyperArgument, TyperOption
from typer.exceptions import TyperException

from notifyctl.text.choices import is_none_of, meant


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


_KINDS = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""Typer reads values by pydantic: its kinds of fault, in our words."""
_TYPERS_WORDS = {
    r"Option '(.+)' requires an argument": r"\1 needs a value",
    r"Option '(.+)' does not take a value": r"\1 takes no value",
    r"Got unexpected extra argument\(?s?\)? \((.+)\)": r"'\1' is more than it takes",
}


def usage_words(error: TyperException) -> str:
    """What is wrong with the command line, and where its help is."""
    context = getattr(error, "ctx", None)
    words = _usage_words(error, context)
    command = context.command_path if context else "notifyctl"
    return f"{words}{' See' if words.endswith('?') else '; see'} `{command} --help`"


def _usage_words(error: TyperException, context: typer.Context | None) -> str:
    text = error.format_message().rstrip(".")
    parameter, faults = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if name := getattr(error, "option_name", None) if text.startswith("No such option") else None:
        options = [
            option for one in (context.command.params if context else ()) for option in (*one.opts, *one.secondary_opts)
        ]
        return f"there is no option {name}{meant(name, options)}"
    if unknown := re.match(r"No such command '(.*?)'", text):
        commands = getattr(context.command, "commands", ()) if context else ()
        return f"there is no command {unknown[1]!r}{meant(unknown[1], commands)}"
    if text.startswith("Missing") and parameter is not None:
        return f"{_called(parameter)} is missing"
    if faults is not None and parameter is not None:
        (fault, *_) = faults()
        return f"{_called(parameter)} {str(fault['input'])!r} {_fault_words(fault, parameter)}"
    for theirs, ours in _TYPERS_WORDS.items():
        if found := re.fullmatch(theirs, text):
            return found.expand(ours)
    return text


def _called(parameter: TyperOption | TyperArgument) -> str:
    """An option by its long name, an argument as the help has it."""
    if parameter.opts[0].startswith("-"):
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper())


def _fault_words(fault: Mapping[str, object], parameter: TyperOption | TyperArgument) -> str:
    names = _names_in(parameter.type_descriptor.annotation)
    if names and fault["type"] == "value_error":
        return is_none_of(str(fault["input"]), names)
    words, context = _KINDS.get(str(fault["type"]), ""), fault.get("ctx")
    if not words:
        return str(fault["msg"]).removeprefix("Value error, ")
    return words.format(**context) if isinstance(context, dict) else words


def _names_in(annotation: object) -> list[str]:
    """Of an enum, wherever it stands in the annotation."""
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [member.value for member in annotation]
    return next(filter(None, map(_names_in, get_args(annotation))), [])
