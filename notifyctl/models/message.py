"""The message: one row from acceptance to receipt, which is also its place in the queue."""

import re
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Column, ColumnElement, Index, TextClause, func, literal_column, or_, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlmodel import Field

from notifyctl.models.columns import MESSAGE_ID, StoreModel, UtcDateTime, enum_column, json_column, table
from notifyctl.models.enums import Audience, Channel, Lane, MessageStatus
from notifyctl.models.enums import MessageStatus as S

WAITING = (MessageStatus.QUEUED, MessageStatus.DEFERRED_THROTTLED, MessageStatus.RETRY_SCHEDULED)
"""What a worker may claim once next_attempt_at has come."""

FINAL = (
    MessageStatus.SENT,
    MessageStatus.DELIVERED,
    MessageStatus.BOUNCED,
    MessageStatus.FAILED,
    MessageStatus.BLOCKED,
    MessageStatus.EXPIRED,
    MessageStatus.CANCELED,
)
"""Nothing is left to send; secrets are erased here."""

NOT_COUNTED_BY_RATE = (
    MessageStatus.BLOCKED,
    MessageStatus.FAILED,
    MessageStatus.EXPIRED,
    MessageStatus.CANCELED,
)
"""These do not use up a per-client rate."""


OTP_TEMPLATE = "OTP_CODE_SMS"
TEST_TEMPLATES = {Channel.EMAIL: "TEMPLATE_TEST", Channel.SMS: "TEMPLATE_TEST_SMS"}
"""They say what they are told to: only an operator of the machine may do that."""


class MessageLog(StoreModel, table=True):
    __tablename__ = "message_log"

    id: str = Field(sa_column=Column(MESSAGE_ID, primary_key=True))
    idempotency_key: str | None = None
    fingerprint: str | None = None
    client_id: str | None = None
    channel: Channel = Field(sa_column=enum_column(Channel))
    audience: Audience = Field(sa_column=enum_column(Audience))
    template_key: str
    template_version: int
    recipient: str | None = None
    recipient_hash: str | None = None
    subject: str | None = None
    source: str
    source_ref: str | None = None
    rate_subject: str = ""
    status: MessageStatus = Field(sa_column=enum_column(MessageStatus))
    reason: str | None = None
    error_code: str | None = None
    error: str | None = None
    attempts: int = 0
    lane: Lane = Field(sa_column=enum_column(Lane))
    next_attempt_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    throttled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_attempt_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    provider: str | None = None
    provider_message_id: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    delivered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    details: dict[str, object] | None = Field(default=None, sa_column=json_column("metadata", nullable=True))
    lease_owner: str | None = None
    lease_generation: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    language: str | None = None
    """Of its words; None for messages of before there was a choice."""


class MessagePayload(StoreModel, table=True):
    """The values for the template: JSON in the clear, or sealed under the key named beside it."""

    __tablename__ = "message_payload"

    message_id: str = Field(sa_column=Column(MESSAGE_ID, primary_key=True))
    context: str | None = None
    sealed: str | None = None
    key_id: str | None = None


_messages = table(MessageLog)


def _listed(statuses: Iterable[MessageStatus]) -> str:
    return ", ".join(f"'{status}'" for status in statuses)


PARTIAL_INDEXES = {
    "ux_message_log_idempotency_key": f"idempotency_key IS NOT NULL AND status != '{MessageStatus.BLOCKED}'",
    "ix_message_log_queue": f"status IN ({_listed(WAITING)})",
    "ix_message_log_lease": f"status IN ({_listed([MessageStatus.SENDING, MessageStatus.IN_DOUBT])})",
    "ix_message_log_otp_rate": f"template_key = '{OTP_TEMPLATE}' AND status != '{MessageStatus.BLOCKED}'",
    "ix_message_log_provider_message_id": "provider_message_id IS NOT NULL",
    "ix_message_log_sent": "sent_at IS NOT NULL",
    "ix_message_log_delivered": "delivered_at IS NOT NULL",
    "ix_message_log_throttled": "throttled_at IS NOT NULL",
    "ix_message_log_ended": "status IN ('FAILED', 'BOUNCED', 'BLOCKED')",
    "ix_message_log_unconfirmed": f"status = '{MessageStatus.SENT}'",
    "ix_message_log_status": f"status NOT IN ('{MessageStatus.SENT}', '{MessageStatus.DELIVERED}')",
    "ix_message_log_reason": "reason IS NOT NULL",
}
"""Which rows an index holds. A query that is to use it repeats the condition to the letter: a bound value cannot be
matched with it once PostgreSQL has made a generic plan, and SQLite does not derive one condition from another."""

_COLUMN = re.compile(rf"\b({'|'.join(_messages.c.keys())})\b")


def _condition(index: str) -> TextClause:
    """For a query, which may join a table with a column of the same name."""
    return text(_COLUMN.sub(r"message_log.\1", PARTIAL_INDEXES[index]))


IDEMPOTENCY_INDEX = text(PARTIAL_INDEXES["ux_message_log_idempotency_key"])
IS_WAITING = _condition("ix_message_log_queue")
IS_HELD = _condition("ix_message_log_lease")
"""A worker holds it, or nobody knows whether it went out."""
IS_SENDING = text(f"{IS_HELD} AND message_log.status = '{MessageStatus.SENDING}'")
IS_IN_DOUBT = text(f"{IS_HELD} AND message_log.status = '{MessageStatus.IN_DOUBT}'")
IS_COUNTED_CODE = _condition("ix_message_log_otp_rate")
"""Codes are counted by the phone they went to, whoever asked for them and whatever became of them."""
HAS_PROVIDER_ID = _condition("ix_message_log_provider_message_id")
WAS_SENT = _condition("ix_message_log_sent")
WAS_DELIVERED = _condition("ix_message_log_delivered")
WAS_THROTTLED = _condition("ix_message_log_throttled")
ENDED_BADLY = _condition("ix_message_log_ended")
IS_UNCONFIRMED = _condition("ix_message_log_unconfirmed")
HAS_REASON = _condition("ix_message_log_reason")
IS_UNUSUAL = _condition("ix_message_log_status")


