"""What a single `send` costs, one transaction each, beside one-row inserts of bare SQLAlchemy in the same run.

    python tests/benchmarks/send.py [--sends 150] [--rounds 7] [--database sqlite|postgresql] [--profile]

The bare insert is SQLAlchemy's own `engine.begin()` and one row of an id and a text, with nothing of ours on its
engine; on SQLite it is as durable as ours (WAL, synchronous=FULL). Each kind of send goes to a client or an address of
its own. Rounds take turns; quote the ratios of the medians. Statements are counted at the driver, BEGIN and COMMIT not
among them.
"""

import argparse
import cProfile
import pstats
import sqlite3
import statistics
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, event, insert, text
from worker_rate import fresh_database

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.orchestrator.requests import Queued, SendRequest
from tests.support.messages import REMINDER, SPIKE, WELCOME
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

UNRATED, RATED, TO_ADDRESS = "COMPLIANCE_EXPIRY_REMINDER", "WELCOME_EMAIL", "OPS_ALERT_SMS"
BARE = "one-row insert"
_rows = Table("bare", MetaData(), Column("id", Integer, primary_key=True), Column("note", String))


def requests(numbers: "count[int]") -> dict[str, Callable[[], SendRequest]]:
    return {
        "client": lambda: SendRequest(template_key=UNRATED, client_id=f"c{next(numbers)}", context=REMINDER),
        "client, rated": lambda: SendRequest(template_key=RATED, client_id=f"c{next(numbers)}", context=WELCOME),
        "client, key": lambda: SendRequest(
            template_key=UNRATED, client_id=f"c{(n := next(numbers))}", context=REMINDER, idempotency_key=f"k{n}"
        ),
        "address, rated": lambda: SendRequest(
            template_key=TO_ADDRESS, recipient=f"+4915{next(numbers):09}", context=SPIKE
        ),
    }


def prepare(runtime: Runtime, clients: int) -> None:
    now = runtime.clock()
    about = {"name": "", "timezone": "UTC", "locale": "en", "subscription_status": "active", "sms_enabled": True}
    about |= {"provisioning_status": "COMPLETED", "plan": "PRO", "created_at": now, "updated_at": now}
    rows = [
        {"id": f"c{n}", "email": f"c{n}@client.example", "phone_e164": f"+4915{n:09}"} | about for n in range(clients)
    ]
    seed_templates(runtime)
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(Client), rows)
        unrated = "UPDATE notification_template SET rate_limit_window_seconds = NULL WHERE template_key = :key"
        session.execute(text(unrated), {"key": UNRATED})
        session.execute(text("UPDATE notification_template SET enabled = true"))
    if not runtime.database.is_sqlite:
        with runtime.database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def bare_insert(url: str) -> Callable[[], None]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _durable(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    _rows.create(engine)

    def one() -> None:
        with engine.begin() as connection:
            connection.execute(insert(_rows), {"note": "a text of about the length of a name"})

    return one


def sending(runtime: Runtime, request: Callable[[], SendRequest]) -> Callable[[], None]:
    def one() -> None:
        with runtime.database.transaction() as session:
            decision = runtime.orchestrator.send(session, request())
        assert isinstance(decision, Queued), decision

    return one


def statements_of(runtime: Runtime, one: Callable[[], None]) -> list[str]:
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        seen.append(" ".join(statement.split()))

    event.listen(runtime.database.engine, "before_cursor_execute", note)
    one()
    event.remove(runtime.database.engine, "before_cursor_execute", note)
    return seen


def measure(kind: str, arguments: argparse.Namespace) -> None:
    with fresh_database(kind) as url:
        migrations.upgrade(Database(url))
        runtime = open_runtime(make_settings(database_url=url))
        asked = requests(count())
        prepare(runtime, (len(asked) + 1) * arguments.sends * (arguments.rounds + 2))
        doing = {BARE: bare_insert(url)} | {name: sending(runtime, request) for name, request in asked.items()}
        for one in doing.values():
            for _ in range(arguments.sends):
                one()
        counts = {name: statements_of(runtime, one) for name, one in doing.items()}
        wall: dict[str, list[float]] = {name: [] for name in doing}
        cpu: dict[str, list[float]] = {name: [] for name in doing}
        for _ in range(arguments.rounds):
            for name, one in doing.items():
                began, began_cpu = perf_counter(), process_time()
                for _ in range(arguments.sends):
                    one()
                wall[name].append((perf_counter() - began) / arguments.sends)
                cpu[name].append((process_time() - began_cpu) / arguments.sends)
        bare = statistics.median(wall[BARE])
        for name in doing:
            each, ours = statistics.median(wall[name]), statistics.median(cpu[name])
            print(
                f"{kind:<11} {name:<15} {1 / each:>6,.0f}/s  {bare / each:>5.2f} of the insert"
                f"  {ours * 1e6:>5.0f} µs of CPU  {len(counts[name])} statements",
                flush=True,
            )
            if arguments.statements:
                print(*(f"    {statement}" for statement in counts[name]), sep="\n")
        if arguments.profile:
            profile = cProfile.Profile()
            for _ in range(arguments.sends):
                profile.runcall(doing[arguments.profile])
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sends", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--statements", action="store_true", help="print them")
    parser.add_argument("--profile", help="of one kind of send, as `client`")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        measure(kind, arguments)


if __name__ == "__main__":
    main()
