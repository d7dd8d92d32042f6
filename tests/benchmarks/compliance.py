"""How long the daily job takes to queue the reminders of many items, and to find that there is nothing left to do.

    python -m tests.benchmarks.compliance [--items 100000] [--database sqlite|postgresql]

Half of the clients are on a plan with SMS reminders. The second run is that of an ordinary day.
"""

import argparse
import gc
from datetime import timedelta
from time import perf_counter

from sqlalchemy import text

from notifyctl.alerts.compliance import items as compliance_items
from notifyctl.alerts.compliance.reminders import ReminderCounts, Reminders
from notifyctl.alerts.compliance.store import ItemValues
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.models.client import Client
from tests.benchmarks.harness import fresh_database
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

ITEMS_A_CLIENT = 2
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
CHUNK = 5_000


def fill(runtime: Runtime, items: int) -> None:
    now = runtime.clock()
    about = {"locale": "en", "subscription_status": "active", "sms_enabled": True}
    about |= {"provisioning_status": "COMPLETED", "created_at": now, "updated_at": now}
    clients = [
        {"id": f"c{n}", "name": f"Client {n}", "email": f"c{n}@client.example", "phone_e164": f"+4915{n:09}"}
        | {"plan": "PRO" if n % 2 else "SOLO", "timezone": ZONES[n % len(ZONES)]}
        | about
        for n in range(items // ITEMS_A_CLIENT)
    ]
    day = now.date() + timedelta(days=25)
    rows = [ItemValues(f"c{n // ITEMS_A_CLIENT}", f"TL-{n}", "Trade licence", day) for n in range(items)]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, Client.__table__, clients)  # type: ignore[attr-defined]
        for start in range(0, items, CHUNK):
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


def measure(kind: str, items: int) -> None:
    with fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        runtime = open_runtime(make_settings(database_url=database_url, quiet_hours="21:00-08:00"))
        seed_templates(runtime)
        started = perf_counter()
        fill(runtime, items)
        print(f"{kind:<11} {items:,} items written in {perf_counter() - started:.1f} s")
        if not runtime.database.is_sqlite:
            with runtime.database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
        reminded, seconds = timed(runtime)
        assert reminded.emails == items
        queued = reminded.emails + reminded.sms
        print(f"{kind:<11} {queued:,} reminders queued in {seconds:.1f} s, {queued / seconds:,.0f}/s")
        again, seconds = timed(runtime)
        assert again == ReminderCounts()
        print(f"{kind:<11} nothing to do, seen in {seconds:.2f} s")
        runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        measure(kind, arguments.items)


if __name__ == "__main__":
    main()
