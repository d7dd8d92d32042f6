"""What the health views count by: an index over each moment that they ask about."""

from alembic import op

from notifyctl.db import beside

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Microseconds, on SQLite, which finds them in the index; PostgreSQL reads no expression back from one.
WAITED = (
    "((strftime('%s', substr(sent_at, 1, 19)) - strftime('%s', substr(created_at, 1, 19))) * 1000000"
    " + CAST(substr(sent_at, 21) AS INTEGER) - CAST(substr(created_at, 21) AS INTEGER))"
)
INDEXES = {
    "ix_message_log_delivered": (("delivered_at", "channel"), "delivered_at IS NOT NULL"),
    "ix_message_log_throttled": (("throttled_at", "channel"), "throttled_at IS NOT NULL"),
    "ix_message_log_ended": (
        ("finished_at", "status", "channel", "template_key", "reason"),
        "status IN ('FAILED', 'BOUNCED', 'BLOCKED')",
    ),
    "ix_message_log_unconfirmed": (("sent_at",), "status = 'SENT'"),
}


def upgrade() -> None:
    waited = WAITED if op.get_bind().dialect.name == "sqlite" else "created_at"
    columns = ["sent_at", waited, "channel", "template_key", "status"]
    beside.create_index("ix_message_log_sent", "message_log", columns, where="sent_at IS NOT NULL")
    for name, (columns, condition) in INDEXES.items():
        beside.create_index(name, "message_log", columns, where=condition)
    beside.create_index("ix_otp_challenge_used", "otp_challenge", ["finished_at"], where="state = 'USED'")


def downgrade() -> None:
    op.drop_index("ix_otp_challenge_used", "otp_challenge")
    for name in reversed(INDEXES):
        op.drop_index(name, "message_log")
    op.drop_index("ix_message_log_sent", "message_log")
