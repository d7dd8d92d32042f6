"""A run of a job is claimed by its slot and held under a lease, and no job runs twice at the same time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RUNNING = sa.text("outcome = 'RUNNING'")
NEVER = sa.text("'1970-01-01 00:00:00'")
"""SQLite adds a column that is not null only with a constant."""


def upgrade() -> None:
    op.add_column("job_run", sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, server_default=NEVER))
    op.add_column("job_run", sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("job_run", sa.Column("lease_until", sa.DateTime(timezone=True)))
    op.execute("UPDATE job_run SET due_at = started_at, attempt = id")
    op.execute("UPDATE job_run SET outcome = 'FAILED', finished_at = started_at WHERE outcome = 'RUNNING'")
    op.drop_index("ix_job_run_name", "job_run")
    op.create_index("ux_job_run_slot", "job_run", ["name", "due_at", "attempt"], unique=True)
    op.create_index(
        "ux_job_run_running", "job_run", ["name"], unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING
    )


def downgrade() -> None:
    op.drop_index("ux_job_run_running", "job_run")
    op.drop_index("ux_job_run_slot", "job_run")
    op.create_index("ix_job_run_name", "job_run", ["name"])
    for column in ("lease_until", "attempt", "due_at"):
        op.drop_column("job_run", column)
