"""Templates speak several languages, and a message knows in which one it went out."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
oldest_code = "0001"

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    # All stay empty in rows of before, which know English alone.
    op.add_column("notification_template_version", sa.Column("languages", JSON))
    op.add_column("notification_template_version", sa.Column("translations", JSON))
    op.add_column("message_log", sa.Column("language", sa.String()))


def downgrade() -> None:
    op.drop_column("message_log", "language")
    op.drop_column("notification_template_version", "translations")
    op.drop_column("notification_template_version", "languages")
