"""The catalogue of templates: the files, and the store that they are seeded into."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.models.enums import AuditAction
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.models.template import UNBRANDED, NotificationTemplate, NotificationTemplateVersion
from notifyctl.settings import Settings
from notifyctl.templates import store as template_store
from notifyctl.templates.files import SHIPPED, SHIPPED_WITH_PARTS, TemplateFile, load, templates_dir
from notifyctl.text import colors
from notifyctl.text.choices import no_template
from notifyctl.text.files import write_new

__all__ = [
    "SeedChange",
    "SeedStatus",
    "TemplateFile",
    "company",
    "diff",
    "export",
    "files_of",
    "load",
    "seed",
    "set_enabled",
    "templates_dir",
]

_CONTENT = ("subject", "text_body", "html_body", "variables", "example", "brand", "languages", "translations")
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
        "installation": settings.installation_name or "",
    }


def files_of(settings: Settings, directory: Path | None = None) -> list[TemplateFile]:
    """The template files of an installation: those of a folder of its own, and the shipped ones for what that lacks.

    `directory` stands for NOTIFICATION_TEMPLATES. Raises TemplateError.
    """
    own, shipped = directory or settings.notification_templates, templates_dir()
    if own is None or own.absolute() == shipped:
        return load(shipped, company(settings))
    return load(own, company(settings), beside=shipped)


def export(directory: Path, names: Collection[str] = ()) -> list[Path]:
    """Copies the shipped files, for a company to change. Returns those that it wrote.

    `names` are of templates and of shared parts; all when there are none. Nothing is written over: raises InvalidInput
    for a file that is there and reads otherwise, before anything is written.
    """
    shipped = templates_dir()
    found = sorted(path.relative_to(shipped) for path in shipped.rglob("*") if path.is_file())
    chosen = [path for path in found if not names or _is_named(path, names)]
    if strange := [name for name in names if not any(_is_named(path, [name]) for path in found)]:
        raise no_template(strange[0], {name for path in found for name in (path.parent.name, path.stem, path.name)})
    try:
        there = [path for path in chosen if (directory / path).exists()]
        changed = [path for path in there if (directory / path).read_bytes() != (shipped / path).read_bytes()]
        if changed:
            there_already = directory / changed[0]
            raise InvalidInput(f"{there_already} reads otherwise; nothing was written, name another folder")
        new = [path for path in chosen if path not in there]
        for path in new:
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            write_new(directory / path, (shipped / path).read_bytes())
    except OSError as error:
        why = f"{error.filename or directory} cannot be written: {error.strerror}"
        raise NotifyctlError(f"{why}; mend that and repeat it, or name another folder") from error
    return [directory / path for path in new]


def _is_named(path: Path, names: Collection[str]) -> bool:
    """`email/WELCOME_EMAIL/body.txt` by WELCOME_EMAIL, `email/_layout.html` by its name."""
    return path.parts[1] in names or path.stem.partition(".")[0] in names


class SeedStatus(StrEnum):
    NEW = "NEW"
    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    NOT_IN_FILES = "NOT_IN_FILES"
    """The store has it, the files do not. It stays, and can still be sent."""
    KEPT = "KEPT"
    """The store has a company's own, and the files have ours: it stays, unless seeding is told to replace it."""


@dataclass(frozen=True, slots=True)
class SeedChange:
    """`version` is the one in force after seeding, and `origin` where it came from; `fields` are those that differ."""

    template_key: str
    status: SeedStatus
    version: int
    fields: tuple[str, ...] = ()
    origin: str = SHIPPED

    @property
    def folder(self) -> str:
        """That its origin names."""
        return self.origin.removeprefix(SHIPPED_WITH_PARTS)

    def audit_details(self) -> dict[str, object]:
        return {
            "template_key": self.template_key,
            "version": self.version,
            "changed": list(self.fields),
            "origin": self.origin,
        }


def seed(
    session: Session,
    files: Sequence[TemplateFile],
    *,
    settings: Settings,
    now: datetime,
    actor: str,
    replace: bool = False,
) -> list[SeedChange]:
    """Stores a new version of each template that differs, with an audit row. Earlier versions stay.

    A template that an operator has switched off stays off. What came from a company's own folder is kept where the
    files are the shipped ones: on a host without that folder they would take its mails away. `replace` takes them.
    """
    template_store.lock_for_seeding(session)
    stored = template_store.current(session)
    changes = [_change(file, stored, settings, replace) for file in files]
    for file, change in zip(files, changes, strict=True):
        if change.status in (SeedStatus.NEW, SeedStatus.CHANGED):
            _save(session, _wanted(file, settings), stored.get(file.template_key), change, now)
            audit_log.write(session, AuditAction.TEMPLATE_SEEDED, actor=actor, now=now, details=change.audit_details())
    return changes


def diff(session: Session, files: Sequence[TemplateFile], *, settings: Settings) -> list[SeedChange]:
    """What `seed` would do, and which templates only the store has."""
    stored = template_store.current(session)
    keys = {file.template_key for file in files}
    orphans = [
        SeedChange(key, SeedStatus.NOT_IN_FILES, template.version, origin=version.origin or SHIPPED)
        for key, (template, version) in stored.items()
        if key not in keys
    ]
    changes = [_change(file, stored, settings) for file in files] + orphans
    return sorted(changes, key=lambda change: change.template_key)


def set_enabled(session: Session, template_key: str, enabled: bool, *, now: datetime, actor: str) -> bool:
    """An operator's word, which seeding respects. False when it was so already. Raises NotFound."""
    template_key = template_store.require(session, template_key).template_key
    changed = template_store.set_enabled(session, template_key, enabled, now)
    if changed:
        event = "template_enabled" if enabled else "template_disabled"
        details = {"event": event, "template_key": template_key}
        audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)
    return changed


def _change(file: TemplateFile, stored: Mapping[str, _Stored], settings: Settings, replace: bool = False) -> SeedChange:
    if file.template_key not in stored:
        return SeedChange(file.template_key, SeedStatus.NEW, 1, origin=file.origin)
    template, version = stored[file.template_key]
    wanted, seeded = _wanted(file, settings), _seeded(template, version)
    fields = tuple(name for name in wanted if wanted[name] != seeded.get(name))
    came_from = version.origin or SHIPPED
    if not fields:
        return SeedChange(file.template_key, SeedStatus.UNCHANGED, template.version, origin=came_from)
    if _ownership(file.origin) < _ownership(came_from) and not replace:
        return SeedChange(file.template_key, SeedStatus.KEPT, template.version, fields, came_from)
    return SeedChange(file.template_key, SeedStatus.CHANGED, template.version + 1, fields, file.origin)


def _ownership(origin: str) -> int:
    """How much of it is the company's own: nothing, a part that it shares with others, or its words."""
    return 0 if origin == SHIPPED else 1 if origin.startswith(SHIPPED_WITH_PARTS) else 2


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
        "languages": list(file.languages),
        "translations": dict(file.translations) or None,
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
            origin=change.origin,
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
