"""Other releases: a store as the first one left it, and the one after this: a copy with more revisions."""

import shutil
from pathlib import Path

from sqlalchemy import text

from notifyctl.db.database import Database
from notifyctl.db.migrations import head_revision, migrations_dir

ROOT = Path(__file__).resolve().parents[2]
EXPAND = """
    beside.add_column("message_log", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    beside.create_index("ix_message_log_priority", "message_log", ["priority", "created_at"], where="priority > 0")
    messages = sa.table("message_log", sa.column("id", sa.Uuid(as_uuid=False)), sa.column("priority"))
    beside.in_batches(messages.c.id, sa.update(messages).values(priority=1), rows=1_000)
"""
"""As a revision should be that adds to the table that is written to most."""


def later(steps: int = 1) -> str:
    """The number of a revision after the newest that there is."""
    return f"{int(head_revision()) + steps:04d}"


def next_release(folder: Path, *revisions: tuple[str, str]) -> Path:
    """To be run with this folder as `cwd`. Each revision: what it does, and the oldest code that may work on it."""
    release = folder / "next-release"
    without = shutil.ignore_patterns("__pycache__")
    for name in ("notifyctl", "templates"):
        shutil.copytree(ROOT / name, release / name, ignore=without)
    shutil.copytree(migrations_dir(), release / "migrations", ignore=without)
    for number, (body, oldest_code) in enumerate(revisions, 1):
        (release / "migrations" / "versions" / f"{later(number)}_later.py").write_text(
            f'"""Later change {number}."""\n\n'
            "import sqlalchemy as sa\nfrom alembic import op\n\nfrom notifyctl.db import beside\n\n"
            f'revision = "{later(number)}"\ndown_revision = "{later(number - 1)}"\nbranch_labels = None\n'
            f'depends_on = None\noldest_code = "{oldest_code}"\n\n\ndef upgrade() -> None:\n{body}\n'
        )
    return release


def fill(database: Database, rows: int) -> None:
    """What the first release has finished, and a few clients with subscriptions."""
    with database.transaction() as session:
        for statement in FINISHED:
            session.execute(text(statement), {"rows": rows})


FINISHED = (
    """
    INSERT INTO message_log (id, idempotency_key, client_id, channel, audience, template_key, template_version,
        recipient, recipient_hash, source, rate_subject, status, attempts, lane, created_at, last_attempt_at, sent_at,
        delivered_at, finished_at, provider, provider_message_id, lease_generation)
    SELECT md5('message ' || n)::uuid, 'old-' || n, 'acme', CASE n % 2 WHEN 0 THEN 'EMAIL' ELSE 'SMS' END, 'CLIENT',
        'WELCOME_EMAIL', 1, 'jo' || n || '@acme.example', md5('jo' || n), 'api', 'acme', 'DELIVERED', 1, 'BULK',
        moment, moment, moment, moment, moment, 'postmark', 'pm-' || n, 1
    FROM generate_series(1, CAST(:rows AS integer)) AS n, LATERAL (SELECT now() - n * interval '1 s' AS moment) AS m
    """,
    """
    INSERT INTO audit_log (action, actor, client_id, message_id, created_at)
    SELECT 'NOTIFICATION_SENT', 'worker', 'acme', md5('message ' || n)::uuid, now() - n * interval '1 second'
    FROM generate_series(1, CAST(:rows AS integer)) AS n
    """,
    """
    INSERT INTO message_payload (message_id, context) SELECT id, '{}' FROM message_log
    """,
    """
    INSERT INTO stripe_event (id, type, created, livemode, verified, body, status, attempts, received_at)
    SELECT 'evt_' || n, 'invoice.paid', now(), true, true, '', 'PROCESSED', 1, now()
    FROM generate_series(1, CAST(:rows AS integer)) AS n
    """,
    """
    INSERT INTO otp_challenge (id, phone_hash, action, code_hash, key_id, state, created_at, expires_at)
    SELECT 'otp-' || n, md5('phone' || n), 'PHONE_VERIFY', 'x', 'k', 'USED', now(), now()
    FROM generate_series(1, CAST(:rows AS integer)) AS n
    """,
)
