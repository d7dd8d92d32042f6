"""Stripe's events: stored as they come, before they are understood, and then worked on until they are settled."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.billing import store
from notifyctl.billing.event import event_subject, is_same_event, read_event
from notifyctl.billing.event_context import ACTOR, EventOutcome
from notifyctl.billing.processing import (
    BillingServices,
    Processed,
    ProcessingOptions,
    process,
    repeated,
    was_just_delivered,
)
from notifyctl.billing.store import NewEvent, StoredEvent
from notifyctl.errors import DatabaseError, IdempotencyConflict, NotFound
from notifyctl.models.enums import Alert, AuditAction, Origin, StripeEventStatus
from notifyctl.models.stripe_event import SETTLED
from notifyctl.orchestrator.admins import tell_admins

log = logging.getLogger("notifyctl.billing")

RETRY_AFTER = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440))
"""After the first failure, the second and so on. After one more it waits for a replay."""
ALERT_TEMPLATE = "STRIPE_WEBHOOK_FAILURE_ADMIN"
STORM = "many events"
OWN_ALERTS, OWN_ALERTS_WITHIN = 3, timedelta(hours=1)
"""So many events get a mail each; when more fail within this time, it is a storm."""
STORM_LASTS = timedelta(hours=24)
"""One mail speaks for all that fail in this time: it is the window of the template's rate, too."""
_PACKAGE = Path(__file__).resolve().parent.parent
LEFT_ALONE = timedelta(minutes=1)
"""After that an event still RECEIVED is taken for abandoned: whoever stored it is gone."""
MATCHED_WITHIN = timedelta(days=30)
"""So long an event that matched nobody is looked at again when its client becomes known."""
BATCH = 500


def next_attempt(attempts: int, now: datetime) -> datetime | None:
    """When to try again after so many attempts; None when it has been enough."""
    return now + RETRY_AFTER[attempts - 1] if 0 < attempts <= len(RETRY_AFTER) else None


def describe_error(error: Exception) -> str:
    """An error without any value in it that may come from the event: those may be somebody's name or address."""
    if isinstance(error, (NotFound, IdempotencyConflict)):
        return str(error)
    ours = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not ours:
        return type(error).__name__
    place = Path(ours[-1].filename).relative_to(_PACKAGE.parent)
    return f"{type(error).__name__} in {place}, line {ours[-1].lineno} ({ours[-1].name})"


def mark_failed(services: BillingServices, event_id: str, error: str, options: ProcessingOptions) -> None:
    """In a transaction of its own: the one that failed is rolled back. Alerts the admins, if it can."""
    now = services.clock()
    with services.database.transaction() as session:
        failed = store.fail(session, event_id, error)
        attempts = failed.attempts if failed else None
        if failed is not None:
            store.schedule(session, event_id, next_attempt(failed.attempts, now))
        details = {"event_id": event_id, "error": error, "attempt": attempts, "is_replay": options.is_replay}
        audit_log.write(session, AuditAction.STRIPE_EVENT_FAILED, actor=options.actor, now=now, details=details)
    log.error("stripe event failed", extra={"event_id": event_id, "error": error, "attempt": attempts})
    if failed is not None and failed.alerted_at is None:
        _alert(services, failed, now)


def _alert(services: BillingServices, event: StoredEvent, now: datetime) -> None:
    """Never raises: the event is stored and marked, and nobody who delivers one is to suffer for our mail."""
    try:
        with services.database.transaction() as session:
            store.lock_alerts(session)
            alert = _choose_alert(session, now)
            if alert is Alert.COVERED or _send_alert(services, session, event, alert):
                store.mark_alerted(session, event.id, alert, now)
    except Exception as error:  # noqa: BLE001  see above
        log.error(
            "admins were not told of a stripe event that failed",
            extra={"event_id": event.id, "error": describe_error(error)},
        )


def _choose_alert(session: Session, now: datetime) -> Alert:
    if Alert.STORM in store.alerts_since(session, now - STORM_LASTS):
        return Alert.COVERED
    lately = store.alerts_since(session, now - OWN_ALERTS_WITHIN)
    return Alert.OWN if lately.get(Alert.OWN, 0) < OWN_ALERTS else Alert.STORM


