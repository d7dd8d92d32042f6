"""A template: what may be sent, to whom, how urgently, and under which gates."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime, enum_column, json_column


class Channel(StrEnum):
    EMAIL = "EMAIL"
    SMS = "SMS"


class Audience(StrEnum):
    CLIENT = "CLIENT"
    ADMIN = "ADMIN"


class Lane(StrEnum):
    """How urgently a message leaves. The order of the members is the order of service."""

    URGENT = "URGENT"
    TRANSACTIONAL = "TRANSACTIONAL"
    BULK = "BULK"


class OnDoubt(StrEnum):
    """What to do with a message that may have gone out when the provider cannot tell."""

    RESEND = "RESEND"
    HOLD = "HOLD"


class VariableType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    DATE = "date"
    """A calendar day, ISO 8601."""
    URL = "url"
    """http or https."""


class NotificationTemplate(SQLModel, table=True):
    """The flags in force now. What a message says is pinned in its version."""

    __tablename__ = "notification_template"

    template_key: str = Field(primary_key=True)
    channel: Channel = Field(sa_column=enum_column(Channel))
    audience: Audience = Field(sa_column=enum_column(Audience))
    lane: Lane = Field(sa_column=enum_column(Lane))
    billing: bool = False
    requires_provisioned: bool = False
    requires_active_subscription: bool = False
    plan_required_feature_key: str | None = None
    rate_limit_window_seconds: int | None = None
    rate_limit_max_sends: int = 1
    rate_limit_by: list[str] = Field(default_factory=list, sa_column=json_column())
    sensitive: bool = False
    expires_after_seconds: int | None = None
    on_doubt: OnDoubt = Field(sa_column=enum_column(OnDoubt))
    audit_sent: str | None = None
    enabled: bool = True
    description: str = ""
    version: int
    updated_at: datetime = Field(sa_type=UtcDateTime)


class NotificationTemplateVersion(SQLModel, table=True):
    __tablename__ = "notification_template_version"

    template_key: str = Field(primary_key=True, foreign_key="notification_template.template_key")
    version: int = Field(primary_key=True)
    content_hash: str
    subject: str | None = None
    text_body: str
    html_body: str | None = None
    variables: dict[str, dict[str, Any]] = Field(sa_column=json_column())
    """name -> {"type": VariableType, "optional": bool, "description": str}"""
    example: dict[str, Any] = Field(sa_column=json_column())
    flags: dict[str, Any] = Field(sa_column=json_column())
    """The front matter's fields as they were seeded with this version."""
    created_at: datetime = Field(sa_type=UtcDateTime)
