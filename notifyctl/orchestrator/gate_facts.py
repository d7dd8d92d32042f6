"""What the gates need to know, asked for many messages at once. Locks come first, counts after them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache

from sqlalchemy import ColumnElement, Select, TextClause, bindparam, func, or_, select, text
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.client import AddressedClient, Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.models.message import IS_COUNTED_CODE, NOT_COUNTED_BY_RATE, OTP_TEMPLATE, MessageLog
from notifyctl.models.receipt import Suppression
from notifyctl.models.stripe_event import StripeEvent
from notifyctl.orchestrator.message_store import KeyedMessage

_client = table(Client)
_message = table(MessageLog)
_suppression = table(Suppression)
_stripe_event = table(StripeEvent)

_CLIENT_FACTS = [_client.c[name] for name in AddressedClient._fields]
LOCK_BUCKETS = 1_024
"""Locks live in a table that the whole server shares, so a bulk send takes these and not one a recipient."""
LOCK_SPACE = 0x6E6F


def clients(session: Session, ids: Collection[str], *, lock: bool) -> dict[str, AddressedClient]:
    """`lock` makes others who send to one of these clients wait for our commit, so that windows are counted right."""
    if not ids:
        return {}
    dialect = bulk.dialect(session)
    parameters = (
        {"id": next(iter(ids))} if len(ids) == 1 else bulk.encode(dialect, [{"id": client_id} for client_id in ids])
    )
    rows = bulk.execute(session, _clients_statement(dialect, lock, len(ids) == 1), parameters)
    return {row[0]: AddressedClient._make(row) for row in rows}


@cache
def _clients_statement(dialect: str, lock: bool, single: bool) -> Select[*tuple[object, ...]]:
    keys = bulk.unpack(dialect, bulk.column_types(_client, "id"))
    # PostgreSQL takes any JSON for a hundred rows, and reads all of a small table for them.
    chosen = _client.c.id == bindparam("id") if single else _client.c.id.in_(select(keys.c.id))
    statement = select(*_CLIENT_FACTS).where(chosen, _client.c.erased_at.is_(None))
    if lock:
        # In one order for everyone: two callers that lock the same clients never wait for each other in a circle.
        statement = statement.order_by(_client.c.id).with_for_update(key_share=True)
    return statement


def lock_recipients(session: Session, hashes: Collection[str]) -> None:
    """The same for recipients who are no clients. SQLite's write lock is already held."""
    if not hashes or bulk.dialect(session) == "sqlite":
        return
    buckets = sorted({int(hashed[:8], 16) % LOCK_BUCKETS for hashed in hashes})
    in_order = "SELECT bucket FROM unnest(CAST(:buckets AS integer[])) AS given(bucket) ORDER BY bucket"
    statement = text(f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, bucket) FROM ({in_order}) AS ordered")  # noqa: S608  our own words
    session.execute(statement, {"buckets": buckets})


def suppressed(session: Session, hashes: Collection[str]) -> dict[tuple[str, str], str]:
    """(channel, recipient hash) -> reason."""
    if not hashes:
        return {}
    dialect = bulk.dialect(session)
    if len(hashes) == 1:
        parameters = {"hash": next(iter(hashes))}
    else:
        parameters = bulk.encode(dialect, [{"recipient_hash": hashed} for hashed in hashes])
    rows = bulk.execute(session, _suppressed_statement(dialect, len(hashes) == 1), parameters)
    return {(channel.value, hashed): reason.value for channel, hashed, reason in rows}


@cache
def _suppressed_statement(dialect: str, single: bool) -> Select[Channel, str, SuppressionReason]:
    keys = bulk.unpack(dialect, bulk.column_types(_suppression, "recipient_hash"))
    columns = (_suppression.c.channel, _suppression.c.recipient_hash, _suppression.c.reason)
    # Both channels are named, so that the primary key, which begins with it, serves.
    here = or_(*(_suppression.c.channel == channel for channel in Channel))
    if single:
        return select(*columns).where(here, _suppression.c.recipient_hash == bindparam("hash"))
    return select(*columns).join(keys, keys.c.recipient_hash == _suppression.c.recipient_hash).where(here)


