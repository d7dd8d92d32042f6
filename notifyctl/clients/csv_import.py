"""A file of clients: checked as a whole before anything is written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from notifyctl.clients import clients
from notifyctl.clients.fields import COLUMN_OF, ClientChange, ClientFields
from notifyctl.text import csv_import
from notifyctl.text.csv_import import CsvFault, CsvFile, CsvRecord

COLUMNS = ("id", *COLUMN_OF)


@dataclass(frozen=True, slots=True)
class CheckedClients:
    changes: Sequence[ClientChange]
    lines: Mapping[str, int]
    """Client id -> the line that names it."""
    faults: Sequence[CsvFault]


def parse(data: bytes, name: str) -> CsvFile:
    """Raises InvalidInput when the file cannot be read or has an unknown column."""
    return csv_import.parse(data, name, known=COLUMNS, required=("id",))


def check(file: CsvFile, records: Iterable[CsvRecord], fields: ClientFields) -> CheckedClients:
    """`records` are those of `file`; they are passed so that the caller can watch them go by."""
    changes: list[ClientChange] = []
    lines: dict[str, int] = {}
    customers: dict[str, int] = {}
    faults = list(file.faults)
    for record in records:
        texts = dict(zip(file.columns, record.cells, strict=True))
        change, wrong = fields.read(texts.pop("id"), texts)
        customer = change.values.get("stripe_customer_id")
        wrong += _repeated("id", change.id, lines, record.line)
        wrong += _repeated("stripe_customer_id", customer, customers, record.line)
        faults += (CsvFault(record.line, fault) for fault in wrong)
        if change.id:
            changes.append(change)
    return CheckedClients(changes, lines, faults)


def conflicts(session: Session, checked: CheckedClients) -> list[CsvFault]:
    """What only the store can tell."""
    problems = clients.conflicts(session, checked.changes)
    return [CsvFault(checked.lines[client_id], problem) for client_id, problem in problems.items()]


def _repeated(column: str, value: object, seen: dict[str, int], line: int) -> Iterator[str]:
    """Notes where `value` stands; tells when it stood elsewhere before."""
    if not value:
        return
    first = seen.setdefault(str(value), line)
    if first != line:
        yield f"{column}: {value!r} is in line {first} already; keep one of the two"
