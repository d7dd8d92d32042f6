"""A file of compliance items: checked as a whole before anything is written."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from notifyctl.alerts.compliance_items import read
from notifyctl.orchestrator import csv_files
from notifyctl.orchestrator.csv_files import CsvFault, CsvFile, CsvRecord
from notifyctl.store.compliance import ItemValues, Key

COLUMNS = ("client_id", "name", "reference", "expires_on")
LISTED = ("client_name", "days_left", "reminded_at", "timezone")
"""What `compliance list` prints besides, so that its CSV can be read back; it is not what an item says."""


@dataclass(frozen=True, slots=True)
class CheckedItems:
    items: Sequence[ItemValues]
    lines: Mapping[Key, int]
    """The line that names an item."""
    faults: Sequence[CsvFault]

    @property
    def client_ids(self) -> set[str]:
        return {item.client_id for item in self.items}

    def unknown_clients(self, known: Collection[str]) -> list[CsvFault]:
        """`known` are those of `client_ids` that there are."""
        return [
            CsvFault(
                self.lines[item.key],
                f"client_id: there is no client {item.client_id!r}; import it with `notifyctl clients import` first",
            )
            for item in self.items
            if item.client_id not in known
        ]


def parse(data: bytes, name: str) -> CsvFile:
    """Raises InvalidInput when the file cannot be read, lacks a column or has an unknown one."""
    return csv_files.parse(data, name, known=COLUMNS, required=COLUMNS, passed_over=LISTED)


def check(file: CsvFile, records: Iterable[CsvRecord]) -> CheckedItems:
    """`records` are those of `file`; they are passed so that the caller can watch them go by."""
    items: list[ItemValues] = []
    lines: dict[Key, int] = {}
    faults = list(file.faults)
    for record in records:
        item, wrong = read(dict(zip(file.columns, record.cells, strict=True)))
        faults += (CsvFault(record.line, fault) for fault in wrong)
        if item is None:
            continue
        first = lines.setdefault(item.key, record.line)
        if first != record.line:
            known = f"reference: {item.reference!r} of client {item.client_id!r}"
            faults.append(CsvFault(record.line, f"{known} is in line {first} already; keep one of the two"))
        items.append(item)
    return CheckedItems(items, lines, faults)
