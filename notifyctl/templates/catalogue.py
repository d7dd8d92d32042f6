"""The catalogue of templates: the files, and the store that they are seeded into."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.errors import NotFound
from notifyctl.models.enums import AuditAction
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.models.template import NotificationTemplate, NotificationTemplateVersion
from notifyctl.settings import Settings
from notifyctl.templates import store as template_store
from notifyctl.templates.files import UNBRANDED, TemplateFile, load, templates_dir
from notifyctl.text import colors

__all__ = [
    "SeedChange",
    "SeedStatus",
    "TemplateFile",
    "company",
    "diff",
    "files_of",
    "load",
    "seed",
    "set_enabled",
    "templates_dir",
]

_CONTENT = ("subject", "text_body", "html_body", "variables", "example", "brand")
_Stored = tuple[NotificationTemplate, NotificationTemplateVersion]
_Fields = dict[str, Any]
"""Those of a template: its flags and its content, by name."""


def company(settings: Settings) -> Mapping[str, str]:
    """What mails show of the company that these settings name."""
    color = settings.brand_color
    address = urlsplit(settings.brand_url or "")
    return UNBRANDED | {
        "name": settings.brand_name or "",
        "logo_url": settings.brand_logo_url or "",
        "color": color,
        "link_on_dark": colors.link_on_dark(color),
        "button_on_dark": colors.button_on_dark(color),
        "url": settings.brand_url or "",
        "home": f"{address.netloc}{address.path}".rstrip("/"),
        "address": settings.brand_address or "",
        "imprint": settings.brand_imprint or "",
        "support_email": settings.support_email or "",
    }


def files_of(settings: Settings, directory: Path | None = None) -> list[TemplateFile]:
    """The template files of an installation. Raises TemplateError."""
    return load(directory or templates_dir(), company(settings))


class SeedStatus(StrEnum):
    NEW = "NEW"
    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    NOT_IN_FILES = "NOT_IN_FILES"
    """The store has it, the files do not. It stays, and can still be sent."""


@dataclass(frozen=True, slots=True)
class SeedChange:
    """`version` is the one in force after seeding; `fields` are those that differ."""

    template_key: str
    status: SeedStatus
    version: int
    fields: tuple[str, ...] = ()

    def audit_details(self) -> dict[str, object]:
        return {"template_key": self.template_key, "version": self.version, "changed": list(self.fields)}


def seed(
    session: Session, files: Sequence[TemplateFile], *, settings: Settings, now: datetime, actor: str
) -> list[SeedChange]:
    """Stores a new version of each template that differs, with an audit row. Earlier versions stay.

    A template that an operator has switched off stays off.
    """
    template_store.lock_for_seeding(session)
    stored = template_store.current(session)
    changes = [_change(file, stored, settings) for file in files]
    for file, change in zip(files, changes, strict=True):
        if change.status is not SeedStatus.UNCHANGED:
            _save(session, _wanted(file, settings), stored.get(file.template_key), change, now)
            audit_log.write(session, AuditAction.TEMPLATE_SEEDED, actor=actor, now=now, details=change.audit_details())
    return changes


def diff(session: Session, files: Sequence[TemplateFile], *, settings: Settings) -> list[SeedChange]:
    """What `seed` would do, and which templates only the store has."""
    stored = template_store.current(session)
    keys = {file.template_key for file in files}
    orphans = [
        SeedChange(key, SeedStatus.NOT_IN_FILES, template.version)
        for key, (template, _) in stored.items()
        if key not in keys
    ]
    changes = [_change(file, stored, settings) for file in files] + orphans
    return sorted(changes, key=lambda change: change.template_key)


def set_enabled(session: Session, template_key: str, enabled: bool, *, now: datetime, actor: str) -> bool:
    """An operator's word, which seeding respects. False when it was so already. Raises NotFound."""
    if not template_store.by_key(session, [template_key]):
        raise NotFound(f"There is no template {template_key!r}; `notifyctl templates list` shows those there are")
    changed = template_store.set_enabled(session, template_key, enabled, now)
    if changed:
        event = "template_enabled" if enabled else "template_disabled"
        details = {"event": event, "template_key": template_key}
        audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)
    return changed


def _change(file: TemplateFile, stored: Mapping[str, _Stored], settings: Settings) -> SeedChange:
    if file.template_key not in stored:
        return SeedChange(file.template_key, SeedStatus.NEW, 1)
    template, version = stored[file.template_key]
    wanted, seeded = _wanted(file, settings), _seeded(template, version)
    fields = tuple(name for name in wanted if wanted[name] != seeded.get(name))
    status = SeedStatus.CHANGED if fields else SeedStatus.UNCHANGED
    return SeedChange(file.template_key, status, template.version + bool(fields), fields)


def _wanted(file: TemplateFile, settings: Settings) -> _Fields:
    """Every field as the store should have it."""
    flags = file.front.flags()
    if file.template_key == OTP_TEMPLATE:
        count, window = settings.otp_rate
        flags |= {
            "rate_limit_max_sends": count,
            "rate_limit_window_seconds": int(window.total_seconds()),
            "expires_after_seconds": settings.otp_ttl_seconds,
        }
    return {
        "template_key": file.template_key,
        **flags,
        "subject": file.front.subject,
        "text_body": file.text_body,
        "html_body": file.html_body,
        "variables": {name: variable.to_json() for name, variable in file.variables.items()},
        "example": file.example,
        "brand": file.brand or None,
    }


def _seeded(template: NotificationTemplate, version: NotificationTemplateVersion) -> _Fields:
    # `enabled` on the row is the operator's: the file is compared with what the file said last time.
    return (
        template.model_dump(mode="json", exclude={"version", "updated_at"})
        | {"enabled": version.flags.get("enabled")}
        | {name: getattr(version, name) for name in _CONTENT}
    )


def _save(session: Session, declared: _Fields, before: _Stored | None, change: SeedChange, now: datetime) -> None:
    key = change.template_key
    content = {name: declared[name] for name in _CONTENT}
    flags = {name: value for name, value in declared.items() if name not in content and name != "template_key"}
    in_force = flags | {"enabled": _enabled(flags["enabled"], before)}
    template_store.save_version(
        session,
        NotificationTemplate(template_key=key, version=change.version, updated_at=now, **in_force),
        NotificationTemplateVersion(
            template_key=key,
            version=change.version,
            content_hash=_digest(declared),
            flags=flags,
            created_at=now,
            **content,
        ),
    )


def _enabled(in_file: bool, before: _Stored | None) -> bool:
    """The file's word, unless an operator has said otherwise since."""
    if before is None:
        return in_file
    template, version = before
    return in_file if template.enabled == version.flags.get("enabled") else template.enabled


def _digest(declared: _Fields) -> str:
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()
