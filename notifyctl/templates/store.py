"""Templates and their versions."""

import json
from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache

from sqlalchemy import and_, func, select, text, tuple_, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import Audience, Channel, Lane, OnDoubt
from notifyctl.models.template import (
    NotificationTemplate,
    NotificationTemplateVersion,
    Template,
    TemplateSource,
    Variable,
)
from notifyctl.text.choices import no_template

_template = table(NotificationTemplate)
_version = table(NotificationTemplateVersion)

_in_force = and_(_version.c.template_key == _template.c.template_key, _version.c.version == _template.c.version)
_FLAGS = [field.name for field in fields(Template) if field.name not in ("rate_limit_by", "variables", "languages")]
_SOURCES = select(
    _version.c.template_key,
    _version.c.version,
    _template.c.channel,
    _version.c.subject,
    _version.c.text_body,
    _version.c.html_body,
    _version.c.brand,
    _version.c.languages,
    _version.c.translations,
).join(_template, _template.c.template_key == _version.c.template_key)


def by_key(session: Session, keys: Collection[str]) -> dict[str, Template]:
    """The templates of these keys with their current variables; a key that is unknown is left out."""
    if not keys:
        return {}
    # There are few: to read them all costs less than a statement of its own for each number of keys.
    alone = next(iter(keys)) if len(keys) == 1 else None
    templates = everything(session) if alone is None else _templates(session, "t.template_key = :key", key=alone)
    return {template.template_key: template for template in templates if template.template_key in keys}


def require(session: Session, key: str) -> Template:
    """In whatever case the key is written. Raises NotFound."""
    found = by_key(session, [key.upper()])
    if not found:
        raise no_template(key, [template.template_key for template in everything(session)])
    return found[key.upper()]


def are_seeded(session: Session) -> bool:
    return session.execute(select(_template.c.template_key).limit(1)).first() is not None


def first_seeded_at(session: Session) -> datetime | None:
    """Since when this installation could send."""
    earliest: datetime | None = session.execute(select(func.min(_version.c.created_at))).scalar_one_or_none()
    return earliest


def everything(session: Session) -> list[Template]:
    return _templates(session)


def sources(session: Session, versions: Collection[tuple[str, int]]) -> dict[tuple[str, int], TemplateSource]:
    """What these (template_key, version) say; one that is unknown is left out."""
    if not versions:
        return {}
    statement = _SOURCES.where(tuple_(_version.c.template_key, _version.c.version).in_(list(set(versions))))
    return {(row.template_key, row.version): TemplateSource(*row) for row in session.execute(statement)}


def current(session: Session) -> dict[str, tuple[NotificationTemplate, NotificationTemplateVersion]]:
    """Every template with the version in force."""
    statement = select(NotificationTemplate, NotificationTemplateVersion).join(NotificationTemplateVersion, _in_force)
    return {template.template_key: (template, version) for template, version in session.execute(statement)}


def version(session: Session, template_key: str, number: int) -> NotificationTemplateVersion | None:
    return session.get(NotificationTemplateVersion, (template_key, number))


def history(session: Session, template_key: str) -> list[NotificationTemplateVersion]:
    """Every version that was ever seeded, newest first."""
    statement = (
        select(NotificationTemplateVersion)
        .where(_version.c.template_key == template_key)
        .order_by(_version.c.version.desc())
    )
    return list(session.execute(statement).scalars())


def lock_for_seeding(session: Session) -> None:
    """Until the transaction ends nobody else seeds. On SQLite a writing transaction is alone already."""
    if bulk.dialect(session) == "postgresql":
        session.execute(text("LOCK TABLE notification_template IN SHARE ROW EXCLUSIVE MODE"))


def save_version(session: Session, template: NotificationTemplate, new_version: NotificationTemplateVersion) -> None:
    """Makes `new_version` the one in force. Earlier versions stay: accepted messages are pinned to them."""
    session.merge(template)
    session.flush()  # the version points at the template
    session.add(new_version)
    session.flush()


def set_enabled(session: Session, template_key: str, enabled: bool, now: datetime) -> bool:
    """False when it was so already, or there is no such template."""
    statement = (
        update(_template)
        .where(_template.c.template_key == template_key, _template.c.enabled.is_not(enabled))
        .values(enabled=enabled, updated_at=now)
    )
    return session.exec(statement).rowcount > 0


@cache
def in_one(dialect: str) -> str:
    """An expression for all of a template `t` and its version `v`, as `from_one` takes it."""
    array, structure = ("json_array", "json({})") if dialect == "sqlite" else ("json_build_array", "{}")
    flags = [f"t.{name}" for name in _FLAGS]
    structured = [structure.format(name) for name in ("t.rate_limit_by", "v.variables", "v.languages")]
    return f"CAST({array}({', '.join(flags + structured)}) AS text)"


@lru_cache(maxsize=256)
def from_one(document: str) -> Template:
    """Remembered by all that it says: a template that was changed is never taken for what it was."""
    *values, rate_limit_by, variables, languages = json.loads(document)
    flags = dict(zip(_FLAGS, values, strict=True))
    for name, kind in _TYPES.items():
        flags[name] = kind(flags[name])
    return Template(
        **flags,
        rate_limit_by=tuple(rate_limit_by),
        variables={name: Variable.from_json(value) for name, value in variables.items()},
        languages=tuple(languages or ("en",)),
    )


_TYPES: dict[str, type[StrEnum | bool]] = {
    "channel": Channel, "audience": Audience, "lane": Lane, "on_doubt": OnDoubt, "billing": bool, "enabled": bool,
    "requires_provisioned": bool, "requires_active_subscription": bool, "sensitive": bool,
}  # fmt: skip
"""Of the flags that JSON, or SQLite, has another type for."""


def _templates(session: Session, condition: str = "true", **parameters: str) -> list[Template]:
    rows = bulk.run(session, _templates_where(bulk.dialect(session), condition), parameters)
    return [from_one(document) for (document,) in rows]


@cache
def _templates_where(dialect: str, condition: str) -> str:
    return f"""
        SELECT {in_one(dialect)} FROM notification_template AS t
        JOIN notification_template_version AS v ON v.template_key = t.template_key AND v.version = t.version
        WHERE {condition} ORDER BY t.template_key
    """  # noqa: S608  our own words
