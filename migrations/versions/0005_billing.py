"""Stripe events with what they are about and when they run again; subscriptions and invoices as events tell of them."""

import sqlalchemy as sa
from alembic import op

from notifyctl.db import beside

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MESSAGE_ID = sa.Uuid(as_uuid=False).with_variant(sa.String(36), "sqlite")
DUE = "status IN ('RECEIVED', 'FAILED')"
UNMATCHED = "status = 'UNMATCHED'"
ALERTED = "alerted_at IS NOT NULL"
TEXTS = ("reason", "api_version", "account", "object_id", "customer_id", "subscription_id", "named_client", "alert")
MOMENTS = ("next_attempt_at", "alerted_at")
INDEXES = {
    "ix_stripe_event_due": (["next_attempt_at"], DUE),
    "ix_stripe_event_unmatched": (["received_at"], UNMATCHED),
    "ix_stripe_event_alerted": (["alerted_at"], ALERTED),
    "ix_stripe_event_created": (["created", "id"], None),
    "ix_stripe_event_customer_id": (["customer_id"], None),
    "ix_stripe_event_subscription_id": (["subscription_id"], None),
}


def upgrade() -> None:
    beside.add_column("stripe_event", sa.Column("origin", sa.String(), nullable=False, server_default="webhook"))
    beside.add_column("stripe_event", sa.Column("message_id", MESSAGE_ID))
    for name in TEXTS:
        beside.add_column("stripe_event", sa.Column(name, sa.String()))
    for name in MOMENTS:
        beside.add_column("stripe_event", sa.Column(name, sa.DateTime(timezone=True)))
    for name, (columns, where) in INDEXES.items():
        beside.create_index(name, "stripe_event", columns, where=where)
    _drop_subscriptions()  # nothing has written to it before this revision
    op.create_table(
        "stripe_subscription",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("client_id", sa.String(), sa.ForeignKey("client.id")),
        sa.Column("customer_id", sa.String()),
        sa.Column("status", sa.String()),
        sa.Column("reported_status", sa.String()),
        sa.Column("reported_at", sa.DateTime(timezone=True)),
        sa.Column("report_order", sa.String(), nullable=False),
        sa.Column("price_id", sa.String()),
        sa.Column("plan", sa.String()),
        sa.Column("current_period_end", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("cancel_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("end_cause", sa.String()),
        sa.Column("was_live", sa.Boolean(), nullable=False),
        sa.Column("was_incomplete", sa.Boolean(), nullable=False),
        sa.Column("last_event_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    _index_subscriptions()
    op.create_table(
        "stripe_invoice",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("client_id", sa.String(), sa.ForeignKey("client.id")),
        sa.Column("subscription_id", sa.String()),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("paid_at", sa.DateTime(timezone=True)),
        sa.Column("failed_at", sa.DateTime(timezone=True)),
        sa.Column("failed_attempts", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_stripe_invoice_client_id", "stripe_invoice", ["client_id"])
    op.create_index("ix_stripe_invoice_subscription_id", "stripe_invoice", ["subscription_id"])


def downgrade() -> None:
    op.drop_table("stripe_invoice")
    _drop_subscriptions()
    op.create_table(
        "stripe_subscription",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("client_id", sa.String(), sa.ForeignKey("client.id")),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("price_id", sa.String()),
        sa.Column("plan", sa.String()),
        sa.Column("current_period_end", sa.DateTime(timezone=True)),
        sa.Column("last_event_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    _index_subscriptions()
    for name in INDEXES:
        op.drop_index(name, "stripe_event")
    for name in (*MOMENTS, *TEXTS, "message_id", "origin"):
        op.drop_column("stripe_event", name)


def _index_subscriptions() -> None:
    for name in ("client_id", "customer_id"):
        op.create_index(f"ix_stripe_subscription_{name}", "stripe_subscription", [name])


def _drop_subscriptions() -> None:
    for name in ("customer_id", "client_id"):
        op.drop_index(f"ix_stripe_subscription_{name}", "stripe_subscription")
    op.drop_table("stripe_subscription")
