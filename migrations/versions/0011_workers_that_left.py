"""Workers that have stopped leave a trace: an installation that lives by cron is told from one that nobody runs."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("worker_heartbeat", sa.Column("left_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("worker_heartbeat", sa.Column("once", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("worker_heartbeat", "once")
    op.drop_column("worker_heartbeat", "left_at")
