"""The audit log refuses changes by itself, and a session of the page can be ended.

Retention may delete rows that a checkpoint stands for, while the seal that it was made from is still there. Who owns
the tables can drop the triggers; docs/audit.md says what that means. A later revision that makes one of these tables
anew on SQLite (batch mode) has to make its triggers anew, too.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

REMOVABLE = {
    "audit_log": (
        "SELECT checkpoint.last_audit_id FROM audit_checkpoint AS checkpoint JOIN audit_seal AS seal"
        " ON seal.id = checkpoint.seal_id AND seal.last_audit_id = checkpoint.last_audit_id"
        " AND seal.digest = checkpoint.digest"
    ),
    "audit_seal": "SELECT checkpoint.seal_id FROM audit_checkpoint AS checkpoint",
}
"""Up to which id."""

# INSERT OR REPLACE deletes without asking the trigger for DELETE. Before an insert that names no id, NEW.id is -1.
# Two who seal at once are no intruders: the later one is told by finding nothing inserted.
SQLITE = """
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN
  SELECT RAISE(ABORT, '{table} is append-only: UPDATE is refused');
END;
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
WHEN OLD.id > coalesce(({removable}), 0) BEGIN
  SELECT RAISE(ABORT, '{table} is append-only: DELETE is refused');
END;
CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
WHEN NEW.id != -1 AND EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) BEGIN
  SELECT {on_replace};
END;
"""
ON_REPLACE = {
    "audit_log": "RAISE(ABORT, 'audit_log is append-only: REPLACE is refused')",
    "audit_seal": "RAISE(IGNORE)",
}

# A search path of its own: a temporary table by the name of audit_checkpoint would come first in anybody's.
POSTGRESQL = """
CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF NOT EXISTS (SELECT 1 FROM gone WHERE gone.id > coalesce(({removable}), 0)) THEN
      RETURN NULL;
    END IF;
  END IF;
  RAISE EXCEPTION '{table} is append-only: %% is refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only();
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only();
CREATE TRIGGER {table}_no_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only();
"""


def upgrade() -> None:
    for table, removable in REMOVABLE.items():
        for statement in _statements(table, removable):
            op.get_bind().exec_driver_sql(statement)
    op.create_table(
        "page_session",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("page_session")
    for table in REMOVABLE:
        if op.get_bind().dialect.name == "sqlite":
            for name in ("no_update", "no_delete", "no_replace"):
                op.execute(f"DROP TRIGGER {table}_{name}")
        else:
            op.execute(f"DROP FUNCTION {table}_is_append_only() CASCADE")


def _statements(table: str, removable: str) -> list[str]:
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        # The driver takes one at a time, and a trigger has semicolons in it.
        found = SQLITE.format(table=table, removable=removable, on_replace=ON_REPLACE[table])
        return [f"{trigger}END" for trigger in found.split("END;")[:-1]]
    schema = bind.execute(sa.text("SELECT current_schema()")).scalar_one()
    quoted = bind.dialect.identifier_preparer.quote(schema)
    return [POSTGRESQL.format(table=table, removable=removable, schema=quoted)]
