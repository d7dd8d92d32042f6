import re

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from notifyctl.models.tables import metadata
from notifyctl.store import migrations
from notifyctl.store.database import Database


def test_an_empty_database_upgraded_to_head_equals_the_models(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert migrations.schema_status(database).revision is None
    migrations.upgrade(database)
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert migrations.schema_status(database).is_current
    database.close()


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


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    assert migrations.upgrade(database).is_current