def _send_alert(services: BillingServices, session: Session, event: StoredEvent, alert: Alert) -> bool:
    is_storm = alert is Alert.STORM
    context = {
        "subject": STORM if is_storm else event.id,
        "event_type": event.type,
        "error": f"{event.error} ({event.id}, the latest)" if is_storm else event.error,
        "count": store.count_failed(session) if is_storm else 1,
    }
    recipients = services.settings.admin_recipients
    if not recipients:
        log.warning("nobody to tell of a stripe event that failed: set ADMIN_ALERT_EMAILS or OPS_ALERT_EMAIL")
        return False
    tell_admins(session, services.orchestrator, recipients, ALERT_TEMPLATE, context, source=ACTOR, source_ref=event.id)
    return True


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
            is_new = _store(session, event, actor, now)
        return Recorded(event.id, is_new)

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
            event = store.lock(session, event_id)
            if event is None:
                return None
            if event.status in SETTLED and not options.is_replay:
                return Processed(repeated(event), has_linked=False)
            return process(self._services, session, event, options)

    def _failed(self, event_id: str, error: Exception, options: ProcessingOptions) -> EventOutcome:
        why = describe_error(error)
        mark_failed(self._services, event_id, why, options)
        with self._services.database.read() as session:
            event = _known(store.get(session, event_id), event_id)
        return _failed_outcome(event, why)

    def _match_others(self, event_id: str, options: ProcessingOptions) -> Iterator[EventOutcome]:
        """Stripe tells of a subscription and its invoice before it tells of the checkout that names the client."""
        with self._services.database.read() as session:
            others = self._others(session, event_id)
        now = self._services.clock()
        for other in others:
            yield self.process(other.id, ProcessingOptions(options.actor, mail_old=was_just_delivered(other, now)))

    def _others(self, session: Session, event_id: str) -> list[StoredEvent]:
        event = _known(store.get(session, event_id), event_id)
        return store.unmatched_of(
            session, customer_id=event.customer_id, subscription_id=event.subscription_id, limit=BATCH
        )

    def _rehearsed(self, session: Session, event_id: str, mail_old: bool) -> EventOutcome:
        event = _known(store.lock(session, event_id), event_id)
        try:
            with session.begin_nested():
                done = process(self._services, session, event, ProcessingOptions("rehearsal", mail_old, is_replay=True))
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  as in a real run
            return _failed_outcome(event, describe_error(error))
        if not done.has_linked:
            return done.outcome
        now = self._services.clock()
        others = self._others(session, event_id)
        matched = [self._rehearsed(session, other.id, was_just_delivered(other, now)) for other in others]
        return replace(done.outcome, matched=tuple(matched))

    def _insert(self, session: Session, raw: bytes, is_verified: bool, now: datetime) -> str:
        event = _read_new(raw, Origin.FILE, is_verified, now)
        store.insert(session, event)
        return event.id


class _Undo(Exception):
    """Ends a rehearsal."""


def _known(value: T | None, event_id: str) -> T:
    if value is None:
        raise NotFound(f"there is no Stripe event {event_id!r}; `notifyctl stripe events` shows those there are")
    return value


def _failed_outcome(event: StoredEvent, error: str) -> EventOutcome:
    return EventOutcome(event.id, event.type, event.created, StripeEventStatus.FAILED, error, event.client_id)


def _store(session: Session, event: NewEvent, actor: str, now: datetime) -> bool:
    if not store.insert(session, event) and not (event.verified and store.trust(session, event)):
        stored = store.get(session, event.id)
        if stored and stored.body and not is_same_event(stored.body, event.body):
            log.warning("stripe event came again with another body; the first is kept", extra={"event_id": event.id})
        return False
    details = {"event_id": event.id, "type": event.type}
    audit_log.write(session, AuditAction.STRIPE_EVENT_RECEIVED, actor=actor, now=now, details=details)
    return True


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
