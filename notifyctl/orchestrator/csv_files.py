"""Reading CSV files that people made: every fault is found and named by its line."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from notifyctl.errors import InvalidInput

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Record:
    line: int
    """Where it begins in the file, counted from 1."""
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    line: int
    text: str
    """What is wrong and how to mend it, beginning with the column if it is one cell's."""


@dataclass(frozen=True, slots=True)
class CsvFile:
    name: str
    columns: tuple[str, ...]
    records: Sequence[Record]
    faults: Sequence[Fault]
    """Records that cannot be read; they are not among `records`."""


def parse(data: bytes, name: str, *, known: Sequence[str], required: Sequence[str]) -> CsvFile:
    """Raises InvalidInput when the file cannot be read at all, or has a column that is not `known`."""
    lines = csv.reader(io.StringIO(_decoded(data, name), newline=""), strict=True)
    records: list[Record] = []
    faults: list[Fault] = []
    columns: tuple[str, ...] = ()
    begins = 1
    try:
        for cells in lines:
            if not any(cells):
                pass
            elif not columns:
                columns = _header(cells, name, known, required)
            elif len(cells) != len(columns):
                faults.append(Fault(begins, f"it has {len(cells)} cells, the header has {len(columns)}; mend it"))
            else:
                records.append(Record(begins, tuple(cells)))
            begins = lines.line_num + 1
    except csv.Error as error:
        faults.append(Fault(begins, f"it is not CSV ({error}); mend its quotes"))
    if not columns:
        cause = f"line {faults[0].line}: {faults[0].text}" if faults else "is empty"
        raise InvalidInput(f"{name} {cause}; its first line must be {','.join(known)}")
    return CsvFile(name, columns, records, faults)


def _decoded(data: bytes, name: str) -> str:
    if data.startswith(_UTF16):
        raise InvalidInput(f"{name} is UTF-16; save it as CSV UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        lines = ", ".join(str(number) for number in _undecodable_lines(data))
        raise InvalidInput(f"{name} is not UTF-8 in line {lines}; save it as CSV UTF-8") from None


def _undecodable_lines(data: bytes, shown: int = 10) -> Iterator[int | str]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            if shown == 0:
                yield "…"
                return
            shown -= 1
            yield number


def _header(cells: Sequence[str], name: str, known: Sequence[str], required: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(cell.strip().lower() for cell in cells)
    for column in columns:
        if column not in known:
            hint = "; separate the columns by commas" if ";" in column or "\t" in column else ""
            raise InvalidInput(f"{name} has an unknown column {column!r}{hint}; known: {','.join(known)}")
        if columns.count(column) > 1:
            raise InvalidInput(f"{name} has column {column!r} twice; keep one")
    for column in required:
        if column not in columns:
            raise InvalidInput(f"{name} has no column {column!r}; add it to the first line")
    return columns
