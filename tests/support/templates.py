"""The shipped templates in a test's database, without the cost of comparing and writing them one by one."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import insert, select

from notifyctl.bootstrap import Runtime
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.template import NotificationTemplate, NotificationTemplateVersion
from notifyctl.templates import catalogue, files
from notifyctl.templates import store as template_store
from notifyctl.templates.files import TemplateFile
from tests.support.clocks import NOON
from tests.support.settings import make_settings

_TABLES = [table(NotificationTemplate), table(NotificationTemplateVersion), table(AuditLog)]
_TIMES = ("updated_at", "created_at")


@cache
def shipped_templates() -> list[TemplateFile]:
    return files.load(files.templates_dir())


def seed_templates(runtime: Runtime) -> None:
    """As `notifyctl templates seed` does on an empty store: its very rows, with the time of this runtime."""
    settings = runtime.settings
    seeded = _seeded(settings.otp_send_rate_limit, settings.otp_ttl_seconds)
    now = runtime.clock()
    with runtime.database.transaction() as session:
        if template_store.current(session):
            catalogue.seed(session, shipped_templates(), settings=settings, now=now, actor="test")
            return
        for into, rows in zip(_TABLES, seeded, strict=True):
            session.execute(insert(into), [_at(now, row) for row in rows])


def _at(now: datetime, row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: now for name in _TIMES if name in row}


@cache
def _seeded(otp_send_rate_limit: str, otp_ttl_seconds: int) -> list[list[dict[str, Any]]]:
    """The rows that seeding writes into each table; these two settings are all of ours that it reads."""
    import tempfile
    from pathlib import Path

    from notifyctl.db import migrations
    from notifyctl.db.database import Database

    with tempfile.TemporaryDirectory(prefix="notifyctl-seed-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'seed.db'}")
        migrations.upgrade(database)
        settings = make_settings(
            database_url=str(database.url), otp_send_rate_limit=otp_send_rate_limit, otp_ttl_seconds=otp_ttl_seconds
        )
        with database.transaction() as session:
            catalogue.seed(session, shipped_templates(), settings=settings, now=NOON, actor="test")
            rows = [[dict(row._mapping) for row in session.execute(select(source))] for source in _TABLES]
        database.close()
    for row in rows[-1]:
        del row["id"]
    return rows
