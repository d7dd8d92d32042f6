"""Stripe's events: stored as they come, before they are understood, and then worked on until they are settled."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.billing import store
from notifyctl.billing.event import event_subject, is_same_event, read_event
from notifyctl.billing.event_context import ACTOR, EventOutcome
from notifyctl.billing.failures import describe_error, mark_failed
from notifyctl.billing.ledger import Ledger
from notifyctl.billing.processing import (
    BillingServices,
    Processed,
    ProcessingOptions,
    open_ledger,
    process,
    repeated,
    was_just_delivered,
)
from notifyctl.billing.store import NewEvent, StoredEvent
from notifyctl.errors import DatabaseError, NotFound
from notifyctl.models.enums import AuditAction, Origin, StripeEventStatus
from notifyctl.models.stripe_event import SETTLED

log = logging.getLogger("notifyctl.billing")

LEFT_ALONE = timedelta(minutes=1)
"""After that an event still RECEIVED is taken for abandoned: whoever stored it is gone."""
MATCHED_WITHIN = timedelta(days=30)
"""So long an event that matched nobody is looked at again when its client becomes known."""
BATCH = 500
TOGETHER = 25
"""Events that are worked on in one transaction, while deliveries about the same clients wait for it."""


T = TypeVar("T")


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

    def __init__(self, services: BillingServices) -> None:
        self._services = services

    def receive(self, raw: bytes) -> EventOutcome:
        """Of a verified delivery: stores the event and works on it, unless an earlier delivery has been settled.

        Raises InvalidInput for what is no event.
        """
        recorded = self.record(raw, origin=Origin.WEBHOOK, is_verified=True)
        # Stripe delivers for three days: what it delivers is news.
        return self.process(recorded.event_id, ProcessingOptions(ACTOR, mail_old=True))

    def record(self, raw: bytes, *, origin: Origin, is_verified: bool, actor: str = ACTOR) -> Recorded:
        """Stores an event as it came. What was stored first stays, unless that was not verified and this is.

        Raises InvalidInput for what is no event.
        """
        now = self._services.clock()
        event = _read_new(raw, origin, is_verified, now)
        with self._services.database.transaction() as session:
            new = _store(session, [event], actor, now)
        return Recorded(event.id, event.id in new)

    def record_many(self, raws: Sequence[bytes], *, origin: Origin, actor: str) -> set[str]:
        """Stores verified events, none of them twice, in one transaction. Returns the ids of those that are new."""
        now = self._services.clock()
        events = [_read_new(raw, origin, True, now) for raw in raws]
        with self._services.database.transaction() as session:
            return _store(session, events, actor, now)

    def process(self, event_id: str, options: ProcessingOptions) -> EventOutcome:
        """Works on a stored event. One that is settled is left as it is, unless this is a replay.

        Several at once take turns. Whatever goes wrong leaves it FAILED, to be tried again. Raises NotFound.
        """
        try:
            done = self._process_stored(event_id, options)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  a bug in a handler must not lose the event
            return self._failed(event_id, error, options)
        done = _known(done, event_id)
        if not done.has_linked:
            return done.outcome
        return replace(done.outcome, matched=tuple(self._match_others(event_id, options)))

    def process_together(self, work: Sequence[tuple[str, ProcessingOptions]]) -> list[EventOutcome]:
        """The same for each in turn, in one transaction: a small part of what it takes one by one.

        No event is in it twice. Whatever goes wrong undoes all of it; then each is worked on alone, so that nothing is
        lost by what one of them does. Others that match now are matched after the commit. Raises NotFound.
        """
        try:
            done = self._process_stored_together(work)
        except Exception:  # noqa: BLE001  alone it is told whose fault it is, and what to do about it
            return [self.process(event_id, options) for event_id, options in work]
        linked = self._with_others([each.outcome.event_id for each in done if each.has_linked])
        outcomes = []
        for (event_id, options), each in zip(work, done, strict=True):
            matched = self._match_others(event_id, options) if event_id in linked else ()
            outcomes.append(replace(each.outcome, matched=tuple(matched)))
        return outcomes

    def rehearse(
        self, events: Iterable[str | bytes], *, mail_old: bool = False, is_verified: bool = False
    ) -> list[EventOutcome]:
        """What a replay of these, one after the other, would do: ids of stored events, or bodies. Changes nothing.

        `is_verified` is what the bodies would be recorded with.
        All are worked on in one transaction, which is rolled back; nobody else writes to SQLite meanwhile. Raises
        NotFound for an id, and InvalidInput for a body that is no event.
        """
        outcomes: list[EventOutcome] = []
        try:
            with self._services.database.transaction() as session:
                now = self._services.clock()
                ids = [
                    event if isinstance(event, str) else self._insert(session, event, is_verified, now)
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
        now = self._services.clock()
        with self._services.database.read() as session:
            events = store.due(session, now=now, limit=limit)
            events += store.matchable(session, since=now - MATCHED_WITHIN, limit=limit)
        statuses = []
        for event in events:
            if stopping():
                break
            options = ProcessingOptions("job", mail_old=was_just_delivered(event, now))
            statuses.append(self.process(event.id, options).status)
        return Retried(
            settled=sum(status in SETTLED for status in statuses),
            unmatched=statuses.count(StripeEventStatus.UNMATCHED),
            failed=statuses.count(StripeEventStatus.FAILED),
        )

    def _process_stored(self, event_id: str, options: ProcessingOptions) -> Processed | None:
        with self._services.database.transaction() as session:
            ledger = open_ledger(self._services, session)
            ledger.lock([event_id])
            event = ledger.event(event_id)
            done = self._processed(ledger, event, options) if event else None
            ledger.flush()
            return done

    def _process_stored_together(self, work: Sequence[tuple[str, ProcessingOptions]]) -> list[Processed]:
        with self._services.database.transaction() as session:
            ledger = open_ledger(self._services, session)
            ledger.lock([event_id for event_id, _ in work])
            ledger.read_ahead()
            done = [
                self._processed(ledger, _known(ledger.event(event_id), event_id), options) for event_id, options in work
            ]
            ledger.flush()
            return done

    def _processed(self, ledger: Ledger, event: StoredEvent, options: ProcessingOptions) -> Processed:
        if event.status in SETTLED and not options.is_replay:
            return Processed(repeated(event), has_linked=False)
        return process(self._services, ledger, event, options)

    def _failed(self, event_id: str, error: Exception, options: ProcessingOptions) -> EventOutcome:
        why = describe_error(error)
        mark_failed(self._services, event_id, why, options)
        with self._services.database.read() as session:
            event = _known(store.get(session, event_id), event_id)
        return _failed_outcome(event, why)

    def _match_others(self, event_id: str, options: ProcessingOptions) -> Iterator[EventOutcome]:
        """Stripe tells of a subscription and its invoice before it tells of the checkout that names the client."""
        with self._services.database.read() as session:
            others = _others(session, _known(store.get(session, event_id), event_id))
        now = self._services.clock()
        work = [
            (other.id, ProcessingOptions(options.actor, mail_old=was_just_delivered(other, now))) for other in others
        ]
        for start in range(0, len(work), TOGETHER):
            yield from self.process_together(work[start : start + TOGETHER])

    def _with_others(self, ids: Sequence[str]) -> set[str]:
        """Those of them that others which matched nobody have to do with."""
        if not ids:
            return set()
        with self._services.database.read() as session:
            events = store.get_many(session, ids).values()
            others = _others(session, *events)
        customers = {other.customer_id for other in others} - {None}
        subscriptions = {other.subscription_id for other in others} - {None}
        return {
            event.id for event in events if event.customer_id in customers or event.subscription_id in subscriptions
        }

    def _rehearsed(self, session: Session, event_id: str, mail_old: bool) -> EventOutcome:
        ledger = open_ledger(self._services, session)
        ledger.lock([event_id])
        event = _known(ledger.event(event_id), event_id)
        try:
            with session.begin_nested():
                done = process(self._services, ledger, event, ProcessingOptions("rehearsal", mail_old, is_replay=True))
                ledger.flush()
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  as in a real run
            return _failed_outcome(event, describe_error(error))
        if not done.has_linked:
            return done.outcome
        now = self._services.clock()
        others = _others(session, event)
        matched = [self._rehearsed(session, other.id, was_just_delivered(other, now)) for other in others]
        return replace(done.outcome, matched=tuple(matched))

    def _insert(self, session: Session, raw: bytes, is_verified: bool, now: datetime) -> str:
        event = _read_new(raw, Origin.FILE, is_verified, now)
        store.insert(session, [event])
        return event.id


class _Undo(Exception):
    """Ends a rehearsal."""


def _known(value: T | None, event_id: str) -> T:
    if value is None:
        raise NotFound(f"there is no Stripe event {event_id!r}; `notifyctl stripe events` shows those there are")
    return value


def _failed_outcome(event: StoredEvent, error: str) -> EventOutcome:
    return EventOutcome(event.id, event.type, event.created, StripeEventStatus.FAILED, error, event.client_id)


def _store(session: Session, events: Sequence[NewEvent], actor: str, now: datetime) -> set[str]:
    """The ids of those that are new, or verified for the first time."""
    new = store.insert(session, events)
    known = [event for event in events if event.id not in new]
    new |= {event.id for event in known if event.verified and store.trust(session, event)}
    stored = store.get_many(session, [event.id for event in known if event.id not in new]) if known else {}
    for event in known:
        first = stored.get(event.id)
        if first and first.body and not is_same_event(first.body, event.body):
            log.warning("stripe event came again with another body; the first is kept", extra={"event_id": event.id})
    entries = [
        audit_log.entry(
            AuditAction.STRIPE_EVENT_RECEIVED,
            actor=actor,
            now=now,
            details={"event_id": event.id, "type": event.type},
        )
        for event in events
        if event.id in new
    ]
    audit_log.write_many(session, entries)
    return new


def _others(session: Session, *events: StoredEvent) -> list[StoredEvent]:
    """That matched nobody, of the same customers and subscriptions."""
    return store.unmatched_of(
        session,
        customer_ids={event.customer_id for event in events if event.customer_id},
        subscription_ids={event.subscription_id for event in events if event.subscription_id},
        limit=BATCH,
    )


def _read_new(raw: bytes, origin: Origin, is_verified: bool, now: datetime) -> NewEvent:
    """Raises InvalidInput for what is no event."""
    event = read_event(raw, now)
    return NewEvent(
        id=event.id,
        type=event.type,
        created=event.created,
        livemode=event.livemode,
        verified=is_verified,
        body=raw,
        received_at=now,
        origin=origin.value,
        api_version=event.api_version,
        account=event.account,
        object_id=event.object_id,
        next_attempt_at=now + LEFT_ALONE,
        **event_subject(event)._asdict(),
    )
