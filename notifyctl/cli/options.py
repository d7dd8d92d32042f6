"""Options that several commands share, and how a command gets its Runtime. Nothing heavy is imported here."""

import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from errno import EBADF
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TypeVar

import typer
from typer.exceptions import TyperException

from notifyctl.errors import DatabaseError, InvalidInput, NotifyctlError, WrongSchema
from notifyctl.text_files import decoded

if TYPE_CHECKING:
    from notifyctl.bootstrap import Runtime
    from notifyctl.settings import Settings


@dataclass(frozen=True, slots=True)
class Globals:
    """What stands before the command's name."""

    env_file: Path | None = None
    debug: bool = False


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    GITHUB = "github"


class ChannelName(StrEnum):
    """models.template.Channel, without the cost of importing the tables for --help."""

    EMAIL = "EMAIL"
    SMS = "SMS"


Format = Annotated[OutputFormat, typer.Option("--format", "-f", help="How to print rows.", case_sensitive=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most this many rows.")]
Channel = Annotated[ChannelName, typer.Argument(case_sensitive=False, help="EMAIL or SMS.")]


given: ContextVar[Globals] = ContextVar("given", default=Globals())  # noqa: B039  it is frozen
"""Set once by the root command."""


def env_file() -> Path:
    """The file that settings are read from, whether it is there or not."""
    from notifyctl.env_file import env_file_path

    return env_file_path(given.get().env_file)


def program() -> str:
    """How to call it again from here, with the same settings."""
    file = given.get().env_file
    return f"notifyctl --env-file {file}" if file else "notifyctl"


def settings() -> "Settings":
    """Raises ConfigurationError with every fault in it."""
    from notifyctl.settings import load_settings

    return load_settings(given.get().env_file)


def log_remarks(name: str) -> None:
    """What of the settings is passed over in silence, as warnings of a daemon's log."""
    import logging

    from notifyctl.env_file import find_env_file
    from notifyctl.settings import raw_settings

    for remark in raw_settings(find_env_file(given.get().env_file)).remarks():
        logging.getLogger(name).warning("a setting has no effect", extra={"cause": remark})


@contextmanager
def runtime(*, migrated: bool = True, create: bool = False, lasting: bool = False) -> Iterator["Runtime"]:
    """The Runtime of this call. Raises DatabaseError first if the schema is not the one this code knows.

    Only with `create` is a file made that is not there: a mistyped DATABASE_URL must not look like a new start.
    What is `lasting` bears a database that is away, at its start as later; only a wrong schema ends it.
    """
    from notifyctl.bootstrap import open_runtime
    from notifyctl.store.database import Database
    from notifyctl.store.migrations import require_current_schema

    found = settings()
    opened = open_runtime(found, database=Database(found.database_url, create=create))
    try:
        if migrated:
            try:
                require_current_schema(opened.database)
            except WrongSchema:
                raise
            except DatabaseError:
                if not lasting:
                    raise
        yield opened
    finally:
        opened.close()


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


def actor() -> str:
    """Who typed the command, for the audit log."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def confirm(question: str, yes: bool) -> None:
    """Asks on the terminal before what cannot be undone. Raises InvalidInput where there is none."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidInput(f"{question} There is no terminal to ask on; say --yes to do it")
    if not typer.confirm(question, err=True):
        raise NotifyctlError("nothing was changed")


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def opened_input(name: str) -> Iterator[BinaryIO]:
    """`-` is stdin. Raises OSError, or ValueError for what no file can be called."""
    if name == "-":
        if sys.stdin is None:
            raise OSError(EBADF, "stdin is closed")
        yield sys.stdin.buffer
        return
    with open(os.path.expanduser(name), "rb") as file:
        yield file


def read_input(name: str, most: int = -1) -> bytes:
    """A file's bytes, `most` of them; `-` is stdin. Raises InvalidInput."""
    try:
        with opened_input(name) as file:
            return file.read(most)
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}; give another file, or - for stdin") from error
    except ValueError as error:
        raise InvalidInput(f"{name!r} cannot be read: no file has such a name; give another file") from error


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = timedelta(days=36_500)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


def parse_duration(text: str) -> timedelta:
    """`90s`, `15m`, `2h`, `7d`, `1w`; a century at most. Raises InvalidInput."""
    number, unit = text[:-1], text[-1:]
    if not number.isascii() or not number.isdigit() or unit not in _UNITS:
        raise InvalidInput(f"{text!r} is not a duration; write a number and a unit, as 90s, 15m, 2h, 7d or 1w")
    seconds = int(number[:20]) * _UNITS[unit]
    if seconds > _LONGEST.total_seconds():
        raise InvalidInput(f"{text!r} is longer than {_LONGEST.days} days; write a shorter duration")
    return timedelta(seconds=seconds)


MAX_VALUE_BYTES = 64 * 1024
"""Of a value that is read from a file: more than any template takes."""


def parse_assignments(pairs: list[str]) -> dict[str, str]:
    """`NAME=VALUE` from --set, as `from_text` takes them. Raises InvalidInput.

    `NAME=@FILE` is the file's text, `NAME=@-` that of stdin, without the line break at its end; a value that begins
    with an @ doubles it.
    """
    given_texts: dict[str, str] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise InvalidInput(f"--set {pair!r} is not NAME=VALUE")
        if name in given_texts:
            raise InvalidInput(f"--set {name} is given twice; give it once")
        if text == "@-" and (first := next((other for other, told in given_texts.items() if told == text), None)):
            raise InvalidInput(f"--set {name}: stdin is read for {first} already; give one of them another way")
        given_texts[name] = text
    return {name: _assigned(name, text) for name, text in given_texts.items()}


def _assigned(name: str, text: str) -> str:
    if not text.startswith("@"):
        return text
    if text.startswith("@@"):
        return text[1:]
    file = text[1:]
    if not file:
        raise InvalidInput(f"--set {name}=@ names no file; write {name}=@FILE, {name}=@- for stdin, or {name}=@@")
    try:
        return _text_of(file)
    except InvalidInput as error:
        raise InvalidInput(f"--set {name}: {error}") from error


def _text_of(file: str) -> str:
    content = read_input(file, MAX_VALUE_BYTES + 1)
    if len(content) > MAX_VALUE_BYTES:
        raise InvalidInput(f"{file} is longer than {MAX_VALUE_BYTES} bytes; give a shorter one")
    return decoded(content, file).removesuffix("\n").removesuffix("\r")


def parse_moment(text: str, now: datetime) -> datetime:
    """A duration before `now`, or an ISO 8601 time (UTC where it names no zone). Raises InvalidInput."""
    if text[:1].isdigit() and text[-1:] in _UNITS:
        return now - parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not a time; write 2h, 7d, or 2026-03-01T12:00Z") from None
    # At the ends of the calendar, another zone or a few minutes more are beyond it.
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise InvalidInput(f"{text!r} is not a time in the years {_FIRST_YEAR} to {_LAST_YEAR}; write a nearer one")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


_Word = TypeVar("_Word", bound=StrEnum)


def one_of(kind: type[_Word], option: str, text: str | None) -> _Word | None:
    """The member that `text` names, in any case. Raises InvalidInput that lists them."""
    if text is None:
        return None
    found = next((member for member in kind if member.value.lower() == text.lower()), None)
    if found is None:
        raise InvalidInput(f"{option} {text!r} is unknown; it is one of {', '.join(kind)}")
    return found


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
