"""Working on events once more: for what failed, was missed, or could not be matched with a client at the time.

It goes the way of every event, so that doing it twice, beside a worker or beside Stripe's own deliveries does no harm:
state comes to the same whatever the order, and no news is written twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from notifyctl.billing.envelope import is_same_event
from notifyctl.billing.event_spool import Item
from notifyctl.billing.outcome import MailFate, Outcome
from notifyctl.billing.processing import Order, repeated
from notifyctl.billing.replay_groups import apart
from notifyctl.billing.stripe_events import StripeEvents
from notifyctl.models.stripe_event import SETTLED, StripeEventStatus
from notifyctl.store import stripe_events, stripe_listing
from notifyctl.store.database import Database

MOST_IN_A_REHEARSAL = 25
"""Events in one transaction, which nobody else writes beside on SQLite, and for whose clients deliveries wait. More
only where they are of one client.
"""


@dataclass(frozen=True, slots=True)
class Replayed:
    outcome: Outcome
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
        for one in outcome.everything():
            self.failed += one.status is StripeEventStatus.FAILED
            if one.mail is not None:
                self.mails[one.mail.fate] += 1


class Replay:
    """`actor` is whose word an event from a file is taken on, since it comes without a signature."""

    def __init__(self, billing: StripeEvents, database: Database, *, actor: str, mail_old: bool) -> None:
        self._billing = billing
        self._database = database
        self._order = Order(actor, mail_old, is_replay=True)

    def run(self, items: Iterable[Item]) -> Iterator[Replayed]:
        """Each event is committed before the next one begins. Raises DatabaseError and, for an unknown id, NotFound."""
        return map(self._run, items)

    def _run(self, item: Item) -> Replayed:
        raw = item.load() if item.load else None
        row = self._known(item, raw)
        if row is not None and not row.body and row.status in SETTLED:
            return _left_alone(row)
        outcome = self._billing.process(item.event_id, self._order)
        if row is None:
            return Replayed(outcome, was_settled=False)
        has_other_body = raw is not None and bool(row.body) and not is_same_event(row.body, raw)
        return Replayed(outcome, row.status in SETTLED, has_other_body)

    def _known(self, item: Item, raw: bytes | None) -> Row[Any] | None:
        """Its row as it was before. Stores an event that is new."""
        if raw is not None and item.origin is not None:
            recorded = self._billing.record(raw, origin=item.origin, is_verified=True, actor=self._order.actor)
            if recorded.is_new:
                return None
        with self._database.read() as session:
            return stripe_events.get(session, item.event_id)

    def rehearse(self, items: Iterable[Item], watch: Callable[[Iterable[Any]], Iterable[Any]] = iter) -> list[Replayed]:
        """What `run` would do, in the same order. Changes nothing.

        Events that have to do with each other are worked on together, and as few others as possible at a time.
        `watch` is handed the results as they come, and hands them on.
        """
        everything = list(items)
        found: dict[int, Replayed] = dict(watch(self._in_batches(everything)))
        return [found[number] for number in range(len(everything))]

    def _in_batches(self, everything: Sequence[Item]) -> Iterator[tuple[int, Replayed]]:
        for numbers in _batches(apart(self._database, everything)):
            batch = [everything[number] for number in numbers]
            yield from zip(numbers, self._rehearsed(batch), strict=True)

    def _rehearsed(self, batch: Sequence[Item]) -> Iterator[Replayed]:
        ids = [item.event_id for item in batch]
        with self._database.read() as session:
            before, bare = stripe_listing.statuses(session, ids), stripe_listing.bare(session, ids)
        events = [item.load() if item.load else item.event_id for item in batch if item.event_id not in bare]
        outcomes = iter(self._billing.rehearse(events, mail_old=self._order.mail_old, is_verified=True))
        for event_id in ids:
            if event_id in bare:
                yield _left_alone(bare[event_id])
            else:
                yield Replayed(next(outcomes), before.get(event_id) in SETTLED)


def _left_alone(row: Row[Any]) -> Replayed:
    """Without its body there is nothing to work on, and what came of it is on its row."""
    return Replayed(repeated(row), was_settled=True, is_bare=True)


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
