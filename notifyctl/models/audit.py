"""The append-only record of what was decided and done, and the seals over it."""

from datetime import datetime

from sqlalchemy import Column, Index, LargeBinary, text
from sqlmodel import Field

from notifyctl.models.columns import MESSAGE_ID, ROW_NUMBER, StoreModel, UtcDateTime, enum_column, json_column, table
from notifyctl.models.enums import AuditAction


class AuditLog(StoreModel, table=True):
    __tablename__ = "audit_log"

    id: int | None = Field(default=None, sa_column=Column(ROW_NUMBER, primary_key=True, autoincrement=True))
    action: AuditAction = Field(sa_column=enum_column(AuditAction))
    actor: str
    client_id: str | None = None
    message_id: str | None = Field(default=None, sa_column=Column(MESSAGE_ID, nullable=True, index=True))
    details: dict[str, object] | None = Field(default=None, sa_column=json_column("metadata", nullable=True))
    created_at: datetime = Field(sa_type=UtcDateTime)


FAILED_ATTEMPTS = text(
    "action IN ('NOTIFICATION_FAILED', 'NOTIFICATION_RETRY_SCHEDULED', 'NOTIFICATION_IN_DOUBT', 'NOTIFICATION_BOUNCED')"
)
"""Attempts that did not bring their message to its recipient. Few, and asked about every few minutes."""
_audit = table(AuditLog)
Index(
    "ix_audit_log_failed_attempts",
    _audit.c.created_at,
    sqlite_where=FAILED_ATTEMPTS,
    postgresql_where=FAILED_ATTEMPTS,
)


class AuditSeal(StoreModel, table=True):
    """A link of the hash chain over the audit log: every row with an id from `first_audit_id` to `last_audit_id`.

    An id between them that is not in `row_hashes` was never that of a row: it belongs to what was rolled back.
    """

    __tablename__ = "audit_seal"

    id: int = Field(sa_column=Column(ROW_NUMBER, primary_key=True, autoincrement=False))
    """1, 2, 3 and so on, without gaps."""
    first_audit_id: int = Field(sa_column=Column(ROW_NUMBER, nullable=False))
    """One more than where the seal before it ends."""
    last_audit_id: int = Field(sa_column=Column(ROW_NUMBER, nullable=False))
    row_count: int
    row_hashes: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Of each row its id and its hash, so that the one which was tampered with can be named."""
    previous_digest: str
    key_id: str
    sealed_at: datetime = Field(sa_type=UtcDateTime, index=True)
    digest: str
    """Of all that stands above. Needs no key, so that an export can be checked by whoever has it."""
    mac: str
    """Of the digest, by the key. Needs the key, so that nobody makes a seal who has only the database."""


class AuditCheckpoint(StoreModel, table=True):
    """The last seal that retention has removed: where the chain begins now. There is one row at most."""

    __tablename__ = "audit_checkpoint"

    seal_id: int = Field(sa_column=Column(ROW_NUMBER, primary_key=True, autoincrement=False))
    last_audit_id: int = Field(sa_column=Column(ROW_NUMBER, nullable=False))
    digest: str
    rows_removed: int = Field(sa_column=Column(ROW_NUMBER, nullable=False))
    """Since the beginning."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    key_id: str
    mac: str
    """By the key: nobody who has only the database passes a removal of his own off as ours."""
