"""One-time codes counted by phone, and receipts that overtake our own commit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from notifyctl.db import beside

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON_VALUE = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MESSAGE_ID = sa.Uuid(as_uuid=False).with_variant(sa.String(36), "sqlite")
KNOWN_SMS = sa.text("channel = 'SMS' AND provider_message_id IS NOT NULL")
CODES = "template_key = 'OTP_CODE_SMS' AND status != 'BLOCKED'"


def upgrade() -> None:
    beside.create_index("ix_message_log_otp_rate", "message_log", ["recipient_hash", "created_at"], where=CODES)
    beside.replace_index(
        "ix_message_log_provider_message_id",
        "message_log",
        ["provider_message_id"],
        where="provider_message_id IS NOT NULL",
    )
    beside.add_column("otp_challenge", sa.Column("prefix_hash", sa.String(), nullable=False, server_default=""))
    beside.add_column("otp_challenge", sa.Column("finished_at", sa.DateTime(timezone=True)))
    beside.create_index("ix_otp_challenge_phone", "otp_challenge", ["phone_hash", "created_at"])
    beside.create_index("ix_otp_challenge_prefix", "otp_challenge", ["prefix_hash", "created_at"])
    beside.create_index("ix_otp_challenge_created_at", "otp_challenge", ["created_at"])
    beside.create_index(
        "ux_otp_challenge_live", "otp_challenge", ["phone_hash", "action"], where="state = 'LIVE'", unique=True
    )
    beside.drop_index("ix_otp_challenge_phone_hash", "otp_challenge")
    op.create_table(
        "otp_subject",
        sa.Column("phone_hash", sa.String(), primary_key=True),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("failed_count", sa.Integer(), nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True)),
        sa.Column("hard_locked_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "early_receipt",
        sa.Column("id", ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("message_id", MESSAGE_ID),
        sa.Column("provider_message_id", sa.String()),
        sa.Column("receipt", JSON_VALUE, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_early_receipt_received_at", "early_receipt", ["received_at"])
    op.create_table(
        "seen_event",
        sa.Column("event_id", sa.String(), primary_key=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "receipt_inquiry",
        sa.Column("message_id", MESSAGE_ID, primary_key=True),
        sa.Column("ask_again_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_index("ix_message_log_provider_message_id", "message_log")
    op.create_index(
        "ix_message_log_provider_message_id",
        "message_log",
        ["provider_message_id"],
        sqlite_where=KNOWN_SMS,
        postgresql_where=KNOWN_SMS,
    )
    for name in ("receipt_inquiry", "seen_event", "early_receipt"):
        op.drop_table(name)
    op.drop_index("ix_message_log_otp_rate", "message_log")
    for name in ("ux_otp_challenge_live", "ix_otp_challenge_created_at", "ix_otp_challenge_prefix"):
        op.drop_index(name, "otp_challenge")
    op.drop_index("ix_otp_challenge_phone", "otp_challenge")
    op.drop_column("otp_challenge", "finished_at")
    op.drop_column("otp_challenge", "prefix_hash")
    op.create_index("ix_otp_challenge_phone_hash", "otp_challenge", ["phone_hash"])
    op.drop_table("otp_subject")
