"""A version of a template knows what it shows of the company, and from which folder it came."""

import hashlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
oldest_code = "0001"

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
SHIPPED_UNTIL_NOW = {
    "0c61033ab67c", "ddb0613bd4f2", "fe838ba5448a", "9d3f462a917b", "de6033aee99b", "f9a3c81f4c4b", "5d734acfda5d",
    "7b25653bc57c", "5b8ef8ff95e9", "39891acfae01", "8a1f12597456", "512387c3ecc3", "01eaad2fb3d7", "d9b3ea640c72",
    "0cae18170b1b", "17d110866fde", "e15dc56e9eb9",
}  # fmt: skip
"""What ours said. Who says anything else came from another folder, and nobody knows from which."""
_version = sa.table(
    "notification_template_version",
    *(sa.column(name) for name in ("template_key", "version", "text_body", "html_body", "origin")),
)


def upgrade() -> None:
    op.add_column("notification_template_version", sa.Column("brand", JSON))
    op.add_column("notification_template_version", sa.Column("origin", sa.String()))
    connection = op.get_bind()
    columns = (_version.c.template_key, _version.c.version, _version.c.text_body, _version.c.html_body)
    for key, version, text, html in connection.execute(sa.select(*columns)).all():
        digest = hashlib.sha256(f"{key}\n{text}\n{html or ''}".encode()).hexdigest()
        origin = "shipped" if digest[:12] in SHIPPED_UNTIL_NOW else "another folder"
        this = (_version.c.template_key == key, _version.c.version == version)
        connection.execute(sa.update(_version).where(*this).values(origin=origin))


def downgrade() -> None:
    op.drop_column("notification_template_version", "origin")
    op.drop_column("notification_template_version", "brand")
