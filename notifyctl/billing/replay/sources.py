"""Where the events of a replay come from: our store, a file, or Stripe itself.

Stored ones are named by their ids, others are spooled to disk, so that memory holds few.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from notifyctl.billing.event import Event, read_event
from notifyctl.billing.handlers import EVENTS
from notifyctl.billing.objects import Json
from notifyctl.billing.replay import listing_store
from notifyctl.billing.replay.event_files import FileFault, read_events
from notifyctl.billing.replay.listing_store import EventFilter
from notifyctl.db.database import Database
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Origin

PAGE = 500
KEPT_AT_STRIPE = timedelta(days=30)
CLOCKS_DIFFER_BY = timedelta(minutes=10)
"""Stripe's and ours, at most."""


@dataclass(frozen=True, slots=True)
class ReplayItem:
    event_id: str
    created: datetime
    origin: Origin | None = None
    """None: it is stored already."""
    load: Callable[[], bytes] | None = None
    """Its body, unless it is stored."""


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    created: datetime
    number: int
    event_id: str
    offset: int
    length: int


class EventSpool:
    """Takes events in any order and hands them out, any number of times, oldest first. The file has no name."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._file = TemporaryFile(prefix="notifyctl-")  # noqa: SIM115  closed by __exit__
        self._places: list[_Place] = []
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, event: Event, raw: bytes) -> None:
        self._file.seek(self._end)
        self._file.write(raw)
        self._places.append(_Place(event.created, len(self._places), event.id, self._end, len(raw)))
        self._end += len(raw)

    def __iter__(self) -> Iterator[ReplayItem]:
        self._places.sort()
        for place in self._places:
            yield ReplayItem(place.event_id, place.created, self._origin, partial(self._read, place))

    def _read(self, place: _Place) -> bytes:
        self._file.seek(place.offset)
        return self._file.read(place.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFilter:
    """Which events of a file or of Stripe's; None, or no types, means any. A type may end in `*`."""

    ids: frozenset[str] | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, event: Event) -> bool:
        return (
            (self.ids is None or event.id in self.ids)
            and (not self.types or any(_is_of_type(event.type, pattern) for pattern in self.types))
            and (self.since is None or event.created >= self.since)
            and (self.until is None or event.created < self.until)
        )


def _is_of_type(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


def stored_items(database: Database, criteria: EventFilter) -> Iterator[ReplayItem]:
    """Oldest first, page by page: what is changed meanwhile is met once at most."""
    after: tuple[datetime, str] | None = None
    while True:
        with database.read() as session:
            events = listing_store.oldest(session, criteria, after=after, limit=PAGE)
        yield from (ReplayItem(event.id, event.created) for event in events)
        if len(events) < PAGE:
            return
        after = (events[-1].created, events[-1].id)


def spool_file(
    file: BinaryIO, name: str, criteria: SourceFilter, spool: EventSpool, now: datetime
) -> Iterator[FileFault]:
    """Reads the whole file into `spool`, and yields what in it is no event. Raises InvalidInput if none of it is text.

    An event without a time happened `now`.
    """
    for entry in read_events(file, name):
        if isinstance(entry, FileFault):
            yield entry
            continue
        try:
            event = read_event(entry.raw, now)
        except InvalidInput as error:
            yield FileFault(entry.line, str(error))
            continue
        if criteria.takes(event):
            spool.add(event, entry.raw)


class StripeAccount(Protocol):
    """What is used of providers.stripe_api, which is imported only where it is needed."""

    def event(self, event_id: str) -> Json | None: ...

    def events(self, since: datetime, until: datetime, types: Sequence[str] = ()) -> Iterator[Json]: ...

    def subscription(self, subscription_id: str) -> Json | None: ...

    def subscriptions(self) -> Iterator[Json]: ...


@dataclass(frozen=True, slots=True)
class MissingEvent:
    """Stripe has none by that id, or no longer."""

    event_id: str


def fetch_events(
    api: StripeAccount, criteria: SourceFilter, now: datetime
) -> Iterator[tuple[Event, bytes] | MissingEvent]:
    """Oldest first; those named by id in the order of their names. Without types, only those that do something here."""
    for answer in _fetch(api, criteria, now):
        if isinstance(answer, MissingEvent):
            yield answer
            continue
        raw = json.dumps(answer, separators=(",", ":")).encode()
        event = read_event(raw, now)
        if criteria.takes(event):
            yield event, raw


def _fetch(api: StripeAccount, criteria: SourceFilter, now: datetime) -> Iterator[Json | MissingEvent]:
    if criteria.ids is not None:
        for event_id in sorted(criteria.ids):
            yield api.event(event_id) or MissingEvent(event_id)
        return
    types = criteria.types or tuple(EVENTS)
    has_pattern = any(kind.endswith("*") for kind in types)
    since = criteria.since or now - KEPT_AT_STRIPE
    until = criteria.until or now + CLOCKS_DIFFER_BY
    yield from api.events(since, until, () if has_pattern else types)
