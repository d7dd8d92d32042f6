"""Where the events of a replay come from: our store, a file, or Stripe itself."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO, Protocol

from notifyctl.billing.envelope import Event, read_event
from notifyctl.billing.event_files import FileFault, read_events
from notifyctl.billing.event_spool import EventSpool, Item
from notifyctl.billing.events import EVENTS
from notifyctl.errors import InvalidInput
from notifyctl.store import stripe_listing
from notifyctl.store.database import Database
from notifyctl.store.stripe_listing import Filter

PAGE = 500
KEPT_AT_STRIPE = timedelta(days=30)
CLOCKS_DIFFER_BY = timedelta(minutes=10)
"""Stripe's and ours, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events of a file or of Stripe's; None, or no types, means any. A type may end in `*`."""

    ids: frozenset[str] | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, event: Event) -> bool:
        return (
            (self.ids is None or event.id in self.ids)
            and (not self.types or any(_fits(event.type, pattern) for pattern in self.types))
            and (self.since is None or event.created >= self.since)
            and (self.until is None or event.created < self.until)
        )


def _fits(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


def stored(database: Database, wanted: Filter) -> Iterator[Item]:
    """Oldest first, page by page: what is changed meanwhile is met once at most."""
    after: tuple[datetime, str] | None = None
    while True:
        with database.read() as session:
            rows = stripe_listing.oldest(session, wanted, after=after, limit=PAGE)
        yield from (Item(row.id, row.created) for row in rows)
        if len(rows) < PAGE:
            return
        after = (rows[-1].created, rows[-1].id)


def lay_out(file: BinaryIO, name: str, wanted: Wanted, spool: EventSpool, now: datetime) -> Iterator[FileFault]:
    """Reads the whole file into `spool`, and tells what in it is no event. Raises InvalidInput if none of it is text.

    An event without a time happened `now`.
    """
    for found in read_events(file, name):
        if isinstance(found, FileFault):
            yield found
            continue
        try:
            event = read_event(found.raw, now)
        except InvalidInput as error:
            yield FileFault(found.line, str(error))
            continue
        if wanted.takes(event):
            spool.add(event, found.raw)


class StripeEventsApi(Protocol):
    """What is asked of providers.stripe_api, which is imported only where it is needed."""

    def event(self, event_id: str) -> Mapping[str, Any] | None: ...

    def events(self, since: datetime, until: datetime, types: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Lost:
    event_id: str


def at_stripe(api: StripeEventsApi, wanted: Wanted, now: datetime) -> Iterator[tuple[Event, bytes] | Lost]:
    """Oldest first; those named by id in the order of their names. Without types, only those that do something here."""
    for told in _told(api, wanted, now):
        if isinstance(told, Lost):
            yield told
            continue
        raw = json.dumps(told, separators=(",", ":")).encode()
        event = read_event(raw, now)
        if wanted.takes(event):
            yield event, raw


def _told(api: StripeEventsApi, wanted: Wanted, now: datetime) -> Iterator[Mapping[str, Any] | Lost]:
    if wanted.ids is not None:
        for event_id in sorted(wanted.ids):
            yield api.event(event_id) or Lost(event_id)
        return
    types = wanted.types or tuple(EVENTS)
    has_pattern = any(kind.endswith("*") for kind in types)
    since = wanted.since or now - KEPT_AT_STRIPE
    until = wanted.until or now + CLOCKS_DIFFER_BY
    yield from api.events(since, until, () if has_pattern else types)
