"""What the sandbox's Stripe has on its books: events, subscriptions and customers; and how its API is to fail."""

import threading
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox.faults import in_one_line

EVENTS_KEPT_FOR = timedelta(days=30)
MAX_EVENTS = 200_000
KINDS = ("subscription", "customer")

Object = Mapping[str, Any]


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StripeFault:
    """Instead of an answer. `kind` http is an error of Stripe's own with `status`; `times`: so often, then no more."""

    kind: Literal["http", "hang", "cut", "garbage"] = "http"
    status: Annotated[int, Field(ge=400, le=599)] = 429
    times: Annotated[int, Field(ge=1)] | None = None


_FAULT = TypeAdapter(StripeFault)


def stripe_fault_from(fields: Any) -> StripeFault:
    """Raises InvalidInput."""
    try:
        return _FAULT.validate_python(fields)
    except ValidationError as error:
        raise InvalidInput(f"stripe fault: {in_one_line(error)}") from error


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    created: int
    number: int
    id: str


class StripeLedger:
    """Every method may be called from any thread."""

    def __init__(self) -> None:
        self.api_key: str | None = None
        """None lets any key in."""
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._order: list[_Entry] = []
            self._events: dict[str, Object] = {}
            self._undelivered: set[str] = set()
            self._objects: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
            self._fault: StripeFault | None = None
            self._fault_left: int | None = None
            self._calls = 0
            self._numbers = 0

    def record(self, event: Object, *, is_delivered: bool = True) -> None:
        """An event that happened. Told again, it only becomes delivered or undelivered. The oldest go beyond 200,000.

        Raises InvalidInput for what has no id, type or time.
        """
        event_id, created = _checked(event)
        with self._lock:
            if event_id not in self._events:
                self._numbers += 1
                insort(self._order, _Entry(created, self._numbers, event_id))
                self._events[event_id] = event
            (self._undelivered.discard if is_delivered else self._undelivered.add)(event_id)
            if len(self._order) > MAX_EVENTS:
                self._forget(self._order.pop(0).id)

    def _forget(self, event_id: str) -> None:
        del self._events[event_id]
        self._undelivered.discard(event_id)

    def happen(self, event: Object, objects: Iterable[Object], *, is_delivered: bool = True) -> None:
        """An event, and how things are after it. Raises InvalidInput, as `record` and `put` do."""
        told = event.get("data", {}).get("object")
        self.record(event, is_delivered=is_delivered)
        for value in objects:
            before = self.object(str(value.get("object")), str(value.get("id")))
            is_of_other_event = value.get("object") == "subscription" and value != told
            if before is not None and is_of_other_event:
                value = _paid_for(before, value)
            self.put(value)

    def put(self, value: Object) -> None:
        """A subscription or customer as it is now. Raises InvalidInput for anything else."""
        kind, object_id = value.get("object"), value.get("id")
        if kind not in KINDS or not isinstance(object_id, str):
            raise InvalidInput(f"object: must be one of {', '.join(KINDS)} with an id, got {str(kind)[:50]!r}")
        with self._lock:
            self._objects[str(kind)][object_id] = value

    def remove(self, event_id: str) -> None:
        """As if the event had never been made."""
        with self._lock:
            self._order = [entry for entry in self._order if entry.id != event_id]
            if event_id in self._events:
                self._forget(event_id)

    def events(self, now: datetime) -> list[Object]:
        """Those that Stripe still has, newest first."""
        since = (now - EVENTS_KEPT_FOR).timestamp()
        with self._lock:
            return [self._events[entry.id] for entry in reversed(self._order) if entry.created >= since]

    def event(self, event_id: str, now: datetime) -> Object | None:
        with self._lock:
            found = self._events.get(event_id)
        is_kept = found is not None and int(found["created"]) >= (now - EVENTS_KEPT_FOR).timestamp()
        return found if is_kept else None

    def is_delivered(self, event_id: str) -> bool:
        return event_id not in self._undelivered

    def objects(self, kind: str) -> list[Object]:
        """Newest first."""
        with self._lock:
            found = list(self._objects[kind].values())
        return sorted(reversed(found), key=lambda value: int(value.get("created") or 0), reverse=True)

    def object(self, kind: str, object_id: str) -> Object | None:
        with self._lock:
            return self._objects.get(kind, {}).get(object_id)

    def set_fault(self, fault: StripeFault | None) -> None:
        with self._lock:
            self._fault, self._fault_left = fault, fault.times if fault else None

    @property
    def fault(self) -> StripeFault | None:
        return self._fault

    def strike(self) -> StripeFault | None:
        """Counts a call, and tells what befalls it."""
        with self._lock:
            self._calls += 1
            if self._fault is None or self._fault_left == 0:
                return None
            if self._fault_left is not None:
                self._fault_left -= 1
            return self._fault

    @property
    def calls(self) -> int:
        return self._calls


def _paid_for(before: Object, after: Object) -> Object:
    """What an invoice or a checkout changes of its subscription. One that was canceled stays so, and of one that is
    live already a first payment that fails, as a bank debit does days later, makes no checkout again.
    """
    status = after.get("status")
    if before.get("status") == "canceled":
        status = before["status"]
    elif status == "incomplete" and before.get("status") in ("active", "trialing", "past_due"):
        status = "past_due"
    return {**before, "status": status, "latest_invoice": after.get("latest_invoice")}


def _checked(event: Object) -> tuple[str, int]:
    event_id, created = event.get("id"), event.get("created")
    if event.get("object") != "event" or not isinstance(event_id, str) or not isinstance(event.get("type"), str):
        raise InvalidInput("event: must be a Stripe event with an id and a type")
    if not isinstance(created, int):
        raise InvalidInput(f"event {event_id}: created must be in seconds since 1970")
    return event_id, created
