"""Processing events once more: for what failed, was missed, or could not be matched with a client at the time.

It goes the way of every event, so that doing it twice, beside a worker or beside Stripe's own deliveries does no harm:
state comes to the same whatever the order, and no news is written twice.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import sleep

from sqlmodel import Session

from notifyctl.billing import store as event_store
from notifyctl.billing.event import event_subject, is_same_event, read_event
from notifyctl.billing.event_context import EventOutcome, MailFate
from notifyctl.billing.processing import ProcessingOptions, repeated
from notifyctl.billing.replay import listing_store
from notifyctl.billing.replay.sources import (
    CLOCKS_DIFFER_BY,
    PAGE,
    MissingEvent,
    ReplayItem,
    SourceFilter,
    fetch_events,
)
from notifyctl.billing.store import EventSubject, EventSummary
from notifyctl.billing.stripe_events import TOGETHER, StripeEvents
from notifyctl.clients import store as client_store
from notifyctl.clock import Clock
from notifyctl.db.batches import LEAST_PAUSE_SECONDS
from notifyctl.db.database import Database
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import Origin, StripeEventStatus
from notifyctl.models.stripe_event import SETTLED
from notifyctl.providers.stripe import build_stripe_api
from notifyctl.settings import Settings

MOST_IN_A_REHEARSAL = 25
"""Events in one transaction, which nobody else writes beside on SQLite, and for whose clients deliveries wait. More
only where they are of one client.
"""


@dataclass(frozen=True, slots=True)
class Replayed:
    outcome: EventOutcome
    was_settled: bool
    has_other_body: bool = False
    """It is stored with another body, which is the one that was worked on."""
    is_bare: bool = False
    """Its body is no longer kept: it was left as it is."""

    @property
    def was_done(self) -> bool:
        """An earlier run had done all of it."""
        mail = self.outcome.mail
        is_quiet = mail is None or mail.fate in (MailFate.DUPLICATE, MailFate.WITHHELD)
        return self.was_settled and self.outcome.status in SETTLED and not self.outcome.changes and is_quiet


@dataclass(slots=True)
class Tally:
    """What came of a replay, in events."""

    events: int = 0
    already_done: int = 0
    changed: int = 0
    matched: int = 0
    """Beside those: events that had matched nobody, and whose client became known by one of them."""
    failed: int = 0
    """Of both."""
    statuses: Counter[StripeEventStatus] = field(default_factory=Counter)
    mails: Counter[MailFate] = field(default_factory=Counter)

    def add(self, replayed: Replayed) -> None:
        outcome = replayed.outcome
        self.events += 1
        self.already_done += replayed.was_done
        self.changed += bool(outcome.changes)
        self.statuses[outcome.status] += 1
        self.matched += len(outcome.matched)
        for item in outcome.everything():
            self.failed += item.status is StripeEventStatus.FAILED
            if item.mail is not None:
                self.mails[item.mail.fate] += 1


Watch = Callable[[Iterable[tuple[int, Replayed]]], Iterable[tuple[int, Replayed]]]


class Replay:
    """`actor` is whose word an event from a file is taken on, since it comes without a signature."""

    def __init__(self, billing: StripeEvents, database: Database, *, actor: str, mail_old: bool) -> None:
        self._billing = billing
        self._database = database
        self._options = ProcessingOptions(actor, mail_old, is_replay=True)

    def run(self, items: Iterable[ReplayItem]) -> Iterator[Replayed]:
        """In their order, a few in each transaction, which is committed before the next few are asked for.

        Raises DatabaseError and, for an unknown id, NotFound.
        """
        for few in _few_at_once(items):
            yield from self._run(few)
            if self._database.is_sqlite:
                sleep(LEAST_PAUSE_SECONDS)

    def _run(self, items: Sequence[ReplayItem]) -> Iterator[Replayed]:
        bodies = {item.event_id: item.load() for item in items if item.load}
        new = self._record(items, bodies)
        with self._database.read() as session:
            before = event_store.get_many(session, [item.event_id for item in items if item.event_id not in new])
        bare = {event_id for event_id, event in before.items() if not event.body and event.status in SETTLED}
        work = [(item.event_id, self._options) for item in items if item.event_id not in bare]
        outcomes = iter(self._billing.process_together(work))
        for item in items:
            stored = before.get(item.event_id)
            if item.event_id in bare and stored is not None:
                yield _left_alone(stored)
            elif stored is None:
                yield Replayed(next(outcomes), was_settled=False)
            else:
                raw = bodies.get(item.event_id)
                has_other_body = raw is not None and bool(stored.body) and not is_same_event(stored.body, raw)
                yield Replayed(next(outcomes), stored.status in SETTLED, has_other_body)

    def _record(self, items: Sequence[ReplayItem], bodies: Mapping[str, bytes]) -> set[str]:
        """Stores the events that are new, and returns their ids."""
        new: set[str] = set()
        for origin in dict.fromkeys(item.origin for item in items if item.origin is not None):
            raws = [bodies[item.event_id] for item in items if item.origin is origin]
            new |= self._billing.record_many(raws, origin=origin, actor=self._options.actor)
        return new

    def rehearse(self, items: Iterable[ReplayItem], watch: Watch = iter) -> list[Replayed]:
        """What `run` would do, in the same order. Changes nothing.

        Events that have to do with each other are worked on together, and as few others as possible at a time.
        `watch` is handed the results as they come, and hands them on.
        """
        everything = list(items)
        replayed = dict(watch(self._in_batches(everything)))
        return [replayed[number] for number in range(len(everything))]

    def _in_batches(self, everything: Sequence[ReplayItem]) -> Iterator[tuple[int, Replayed]]:
        for numbers in _batches(group_items(self._database, everything)):
            batch = [everything[number] for number in numbers]
            yield from zip(numbers, self._rehearsed(batch), strict=True)

    def _rehearsed(self, batch: Sequence[ReplayItem]) -> Iterator[Replayed]:
        ids = [item.event_id for item in batch]
        with self._database.read() as session:
            before, bare = listing_store.statuses(session, ids), listing_store.bare(session, ids)
        events = [item.load() if item.load else item.event_id for item in batch if item.event_id not in bare]
        outcomes = iter(self._billing.rehearse(events, mail_old=self._options.mail_old, is_verified=True))
        for event_id in ids:
            if event_id in bare:
                yield _left_alone(bare[event_id])
            else:
                yield Replayed(next(outcomes), before.get(event_id) in SETTLED)


def _left_alone(event: EventSummary) -> Replayed:
    """Without its body there is nothing to work on, and what came of it is on its row."""
    return Replayed(repeated(event), was_settled=True, is_bare=True)


def _few_at_once(items: Iterable[ReplayItem]) -> Iterator[list[ReplayItem]]:
    """None of them twice. Where `items` break off, those before that are handed out first."""
    few: dict[str, ReplayItem] = {}
    broken: NotifyctlError | None = None
    try:
        for item in items:
            if len(few) == TOGETHER or item.event_id in few:
                yield list(few.values())
                few = {}
            few[item.event_id] = item
    except NotifyctlError as error:
        broken = error
    if few:
        yield list(few.values())
    if broken is not None:
        raise broken


def _batches(groups: Iterable[Sequence[int]]) -> Iterator[list[int]]:
    """Several groups together, as long as they are few events; in the order of the events."""
    batch: list[int] = []
    for group in groups:
        if batch and len(batch) + len(group) > MOST_IN_A_REHEARSAL:
            yield sorted(batch)
            batch = []
        batch += group
    if batch:
        yield sorted(batch)


def group_items(database: Database, items: Sequence[ReplayItem]) -> list[list[int]]:
    """Which events have to do with each other: those of one client, by any of the names that it has at Stripe.

    The numbers of `items`, group by group; the group with the first event first.
    """
    groups = _Groups()
    for start in range(0, len(items), PAGE):
        page = items[start : start + PAGE]
        with database.read() as session:
            names = _names(session, page)
        for number, item in enumerate(page, start=start):
            groups.join([_number(number), *names[item.event_id]])
    numbers: dict[str, list[int]] = defaultdict(list)
    for number in range(len(items)):
        numbers[groups.root(_number(number))].append(number)
    return list(numbers.values())


def _number(number: int) -> str:
    return f"number {number}"


def _names(session: Session, page: Sequence[ReplayItem]) -> dict[str, list[str]]:
    """Event id -> the names of all that it is about, with the clients that those belong to by now."""
    subjects = _subjects(session, page)
    customers = {subject.customer_id for subject in subjects.values() if subject.customer_id}
    subscriptions = {subject.subscription_id for subject in subjects.values() if subject.subscription_id}
    holders = client_store.holders_of_stripe_customers(session, customers)
    owners = {key: row.client_id for key, row in listing_store.subscriptions(session, subscriptions).items()}
    return {
        event_id: [
            f"{kind} {name}"
            for kind, name in (
                ("customer", subject.customer_id),
                ("subscription", subject.subscription_id),
                ("client", subject.named_client),
                ("client", holders.get(subject.customer_id or "")),
                ("client", owners.get(subject.subscription_id or "")),
            )
            if name
        ]
        for event_id, subject in subjects.items()
    }


def _subjects(session: Session, page: Sequence[ReplayItem]) -> Mapping[str, EventSubject]:
    stored = listing_store.subjects(session, [item.event_id for item in page if not item.load])
    return stored | {item.event_id: event_subject(read_event(item.load(), item.created)) for item in page if item.load}


class _Groups:
    """Sets of names, which become one as soon as they share a name."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        top = name
        while (above := self._parent.get(top, top)) != top:
            top = above
        while (above := self._parent.get(name, name)) != top:
            self._parent[name], name = top, above
        return top

    def join(self, names: Iterable[str]) -> None:
        first, *others = names
        for other in others:
            self._parent[self.root(other)] = self.root(first)


def replay_since(
    since: datetime, *, settings: Settings, database: Database, clock: Clock, billing: StripeEvents, actor: str
) -> Iterator[Replayed]:
    """Stripe's events of a time that the database has forgotten, fetched from Stripe and worked on once more.

    Each event is committed before the next one begins. Raises DatabaseError and ProviderError.
    """
    with build_stripe_api(settings) as api:
        fetched = fetch_events(api, SourceFilter(since=since - CLOCKS_DIFFER_BY), clock())
        items = (
            ReplayItem(event.id, event.created, Origin.API, partial(bytes, raw))
            for event, raw in (each for each in fetched if not isinstance(each, MissingEvent))
        )
        yield from Replay(billing, database, actor=actor, mail_old=False).run(items)
