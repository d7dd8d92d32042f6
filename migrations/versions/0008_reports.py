"""What the health views count by: an index over each moment that they ask about."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_message_log_sent": (("sent_at", "channel", "status", "template_key", "created_at"), "sent_at IS NOT NULL"),
    "ix_message_log_delivered": (("delivered_at", "channel"), "delivered_at IS NOT NULL"),
    "ix_message_log_throttled": (("throttled_at", "channel"), "throttled_at IS NOT NULL"),
    "ix_message_log_ended": (
        ("finished_at", "status", "channel", "template_key", "reason"),
        "status IN ('FAILED', 'BOUNCED', 'BLOCKED')",
    ),
    "ix_message_log_unconfirmed": (("sent_at",), "status = 'SENT'"),
}
USED = sa.text("state = 'USED'")


def upgrade() -> None:
    for name, (columns, condition) in INDEXES.items():
        where = sa.text(condition)
        op.create_index(name, "message_log", list(columns), sqlite_where=where, postgresql_where=where)
    op.create_index("ix_otp_challenge_used", "otp_challenge", ["finished_at"], sqlite_where=USED, postgresql_where=USED)


def downgrade() -> None:
    op.drop_index("ix_otp_challenge_used", "otp_challenge")
    for name in reversed(INDEXES):
        op.drop_index(name, "message_log")
