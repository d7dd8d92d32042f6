import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import TextClause, inspect, text
from sqlalchemy.schema import CreateIndex

from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.errors import WrongSchema
from notifyctl.models import message
from notifyctl.models.columns import table
from notifyctl.models.message import PARTIAL_INDEXES, MessageLog
from notifyctl.models.tables import metadata


# Indexes on expressions are not read back from SQLite: that one is compared below.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_an_empty_database_upgraded_to_head_equals_the_models(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert migrations.schema_status(database).revision is None
    migrations.upgrade(database)
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert migrations.schema_status(database).is_current
    database.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_index_on_an_expression_is_in_the_models_as_it_was_migrated(database: Database) -> None:
    [index] = [index for index in table(MessageLog).indexes if index.name == "ix_message_log_sent"]
    wanted = str(CreateIndex(index).compile(database.engine))
    with database.read() as session:
        found = session.execute(text("SELECT sql FROM sqlite_master WHERE name = 'ix_message_log_sent'")).scalar_one()

    assert found.split() == wanted.split()


@pytest.mark.parametrize("name", PARTIAL_INDEXES)
def test_a_condition_is_that_of_its_index_in_the_migrated_database(name: str, database: Database) -> None:
    in_queries = condition_in_queries(name)
    with database.transaction() as session:
        if database.is_sqlite:
            made = session.execute(
                text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": name}
            ).scalar_one()
            assert made.endswith(f" WHERE {PARTIAL_INDEXES[name]}")
            return
        session.execute(text(f"CREATE INDEX as_queries_have_it ON message_log (id) WHERE {in_queries}"))
        condition = text("SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = to_regclass(:name)")
        stored, asked = (
            session.execute(condition, {"name": index}).scalar_one() for index in (name, "as_queries_have_it")
        )
        session.execute(text("DROP INDEX as_queries_have_it"))
        assert plain(stored) == plain(asked)


def plain(condition: str) -> str:
    """Without casts and brackets, which are others once a dump of it was read."""
    return re.sub(r"::[a-z ]+(\[\])?|[()]", "", condition)


def test_every_partial_index_of_the_messages_has_its_condition_in_the_one_table() -> None:
    conditions = {
        index.name: {str(index.dialect_options[backend]["where"]) for backend in ("sqlite", "postgresql")}
        for index in table(MessageLog).indexes
        if index.dialect_options["postgresql"]["where"] is not None
    }
    assert conditions == {name: {condition} for name, condition in PARTIAL_INDEXES.items()}


def condition_in_queries(name: str) -> str:
    """The constant that queries import, which begins with the index's condition, each column with its table."""
    constants = [value for key, value in vars(message).items() if isinstance(value, TextClause) and key.isupper()]
    [condition] = [str(each) for each in constants if str(each).replace("message_log.", "") == PARTIAL_INDEXES[name]]
    return condition


def test_up_down_and_up_again_leaves_nothing_behind_and_nothing_out(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    migrations.upgrade(database)
    migrations.downgrade(database, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    migrations.upgrade(database)
    assert set(metadata.tables) <= set(inspect(database.engine).get_table_names())
    database.close()


def test_revisions_are_numbered_without_gaps_and_in_one_line() -> None:
    files = sorted((migrations.migrations_dir() / "versions").glob("*.py"))
    numbers = [path.name.split("_")[0] for path in files]
    assert numbers == [f"{number:04d}" for number in range(1, len(files) + 1)]
    parents = [re.search(r"^down_revision = (.*)$", path.read_text(), re.M)[1].strip("\"'") for path in files]
    assert parents == ["None", *numbers[:-1]]


def test_each_revision_says_which_code_may_still_work_on_it() -> None:
    """From the first on that the code of before can be told apart by. It never goes back."""
    files = sorted((migrations.migrations_dir() / "versions").glob("*.py"))
    said = {path.name[:4]: re.search(r'^oldest_code = "(\d{4})"$', path.read_text(), re.M) for path in files}
    silent = [number for number, found in said.items() if found is None]
    assert [number for number in silent if number >= "0014"] == [], "who may still work on it?"
    oldest = {number: found[1] for number, found in said.items() if found is not None}
    assert list(oldest.values()) == sorted(oldest.values())
    assert all(code < number for number, code in oldest.items()), "workers of the release before go on"


def test_a_table_that_is_in_the_way_is_named_with_what_to_do(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with database.transaction() as session:
        session.execute(text("CREATE TABLE client (id INTEGER)"))
    with pytest.raises(WrongSchema, match="has 'client' already, and no upgrade of notifyctl has made it; name an"):
        migrations.upgrade(database)
    with database.transaction() as session:
        session.execute(text("DROP TABLE client"))
    assert migrations.upgrade(database).fits
    database.close()


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    assert migrations.upgrade(database).is_current


def test_subscriptions_from_before_reports_were_kept_apart_stay_as_they_were(empty_database_url: str) -> None:
    """What an older event says of plan and status must not outweigh what was known of them when it is replayed."""
    database = Database(empty_database_url)
    migrations.upgrade(database)
    migrations.downgrade(database, _before("subscriptions_in_any_order"))
    rows = [("sub_1", "active", "PRO"), ("sub_2", "active", None), ("sub_3", "resting", None)]
    insert = text(
        "INSERT INTO stripe_subscription (id, status, reported_status, report_order, plan, was_live, was_incomplete,"
        " last_event_at, updated_at) VALUES (:id, :status, :status, '0 001 1 1 evt', :plan, :yes, :no, :at, :at)"
    )
    with database.transaction() as session:
        for sub, status, plan in rows:
            values = {"id": sub, "status": status, "plan": plan, "yes": True, "no": False, "at": "2026-03-02 12:00:00"}
            session.execute(insert, values)
    migrations.upgrade(database)
    with database.read() as session:
        chosen = "SELECT id, plan_order, known_status, known_order FROM stripe_subscription ORDER BY id"
        found = [tuple(row) for row in session.execute(text(chosen))]
    database.close()
    order = "0 001 1 1 evt"
    assert found == [("sub_1", order, "active", order), ("sub_2", "", "active", order), ("sub_3", "", None, "")]


def _before(slug: str) -> str:
    (path,) = (migrations.migrations_dir() / "versions").glob(f"*_{slug}.py")
    return f"{int(path.name.split('_')[0]) - 1:04d}"
