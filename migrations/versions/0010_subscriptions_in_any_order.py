"""Which report a subscription's plan and its last known status are by: not always its newest, which may say neither."""

import sqlalchemy as sa
from alembic import op

from notifyctl.db import beside

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KNOWN = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled")
NAMES = ("id", "plan", "plan_order", "reported_status", "report_order", "known_status", "known_order")
TABLE = sa.table("stripe_subscription", *map(sa.column, NAMES))


def upgrade() -> None:
    for name in ("plan_order", "known_order"):
        beside.add_column("stripe_subscription", sa.Column(name, sa.String(), nullable=False, server_default=""))
    beside.add_column("stripe_subscription", sa.Column("known_status", sa.String()))
    report = TABLE.c.report_order
    beside.in_batches(TABLE.c.id, sa.update(TABLE).where(TABLE.c.plan.is_not(None)).values(plan_order=report))
    known = sa.update(TABLE).where(TABLE.c.reported_status.in_(KNOWN))
    beside.in_batches(TABLE.c.id, known.values(known_status=TABLE.c.reported_status, known_order=report))


def downgrade() -> None:
    for name in ("known_status", "known_order", "plan_order"):
        op.drop_column("stripe_subscription", name)
