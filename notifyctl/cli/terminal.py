"""Printing in colours, with rich: for a person on a terminal, and what is the same without colours elsewhere."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from notifyctl.cli.output import Row, Shown, flat, on_terminal
from notifyctl.text.durations import printable

Item = TypeVar("Item")
Cell: TypeAlias = str | tuple[str, str] | Text
"""A text, with its rich style or in several styles."""

STATUS_STYLES = {
    "QUEUED": "cyan", "DEFERRED_THROTTLED": "cyan", "SENDING": "cyan", "RETRY_SCHEDULED": "cyan", "IN_DOUBT": "magenta",
    "SENT": "green", "DELIVERED": "green", "FAILED": "bold red", "BOUNCED": "bold red",
    "BLOCKED": "yellow", "EXPIRED": "yellow", "CANCELED": "dim",
}  # fmt: skip
"""Of a message, wherever its status is shown on a terminal."""

_INDENT, _GAP, _LEAST_ROOM = 2, 2, 40


def console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, soft_wrap=not stream.isatty())


def status_line(status: str, message_id: str) -> None:
    """`QUEUED 0198c7b2-…`, for people and for `read`."""
    if not on_terminal():
        print(status, message_id)
        return
    console().print(Text.assemble((status, STATUS_STYLES[status]), f" {message_id}"))


def listing(lines: Sequence[Sequence[Cell]]) -> None:
    """Aligned cells without a head.

    On a terminal the last one is folded below itself, or stands on lines of its own where there is no room for it.
    """
    cells = [[_text(cell) for cell in line] for line in lines]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)][:-1]
    for line in cells:
        console().print(_listed(line, widths), soft_wrap=True)


def _listed(line: Sequence[Text], widths: Sequence[int]) -> Text:
    *first, last = line
    listed = Text(" " * _INDENT)
    for cell, width in zip(first, widths, strict=True):
        listed.append_text(cell).append(" " * (width - cell.cell_len + _GAP))
    for number, (indent, part) in enumerate(_folded(last, start=_INDENT + sum(widths) + _GAP * len(widths))):
        if number or indent:
            listed.rstrip()
            listed.append("\n" + " " * indent)
        listed.append_text(part)
    listed.rstrip()
    return listed


def _folded(cell: Text, start: int) -> Iterable[tuple[int, Text]]:
    """The lines of a cell that begins in column `start`, each with the column to begin in; 0: where we stand."""
    out = console()
    room = out.width - start
    if not on_terminal() or cell.cell_len <= room:
        return [(0, cell)]
    if room >= _LEAST_ROOM:
        return [(start if number else 0, line) for number, line in enumerate(cell.wrap(out, room))]
    indent = _INDENT * 3
    return [(indent, line) for line in cell.wrap(out, out.width - indent)]


def _text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return Text(printable(text), style)


def progress(items: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    """Hands on `items`, with a bar on stderr."""
    yield from track(items, label, total=total, console=console(stderr=True), transient=True)


def print_table(rows: Iterable[Row], shown: Sequence[Shown], styles: Mapping[str, str]) -> None:
    out = console()
    columns = [column for column in shown if column.from_width <= out.width < column.below_width]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.title, overflow="fold", no_wrap=column.whole)
    for row in rows:
        table.add_row(*(_styled(flat(column.cell(row)), styles) for column in columns))
    out.print(table)


def _styled(cell: str, styles: Mapping[str, str]) -> Text:
    """The first word in its style, and further lines dimmed."""
    first, *more = [printable(line) for line in cell.split("\n")]
    text = Text(first)
    word = first.split(" ")[0]
    if word in styles:
        text.stylize(styles[word], 0, len(word))
    for line in more:
        text.append(f"\n{line}", "dim")
    return text
