"""Stripe's events: stored as they come, before they are understood, and then worked on until they are settled."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.billing.case import ACTOR
from notifyctl.billing.desk import Desk
from notifyctl.billing.envelope import Event, event_subject, is_same_event, read_event
from notifyctl.billing.failing import mark_failed, told
from notifyctl.billing.outcome import Outcome
from notifyctl.billing.posting import is_news
from notifyctl.billing.processing import Order, Processed, process, repeated
from notifyctl.errors import DatabaseError, NotFound
from notifyctl.models.audit import AuditAction
from notifyctl.models.stripe_event import SETTLED, Origin, StripeEventStatus
from notifyctl.store import audit
from notifyctl.store import stripe_events as store

log = logging.getLogger("notifyctl.billing")

LEFT_ALONE = timedelta(minutes=1)
"""After that an event still RECEIVED is taken for abandoned: whoever stored it is gone."""
MATCHED_WITHIN = timedelta(days=30)
"""So long an event that matched nobody is looked at again when its client becomes known."""
BATCH = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    event_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """How many events were tried again, by what came of it."""

    settled: int = 0
    unmatched: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.settled} settled, {self.unmatched} unmatched, {self.failed} failed"


class StripeEvents:
    """Each call is one or more transactions of its own. Raises DatabaseError; nothing is half done then."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def receive(self, raw: bytes) -> Outcome:
        """Of a verified delivery: stores the event and works on it, unless an earlier delivery has been settled.

        Raises InvalidInput for what is no event.
        """
        recorded = self.record(raw, origin=Origin.WEBHOOK, is_verified=True)
        # Stripe delivers for three days: what it delivers is news.
        return self.process(recorded.event_id, Order(ACTOR, mail_old=True))

    def record(self, raw: bytes, *, origin: Origin, is_verified: bool, actor: str = ACTOR) -> Recorded:
        """Stores an event as it came. What was stored first stays, unless that was not verified and this is.

        Raises InvalidInput for what is no event.
        """
        now = self._desk.clock()
        event = read_event(raw, now)
        with self._desk.database.transaction() as session:
            is_new = _store(session, event, _row(event, raw, origin, is_verified, now), actor, now)
        return Recorded(event.id, is_new)

    def process(self, event_id: str, order: Order) -> Outcome:
        """Works on a stored event. One that is settled is left as it is, unless this is a replay.

        Several at once take turns. Whatever goes wrong leaves it FAILED, to be tried again. Raises NotFound.
        """
        try:
            done = self._worked_on(event_id, order)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  a bug in a handler must not lose the event
            return self._failed(event_id, error, order)
        if done is None:
            raise _unknown(event_id)
        if not done.has_linked:
            return done.outcome
        return replace(done.outcome, matched=tuple(self._match_others(event_id, order)))

    def rehearse(
        self, events: Iterable[str | bytes], *, mail_old: bool = False, is_verified: bool = False
    ) -> list[Outcome]:
        """What a replay of these, one after the other, would do: ids of stored events, or bodies. Changes nothing.

        `is_verified` is what the bodies would be recorded with.
        All are worked on in one transaction, which is rolled back; nobody else writes to SQLite meanwhile. Raises
        NotFound for an id, and InvalidInput for a body that is no event.
        """
        outcomes: list[Outcome] = []
        try:
            with self._desk.database.transaction() as session:
                now = self._desk.clock()
                ids = [
                    event if isinstance(event, str) else self._lay_out(session, event, is_verified, now)
                    for event in events
                ]
                store.lock_with_clients(session, ids)
                outcomes += [self._rehearsed(session, event_id, mail_old) for event_id in ids]
                raise _Undo
        except _Undo:
            return outcomes

    def retry(self, *, limit: int = BATCH, stopping: Callable[[], bool] = lambda: False) -> Retried:
        """Tries what has FAILED or was abandoned once its time has come, and matches what could not be matched.

        `stopping` is asked before each event.
        """
        now = self._desk.clock()
        with self._desk.database.read() as session:
            rows = [*store.due(session, now=now, limit=limit)]
            rows += store.matchable(session, since=now - MATCHED_WITHIN, limit=limit)
        outcomes = []
        for row in rows:
            if stopping():
                break
            outcomes.append(self.process(row.id, Order("job", mail_old=is_news(row, now))).status)
        return Retried(
            settled=sum(status in SETTLED for status in outcomes),
            unmatched=outcomes.count(StripeEventStatus.UNMATCHED),
            failed=outcomes.count(StripeEventStatus.FAILED),
        )

    def _worked_on(self, event_id: str, order: Order) -> Processed | None:
        with self._desk.database.transaction() as session:
            row = store.lock(session, event_id)
            if row is None:
                return None
            if row.status in SETTLED and not order.is_replay:
                return Processed(repeated(row), has_linked=False)
            return process(self._desk, session, row, order)

    def _failed(self, event_id: str, error: Exception, order: Order) -> Outcome:
        why = told(error)
        mark_failed(self._desk, event_id, why, order)
        with self._desk.database.read() as session:
            row: Any = store.get(session, event_id)
        return Outcome(row.id, row.type, row.created, StripeEventStatus.FAILED, why, row.client_id)

    def _match_others(self, event_id: str, order: Order) -> Iterator[Outcome]:
        """Stripe tells of a subscription and its invoice before it tells of the checkout that names the client."""
        with self._desk.database.read() as session:
            others = self._others(session, event_id)
        now = self._desk.clock()
        for other in others:
            yield self.process(other.id, Order(order.actor, mail_old=is_news(other, now)))

    def _others(self, session: Session, event_id: str) -> Sequence[Row[Any]]:
        row: Any = store.get(session, event_id)
        return store.unmatched_of(
            session, customer_id=row.customer_id, subscription_id=row.subscription_id, limit=BATCH
        )

    def _rehearsed(self, session: Session, event_id: str, mail_old: bool) -> Outcome:
        row = store.lock(session, event_id)
        if row is None:
            raise _unknown(event_id)
        try:
            with session.begin_nested():
                done = process(self._desk, session, row, Order("rehearsal", mail_old, is_replay=True))
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  as in a real run
            return Outcome(row.id, row.type, row.created, StripeEventStatus.FAILED, told(error), row.client_id)
        if not done.has_linked:
            return done.outcome
        now = self._desk.clock()
        others = [self._rehearsed(session, other.id, is_news(other, now)) for other in self._others(session, row.id)]
        return replace(done.outcome, matched=tuple(others))

    def _lay_out(self, session: Session, raw: bytes, is_verified: bool, now: datetime) -> str:
        event = read_event(raw, now)
        store.insert(session, _row(event, raw, Origin.FILE, is_verified, now))
        return event.id


