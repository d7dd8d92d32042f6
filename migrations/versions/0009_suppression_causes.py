"""When somebody acted, all that holds against an address, and the releases that outlive it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
CHANNEL = sa.Enum("EMAIL", "SMS", name="channel_known", native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    # Both stay empty in rows of before: such a row's one cause is in its columns, dated when it was written.
    op.add_column("suppression", sa.Column("acted_at", sa.DateTime(timezone=True)))
    op.add_column("suppression", sa.Column("causes", JSON))
    op.create_table(
        "suppression_release",
        sa.Column("channel", CHANNEL, primary_key=True),
        sa.Column("recipient_hash", sa.String(), primary_key=True),
        sa.Column("reason", sa.String(), primary_key=True),
        sa.Column("source", sa.String(), primary_key=True),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("acted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_suppression_release_heard_at", "suppression_release", ["heard_at"])


def downgrade() -> None:
    op.drop_table("suppression_release")
    op.drop_column("suppression", "causes")
    op.drop_column("suppression", "acted_at")
