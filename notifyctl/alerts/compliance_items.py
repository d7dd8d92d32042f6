"""What expires: read from text, written, renewed, and taken off. Reminders that still wait go with their date."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.audit import AuditAction
from notifyctl.models.message import WAITING
from notifyctl.models.template import Channel
from notifyctl.orchestrator.client_fields import identifier, plain_text
from notifyctl.orchestrator.withdrawal import withdraw
from notifyctl.store import audit, messages
from notifyctl.store import compliance as store
from notifyctl.store.messages import Filter
from notifyctl.zones import zone_of

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


@dataclass(frozen=True, slots=True)
class Item:
    client_id: str
    reference: str
    name: str
    expires_on: date

    @property
    def key(self) -> store.Key:
        return self.client_id, self.reference


@dataclass(frozen=True, slots=True)
class Written:
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    """Waiting reminders of dates that are no longer so."""

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.created + other.created,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.withdrawn + other.withdrawn,
        )


def read(texts: Mapping[str, str]) -> tuple[Item | None, list[str]]:
    """The item, and a line (`column: what is wrong`) for each bad text."""
    readers = {"client_id": identifier, "name": _named, "reference": _named, "expires_on": read_date}
    values: dict[str, Any] = {}
    faults = []
    for column, reader in readers.items():
        try:
            values[column] = reader(texts[column].strip(" \t"))
        except InvalidInput as error:
            faults.append(f"{column}: {error}")
    return (None if faults else Item(**values)), faults


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


def write(session: Session, items: Sequence[Item], *, actor: str, now: datetime) -> Written:
    """Creates items and changes those that are not as given. Their clients must be there, and be locked."""
    before = store.by_keys(session, [item.key for item in items])
    different = [item for item in items if _differs(item, before.get(item.key))]
    rows = [
        {"client_id": item.client_id, "reference": item.reference, "name": item.name}
        | {"expires_on": item.expires_on.isoformat(), "created_at": now, "updated_at": now}
        for item in different
    ]
    store.upsert(session, rows)
    redated = [row for item in different if (row := before.get(item.key)) and row.expires_on != item.expires_on]
    created = sum(item.key not in before for item in different)
    return Written(
        created=created,
        changed=len(different) - created,
        unchanged=len(items) - len(different),
        withdrawn=withdraw_reminders(session, redated, "its item has another expiry date now", actor=actor, now=now),
    )


def _differs(item: Item, row: Row[Any] | None) -> bool:
    return row is None or (row.name, row.expires_on) != (item.name, item.expires_on)


def renew(session: Session, client_id: str, reference: str, day: date, *, actor: str, now: datetime) -> Written:
    """Raises NotFound."""
    row = locked(session, client_id, reference)
    written = write(session, [Item(client_id, reference, row.name, day)], actor=actor, now=now)
    about = {"reference": reference, "expires_on": day.isoformat(), "before": row.expires_on.isoformat()}
    _audit(session, client_id, {"command": "compliance renew", **about}, actor, now)
    return written


def remove(session: Session, client_id: str, reference: str, *, actor: str, now: datetime) -> int:
    """How many waiting reminders were withdrawn. Raises NotFound."""
    row = locked(session, client_id, reference)
    withdrawn = withdraw_reminders(session, [row], "its item was removed", actor=actor, now=now)
    store.remove(session, row.id)
    about = {"reference": reference, "expires_on": row.expires_on.isoformat()}
    _audit(session, client_id, {"command": "compliance remove", **about}, actor, now)
    return withdrawn


def locked(session: Session, client_id: str, reference: str) -> Row[Any]:
    """Raises NotFound."""
    store.lock_clients(session, [client_id])
    found = store.by_keys(session, [(client_id, reference)]).get((client_id, reference))
    if found is None:
        raise NotFound(
            f"client {client_id!r} has no item {reference!r}; `notifyctl compliance list --client {client_id}` shows"
            " those it has"
        )
    return found


def _audit(session: Session, client_id: str, details: Mapping[str, Any], actor: str, now: datetime) -> None:
    audit.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, client_id=client_id, details=details)


def withdraw_reminders(session: Session, rows: Iterable[Row[Any]], why: str, *, actor: str, now: datetime) -> int:
    """Of items as they were: the last reminder of each, if it still waits. Returns how many."""
    keys = [
        key
        for row in rows
        if row.asked_for is not None
        for key in reminder_keys(row, row.asked_for, row.asked_window).values()
    ]
    found = messages.by_idempotency_keys(session, keys).values()
    waiting = [message.id for message in found if message.status in WAITING]
    if not waiting:
        return 0
    return len(withdraw(session, Filter(ids=waiting), why, actor=actor, now=now))


def reminder_keys(item: Any, expires_on: date, window: int) -> dict[Channel, str]:
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
