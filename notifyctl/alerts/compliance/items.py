"""What of a client's expires: read from text, checked as a whole file, written, renewed and taken off."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TypeVar

from sqlmodel import Session

from notifyctl.alerts.compliance import store
from notifyctl.alerts.compliance.store import ItemRow, ItemValues, Key
from notifyctl.audit import log as audit_log
from notifyctl.clients.fields import identifier, plain_text
from notifyctl.clock import zone_of
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.enums import AuditAction, Channel
from notifyctl.models.message import WAITING
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.cancel import withdraw
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.text import csv_import
from notifyctl.text.csv_import import CsvFault, CsvFile, CsvRecord

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 1970, 9998

T = TypeVar("T")
COLUMNS = ("client_id", "name", "reference", "expires_on")
LISTED = ("client_name", "days_left", "reminded_at", "timezone")
"""What `compliance list` prints besides, so that its CSV can be read back; it is not what an item says."""


@dataclass(frozen=True, slots=True)
class ItemsWritten:
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    """Waiting reminders of dates that are no longer so."""

    def __add__(self, other: "ItemsWritten") -> "ItemsWritten":
        return ItemsWritten(
            self.created + other.created,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.withdrawn + other.withdrawn,
        )


def read(texts: Mapping[str, str]) -> tuple[ItemValues | None, list[str]]:
    """The item, and a line (`column: what is wrong`) for each bad text."""
    faults: list[str] = []

    def cell(column: str, reader: Callable[[str], T]) -> T | None:
        try:
            return reader(texts[column].strip(" \t"))
        except InvalidInput as error:
            faults.append(f"{column}: {error}")
        return None

    client_id, name = cell("client_id", identifier), cell("name", _named)
    reference, expires_on = cell("reference", _named), cell("expires_on", read_date)
    if client_id is None or name is None or reference is None or expires_on is None:
        return None, faults
    return ItemValues(client_id, reference, name, expires_on), faults


def _named(text: str) -> str:
    if not text:
        raise InvalidInput("is empty; say what it is")
    return plain_text(text)


def read_date(text: str) -> date:
    """Raises InvalidInput."""
    try:
        day = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise InvalidInput(f"{text[:40]!r} is not a day; write it as 2026-04-13")
    return day


def write(session: Session, items: Sequence[ItemValues], *, actor: str, now: datetime) -> ItemsWritten:
    """Creates items and changes those that are not as given. Their clients must be there, and be locked."""
    before = store.by_keys(session, [item.key for item in items])
    different = [item for item in items if _differs(item, before.get(item.key))]
    store.upsert(session, different, now=now)
    redated = [row for item in different if (row := before.get(item.key)) and row.expires_on != item.expires_on]
    created = sum(item.key not in before for item in different)
    return ItemsWritten(
        created=created,
        changed=len(different) - created,
        unchanged=len(items) - len(different),
        withdrawn=withdraw_reminders(session, redated, "its item has another expiry date now", actor=actor, now=now),
    )


def _differs(item: ItemValues, row: ItemRow | None) -> bool:
    return row is None or (row.name, row.expires_on) != (item.name, item.expires_on)


def renew(session: Session, client_id: str, reference: str, day: date, *, actor: str, now: datetime) -> ItemsWritten:
    """Raises NotFound."""
    row = locked(session, client_id, reference)
    written = write(session, [ItemValues(client_id, reference, row.name, day)], actor=actor, now=now)
    details = {"reference": reference, "expires_on": day.isoformat(), "before": row.expires_on.isoformat()}
    _audit(session, client_id, {"command": "compliance renew", **details}, actor, now)
    return written


def remove(session: Session, client_id: str, reference: str, *, actor: str, now: datetime) -> int:
    """How many waiting reminders were withdrawn. Raises NotFound."""
    row = locked(session, client_id, reference)
    withdrawn = withdraw_reminders(session, [row], "its item was removed", actor=actor, now=now)
    store.remove(session, row.id)
    details = {"reference": reference, "expires_on": row.expires_on.isoformat()}
    _audit(session, client_id, {"command": "compliance remove", **details}, actor, now)
    return withdrawn


def locked(session: Session, client_id: str, reference: str) -> ItemRow:
    """Raises NotFound."""
    store.lock_clients(session, [client_id])
    item = store.by_keys(session, [(client_id, reference)]).get((client_id, reference))
    if item is None:
        raise NotFound(
            f"client {client_id!r} has no item {reference!r}; `notifyctl compliance list --client {client_id}` shows"
            " those it has"
        )
    return item


def _audit(session: Session, client_id: str, details: Mapping[str, object], actor: str, now: datetime) -> None:
    audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, client_id=client_id, details=details)


def withdraw_reminders(session: Session, items: Iterable[ItemRow], why: str, *, actor: str, now: datetime) -> int:
    """Of items as they were: the last reminder of each, if it still waits. Returns how many."""
    keys = [
        key
        for item in items
        if item.asked_for is not None and item.asked_window is not None
        for key in reminder_keys(item, item.asked_for, item.asked_window).values()
    ]
    reminders = message_store.by_idempotency_keys(session, keys).values()
    waiting = [message.id for message in reminders if message.status in WAITING]
    if not waiting:
        return 0
    return len(withdraw(session, MessageFilter(ids=waiting), why, actor=actor, now=now))


def reminder_keys(item: ItemRow, expires_on: date, window: int) -> dict[Channel, str]:
    """Under which one item is reminded of once. Hashed, since none may be longer than 255 characters."""
    identity = sha256(f"{item.client_id}\0{item.reference}".encode()).hexdigest()[:32]
    return {channel: f"compliance:{identity}:{expires_on}:{window}:{channel}" for channel in Channel}


def days_left(expires_on: date, zone: str, now: datetime) -> int:
    """From today, as the client's calendar has it, to the last valid day; below 0 once it has expired."""
    return (expires_on - _today(zone, now)).days


@lru_cache(maxsize=1024)
def _today(zone: str, now: datetime) -> date:
    """Remembered, since a run asks for a handful of zones at one moment, once for each item."""
    return now.astimezone(zone_of(zone)).date()


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
    return csv_import.parse(data, name, known=COLUMNS, required=COLUMNS, passed_over=LISTED)


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
