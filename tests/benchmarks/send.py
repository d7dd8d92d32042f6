"""What a single `send` costs, one transaction each, beside one-row inserts of bare SQLAlchemy in the same run.

    python -m tests.benchmarks.send [--rounds 5]
    python -m tests.benchmarks.send --statements client
    python -m tests.benchmarks.send --profile client

The bare insert is SQLAlchemy's own `engine.begin()` and one row of an id and a text, with nothing of ours on its
engine; on SQLite it is as durable as ours (WAL, synchronous=FULL). Each kind of send goes to a client or an address of
its own. Statements are counted at the driver, BEGIN and COMMIT not among them.
"""

import cProfile
import pstats
import sqlite3
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, event, insert, text

from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.orchestrator.requests import Queued, SendRequest
from tests.benchmarks import harness
from tests.benchmarks.harness import DATABASES, NAMES, Figure, fresh_store, measures, ratio, tidy, turns
from tests.support.messages import REMINDER, SPIKE, WELCOME

UNRATED, RATED, TO_ADDRESS = "COMPLIANCE_EXPIRY_REMINDER", "WELCOME_EMAIL", "OPS_ALERT_SMS"
BARE = "one-row insert"
SENDS = 150
"""Of each kind in a round."""
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
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(Client), rows)
        unrated = "UPDATE notification_template SET rate_limit_window_seconds = NULL WHERE template_key = :key"
        session.execute(text(unrated), {"key": UNRATED})
        session.execute(text("UPDATE notification_template SET enabled = true"))
    tidy(runtime.database)


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


def doings(runtime: Runtime, rounds: int) -> dict[str, Callable[[], None]]:
    asked = requests(count())
    prepare(runtime, (len(asked) + 1) * SENDS * (rounds + 2))
    sends = {name: sending(runtime, request) for name, request in asked.items()}
    return {BARE: bare_insert(runtime.settings.database_url)} | sends


def a_second(one: Callable[[], None]) -> float:
    began = perf_counter()
    for _ in range(SENDS):
        one()
    return SENDS / (perf_counter() - began)


@measures("S5")
def single_sends(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with fresh_store(kind) as runtime:
            doing = doings(runtime, rounds)
            for one in doing.values():
                a_second(one)
            counts = {name: len(statements_of(runtime, one)) for name, one in doing.items()}
            rates = turns(rounds, {name: partial(a_second, one) for name, one in doing.items()})
        bare = rates.pop(BARE)
        for name, ours in rates.items():
            beside = f"{median(ours):,.0f}/s beside {median(bare):,.0f}/s; {counts[name]} statements"
            what = f"send to {name}, {NAMES[kind]}, of a one-row insert"
            yield Figure("S5", what, ratio(ours, bare), at_least=0.5, beside=beside)


def look_closer(how: str, name: str) -> None:
    for kind in DATABASES:
        with fresh_store(kind) as runtime:
            one = doings(runtime, 1)[name]
            a_second(one)
            if how == "--statements":
                print(kind, *statements_of(runtime, one), sep="\n    ")
                continue
            profile = cProfile.Profile()
            for _ in range(SENDS):
                profile.runcall(one)
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    if sys.argv[1:2] in (["--statements"], ["--profile"]):
        look_closer(*sys.argv[1:])
    else:
        harness.main()
