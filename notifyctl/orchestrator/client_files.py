"""A file of clients: checked as a whole before anything is written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from notifyctl.orchestrator import clients, csv_files
from notifyctl.orchestrator.client_fields import COLUMN_OF, ClientChange, ClientFields
from notifyctl.orchestrator.csv_files import CsvFile, Fault, Record

COLUMNS = ("id", *COLUMN_OF)


@dataclass(frozen=True, slots=True)
class Checked:
    changes: Sequence[ClientChange]
    lines: Mapping[str, int]
    """Client id -> the line that names it."""
    faults: Sequence[Fault]


def parse(data: bytes, name: str) -> CsvFile:
    """Raises InvalidInput when the file cannot be read or has an unknown column."""
    return csv_files.parse(data, name, known=COLUMNS, required=("id",))


def check(file: CsvFile, records: Iterable[Record], fields: ClientFields) -> Checked:
    """`records` are those of `file`; they are passed so that the caller can watch them go by."""
    changes: list[ClientChange] = []
    lines: dict[str, int] = {}
    customers: dict[str, int] = {}
    faults = list(file.faults)
    for record in records:
        texts = dict(zip(file.columns, record.cells, strict=True))
        change, found = fields.read(texts.pop("id"), texts)
        customer = change.values.get("stripe_customer_id")
        found += _repeated("id", change.id, lines, record.line)
        found += _repeated("stripe_customer_id", customer, customers, record.line)
        faults += (Fault(record.line, fault) for fault in found)
        if change.id:
            changes.append(change)
    return Checked(changes, lines, faults)


def conflicts(session: Session, checked: Checked) -> list[Fault]:
    """What only the store can tell."""
    found = clients.conflicts(session, checked.changes)
    return [Fault(checked.lines[client_id], problem) for client_id, problem in found.items()]


def _repeated(column: str, value: object, seen: dict[str, int], line: int) -> Iterator[str]:
    """Notes where `value` stands; tells when it stood elsewhere before."""
    if not value:
        return
    first = seen.setdefault(str(value), line)
    if first != line:
        yield f"{column}: {value!r} is in line {first} already; keep one of the two"
