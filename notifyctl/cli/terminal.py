"""Printing in colours, with rich: for a person on a terminal, and what is the same without colours elsewhere."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import sleep
from typing import TypeAlias, TypeVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.progress import track
from rich.table import Table
from rich.text import Text

from notifyctl.cli import streams
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
LEAST_CELL = 6
"""To which a column is cut before one that should stay whole is."""


def console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, soft_wrap=not stream.isatty())


def show(what: RenderableType) -> None:
    """In a pipe without the blanks that fill its lines on a terminal."""
    out = console()
    if on_terminal():
        out.print(what)
        return
    with out.capture() as captured:
        out.print(what)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


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
    for line in listed(lines):
        console().print(line, soft_wrap=True)


def listed(lines: Sequence[Sequence[Cell]]) -> list[Text]:
    """The same, not printed yet."""
    cells = [[_text(cell) for cell in line] for line in lines]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)][:-1]
    return [_listed(line, widths) for line in cells]


def height_of(*parts: RenderableType) -> int:
    """How many lines of the terminal they take."""
    out = console()
    return sum(len(out.render_lines(part, out.options.update(height=None))) for part in parts)


def that_fit(lines: Sequence[Text], room: int) -> tuple[Sequence[Text], int]:
    """The first of them and the last ones, as many as have room; and how many are left out between them.

    Where not even the last has room, its end is left out.
    """
    heights = [height_of(line) for line in lines]
    if not on_terminal() or sum(heights) <= room:
        return lines, 0
    left, kept = room - heights[0] - 1, 0
    while kept < len(lines) - 2 and heights[-1 - kept] <= left:
        left -= heights[-1 - kept]
        kept += 1
    if kept or len(lines) < 2:
        return [lines[0], *lines[len(lines) - kept :]], len(lines) - 1 - kept
    parts = lines[-1].split("\n")
    last = Text("\n").join(parts[: max(1, left)])
    return [lines[0], last.append(" …", "dim")], len(lines) - 2


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


def list_table(
    rows: Iterable[Row], shown: Sequence[Shown], styles: Mapping[str, str], is_chosen: bool = False
) -> RenderableType:
    """A line a row, cut to the terminal's width: what is whole stays so as long as there is room, the rest shares it.

    Columns in which there is nothing are left out, unless somebody has chosen them.
    """
    return _ListTable(list(rows), shown, styles, is_chosen)


@dataclass(frozen=True, slots=True)
class _ListTable:
    rows: Sequence[Row]
    shown: Sequence[Shown]
    styles: Mapping[str, str]
    is_chosen: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        columns = [column for column in self.shown if column.from_width <= options.max_width]
        cells = [[_styled(flat(column.cell(row)), self.styles) for column in columns] for row in self.rows]
        filled = [number for number in range(len(columns)) if self.is_chosen or any(line[number] for line in cells)]
        if not filled:
            return
        widths = fitted(
            [max(len(columns[number].title), *(line[number].cell_len for line in cells)) for number in filled],
            [columns[number].whole for number in filled],
            options.max_width - _GAP * (len(filled) - 1),
        )
        head = [Text(columns[number].title, "bold") for number in filled]
        for line in (head, *([line[number] for number in filled] for line in cells)):
            yield _cut(line, widths)


def fitted(natural: Sequence[int], whole: Sequence[bool], room: int) -> list[int]:
    """Widths that fit the room. The widest are cut first, those that are whole only where nothing else helps."""
    widths = list(natural)
    for may_be_cut, least in (([not is_whole for is_whole in whole], LEAST_CELL), ([True] * len(whole), 1)):
        cut = [width for width, may in zip(widths, may_be_cut, strict=True) if may]
        level = max(least, _level(cut, room - (sum(widths) - sum(cut))))
        widths = [min(width, level) if may else width for width, may in zip(widths, may_be_cut, strict=True)]
    return widths


def _level(widths: Sequence[int], room: int) -> int:
    """To which the widest are cut, so that all have room together."""
    ordered, left = sorted(widths), room
    for place, width in enumerate(ordered):
        share = left // (len(ordered) - place)
        if width > share:
            return share
        left -= width
    return max(ordered, default=0)


def _cut(line: Sequence[Text], widths: Sequence[int]) -> Text:
    joined = Text()
    for number, (cell, width) in enumerate(zip(line, widths, strict=True)):
        part = cell.copy()
        part.truncate(width, overflow="ellipsis", pad=number < len(widths) - 1)
        joined.append_text(part).append(" " * _GAP if number < len(widths) - 1 else "")
    joined.rstrip()
    return joined


def watch(frame: Callable[[], RenderableType], *, every: float) -> None:
    """Shows it anew until Ctrl-C. A terminal that has gone is watched by nobody."""
    out = console()
    shown = nullcontext() if out.is_dumb_terminal else Live(console=out, screen=True, auto_refresh=False)
    with shown as live:
        try:
            while not streams.lost(sys.stdout):
                live.update(frame(), refresh=True) if live else out.print(frame())
                sleep(every)
        except KeyboardInterrupt:
            return


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
