"""How many rows a second `db copy` carries from SQLite to PostgreSQL and back, beside a bare loop in the same run.

    python -m tests.benchmarks.store_copy [--messages 100000] [--rounds 3]

A queued message is four rows: itself, its values, its client, and an audit row, which is sealed. The bare loop selects
the same rows and writes them in one transaction: it compares nothing, cannot go on, and knows nothing of types. Quote
the ratio; absolute figures drift with the machine. The last line is the memory that the copying took at most.
"""

import argparse
import resource
import statistics
from contextlib import ExitStack, closing
from tempfile import TemporaryDirectory
from time import perf_counter

from sqlalchemy import make_url, text

from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.models.tables import metadata
from notifyctl.transfer import copy_store
from tests.benchmarks.harness import fresh_database, open_store, queue
from tests.support.audit_log import seal


def bare(source: Database, target: Database) -> float:
    begun = perf_counter()
    with source.read() as reading, target.transaction() as writing:
        come, go = copy_store.driver_of(reading), copy_store.driver_of(writing)
        for table in metadata.sorted_tables:
            rows = come.execute(f'SELECT * FROM "{table.name}"')
            if target.is_sqlite:
                go.executemany(f'INSERT INTO "{table.name}" VALUES ({", ".join("?" * len(table.c))})', map(plain, rows))
            else:
                with go.cursor() as cursor, cursor.copy(f'COPY "{table.name}" FROM STDIN') as copying:
                    kinds = [column.type.python_type for column in table.c]
                    for row in rows:
                        copying.write_row(
                            [bool(v) if k is bool and v is not None else v for v, k in zip(row, kinds, strict=True)]
                        )
    return perf_counter() - begun


def plain(row: tuple[object, ...]) -> list[object]:
    return [value if isinstance(value, (int, str, bytes, type(None))) else str(value) for value in row]


def ours(source: Database, target: Database) -> float:
    done = copy_store.copy(source, target, actor="benchmark", tracked=lambda steps, _label, _total: steps)
    with source.transaction() as session:
        session.execute(text("DELETE FROM pause"))
    return done.seconds


def emptied(server: str, name: str) -> Database:
    with closing(Database(server)) as database, database.engine.connect() as connection:
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        autocommit.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        autocommit.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    return Database(make_url(server).set(database=name).render_as_string(hide_password=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with ExitStack() as stack:
        server = stack.enter_context(fresh_database("postgresql"))
        folder = stack.enter_context(TemporaryDirectory())
        runtime = stack.enter_context(open_store(f"sqlite:///{folder}/source.db"))
        queue(runtime, Channel.EMAIL, asked.messages)
        seal(runtime)
        with runtime.database.read() as session:
            rows = sum(copy_store.count_rows(session).values())
        print(f"{rows:,} rows")
        seconds: dict[str, list[float]] = {}
        for turn in range(asked.rounds):
            there = emptied(server, "there")
            back = Database(f"sqlite:///{folder}/back-{turn}.db")
            for name, source, target in (("to PostgreSQL", runtime.database, there), ("to SQLite", there, back)):
                beside = (
                    emptied(server, "beside") if target is there else Database(f"sqlite:///{folder}/beside-{turn}.db")
                )
                migrations.upgrade(beside)
                seconds.setdefault(f"bare {name}", []).append(bare(source, beside))
                seconds.setdefault(f"db copy {name}", []).append(ours(source, target))
                beside.close()
            there.close()
            back.close()
    for name, taken in seconds.items():
        print(f"{name:24} {rows / statistics.median(taken):10,.0f} rows/s")
    for name in ("to PostgreSQL", "to SQLite"):
        ratio = statistics.median(seconds[f"db copy {name}"]) / statistics.median(seconds[f"bare {name}"])
        print(f"db copy {name} takes {ratio:.1f} times the bare loop")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB at most")


if __name__ == "__main__":
    main()
