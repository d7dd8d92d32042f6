"""The store says which it is and whether it has gone back in time, and a worker what it has written again since.

Whoever looks first writes its row: an empty store, into which another is copied, has none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
oldest_code = "0001"


def upgrade() -> None:
    op.create_table(
        "store_state",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("store_id", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("system_identifier", sa.String()),
        sa.Column("timeline", sa.String()),
        sa.Column("recovery_needed_since", sa.DateTime(timezone=True)),
        sa.Column("found_at", sa.DateTime(timezone=True)),
        sa.Column("cause", sa.String()),
        sa.Column("is_proven", sa.Boolean(), nullable=False),
        sa.Column("recovered_since", sa.DateTime(timezone=True)),
        sa.Column("recovered_at", sa.DateTime(timezone=True)),
        sa.Column("held_by", sa.String()),
        sa.Column("held_until", sa.DateTime(timezone=True)),
    )
    op.add_column("worker_heartbeat", sa.Column("store_generation", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("worker_heartbeat", "store_generation")
    op.drop_table("store_state")
