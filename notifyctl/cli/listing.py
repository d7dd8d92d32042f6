"""A command that lists things returns a ListedRows; how it is printed is said by the same options everywhere."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import islice
from typing import Annotated

import typer
from typer._click.core import ParameterSource
from typer._click.globals import get_current_context

from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat, Row, Shown, named
from notifyctl.errors import InvalidInput
from notifyctl.text.choices import chosen, is_none_of
from notifyctl.text.durations import plural

WATCH_SECONDS = 2
LEAST_ROWS = 5
LINES_BESIDE_ROWS = 3
"""The head, a hint below, and the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRows:
    rows: Iterable[Row]
    columns: Sequence[str]
    """What programs get of a row."""
    also: Sequence[str] = ()
    """What may be asked for besides."""
    key: str = "id"
    """The column that names a row to other commands."""
    shown: Sequence[Shown] = ()
    """The columns of a terminal, where they are others."""
    styles: Mapping[str, str] = field(default_factory=dict)
    nothing: str = ""
    """Said where a table has no row."""
    remarks: Sequence[str] = ()
    """Said below the rows, in whatever form these are."""
    hints: Sequence[str] = ()
    """Said below a table, to a person alone."""
    then: Callable[[], object] | None = None
    """Called when all is printed, to raise what is at fault."""
    document: str = ""
    """The whole JSON, where it is more than the rows."""


@dataclass(frozen=True, slots=True)
class Layout:
    form: OutputFormat
    columns: tuple[str, ...]
    """None: all that the listing has."""
    ids_alone: bool
    watch: bool
    most: int | None = None
    """How many rows were asked for, of a list that may have more."""
    is_fitted: bool = False
    """Nobody has said how many: they are as many as the terminal has lines for."""

    @classmethod
    def of(cls, given: Mapping[str, object]) -> "Layout":
        form, columns, fields = OutputFormat(str(given["form"])), given["columns"], given["json_fields"]
        if fields is not None:
            if columns is not None or form not in (OutputFormat.TABLE, OutputFormat.JSON):
                raise InvalidInput("--json says both the format and the columns; leave --format and --columns out")
            form, columns = OutputFormat.JSON, fields
        names = tuple(name.strip() for name in str(columns or "").split(",") if name.strip())
        if given["ids_alone"] and (names or form is not OutputFormat.TABLE):
            raise InvalidInput("--ids prints ids alone; leave --format, --json and --columns out")
        if given["watch"] and not (form is OutputFormat.TABLE and output.on_terminal()):
            raise InvalidInput("--watch shows a table on a terminal; leave it out, with --format, and in a pipe")
        return cls(form, names, bool(given["ids_alone"]), bool(given["watch"]))

    def limited(self, limit: int, *, is_said: bool) -> "Layout":
        """A table on a terminal is no longer than that: what stands first in a list, and its head, is what matters."""
        is_table = self.form is OutputFormat.TABLE and not self.ids_alone and not self.watch
        if is_said or not is_table or not output.on_terminal():
            return replace(self, most=limit)
        return replace(self, most=min(limit, max(LEAST_ROWS, output.height() - LINES_BESIDE_ROWS)), is_fitted=True)

    def _room(self, hints: Sequence[str]) -> int | None:
        """For how many rows there is room beside what is said below them. None: for all."""
        if self.most is None or not self.is_fitted:
            return self.most
        return min(self.most, max(LEAST_ROWS, self.most - output.height_of(hints)))

    def print(self, look: Callable[[], ListedRows]) -> None:
        if self.watch:
            output.watch(lambda: self._table(look()), WATCH_SECONDS)
        else:
            self._print(look())

    def _print(self, listing: ListedRows) -> None:
        room = self._room(listing.hints)
        printed = _Counted(islice(listing.rows, room))
        listing = replace(listing, rows=printed)
        if self.ids_alone:
            output.lines(output.flat(row.get(listing.key)) for row in listing.rows)
        elif self.form is OutputFormat.JSON and listing.document and not self.columns:
            print(listing.document, end="")
        elif self.form is OutputFormat.TABLE and output.on_terminal():
            output.print_list(*self._table(listing))
        else:
            cells = _cells(listing)
            names = self._chosen(listing) or tuple(listing.columns)
            rows = ({name: cells[name](row) for name in names} for row in listing.rows)
            output.rows(rows, self.form, columns=names)
        is_table = self.form is OutputFormat.TABLE and not self.ids_alone
        if is_table and not printed.count and listing.nothing:
            output.say(listing.nothing)
        for remark in listing.remarks:
            output.say(remark)
        for hint in listing.hints if is_table else ():
            output.hint(hint)
        if is_table and room == printed.count and not listing.remarks:
            output.hint(f"{plural(printed.count, 'row')}; there may be more: raise --limit")
        if listing.then is not None:
            listing.then()

    def _table(self, listing: ListedRows) -> tuple[Iterable[Row], Sequence[Shown], Mapping[str, str], bool]:
        names = self._chosen(listing)
        by_title = {column.title: column for column in listing.shown}
        columns = [replace(by_title.get(name) or named(name), from_width=0) for name in names]
        return (
            listing.rows,
            columns or listing.shown or [named(name) for name in listing.columns],
            listing.styles,
            bool(names),
        )

    def _chosen(self, listing: ListedRows) -> tuple[str, ...]:
        """Raises InvalidInput for a column that is none."""
        known = list(_cells(listing))
        for name in self.columns:
            if chosen(name, known) is None:
                raise InvalidInput(f"column {name!r} {is_none_of(name, known)}")
        return tuple(chosen(name, known) or name for name in self.columns)


