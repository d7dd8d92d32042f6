"""Printing: rows to stdout in the form that was asked for, talk to stderr."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from notifyctl.cli.options import OutputFormat

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]
Item = TypeVar("Item")

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection)."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
"""Computes nothing, so that a phone number or an amount stays as it is."""


def console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, soft_wrap=not stream.isatty())


def say(text: str) -> None:
    """One line of talk, on stderr so that pipes stay clean."""
    print(one_line(text), file=sys.stderr)


def rows(
    found: Iterable[Row],
    form: OutputFormat,
    *,
    columns: Sequence[str],
    styles: Mapping[str, str] | None = None,
) -> None:
    """Prints `found` with these columns; every form but the tables prints a row as soon as it comes.

    `styles` maps a value (a status, say) to a rich style, for terminals only.
    """
    match form:
        case OutputFormat.JSON:
            _json_array(_picked(row, columns) for row in found)
        case OutputFormat.JSONL:
            for row in found:
                print(dumps(_picked(row, columns)))
        case OutputFormat.CSV:
            _delimited(found, columns, ",")
        case OutputFormat.TSV:
            _delimited(found, columns, "\t")
        case OutputFormat.GITHUB:
            print(_tabulated(found, columns, "github"))
        case OutputFormat.TABLE if sys.stdout.isatty():
            _rich_table(found, columns, styles or {})
        case OutputFormat.TABLE:
            print(_tabulated(found, columns, "plain"))


def document(value: Row, form: OutputFormat) -> None:
    """One thing with its fields: JSON as it is, else a row a field."""
    if form in (OutputFormat.JSON, OutputFormat.JSONL):
        print(dumps(value, indent=2 if form is OutputFormat.JSON else None))
        return
    fields = [{"field": name, "value": _flat(item)} for name, item in value.items()]
    rows(fields, form, columns=("field", "value"))


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Hands on `items`, with a progress bar on stderr while it is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import track as bar

    yield from bar(items, label, total=total, console=console(stderr=True), transient=True)


def dumps(value: Any, indent: int | None = None) -> str:
    # Where the terminal or file cannot hold every character, JSON has its own way to write it.
    ascii_only = not sys.stdout.encoding.lower().startswith("utf")
    return json.dumps(value, default=_jsonable, indent=indent, ensure_ascii=ascii_only)


def iso(value: datetime) -> str:
    """UTC, to the millisecond, with Z."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(text: str) -> str:
    """One line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _json_array(values: Iterable[Any]) -> None:
    separator = "["
    for value in values:
        print(separator)
        print("\n".join(f"  {line}" for line in dumps(value, indent=2).splitlines()), end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")


def _picked(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    return {column: row.get(column) for column in columns}


def _flat(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return iso(value)
        case list() | tuple() | set() | frozenset():
            return ", ".join(_flat(item) for item in value)
        case dict():
            return dumps(value)
    return str(value)


def _tabulated(found: Iterable[Row], columns: Sequence[str], form: str) -> str:
    from tabulate import tabulate

    cells = [[one_line(_flat(row.get(column))) for column in columns] for row in found]
    if form == "github":
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    return tabulate(cells, headers=list(columns), tablefmt=form, disable_numparse=True)


def _delimited(found: Iterable[Row], columns: Sequence[str], delimiter: str) -> None:
    writer = csv.writer(sys.stdout, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in found)


def _cell(value: Any) -> str:
    text = _flat(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(text) else text


def _rich_table(found: Iterable[Row], columns: Sequence[str], styles: Mapping[str, str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in found:
        cells = [one_line(_flat(row.get(column))) for column in columns]
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in cells))
    console().print(table)
