"""Seals name every row that they hold, and a checkpoint stands for those that retention has removed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.drop_table("audit_seal")  # nothing has written to it before this revision
    op.create_table(
        "audit_seal",
        sa.Column("id", ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("first_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("last_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("row_hashes", sa.LargeBinary(), nullable=False),
        sa.Column("previous_digest", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
    )
    op.create_index("ix_audit_seal_sealed_at", "audit_seal", ["sealed_at"])
    op.create_table(
        "audit_checkpoint",
        sa.Column("seal_id", ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("last_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("rows_removed", ROW_NUMBER, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("audit_checkpoint")
    op.drop_index("ix_audit_seal_sealed_at", "audit_seal")
    op.drop_table("audit_seal")
    op.create_table(
        "audit_seal",
        sa.Column("id", ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("first_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("last_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("previous_digest", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
    )
