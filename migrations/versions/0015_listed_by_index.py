"""The newest messages of a status, template, reason or recipient are found by an index, however many there are."""

import sqlalchemy as sa
from alembic import op

from notifyctl.db import beside

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
oldest_code = "0001"

ANONYMOUS = sa.text("client_id IS NULL AND recipient_hash IS NOT NULL")
INDEXES = {
    # Takes the place of one that had only the recipients without a client.
    "ix_message_log_recipient": (("recipient_hash", "template_key", "created_at"), None),
    "ix_message_log_template": (("template_key", "id"), None),
    "ix_message_log_status": (("status", "id"), "status NOT IN ('SENT', 'DELIVERED')"),
    "ix_message_log_reason": (("reason", "id"), "reason IS NOT NULL"),
}


def upgrade() -> None:
    for name, (columns, condition) in INDEXES.items():
        beside.create_index(name, "message_log", columns, where=condition)
    beside.drop_index("ix_message_log_recipient_rate", "message_log")


def downgrade() -> None:
    op.create_index(
        "ix_message_log_recipient_rate",
        "message_log",
        ["recipient_hash", "template_key", "created_at"],
        sqlite_where=ANONYMOUS,
        postgresql_where=ANONYMOUS,
    )
    for name in reversed(INDEXES):
        op.drop_index(name, "message_log")
