"""The database itself refuses to change the audit log, whoever asks with the application's rights."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import migrations
from notifyctl.errors import DatabaseError
from notifyctl.retention.retention import Retention
from tests.support.audit_log import ask, row_ids, seal, sealed_log, sql, verify, write_rows

DAY = timedelta(days=1)
A_ROW = "(id, action, actor, created_at) VALUES ({id}, 'OTP_SENT', 'mallory', '2026-03-02 12:00:00.000000')"
EVERYWHERE = {
    "update": "UPDATE audit_log SET actor = 'mallory'",
    "update of one row": "UPDATE audit_log SET metadata = NULL WHERE id = 2",
    "update of no value": "UPDATE audit_log SET actor = actor",
    "update of an id": "UPDATE audit_log SET id = id + 1000",
    "delete": "DELETE FROM audit_log",
    "delete of the oldest": "DELETE FROM audit_log WHERE id = (SELECT min(id) FROM audit_log)",
    "delete of the newest": "DELETE FROM audit_log WHERE id = (SELECT max(id) FROM audit_log)",
    "upsert": f"INSERT INTO audit_log {A_ROW.format(id=2)} ON CONFLICT (id) DO UPDATE SET actor = 'mallory'",
    "update of a seal": "UPDATE audit_seal SET row_count = 0",
    "delete of a seal": "DELETE FROM audit_seal WHERE id = 2",
}
ON_SQLITE = {
    "replace": f"REPLACE INTO audit_log {A_ROW.format(id=2)}",
    "insert or replace": f"INSERT OR REPLACE INTO audit_log {A_ROW.format(id=2)}",
    "insert or replace by rowid": f"INSERT OR REPLACE INTO audit_log {A_ROW.format(id=2).replace('(id', '(rowid')}",
    "update or replace": "UPDATE OR REPLACE audit_log SET id = 2 WHERE id = 3",
}
ON_POSTGRESQL = {
    "truncate": "TRUNCATE audit_log",
    "truncate with others": "TRUNCATE message_payload, audit_log CASCADE",
    "truncate of seals": "TRUNCATE audit_seal",
    "merge": "MERGE INTO audit_log USING (SELECT 2 AS id) AS found ON audit_log.id = found.id WHEN MATCHED THEN DELETE",
}


def _content(runtime: Runtime) -> list[object]:
    return [ask(runtime, f"SELECT * FROM {table} ORDER BY id") for table in ("audit_log", "audit_seal")]


def _is_refused(runtime: Runtime, *statements: str) -> bool:
    """The last of them, and by our own words."""
    with (
        pytest.raises(IntegrityError, match=r"is append-only: [A-Z]+ is refused"),
        runtime.database.transaction() as one,
    ):
        _run(one, *statements)
    return True


def _run(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute(text(statement))


@pytest.mark.parametrize("statement", EVERYWHERE.values(), ids=EVERYWHERE.keys())
def test_no_row_is_changed_or_removed(runtime: Runtime, statement: str) -> None:
    sealed_log(runtime)
    before = _content(runtime)

    assert _is_refused(runtime, statement)
    assert _content(runtime) == before
    assert verify(runtime).is_good


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("statement", ON_SQLITE.values(), ids=ON_SQLITE.keys())
def test_no_row_is_replaced_on_sqlite(runtime: Runtime, statement: str) -> None:
    sealed_log(runtime)
    before = _content(runtime)

    assert _is_refused(runtime, statement)
    assert _content(runtime) == before


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_seal_that_is_there_stays_on_sqlite(runtime: Runtime) -> None:
    sealed_log(runtime)
    before = _content(runtime)
    with runtime.database.transaction() as session:
        _run(session, "REPLACE INTO audit_seal SELECT * FROM audit_seal WHERE id = 2")
        _run(
            session, "REPLACE INTO audit_seal SELECT id, 1, 1, 1, x'', '', '', '', '', '' FROM audit_seal WHERE id = 2"
        )

    assert _content(runtime) == before


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("statement", ON_POSTGRESQL.values(), ids=ON_POSTGRESQL.keys())
def test_no_table_is_emptied_on_postgresql(runtime: Runtime, statement: str) -> None:
    sealed_log(runtime)
    before = _content(runtime)

    assert _is_refused(runtime, statement)
    assert _content(runtime) == before


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_checkpoint_of_ones_own_that_comes_first_in_the_search_path_opens_nothing(runtime: Runtime) -> None:
    sealed_log(runtime)
    pretence = (
        "CREATE TEMPORARY TABLE audit_checkpoint AS SELECT id AS seal_id, last_audit_id, digest FROM audit_seal",
        "CREATE TEMPORARY TABLE audit_seal AS SELECT * FROM public.audit_seal",
    )

    assert _is_refused(runtime, *pretence, "DELETE FROM audit_log WHERE id <= 2")


@pytest.mark.parametrize("digest", ["digest", "mac"])
def test_what_no_checkpoint_of_a_seal_stands_for_stays(runtime: Runtime, digest: str) -> None:
    """A whole one may be made up; then `verify` names it, since nobody makes its MAC without the key."""
    sealed_log(runtime)
    made_up = (
        "INSERT INTO audit_checkpoint (seal_id, last_audit_id, digest, rows_removed, created_at, key_id, mac)"
        f" SELECT id, last_audit_id, {digest}, 1, sealed_at, key_id, mac FROM audit_seal WHERE id = 2"
    )
    end = ask(runtime, "SELECT last_audit_id FROM audit_seal WHERE id = 2")[0].last_audit_id

    assert _is_refused(runtime, made_up, f"DELETE FROM audit_log WHERE id = {end + 1}")
    assert _is_refused(runtime, made_up, "DELETE FROM audit_seal WHERE id = 3")
    if digest == "mac":
        assert _is_refused(runtime, made_up, f"DELETE FROM audit_log WHERE id = {end}")
        return
    with runtime.database.transaction() as session:
        _run(session, made_up, f"DELETE FROM audit_log WHERE id <= {end}", "DELETE FROM audit_seal WHERE id <= 2")
    assert verify(runtime).problems[0].kind == "checkpoint_forged"


def test_rows_are_added_as_before_also_in_gaps(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        _run(
            session, f"INSERT INTO audit_log {A_ROW.format(id=-1)}", f"INSERT INTO audit_log {A_ROW.format(id=10_000)}"
        )
    write_rows(runtime, 3)
    sql(runtime, "DELETE FROM audit_log WHERE id IN (-1, 10000)")
    seal(runtime)

    assert verify(runtime).is_good


def test_the_migration_can_be_taken_back_and_done_again(runtime: Runtime) -> None:
    migrations.downgrade(runtime.database, "0008")
    with runtime.database.transaction() as session:
        _run(session, "UPDATE audit_log SET actor = actor")
    migrations.upgrade(runtime.database)

    assert _is_refused(runtime, "UPDATE audit_log SET actor = actor")
    assert row_ids(runtime)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_role_that_does_not_own_the_tables_works_with_them_and_cannot_open_them(runtime: Runtime) -> None:
    """As docs/audit.md advises."""
    sql(
        runtime,
        "DROP ROLE IF EXISTS notifyctl_app",
        "CREATE ROLE notifyctl_app LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO notifyctl_app",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO notifyctl_app",
    )
    url = runtime.database.url.set(username="notifyctl_app", drivername="postgresql")
    settings = runtime.settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    app = open_runtime(settings)
    try:
        sealed_log(app)
        removed = Retention(
            app.database, settings, lambda: app.clock() + 3_000 * DAY, actor="test", pausing=False
        ).run()
        assert removed.removed.audit_rows > 0
        assert verify(app).is_good
        assert _is_refused(app, "UPDATE audit_log SET actor = 'mallory'")
        for statement in (
            "ALTER TABLE audit_log DISABLE TRIGGER USER",
            "DROP TRIGGER audit_log_no_update ON audit_log",
            "DROP FUNCTION audit_log_is_append_only() CASCADE",
            "DROP TABLE audit_log",
            "TRUNCATE audit_log",
            "SET session_replication_role = replica",
        ):
            with (
                pytest.raises(DatabaseError, match=r"must be owner|permission denied"),
                app.database.transaction() as one,
            ):
                _run(one, statement)
    finally:
        app.close()
        sql(runtime, "DROP OWNED BY notifyctl_app", "DROP ROLE notifyctl_app")
