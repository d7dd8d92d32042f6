"""One-time codes: kept only as keyed hashes."""

from datetime import datetime

from sqlalchemy import Index, text
from sqlmodel import Field

from notifyctl.models.columns import StoreModel, UtcDateTime, enum_column, table
from notifyctl.models.enums import OtpAction, OtpState


class OtpSubject(StoreModel, table=True):
    """What a phone has failed so far, over all actions and codes: a new code changes none of it."""

    __tablename__ = "otp_subject"

    phone_hash: str = Field(primary_key=True)
    key_id: str
    """The pepper that the hash is made with."""
    failed_count: int = 0
    """Wrong codes since the last success or the end of the last lock."""
    consecutive_failures: int = 0
    """Wrong codes since the last success or `otp unlock`, over all locks."""
    locked_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    hard_locked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Too many failures in a row: locked until an operator says otherwise."""
    updated_at: datetime = Field(sa_type=UtcDateTime)


class OtpChallenge(StoreModel, table=True):
    __tablename__ = "otp_challenge"

    id: str = Field(primary_key=True)
    phone_hash: str
    prefix_hash: str
    """Of the country and network that the number belongs to: what a budget against SMS pumping is counted by."""
    action: OtpAction = Field(sa_column=enum_column(OtpAction))
    code_hash: str
    key_id: str
    """The pepper that phone_hash and code_hash are made with."""
    state: OtpState = Field(sa_column=enum_column(OtpState))
    message_id: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


_challenges = table(OtpChallenge)
LIVE_INDEX = text("state = 'LIVE'")
Index("ix_otp_challenge_phone", _challenges.c.phone_hash, _challenges.c.created_at)
Index("ix_otp_challenge_prefix", _challenges.c.prefix_hash, _challenges.c.created_at)
Index("ix_otp_challenge_created_at", _challenges.c.created_at)
Index(
    "ux_otp_challenge_live",
    _challenges.c.phone_hash,
    _challenges.c.action,
    unique=True,
    sqlite_where=LIVE_INDEX,
    postgresql_where=LIVE_INDEX,
)
USED_INDEX = text("state = 'USED'")
Index("ix_otp_challenge_used", _challenges.c.finished_at, sqlite_where=USED_INDEX, postgresql_where=USED_INDEX)
