"""CSV files that people and spreadsheets wrote: every fault is reported with its line."""

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from notifyctl.errors import InvalidInput
from notifyctl.text.addresses import MARKS
from notifyctl.text.choices import meant_among
from notifyctl.text.durations import plural
from notifyctl.text.files import decoded

FORMULA_STARTS = "=+\\-@＝＋－＠\t\r\n"
"""A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection), in full width too."""
_FORMULA = re.compile(f"'*[{FORMULA_STARTS}]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
"""Computes nothing, so that a phone number or an amount stays as it is."""
_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n])"?[,;\t ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""Excel writes and reads it as the first line of a file. It is no part of the data."""
_ERROR_VALUE = re.compile(r"#(?:N/A|NV|[A-ZÀ-Þ/0]{2,12}[!?])")
"""What stands in a cell whose formula has failed, in whichever language: #N/A, #REF!, #NAME?, #WERT!"""
_AROUND_CELLS = ',;"\t \r\n'
_SHOWN = 40


def neutral(text: str) -> str:
    """A cell that no spreadsheet computes; `as_written` takes the apostrophe off again."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def as_written(cell: str) -> str:
    """Without the apostrophe of `neutral`, or of a person who wanted a text and not a formula."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


@dataclass(frozen=True, slots=True)
class CsvRecord:
    line: int
    """Where it begins in the file, counted from 1."""
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class CsvFault:
    line: int
    text: str
    """What is wrong and how to mend it, beginning with the column if it is one cell's."""


@dataclass(frozen=True, slots=True)
class CsvFile:
    name: str
    columns: tuple[str, ...]
    records: Sequence[CsvRecord]
    faults: Sequence[CsvFault]
    """Records that cannot be read; they are not among `records`."""


@dataclass(frozen=True, slots=True)
class _Header:
    names: tuple[str, ...]
    """Of all columns; empty for those that a spreadsheet writes along because somebody once touched them."""
    passed_over: Collection[str]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if self._is_read(name))

    def cells(self, written: Sequence[str]) -> tuple[str, ...]:
        """Of `columns`. Raises ValueError."""
        needed = max(number for number, name in enumerate(self.names, 1) if name)
        if len(written) < needed or any(cell.strip() for cell in written[len(self.names) :]):
            raise ValueError(f"it has {plural(len(written), 'cell')}, the header has {len(self.names)}; mend it")
        for number, (name, cell) in enumerate(zip(self.names, written, strict=False), 1):
            if not name and cell.strip():
                raise ValueError(
                    f"column {number} has no name in the first line, but {cell[:_SHOWN]!r} here; name it or empty it"
                )
            if self._is_read(name) and _ERROR_VALUE.fullmatch(cell.strip()):
                raise ValueError(
                    f"column {number} has {cell.strip()!r}, an error of the spreadsheet's; mend its formula"
                )
        read = zip(self.names, written, strict=False)
        return tuple(as_written(cell.strip(MARKS)) for name, cell in read if self._is_read(name))

    def _is_read(self, name: str) -> bool:
        return bool(name) and name not in self.passed_over


def parse(
    data: bytes, name: str, *, known: Sequence[str], required: Sequence[str], passed_over: Collection[str] = ()
) -> CsvFile:
    """Columns without a name are passed over as long as they are empty, and so are those of `passed_over`.

    Raises InvalidInput when the file cannot be read at all, or has a column that is not `known`.
    """
    text = decoded(data, name, save_as="CSV UTF-8")
    announced = _SEPARATOR_LINE.match(text)
    above = 1 if announced else 0
    body = io.StringIO(text[announced.end() :] if announced else text, newline="")
    delimiter = announced[1] if announced else _delimiter(text)
    lines = csv.reader(body, delimiter=delimiter, strict=True)
    records: list[CsvRecord] = []
    faults: list[CsvFault] = []
    header: _Header | None = None
    begins = above + 1
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                pass
            elif header is None:
                header = _header(cells, name, known, required, passed_over)
            else:
                try:
                    records.append(CsvRecord(begins, header.cells(cells)))
                except ValueError as error:
                    faults.append(CsvFault(begins, str(error)))
            begins = above + lines.line_num + 1
    except csv.Error as error:
        faults.append(CsvFault(begins, f"it is not CSV ({error}); mend its quotes"))
    if header is None:
        cause = f"line {faults[0].line}: {faults[0].text}" if faults else "is empty"
        raise InvalidInput(f"{name} {cause}; its first line must be {','.join(known)}")
    return CsvFile(name, header.columns, records, faults)


def _delimiter(text: str) -> str:
    """A spreadsheet writes semicolons where a comma stands in numbers, and `--format tsv` tabs. No column's name has
    any of the three in it.
    """
    first = next((line for line in io.StringIO(text, newline=None) if line.strip(_AROUND_CELLS)), "")
    return next((delimiter for delimiter in ",;\t" if delimiter in first), ",")


def _header(
    cells: Sequence[str], name: str, known: Sequence[str], required: Sequence[str], passed_over: Collection[str]
) -> _Header:
    columns = tuple(cell.strip(MARKS).strip().lower() for cell in cells)
    for column in filter(None, columns):
        if column not in known and column not in passed_over:
            raise InvalidInput(f"{name} has an unknown column {_shown(column)}{_remedy(column, known)}")
        if columns.count(column) > 1:
            raise InvalidInput(f"{name} has column {column!r} twice; keep one")
    for column in required:
        if column not in columns:
            raise InvalidInput(f"{name} has no column {column!r}; add it to the first line")
    return _Header(columns, passed_over)


def _shown(text: str) -> str:
    return f"{text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"


def _remedy(column: str, known: Sequence[str]) -> str:
    listed = ",".join(known)
    if any(mark in column for mark in ",;\t|"):  # the whole line
        return f"; separate the columns by commas; known: {listed}"
    return meant_among(column, known, f"take it out, or name it as one of: {listed}")