def verified_stripe_events(session: Session, ids: Collection[str]) -> set[str]:
    if not ids:
        return set()
    statement = select(_stripe_event.c.id).where(_stripe_event.c.id.in_(sorted(ids)), _stripe_event.c.verified)
    return set(session.execute(statement).scalars())


@dataclass(frozen=True, slots=True)
class Known:
    """What is on record about some messages that are asked for."""

    earlier: Mapping[str, KeyedMessage]
    """By idempotency key."""
    suppressed: Mapping[tuple[str, str], str]
    """(channel, recipient hash) -> reason."""
    verified: Collection[str]
    """Of the Stripe events that were named."""
    sends: Sequence[int]
    """Of each window that was asked about, in their order."""


NOTHING_KNOWN = Known(earlier={}, suppressed={}, verified=(), sends=())


@dataclass(frozen=True, slots=True)
class RateWindow:
    """Whose sends of which template are counted, and since when (exclusive)."""

    template_key: str
    rate_subject: str
    client_id: str | None
    recipient_hash: str | None
    since: datetime


def sends_in_windows(session: Session, windows: Sequence[RateWindow]) -> list[int]:
    """One count for each window. Messages dated ahead of us count too: a clock set back frees nothing.

    A code is never given back to its window, whatever became of it.
    """
    counts = [0] * len(windows)
    for rule in Rule:
        chosen = [(number, window) for number, window in enumerate(windows) if rule_of(window) is rule]
        if chosen:
            for number, count in _count(session, chosen, rule):
                counts[number] = count
    return counts


class Rule(Enum):
    """Whose sends a window counts."""

    CLIENT = "client"
    RECIPIENT = "recipient"
    CODE = "code"


def rule_of(window: RateWindow) -> Rule:
    if window.template_key == OTP_TEMPLATE:
        return Rule.CODE
    return Rule.RECIPIENT if window.client_id is None else Rule.CLIENT


def _count(session: Session, windows: Sequence[tuple[int, RateWindow]], rule: Rule) -> list[tuple[int, int]]:
    dialect = bulk.dialect(session)
    values = [
        {
            "number": number,
            "owner": window.client_id if rule is Rule.CLIENT else window.recipient_hash,
            "template_key": window.template_key,
            "rate_subject": window.rate_subject,
            "since": window.since,
        }
        for number, window in windows
    ]
    counts = bulk.execute(session, _count_statement(dialect, rule), bulk.encode(dialect, values))
    return [(number, sends) for number, sends in counts]


@cache
def _count_statement(dialect: str, rule: Rule) -> Select[int, int]:
    types = {
        "number": _message.c.attempts.type,
        "owner": _message.c.client_id.type,
        **bulk.column_types(_message, "template_key", "rate_subject"),
        "since": _message.c.created_at.type,
    }
    windows = bulk.unpack(dialect, types)
    owner = _message.c.client_id if rule is Rule.CLIENT else _message.c.recipient_hash
    matches: list[ColumnElement[bool] | TextClause] = [
        owner == windows.c.owner,
        _message.c.created_at > windows.c.since,
    ]
    if rule is Rule.CODE:
        matches.append(IS_COUNTED_CODE)
    else:
        matches += [
            _message.c.template_key == windows.c.template_key,
            _message.c.rate_subject == windows.c.rate_subject,
            _message.c.status.not_in(NOT_COUNTED_BY_RATE),
        ]
    if rule is Rule.RECIPIENT:
        matches.append(_message.c.client_id.is_(None))
    counted = select(func.count()).select_from(_message).where(*matches).scalar_subquery()
    return select(windows.c.number, counted.label("sends"))
