"""The triggers by which the database itself refuses to change the audit log.

Retention may delete rows that a checkpoint stands for, while the seal that it was made from is still there. Who owns
the tables can drop the triggers; docs/audit.md says what that means. A revision that makes one of the tables anew on
SQLite (batch mode) loses its triggers, and has to call `protect` again.
"""

import re

from sqlalchemy import Connection, text

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
STANDING = text(
    "SELECT tgname AS name, pg_get_triggerdef(pg_trigger.oid) AS definition, prosrc AS body FROM pg_trigger"
    " JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid = to_regclass(:table)"
    # What fires in a session like ours: a role may be set to replay what others have done.
    " AND (tgenabled = 'A' OR tgenabled = CASE current_setting('session_replication_role')"
    " WHEN 'replica' THEN 'R'::\"char\" ELSE 'O'::\"char\" END)"
)


def protect(connection: Connection) -> None:
    """From then on. What was there of it is made anew."""
    unprotect(connection)
    for table in REMOVABLE:
        for statement in _statements(connection, table).values():
            connection.exec_driver_sql(statement)


def unprotect(connection: Connection) -> None:
    for table in REMOVABLE:
        if connection.dialect.name == "sqlite":
            for name in _statements(connection, table):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        else:
            connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {table}_is_append_only() CASCADE")


def gaps(connection: Connection) -> list[str]:
    """The triggers that are not there, do not fire, or are not as `protect` makes them."""
    standing = _on_sqlite if connection.dialect.name == "sqlite" else _on_postgresql
    return [name for table in REMOVABLE for name, is_whole in standing(connection, table).items() if not is_whole]


def _on_sqlite(connection: Connection, table: str) -> dict[str, bool]:
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table")
    there = {row.name: _words(row.sql) for row in connection.execute(query, {"table": table})}
    return {name: there.get(name) == _words(expected) for name, expected in _statements(connection, table).items()}


def _on_postgresql(connection: Connection, table: str) -> dict[str, bool]:
    there = {row.name: row for row in connection.execute(STANDING, {"table": table})}
    function, *triggers = _statements(connection, table)[""].replace("%%", "%").split("CREATE TRIGGER ")
    body = _words(function.split("$$")[1])
    expected = {trigger.split()[0]: _words(trigger) for trigger in triggers}
    return {
        name: name in there and _words(there[name].body) == body and _is_whole(there[name].definition, statement)
        for name, statement in expected.items()
    }


def _is_whole(definition: str, statement: str) -> bool:
    """The server's own words name the schema besides; a WHEN or a list of columns would stand in between."""
    return _words(re.sub(r" ON \S+ ", " ON - ", definition)) == re.sub(
        r" ON \S+ ", " ON - ", f"CREATE TRIGGER {statement.rstrip(';')}"
    )


def _words(definition: str) -> str:
    return " ".join(definition.split())


def _statements(connection: Connection, table: str) -> dict[str, str]:
    """By trigger on SQLite, where the driver takes one at a time; all in one on PostgreSQL."""
    removable = REMOVABLE[table]
    if connection.dialect.name == "sqlite":
        # A trigger has semicolons in it.
        script = SQLITE.format(table=table, removable=removable, on_replace=ON_REPLACE[table])
        statements = [f"{trigger.strip()}\nEND" for trigger in script.split("\nEND;")[:-1]]
        return {trigger.split()[2]: trigger for trigger in statements}
    schema = connection.execute(text("SELECT current_schema()")).scalar_one()
    quoted = connection.dialect.identifier_preparer.quote(schema)
    return {"": POSTGRESQL.format(table=table, removable=removable, schema=quoted)}