class _Undo(Exception):
    """Ends a rehearsal."""


def _unknown(event_id: str) -> NotFound:
    return NotFound(f"there is no Stripe event {event_id!r}; `notifyctl stripe events` shows those there are")


def _store(session: Session, event: Event, row: dict[str, Any], actor: str, now: datetime) -> bool:
    if not store.insert(session, row) and not (row["verified"] and store.trust(session, event.id, row)):
        known: Any = store.get(session, event.id)
        if known.body and not is_same_event(known.body, row["body"]):
            log.warning("stripe event came again with another body; the first is kept", extra={"event_id": event.id})
        return False
    details = {"event_id": event.id, "type": event.type}
    audit.write(session, AuditAction.STRIPE_EVENT_RECEIVED, actor=actor, now=now, details=details)
    return True


def _row(event: Event, raw: bytes, origin: Origin, is_verified: bool, now: datetime) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "created": event.created,
        "livemode": event.livemode,
        "verified": is_verified,
        "body": raw,
        "status": StripeEventStatus.RECEIVED,
        "attempts": 0,
        "received_at": now,
        "origin": origin.value,
        "api_version": event.api_version,
        "account": event.account,
        "object_id": event.object_id,
        "next_attempt_at": now + LEFT_ALONE,
        **asdict(event_subject(event)),
    }
