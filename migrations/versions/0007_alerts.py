"""What the spike monitor found and told, what was asked for a compliance item, and an index over failed attempts."""

import sqlalchemy as sa
from alembic import op

from notifyctl.db import beside

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FAILED_ATTEMPTS = (
    "action IN ('NOTIFICATION_FAILED', 'NOTIFICATION_RETRY_SCHEDULED', 'NOTIFICATION_IN_DOUBT', 'NOTIFICATION_BOUNCED')"
)
ITEM_COLUMNS = ("asked_for", "asked_window", "asked_at", "reminded", "overdue_for", "overdue_at")


def upgrade() -> None:
    beside.create_index("ix_audit_log_failed_attempts", "audit_log", ["created_at"], where=FAILED_ATTEMPTS)
    op.create_table(
        "spike_state",
        sa.Column("channel", _words("channel_known", "EMAIL", "SMS"), primary_key=True),
        sa.Column("level", _words("spikelevel_known", "OK", "WARN", "CRITICAL"), nullable=False),
        sa.Column("told", _words("told_known", "OK", "WARN", "CRITICAL"), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True)),
        sa.Column("told_at", sa.DateTime(timezone=True)),
        sa.Column("measured_at", sa.DateTime(timezone=True)),
    )
    op.add_column("compliance_item", sa.Column("asked_for", sa.Date()))
    op.add_column("compliance_item", sa.Column("asked_window", sa.Integer()))
    op.add_column("compliance_item", sa.Column("asked_at", sa.DateTime(timezone=True)))
    op.add_column("compliance_item", sa.Column("reminded", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("compliance_item", sa.Column("overdue_for", sa.Date()))
    op.add_column("compliance_item", sa.Column("overdue_at", sa.DateTime(timezone=True)))


def _words(name: str, *words: str) -> sa.Enum:
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=32)


def downgrade() -> None:
    op.drop_index("ix_audit_log_failed_attempts", "audit_log")
    for name in reversed(ITEM_COLUMNS):
        op.drop_column("compliance_item", name)
    op.drop_table("spike_state")
