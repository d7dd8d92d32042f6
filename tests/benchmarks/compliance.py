"""How long the daily job takes to queue 100,000 reminders, and to find that there is nothing left to do.

    python -m tests.benchmarks.compliance [--rounds 5]

Half of the clients are on a plan with SMS reminders, so that two items make three reminders. The second run of each
round is that of an ordinary day.
"""

import gc
from collections.abc import Iterator
from datetime import timedelta
from statistics import median
from time import perf_counter

from sqlalchemy import text

from notifyctl.alerts.compliance import items as compliance_items
from notifyctl.alerts.compliance.reminders import ReminderCounts, Reminders
from notifyctl.alerts.compliance.store import ItemValues
from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from tests.benchmarks.harness import DATABASES, NAMES, Figure, fresh_store, main, measures, tidy

ITEMS = 66_668
ITEMS_A_CLIENT = 2
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
CHUNK = 5_000


def fill(runtime: Runtime) -> None:
    now = runtime.clock()
    about = {"locale": "en", "subscription_status": "active", "sms_enabled": True}
    about |= {"provisioning_status": "COMPLETED", "created_at": now, "updated_at": now}
    clients = [
        {"id": f"c{n}", "name": f"Client {n}", "email": f"c{n}@client.example", "phone_e164": f"+4915{n:09}"}
        | {"plan": "PRO" if n % 2 else "SOLO", "timezone": ZONES[n % len(ZONES)]}
        | about
        for n in range(ITEMS // ITEMS_A_CLIENT)
    ]
    day = now.date() + timedelta(days=25)
    rows = [ItemValues(f"c{n // ITEMS_A_CLIENT}", f"TL-{n}", "Trade licence", day) for n in range(ITEMS)]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(Client), clients)
        for start in range(0, ITEMS, CHUNK):
            compliance_items.write(session, rows[start : start + CHUNK], actor="benchmark", now=now)


def timed(runtime: Runtime) -> tuple[ReminderCounts, float]:
    reminders = Reminders(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        plans=runtime.plans,
        settings=runtime.settings,
        clock=runtime.clock,
    )
    gc.freeze()  # as `worker` and `jobs run` do
    started = perf_counter()
    reminded = reminders.run()
    return reminded, perf_counter() - started


def forget(runtime: Runtime) -> None:
    """That anybody was reminded."""
    with runtime.database.transaction() as session:
        session.execute(
            text("UPDATE compliance_item SET asked_for = NULL, asked_window = NULL, asked_at = NULL, reminded = false")
        )
        session.execute(text("DELETE FROM message_payload"))
        session.execute(text("DELETE FROM message_log"))
    tidy(runtime.database)


@measures("S8")
def reminders(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        taken, looked = [], []
        with fresh_store(kind, quiet_hours="21:00-08:00") as runtime:
            fill(runtime)
            for _ in range(rounds):
                forget(runtime)
                reminded, seconds = timed(runtime)
                assert reminded.emails == ITEMS
                taken.append(seconds)
                again, seconds = timed(runtime)
                assert again == ReminderCounts()
                looked.append(seconds)
        queued = f"{reminded.emails + reminded.sms:,} reminders queued, {NAMES[kind]}"
        beside = f"nothing to do, seen in {median(looked):.2f} s"
        yield Figure("S8", queued, median(taken), "s", at_most=8, beside=beside)


if __name__ == "__main__":
    main()