def is_in(status: MessageStatus) -> TextClause:
    """As text, with the condition of the index that it is found by; what nearly all messages become needs none."""
    own = f"message_log.status = '{status}'"
    is_common = status in (MessageStatus.SENT, MessageStatus.DELIVERED)
    return text(own if is_common else f"{IS_UNUSUAL} AND {own}")


def is_still_in(*statuses: MessageStatus) -> ColumnElement[bool]:
    """For rows that are known by their ids: in words that no index has.

    PostgreSQL's statistics know of nobody in a status that lasts for moments, so that a planner takes its index to be
    empty; while somebody's old snapshot is held, it is full of all rows that ever were in it.
    """
    kept = func.coalesce(_messages.c.status, literal_column("''"))
    return or_(*(kept == literal_column(f"'{status}'") for status in statuses))


SQLITE_WAITED = (
    "(strftime('%s', substr(sent_at, 1, 19)) - strftime('%s', substr(created_at, 1, 19))) * 1000000"
    " + CAST(substr(sent_at, 21) AS INTEGER) - CAST(substr(created_at, 21) AS INTEGER)"
)
"""Microseconds from created_at to sent_at. Cut at the second, since SQLite's own reading of fractions stops at
milliseconds. SQLite takes it from the index, where the very same words are used."""


class _Waited(ColumnElement[int]):
    """What latencies are counted from: on SQLite the difference itself, which is dear to read out of texts; on
    PostgreSQL, which reads no expression back from an index, the moment that it begins at.

    Alembic does not carry such an index over when it copies a table on SQLite: a migration that does makes it anew.
    """

    inherit_cache = True


@compiles(_Waited, "sqlite")
def _waited_on_sqlite(_element: _Waited, _compiler: SQLCompiler, **_options: object) -> str:
    return f"({SQLITE_WAITED})"


@compiles(_Waited)
def _waited(_element: _Waited, _compiler: SQLCompiler, **_options: object) -> str:
    return "created_at"


_INDEXED: dict[str, tuple[str | _Waited, ...]] = {
    "ux_message_log_idempotency_key": ("idempotency_key",),
    "ix_message_log_queue": ("channel", "lane", "status", "next_attempt_at"),
    "ix_message_log_lease": ("lease_until",),
    "ix_message_log_client_rate": ("client_id", "template_key", "created_at"),
    "ix_message_log_recipient": ("recipient_hash", "template_key", "created_at"),
    "ix_message_log_otp_rate": ("recipient_hash", "created_at"),
    "ix_message_log_provider_message_id": ("provider_message_id",),
    # One for each moment that health.reports counts by, with all that it asks of a row.
    "ix_message_log_sent": ("sent_at", _Waited(), "channel", "template_key", "status"),
    "ix_message_log_delivered": ("delivered_at", "channel"),
    "ix_message_log_throttled": ("throttled_at", "channel"),
    "ix_message_log_ended": ("finished_at", "status", "channel", "template_key", "reason"),
    "ix_message_log_unconfirmed": ("sent_at",),
    # The newest of each, however rare it is.
    "ix_message_log_template": ("template_key", "id"),
    "ix_message_log_status": ("status", "id"),
    "ix_message_log_reason": ("reason", "id"),
}
for _name, _columns in _INDEXED.items():
    _where = text(PARTIAL_INDEXES[_name]) if _name in PARTIAL_INDEXES else None
    Index(
        _name,
        *(_messages.c[item] if isinstance(item, str) else item for item in _columns),
        unique=_name.startswith("ux_"),
        sqlite_where=_where,
        postgresql_where=_where,
    )


FOLLOWERS: dict[MessageStatus, frozenset[MessageStatus]] = {
    S.QUEUED: frozenset({S.SENDING, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED}),
    S.DEFERRED_THROTTLED: frozenset({S.SENDING, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED}),
    S.RETRY_SCHEDULED: frozenset(
        {S.SENDING, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED, S.FAILED}
    ),
    S.SENDING: frozenset(
        {
            S.SENT, S.RETRY_SCHEDULED, S.FAILED, S.IN_DOUBT,
            # before the call only
            S.QUEUED, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED,
        }
    ),
    S.IN_DOUBT: frozenset({S.SENT, S.DELIVERED, S.BOUNCED, S.QUEUED, S.RETRY_SCHEDULED, S.FAILED}),
    S.SENT: frozenset({S.DELIVERED, S.BOUNCED}),
    S.DELIVERED: frozenset({S.BOUNCED}),
    S.BOUNCED: frozenset(),
    # QUEUED by an operator; the others by a late receipt when it was held in doubt
    S.FAILED: frozenset({S.QUEUED, S.SENT, S.DELIVERED, S.BOUNCED}),
    S.BLOCKED: frozenset(),
    S.EXPIRED: frozenset(),
    S.CANCELED: frozenset(),
}  # fmt: skip


def predecessors(status: MessageStatus) -> tuple[MessageStatus, ...]:
    """From where `status` can be reached."""
    return tuple(before for before, after in FOLLOWERS.items() if status in after)


def may_become(before: MessageStatus, after: MessageStatus) -> bool:
    return after in FOLLOWERS[before]
