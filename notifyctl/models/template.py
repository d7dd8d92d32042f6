"""A template: what may be sent, to whom, how urgently, and under which gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlmodel import Field

from notifyctl.models.columns import StoreModel, UtcDateTime, enum_column, json_column
from notifyctl.models.enums import Audience, Channel, Lane, OnDoubt, VariableType

UNBRANDED: dict[str, str] = {
    "name": "", "logo_url": "", "color": "#1a56db", "link_on_dark": "#87a7ec", "button_on_dark": "#255edd",
    "url": "", "home": "", "address": "", "imprint": "", "support_email": "",
    "installation": "",
}  # fmt: skip
"""What a part may say of the company as `brand.name` and so on, where nothing is set."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A value that a template takes. `in_header`: the subject uses it, so it may not break a line."""

    type: VariableType
    optional: bool = False
    description: str = ""
    in_header: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Variable":
        return cls(
            VariableType(value["type"]),
            value.get("optional", False),
            value.get("description", ""),
            value.get("in_header", False),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "type": self.type.value,
            "optional": self.optional,
            "description": self.description,
            "in_header": self.in_header,
        }


@dataclass(frozen=True, slots=True)
class Template:
    """The flags in force now, with the variables of the current version. Its bodies are in TemplateSource."""

    template_key: str
    channel: Channel
    audience: Audience
    lane: Lane
    billing: bool
    requires_provisioned: bool
    requires_active_subscription: bool
    plan_required_feature_key: str | None
    rate_limit_window_seconds: int | None
    rate_limit_max_sends: int
    rate_limit_by: tuple[str, ...]
    sensitive: bool
    expires_after_seconds: int | None
    on_doubt: OnDoubt
    audit_sent: str | None
    enabled: bool
    description: str
    version: int
    variables: Mapping[str, Variable]
    languages: tuple[str, ...] = ("en",)
    """The first is the default."""


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """What one version says, in Jinja2. Needs no other file. `subject` and `html_body` are None for SMS."""

    template_key: str
    version: int
    channel: Channel
    subject: str | None
    text_body: str
    html_body: str | None
    brand: Mapping[str, str] | None = None
    """What it shows of the company, by the names that it uses."""
    languages: Sequence[str] | None = None
    """None, of a version of before there were any, for English alone. The first is that of the fields above."""
    translations: Mapping[str, Mapping[str, str | None]] | None = None
    """The same three fields in the other languages, by their names."""

    @property
    def all_languages(self) -> tuple[str, ...]:
        return tuple(self.languages or ("en",))

    def in_language(self, language: str) -> "TemplateSource":
        """With the words of that language, where it has any."""
        words = (self.translations or {}).get(language)
        if words is None:
            return self
        text, html = words["text_body"] or "", words["html_body"]
        return replace(self, subject=words["subject"], text_body=text, html_body=html, languages=(language,))


class NotificationTemplate(StoreModel, table=True):
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


class NotificationTemplateVersion(StoreModel, table=True):
    __tablename__ = "notification_template_version"

    template_key: str = Field(primary_key=True, foreign_key="notification_template.template_key")
    version: int = Field(primary_key=True)
    content_hash: str
    subject: str | None = None
    text_body: str
    html_body: str | None = None
    variables: dict[str, dict[str, object]] = Field(sa_column=json_column())
    """name -> Variable.to_json"""
    example: dict[str, object] = Field(sa_column=json_column())
    flags: dict[str, object] = Field(sa_column=json_column())
    """The front matter's fields as they were seeded with this version."""
    brand: dict[str, str] | None = Field(default=None, sa_column=json_column(nullable=True))
    origin: str | None = None
    """The folder that it came from; SHIPPED for ours."""
    languages: list[str] | None = Field(default=None, sa_column=json_column(nullable=True))
    translations: dict[str, dict[str, str | None]] | None = Field(default=None, sa_column=json_column(nullable=True))
    """As in TemplateSource."""
    created_at: datetime = Field(sa_type=UtcDateTime)
