"""The audit log refuses changes by itself (store.append_only), and a session of the page can be ended."""

import sqlalchemy as sa
from alembic import op

from notifyctl.audit import append_only

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    append_only.protect(op.get_bind())
    op.create_table(
        "page_session",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("page_session")
    append_only.unprotect(op.get_bind())
