"""Which code may still work on the schema, and of which revision each worker is."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
oldest_code = "0001"
"""Workers of before that are at work go on; started anew, they take no schema but their own."""


def upgrade() -> None:
    op.add_column("alembic_version", sa.Column("oldest_code", sa.String()))
    op.add_column("worker_heartbeat", sa.Column("revision", sa.String()))


def downgrade() -> None:
    op.drop_column("worker_heartbeat", "revision")
    op.drop_column("alembic_version", "oldest_code")
