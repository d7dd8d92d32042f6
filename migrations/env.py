"""Alembic runs inside the transaction that notifyctl/db/migrations.py opened."""

from alembic import context

from notifyctl.models.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
context.run_migrations()
