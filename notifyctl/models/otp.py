"""One-time codes: kept only as keyed hashes."""

from datetime import datetime
from enum import StrEnum

from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime, enum_column


class OtpAction(StrEnum):
    PHONE_VERIFY = "PHONE_VERIFY"
    SENSITIVE_ACTION = "SENSITIVE_ACTION"


class OtpState(StrEnum):
    LIVE = "LIVE"
    USED = "USED"
    SUPERSEDED = "SUPERSEDED"
    LOCKED = "LOCKED"
    EXPIRED = "EXPIRED"


class OtpChallenge(SQLModel, table=True):
    __tablename__ = "otp_challenge"

    id: str = Field(primary_key=True)
    phone_hash: str = Field(index=True)
    action: OtpAction = Field(sa_column=enum_column(OtpAction))
    code_hash: str
    key_id: str
    state: OtpState = Field(sa_column=enum_column(OtpState))
    message_id: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