def _cells(listing: ListedRows) -> dict[str, Callable[[Row], object]]:
    """By its name, what stands in a column for programs."""
    own = {name: _Field(name) for name in (*listing.columns, *listing.also)}
    return {**own, **{column.title: column.cell for column in listing.shown if column.title not in own}}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str

    def __call__(self, row: Row) -> object:
        return row.get(self.name)


class _Counted:
    """Rows that are printed as they come, and are counted on the way."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


_FIELDS_HELP = "Only these columns, as A,B; a name that is none lists them."
LAYOUT = options.Shared(
    {
        "form": (options.Format, OutputFormat.TABLE),
        "columns": (Annotated[str | None, typer.Option("--columns", metavar="A,B", help=_FIELDS_HELP)], None),
        "json_fields": (
            Annotated[str | None, typer.Option("--json", metavar="A,B", help="The same, as JSON.")],
            None,
        ),
        "ids_alone": (Annotated[bool, typer.Option("--ids", "-q", help="Only whole ids, one a line.")], False),
        "watch": (
            Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds, until Ctrl-C.")],
            False,
        ),
    },
    Layout.of,
)


def nothing_matches(what: str, why: str = "") -> str:
    """`No message matches: there is no client 'acmee'; did you mean acme?`"""
    said = f"No {what} matches: {why}" if why else f"No {what} matches"
    return said if said.endswith("?") else f"{said}."


def _is_default(parameter: str) -> bool:
    context = get_current_context(silent=True)
    return context is not None and context.get_parameter_source(parameter) is ParameterSource.DEFAULT


def lists(command: Callable[..., ListedRows]) -> Callable[..., None]:
    """The command takes the options of a listing, and prints what it returns."""

    @wraps(command)
    def run(**given: object) -> None:
        layout = Layout.of({name: given.pop(name) for name in LAYOUT.options})
        limit = given.get("limit")
        if isinstance(limit, int):
            layout = layout.limited(limit, is_said=not _is_default("limit"))
            given["limit"] = layout.most
        layout.print(lambda: command(**given))

    options.sign(run, command, LAYOUT)
    return run
