"""What the sandbox's Stripe has on its books: events, subscriptions and customers."""

import threading
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifyctl.errors import InvalidInput

EVENTS_KEPT_FOR = timedelta(days=30)
MAX_EVENTS = 200_000
KINDS = ("subscription", "customer")

StripeObject = Mapping[str, object]


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
            self._entries: list[_Entry] = []
            self._events: dict[str, StripeObject] = {}
            self._objects: dict[str, dict[str, StripeObject]] = {kind: {} for kind in KINDS}
            self._numbers = 0

    def record(self, event: StripeObject, objects: Iterable[StripeObject] = ()) -> None:
        """An event, and how things are after it. Recorded again, an event stays as it is; the oldest go beyond 200,000.

        Raises InvalidInput for an event without an id, type or time, and as `put` does.
        """
        event_id, created = _checked(event)
        with self._lock:
            if event_id not in self._events:
                self._numbers += 1
                insort(self._entries, _Entry(created, self._numbers, event_id))
                self._events[event_id] = event
            if len(self._entries) > MAX_EVENTS:
                del self._events[self._entries.pop(0).id]
        data = event.get("data")
        subject = data.get("object") if isinstance(data, Mapping) else None
        for value in objects:
            before = self.object(str(value.get("object")), str(value.get("id")))
            is_of_other_event = value.get("object") == "subscription" and value != subject
            self.put(_paid_for(before, value) if before is not None and is_of_other_event else value)

    def put(self, value: StripeObject) -> None:
        """A subscription or customer as it is now. Raises InvalidInput for anything else."""
        kind, object_id = value.get("object"), value.get("id")
        if kind not in KINDS or not isinstance(object_id, str):
            raise InvalidInput(f"object: must be one of {', '.join(KINDS)} with an id, got {str(kind)[:50]!r}")
        with self._lock:
            self._objects[str(kind)][object_id] = value

    def events(self, now: datetime) -> list[StripeObject]:
        """Those that Stripe still has, newest first."""
        since = (now - EVENTS_KEPT_FOR).timestamp()
        with self._lock:
            return [self._events[entry.id] for entry in reversed(self._entries) if entry.created >= since]

    def event(self, event_id: str, now: datetime) -> StripeObject | None:
        with self._lock:
            event = self._events.get(event_id)
        is_kept = event is not None and created_at(event) >= (now - EVENTS_KEPT_FOR).timestamp()
        return event if is_kept else None

    def objects(self, kind: str) -> list[StripeObject]:
        """Newest first."""
        with self._lock:
            values = list(self._objects[kind].values())
        return sorted(reversed(values), key=created_at, reverse=True)

    def object(self, kind: str, object_id: str) -> StripeObject | None:
        with self._lock:
            return self._objects.get(kind, {}).get(object_id)


def created_at(value: StripeObject) -> int:
    """Seconds since 1970; 0 where it is not known."""
    created = value.get("created")
    return created if isinstance(created, int) else 0


def _paid_for(before: StripeObject, after: StripeObject) -> StripeObject:
    """What an invoice or a checkout changes of its subscription. One that was canceled stays so, and of one that is
    live already a first payment that fails, as a bank debit does days later, makes no checkout again.
    """
    status = after.get("status")
    if before.get("status") == "canceled":
        status = before["status"]
    elif status == "incomplete" and before.get("status") in ("active", "trialing", "past_due"):
        status = "past_due"
    return {**before, "status": status, "latest_invoice": after.get("latest_invoice")}


def _checked(event: StripeObject) -> tuple[str, int]:
    event_id, created = event.get("id"), event.get("created")
    if event.get("object") != "event" or not isinstance(event_id, str) or not isinstance(event.get("type"), str):
        raise InvalidInput("event: must be a Stripe event with an id and a type")
    if not isinstance(created, int):
        raise InvalidInput(f"event {event_id}: created must be in seconds since 1970")
    return event_id, created
