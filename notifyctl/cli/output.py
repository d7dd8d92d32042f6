"""Printing: rows to stdout in the form that was asked for, talk to stderr."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from importlib import import_module
from shutil import get_terminal_size
from types import ModuleType
from typing import Any, TypeVar

from notifyctl.cli import streams
from notifyctl.text.csv_import import neutral
from notifyctl.text.durations import iso, printable

Row = Mapping[str, Any]
Item = TypeVar("Item")


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    GITHUB = "github"


@dataclass(frozen=True, slots=True)
class Shown:
    """A column as a terminal shows it, in terminals of these widths. A cell may have several lines."""

    title: str
    cell: Callable[[Row], object]
    whole: bool = False
    """Never folded: something that is copied."""
    from_width: int = 0
    below_width: int = 10_000


def on_terminal() -> bool:
    return sys.stdout.isatty()


def height() -> int:
    """Of the terminal, in lines."""
    return get_terminal_size().lines


def height_of(texts: Iterable[str]) -> int:
    """How many lines of the terminal they take."""
    width = get_terminal_size().columns
    return sum(-(-len(text) // width) for text in texts)


def say(text: str = "") -> None:
    """One line of talk, on stderr so that pipes stay clean. Whoever has read enough of stdout wants none of it."""
    error = streams.lost(sys.stdout)
    if error is None or not streams.is_read_no_further(error):
        complain(text)


def complain(text: str) -> None:
    """One line on stderr, whoever reads what."""
    print(printable(text), file=sys.stderr)


def hint(text: str) -> None:
    """What to do next: for a person, hence only on a terminal."""
    if on_terminal() and sys.stderr.isatty():
        say(text)


def rows(
    lines: Iterable[Row],
    form: OutputFormat,
    *,
    columns: Sequence[str],
    shown: Sequence[Shown] = (),
    styles: Mapping[str, str] | None = None,
) -> None:
    """Prints `lines` with these columns; every form but the tables prints a row as soon as it comes.

    A table on a terminal has the columns of `shown` instead, where they are given. `styles` maps the first word of a
    cell (a status, say) to a rich style, for terminals only.
    """
    lines = _as_long_as_read(lines)
    match form:
        case OutputFormat.JSON:
            _json_array(_picked(row, columns) for row in lines)
        case OutputFormat.JSONL:
            for row in lines:
                print(dumps(_picked(row, columns)))
        case OutputFormat.CSV:
            _delimited(lines, columns, ",")
        case OutputFormat.TSV:
            _delimited(lines, columns, "\t")
        case OutputFormat.GITHUB:
            print(_tabulated(lines, columns, "github"))
        case OutputFormat.TABLE if on_terminal():
            _coloured_table(lines, shown or [named(column) for column in columns], styles or {})
        case OutputFormat.TABLE:
            print(_tabulated(lines, columns, "plain"))


def _coloured_table(lines: Iterable[Row], shown: Sequence[Shown], styles: Mapping[str, str]) -> None:
    _terminal().print_table(lines, shown, styles)


def lines(texts: Iterable[str]) -> None:
    for text in _as_long_as_read(texts):
        print(text)


def print_list(
    rows: Iterable[Row], shown: Sequence[Shown], styles: Mapping[str, str] | None = None, is_chosen: bool = False
) -> None:
    """A line a row on a terminal, cut to its width. `is_chosen`: the columns are those that somebody has asked for."""
    terminal = _terminal()
    table = terminal.list_table(_as_long_as_read(rows), shown, styles or {}, is_chosen)
    terminal.console().print(table, soft_wrap=True)


def watch(look: Callable[[], tuple[Iterable[Row], Sequence[Shown], Mapping[str, str], bool]], every: float) -> None:
    """The same anew, until Ctrl-C."""
    terminal = _terminal()
    terminal.watch(lambda: terminal.list_table(*look()), every=every)


def _terminal() -> ModuleType:
    """It imports rich, which programs have no use for."""
    return import_module("notifyctl.cli.terminal")


def _as_long_as_read(items: Iterable[Item]) -> Iterator[Item]:
    """Nobody waits for the end of a long list of which `head` wanted ten lines."""
    for item in items:
        if streams.lost(sys.stdout):
            return
        yield item


def named(column: str, *, whole: bool = False, from_width: int = 0) -> Shown:
    """A column that shows one value of the row."""
    return Shown(column.replace("_", " "), lambda row: printable(flat(row.get(column))), whole, from_width)


def track(items: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    """Hands on `items`, with a progress bar on stderr while it is a terminal. `total` is None where nobody knows it."""
    if not sys.stderr.isatty():
        return iter(items)
    bar: Iterator[Item] = _terminal().progress(items, label, total)
    return bar


def document(value: Row, form: OutputFormat) -> None:
    """One thing with its fields: JSON as it is, else a row a field."""
    if form in (OutputFormat.JSON, OutputFormat.JSONL):
        print(dumps(value, indent=2 if form is OutputFormat.JSON else None))
        return
    fields = [{"field": name, "value": flat(item)} for name, item in value.items()]
    rows(fields, form, columns=("field", "value"))


def dumps(value: object, indent: int | None = None) -> str:
    # Where the terminal or file cannot hold every character, JSON has its own way to write it.
    ascii_only = not sys.stdout.encoding.lower().startswith("utf")
    return json.dumps(value, default=_jsonable, indent=indent, ensure_ascii=ascii_only)


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _json_array(values: Iterable[object]) -> None:
    separator = "["
    for value in values:
        print(separator)
        print("\n".join(f"  {line}" for line in dumps(value, indent=2).split("\n")), end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")


def _picked(row: Row, columns: Sequence[str]) -> dict[str, object]:
    return {column: row.get(column) for column in columns}


def flat(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return iso(value)
        case list() | tuple() | set() | frozenset():
            return ", ".join(flat(item) for item in value)
        case dict():
            return dumps(value)
    return str(value)


def _tabulated(lines: Iterable[Row], columns: Sequence[str], form: str) -> str:
    from tabulate import tabulate

    cells = [[printable(flat(row.get(column))) for column in columns] for row in lines]
    if form == "github":
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    return tabulate(cells, headers=list(columns), tablefmt=form, disable_numparse=True)


class _Lines:
    """Where a CSV writer writes to. Its lines end in one character here; the writer itself is told of two, since only
    then does it quote a cell with either of them in it.
    """

    def write(self, line: str) -> None:
        sys.stdout.write(line.removesuffix("\r\n") + "\n")


def _delimited(lines: Iterable[Row], columns: Sequence[str], delimiter: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and not on_terminal():
        # As imports read it, whatever the locale. An encoding that is set anew forgets what to do about faults.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    writer = csv.writer(_Lines(), delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([neutral(flat(row.get(column))) for column in columns] for row in lines)
