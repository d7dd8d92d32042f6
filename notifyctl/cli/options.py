"""Options that several commands share, and what they are read into."""

import getpass
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from errno import EBADF
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from secrets import token_hex
from typing import Annotated, BinaryIO, NamedTuple, TypeVar

import typer

from notifyctl.cli.invocation import invocation
from notifyctl.cli.output import OutputFormat
from notifyctl.env_file import env_file_in_force, find_env_file
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.models.enums import Channel
from notifyctl.settings import Settings, checked, load_settings, raw_settings
from notifyctl.text.choices import chosen, is_none_of
from notifyctl.text.durations import parse_duration, parse_moment, parse_seconds, plural
from notifyctl.text.files import decoded

Format = Annotated[OutputFormat, typer.Option("--format", "-f", help="How to print rows.", case_sensitive=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
_LIMIT_HELP = "At most this many rows; a terminal is given what fits it, unless you say."
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help=_LIMIT_HELP)]
Locale = Annotated[str | None, typer.Option("--locale", help="Language of the words, as de or de-AT.")]
ChannelArgument = Annotated[Channel, typer.Argument(metavar="CHANNEL", case_sensitive=False, help="EMAIL or SMS.")]


_SPANS = {"s": "seconds", "m": "minutes", "d": "days"}


def span(option: str, unit: str, *, least: int = 0, most: int) -> Callable[[str | int], int]:
    """Reads a span of time as a number of these units: written so, or as a duration."""
    rule = f"must be {least:,} to {most:,} {_SPANS[unit]}: write 90s, 15m, 2h, 7d, or a number of {_SPANS[unit]}"
    in_seconds = parse_duration(f"1{unit}").total_seconds()

    def read(text: str | int) -> int:
        try:
            written = str(text)
            seconds = parse_duration(written if written[-1:].isalpha() else f"{written}{unit}").total_seconds()
        except InvalidInput:
            raise InvalidInput(f"{option} {text!r} {rule}") from None
        count, rest = divmod(int(seconds), int(in_seconds))
        if rest or not least <= count <= most:
            raise InvalidInput(f"{option} {text!r} {rule}")
        return count

    return read


def seconds(option: str, *, most: int) -> Callable[[str | float], float]:
    """Reads a span of time where less than a second may be meant: a duration, or a number of seconds."""

    def read(text: str | float) -> float:
        try:
            span = parse_seconds(str(text))
        except InvalidInput as error:
            raise InvalidInput(f"{option} {error}") from None
        if span > most:
            raise InvalidInput(f"{option} {text!r} must be at most {plural(most, 'second')}")
        return span

    return read


def moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """The time that an option gives. An empty one is at fault: nobody may go on as if none were given."""
    try:
        return None if text is None else parse_moment(text, now)
    except InvalidInput as error:
        raise InvalidInput(f"{option} {error}") from None


def in_order(first: datetime | None, last: datetime | None) -> None:
    """Raises InvalidInput for a span in which nothing can be."""
    if first is not None and last is not None and first >= last:
        begin, end = (f"{at:%Y-%m-%d %H:%M:%SZ}" for at in (first, last))
        raise InvalidInput(f"--since ({begin}) is not before --until ({end}); swap them, or leave one out")


def env_file() -> Path:
    """The file that settings are read from, whether it is there or not."""
    return env_file_in_force(invocation.get().env_file)


def settings_for_files() -> Settings:
    """For what only looks at files: it is done where no secret is, too, and no database."""
    written = raw_settings(find_env_file(invocation.get().env_file))
    stand_ins = {name: token_hex(32) for name in ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER")}
    stand_ins["DATABASE_URL"] = "sqlite:////nowhere"
    missing = {name: text for name, text in stand_ins.items() if name not in written.known}
    return checked(replace(written, environment={**written.environment, **missing}))


def settings() -> Settings:
    """Raises ConfigurationError with every fault in it."""
    return load_settings(invocation.get().env_file)


def log_remarks(name: str) -> None:
    """What of the settings is passed over in silence, as warnings of a daemon's log."""
    for remark in raw_settings(find_env_file(invocation.get().env_file)).remarks():
        logging.getLogger(name).warning("a setting has no effect", extra={"cause": remark})


def actor() -> str:
    """Who typed the command, for the audit log."""
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


MAX_VALUE_BYTES = 64 * 1024
"""Of a value that is read from a file: more than any template takes."""


def parse_assignments(pairs: list[str]) -> dict[str, str]:
    """`NAME=VALUE` from --set, as `from_text` takes them. Raises InvalidInput.

    `NAME=@FILE` is the file's text, `NAME=@-` that of stdin, without the line break at its end; a value that begins
    with an @ doubles it.
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise InvalidInput(f"--set {pair!r} is not NAME=VALUE")
        if name in texts:
            raise InvalidInput(f"--set {name} is given twice; give it once")
        if text == "@-" and (first := next((other for other, value in texts.items() if value == text), None)):
            raise InvalidInput(f"--set {name}: stdin is read for {first} already; give one of them another way")
        texts[name] = text
    return {name: _assigned(name, text) for name, text in texts.items()}


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


_Word = TypeVar("_Word", bound=StrEnum)


def one_of(kind: type[_Word], option: str, text: str | None) -> _Word | None:
    """The member that `text` names, in any case. Raises InvalidInput that lists them."""
    if text is None:
        return None
    member = chosen(text, kind)
    if member is None:
        raise InvalidInput(f"{option} {text!r} {is_none_of(text, kind)}")
    return member


Result = TypeVar("Result")


class Shared(NamedTuple):
    """Options that several commands take together, as one value."""

    options: Mapping[str, tuple[object, object]]
    """By the name of the parameter: its annotation, and its default."""
    gather: Callable[[Mapping[str, object]], object]
    """Makes the value of them."""


def taking(**shared: Shared) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """The command takes these options, and is called with their value in the place of each name."""

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(command)
        def run(**given: object) -> Result:
            values = {
                name: several.gather({option: given.pop(option) for option in several.options})
                for name, several in shared.items()
            }
            return command(**given, **values)

        sign(run, command, **shared)
        return run

    return decorate


def sign(run: Callable[..., object], command: Callable[..., object], *more: Shared, **shared: Shared) -> None:
    """Typer sees in `run` the parameters of `command`, with what is shared in their places and behind them."""
    written = signature(command, eval_str=True)
    taken = {name: (parameter.annotation, parameter.default) for name, parameter in written.parameters.items()}
    options: dict[str, tuple[object, object]] = {}
    for name, parameter in taken.items():
        options |= shared[name].options if name in shared else {name: parameter}
    for several in more:
        options |= several.options
    run.__dict__["__signature__"] = written.replace(
        parameters=[
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in options.items()
        ]
    )
