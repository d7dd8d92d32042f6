"""Stripe's events: stored as they came, worked on by one at a time, and tried again."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from typing import NamedTuple
from zlib import crc32

from sqlalchemy import Executable, bindparam, func, or_, select, text, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Alert, StripeEventStatus
from notifyctl.models.stripe_event import (
    ALERTED_INDEX,
    DUE_INDEX,
    SETTLED,
    UNMATCHED_INDEX,
    StripeEvent,
    StripeSubscription,
)

_event = table(StripeEvent)
_client = table(Client)
_subscription = table(StripeSubscription)

ALERT_LOCK = 0x7374
"""PostgreSQL advisory lock: those who count failures and alert take turns."""
SUBJECT_LOCK_SPACE = 0x7375
SUBJECT_LOCK_BUCKETS = 1_024
"""Locks live in a table that the whole server shares, and a rehearsal may be about any number of subscriptions."""


@dataclass(frozen=True, slots=True)
class _Received:
    """models/stripe_event.py explains the columns."""

    id: str
    type: str
    created: datetime
    livemode: bool
    verified: bool
    received_at: datetime
    origin: str
    api_version: str | None
    account: str | None
    object_id: str | None
    customer_id: str | None
    subscription_id: str | None
    named_client: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewEvent(_Received):
    body: bytes


@dataclass(frozen=True, slots=True)
class EventSummary(_Received):
    """All of a stored event but its body."""

    status: StripeEventStatus
    error: str | None
    reason: str | None
    attempts: int
    client_id: str | None
    processed_at: datetime | None
    message_id: str | None
    alerted_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredEvent(EventSummary):
    body: bytes


class EventBody(NamedTuple):
    id: str
    subscription_id: str
    body: bytes
    received_at: datetime


class EventSubject(NamedTuple):
    """What an event is about, read before anything is decided, so that it can be looked up by it later."""

    customer_id: str | None
    subscription_id: str | None
    named_client: str | None


SUBJECT = [_event.c[name] for name in ("id", *EventSubject._fields)]
SUMMARY = [_event.c[field.name] for field in fields(EventSummary)]
"""The columns of an EventSummary, in its order; so of the others."""
_STORED = [_event.c[field.name] for field in fields(StoredEvent)]
_OLDEST_FIRST = (_event.c.created, _event.c.id)


def insert(session: Session, events: Sequence[NewEvent]) -> set[str]:
    """The ids of those that were not known yet. On PostgreSQL this waits for a transaction that is about to store one.

    In the order of their ids, so that nobody waits in a circle.
    """
    statement = bulk.upsert(session, _event).on_conflict_do_nothing(index_elements=["id"]).returning(_event.c.id)
    rows = [_received(event) for event in sorted(events, key=lambda event: event.id)]
    return set(session.execute(statement, rows).scalars())


def trust(session: Session, event: NewEvent) -> bool:
    """A verified body takes the place of one that was not. False when the known one was verified, too."""
    statement = update(_event).where(_event.c.id == event.id, ~_event.c.verified).values(**_received(event))
    return session.execute(statement.returning(_event.c.id)).one_or_none() is not None


def _received(event: NewEvent) -> dict[str, object]:
    return asdict(event) | {"status": StripeEventStatus.RECEIVED, "attempts": 0}


def get(session: Session, event_id: str) -> StoredEvent | None:
    return _one_event(session, select(*_STORED).where(_event.c.id == event_id))


_THESE = select(*_STORED).where(_event.c.id.in_(bindparam("ids", expanding=True))).order_by(_event.c.id)
_LOCKED = _THESE.with_for_update()


def get_many(session: Session, ids: Collection[str]) -> dict[str, StoredEvent]:
    return _by_id(_events(session, _THESE, {"ids": sorted(ids)}))


def lock(session: Session, ids: Collection[str]) -> dict[str, StoredEvent]:
    """The rows as they are once everybody else who worked on them has finished."""
    return _by_id(_events(session, _LOCKED, {"ids": sorted(ids)}))


def _by_id(events: Iterable[StoredEvent]) -> dict[str, StoredEvent]:
    return {event.id: event for event in events}


def _one_event(session: Session, statement: Executable) -> StoredEvent | None:
    row = session.execute(statement).one_or_none()
    return StoredEvent(*row) if row is not None else None


def _events(session: Session, statement: Executable, values: Mapping[str, object] | None = None) -> list[StoredEvent]:
    return [StoredEvent(*row) for row in session.execute(statement, values)]


def lock_subjects(session: Session, ids: Collection[str | None]) -> None:
    """Events about the same subscription or customer take turns, also while nobody knows yet whose it is.

    The locks of their clients do not see to that: those who name different clients hold different ones. They are taken
    after the events' own and before the clients'. SQLite's transactions are alone already.
    """
    buckets = sorted({crc32(subject.encode()) % SUBJECT_LOCK_BUCKETS for subject in ids if subject})
    if not buckets or bulk.dialect(session) == "sqlite":
        return
    in_order = "SELECT bucket FROM unnest(CAST(:buckets AS integer[])) AS given(bucket) ORDER BY bucket"
    locks = f"SELECT pg_advisory_xact_lock({SUBJECT_LOCK_SPACE}, bucket) FROM ({in_order}) AS ordered"  # noqa: S608  our own words
    session.execute(text(locks), {"buckets": buckets})


def lock_with_clients(session: Session, ids: Collection[str]) -> None:
    """Locks all that working on these events may touch, in the order in which everybody does: first the events, with
    the UNMATCHED ones about the same customers and subscriptions, then these, and then the clients of them all.

    In steps: in one query, none of it would come from an index. SQLite's transactions are alone already.
    """
    if bulk.dialect(session) == "sqlite":
        return
    subjects = _subjects(session, select(*SUBJECT).where(_event.c.id.in_(ids)))
    is_related = or_(
        _event.c.customer_id.in_({subject.customer_id for subject in subjects.values()}),
        _event.c.subscription_id.in_({subject.subscription_id for subject in subjects.values()}),
    )
    subjects |= _subjects(session, select(*SUBJECT).where(is_related, UNMATCHED_INDEX))
    chosen = _event.c.id.in_(subjects)
    session.execute(select(_event.c.id).where(chosen).order_by(_event.c.id).with_for_update())
    customers = {subject.customer_id for subject in subjects.values()}
    subscriptions = {subject.subscription_id for subject in subjects.values()}
    lock_subjects(session, customers | subscriptions)
    owners = select(_subscription.c.client_id).where(_subscription.c.id.in_(subscriptions))
    names = {subject.named_client for subject in subjects.values()}.union(session.execute(owners).scalars())
    theirs = or_(_client.c.id.in_(names), _client.c.stripe_customer_id.in_(customers))
    session.execute(select(_client.c.id).where(theirs).order_by(_client.c.id).with_for_update())


def _subjects(session: Session, statement: Executable) -> dict[str, EventSubject]:
    return {event_id: EventSubject(*subject) for event_id, *subject in session.execute(statement)}


_RESULT = ("status", "reason", "error", "processed_at", "next_attempt_at", "client_id", "message_id", "attempts")


def save_results(session: Session, events: Sequence[StoredEvent]) -> None:
    """What came of them. They are locked."""
    if events:
        dialect = bulk.dialect(session)
        rows = [{name: getattr(event, name) for name in ("id", *_RESULT)} for event in events]
        session.execute(_results(dialect), bulk.encode(dialect, rows))


@cache
def _results(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_event, "id", *_RESULT))
    return update(_event).where(_event.c.id == rows.c.id).values({name: rows.c[name] for name in _RESULT})


def fail(session: Session, event_id: str, error: str) -> StoredEvent | None:
    """Marks it FAILED and counts the attempt; None when somebody else has settled it in the meantime."""
    statement = update(_event).where(_event.c.id == event_id, _event.c.status.not_in(SETTLED))
    statement = statement.values(status=StripeEventStatus.FAILED, error=error, attempts=_event.c.attempts + 1)
    return _one_event(session, statement.returning(*_STORED))


def schedule(session: Session, event_id: str, at: datetime | None) -> None:
    session.execute(update(_event).where(_event.c.id == event_id).values(next_attempt_at=at))


def due(session: Session, *, now: datetime, limit: int) -> list[StoredEvent]:
    """RECEIVED and FAILED events whose time has come, the oldest first."""
    statement = select(*_STORED).where(DUE_INDEX, _event.c.next_attempt_at <= now)
    return _events(session, statement.order_by(*_OLDEST_FIRST).limit(limit))


def matchable(session: Session, *, since: datetime, limit: int) -> list[StoredEvent]:
    """UNMATCHED events received since then whose client is known by now, the oldest first."""
    is_known = or_(
        select(_client.c.id).where(_client.c.stripe_customer_id == _event.c.customer_id).exists(),
        select(_client.c.id).where(_client.c.id == _event.c.named_client).exists(),
        select(_subscription.c.id)
        .where(_subscription.c.id == _event.c.subscription_id, _subscription.c.client_id.is_not(None))
        .exists(),
    )
    statement = select(*_STORED).where(UNMATCHED_INDEX, _event.c.received_at >= since, is_known)
    return _events(session, statement.order_by(*_OLDEST_FIRST).limit(limit))


def unmatched_of(
    session: Session, *, customer_ids: Collection[str], subscription_ids: Collection[str], limit: int
) -> list[StoredEvent]:
    """UNMATCHED events about these customers or subscriptions, the oldest first."""
    values = {"customers": sorted(customer_ids), "subscriptions": sorted(subscription_ids), "limit": limit}
    return _events(session, _UNMATCHED, values)


_UNMATCHED = (
    select(*_STORED)
    .where(
        or_(
            _event.c.customer_id.in_(bindparam("customers", expanding=True)),
            _event.c.subscription_id.in_(bindparam("subscriptions", expanding=True)),
        ),
        UNMATCHED_INDEX,
    )
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("limit"))
)


def bodies_of_subscriptions(
    session: Session, ids: Collection[str], *, livemode: bool, types: Collection[str], limit: int
) -> list[EventBody]:
    """Of each the newest events of our own account, whatever became of them."""
    values = {"ids": sorted(ids), "types": sorted(types), "livemode": livemode, "limit": limit}
    return [EventBody(*row) for row in session.execute(_BODIES, values)]


def _bodies() -> Executable:
    newest_first = (_event.c.created.desc(), _event.c.id.desc())
    number = func.row_number().over(partition_by=_event.c.subscription_id, order_by=newest_first).label("number")
    chosen = (
        select(*(_event.c[name] for name in EventBody._fields), number)
        .where(
            _event.c.subscription_id.in_(bindparam("ids", expanding=True)),
            _event.c.type.in_(bindparam("types", expanding=True)),
            _event.c.verified,
            _event.c.livemode == bindparam("livemode", type_=_event.c.livemode.type),
            _event.c.account.is_(None),
            func.length(_event.c.body) > 0,
        )
        .subquery()
    )
    return select(*(chosen.c[name] for name in EventBody._fields)).where(chosen.c.number <= bindparam("limit"))


_BODIES = _bodies()


def lock_free(session: Session, ids: Collection[str]) -> dict[str, StoredEvent]:
    """Those of `ids` that nobody else works on, locked, and that still have their bodies."""
    statement = select(*_STORED).where(_event.c.id.in_(ids), func.length(_event.c.body) > 0)
    return {event.id: event for event in _events(session, statement.with_for_update(skip_locked=True))}


def lock_without_mail(session: Session, subscription_ids: Collection[str], kind: str) -> list[StoredEvent]:
    """PROCESSED events of that type that brought no mail, and that nobody else works on."""
    return _events(session, _WITHOUT_MAIL, {"ids": sorted(subscription_ids), "kind": kind})


_WITHOUT_MAIL = (
    select(*_STORED)
    .where(
        _event.c.subscription_id.in_(bindparam("ids", expanding=True)),
        _event.c.type == bindparam("kind"),
        _event.c.status == StripeEventStatus.PROCESSED,
        _event.c.message_id.is_(None),
        func.length(_event.c.body) > 0,
    )
    .with_for_update(skip_locked=True)
)


def lock_alerts(session: Session) -> None:
    """Until the transaction ends nobody else alerts. On SQLite a writing transaction is alone already."""
    if bulk.dialect(session) == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({ALERT_LOCK})"))


def alerts_since(session: Session, since: datetime) -> dict[Alert, int]:
    """How many events the admins were alerted of since then, by how."""
    statement = select(_event.c.alert, func.count()).where(ALERTED_INDEX, _event.c.alerted_at > since)
    return {Alert(kind): count for kind, count in session.execute(statement.group_by(_event.c.alert))}


def count_failed(session: Session) -> int:
    statement = select(func.count()).select_from(_event).where(_event.c.status == StripeEventStatus.FAILED)
    return int(session.execute(statement).scalar_one())


def mark_alerted(session: Session, event_id: str, alert: Alert, now: datetime) -> None:
    session.execute(update(_event).where(_event.c.id == event_id).values(alert=alert.value, alerted_at=now))


def blank(session: Session, event_id: str) -> None:
    """Takes out what an event says of a person. It cannot be processed again."""
    session.execute(update(_event).where(_event.c.id == event_id).values(**_BLANK))


def blank_of_client(session: Session, client_id: str, customer_id: str | None) -> int:
    """The same for every event that is about a client, by any name that we have for it. The client is erased by now.

    One that somebody works on is left out: that one waits for the client's row, or is done by the next erasure.
    """
    own = _subscription.c.client_id == client_id
    subjects = [
        _event.c.client_id == client_id,
        _event.c.named_client == client_id,
        _event.c.customer_id.in_(select(_subscription.c.customer_id).where(own)),
        _event.c.subscription_id.in_(select(_subscription.c.id).where(own)),
    ]
    # Without a customer there is nothing to compare: events of others, and of nobody, have none either.
    subjects += [_event.c.customer_id == customer_id] if customer_id else []
    selected = select(_event.c.id).where(or_(*subjects), func.length(_event.c.body) > 0)
    selected = selected.with_for_update(of=_event, skip_locked=True)
    statement = update(_event).where(_event.c.id.in_(selected)).values(**_BLANK)
    return len(session.execute(statement.returning(_event.c.id)).all())


_BLANK: Mapping[str, object] = {"body": b"", "customer_id": None, "named_client": None}
