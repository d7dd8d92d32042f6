"""The shared budget of a channel's minute, pauses, the circuit breaker, and a queue index by status."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from notifyctl.db import beside

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON_VALUE = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
WAITING = "status IN ('QUEUED', 'DEFERRED_THROTTLED', 'RETRY_SCHEDULED')"
COLUMNS = ("channel", "lane", "status", "next_attempt_at")


def _channel() -> sa.Enum:
    return sa.Enum("EMAIL", "SMS", name="channel_known", native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    beside.replace_index("ix_message_log_queue", "message_log", COLUMNS, where=WAITING)
    beside.create_index(
        "ix_message_log_provider_message_id",
        "message_log",
        ["provider_message_id"],
        where="channel = 'SMS' AND provider_message_id IS NOT NULL",
    )
    op.create_table(
        "notification_outbound_budget",
        sa.Column("channel", _channel(), primary_key=True),
        sa.Column("state", JSON_VALUE, nullable=False),
    )
    op.create_table(
        "pause",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("channel", sa.String()),
        sa.Column("template_key", sa.String()),
        sa.Column("client_id", sa.String()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    states = sa.Enum(
        "CLOSED", "OPEN", "PROBING", name="breakerstate_known", native_enum=False, create_constraint=True, length=32
    )
    op.create_table(
        "provider_breaker",
        sa.Column("channel", _channel(), primary_key=True),
        sa.Column("state", states, nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("opened_at", sa.DateTime(timezone=True)),
        sa.Column("probe_at", sa.DateTime(timezone=True)),
        sa.Column("failed_probes", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    op.drop_index("ix_message_log_provider_message_id", "message_log")
    waiting = sa.text(WAITING)
    op.drop_index("ix_message_log_queue", "message_log")
    op.create_index(
        "ix_message_log_queue",
        "message_log",
        ["channel", "lane", "next_attempt_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.drop_table("provider_breaker")
    op.drop_table("pause")
    op.drop_table("notification_outbound_budget")
