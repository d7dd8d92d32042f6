"""Stripe's events a second, from the signed body to the commit of state and mail: one by one, and in threads.

    python -m tests.benchmarks.stripe_events [--purchases 250] [--threads 8] [--database sqlite|postgresql]

Each purchase is four events of a client of its own: subscription, invoice, update, checkout.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from sqlalchemy import text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientChange
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.providers.stripe import signature_fault
from tests.benchmarks.harness import fresh_database
from tests.support.settings import make_settings
from tests.support.stripe_payloads import (
    WEBHOOK_SECRET,
    a_checkout,
    a_subscription,
    an_invoice,
    completed,
    created,
    paid,
    signed,
    updated,
)
from tests.support.templates import seed_templates


def a_purchase(number: int, at: int) -> list[bytes]:
    sub, customer = f"sub_{number}", f"cus_{number}"
    return [
        created(a_subscription(sub, customer=customer, status="incomplete"), at=at),
        paid(an_invoice(f"in_{number}", subscription=sub, customer=customer), at=at + 1),
        updated(a_subscription(sub, customer=customer), at=at + 1),
        completed(a_checkout(f"cs_{number}", subscription=sub, customer=customer, client=f"c{number}"), at=at + 2),
    ]


def add_clients(runtime: Runtime, numbers: range) -> None:
    values = [(f"c{n}", {"email": f"c{n}@client.example", "stripe_customer_id": f"cus_{n}"}) for n in numbers]
    with runtime.database.transaction() as session:
        set_clients(session, [ClientChange(*value) for value in values], actor="bench", now=runtime.clock())


def deliver(runtime: Runtime, raw: bytes) -> None:
    header = signed(raw)["Stripe-Signature"]
    assert signature_fault(raw, header, runtime.settings.stripe_webhook_secret, runtime.clock()) is None
    assert runtime.billing.receive(raw).status == "PROCESSED"


def rate(runtime: Runtime, numbers: range, threads: int) -> float:
    purchases = [a_purchase(number, int(runtime.clock().timestamp())) for number in numbers]
    began = monotonic()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda events: [deliver(runtime, raw) for raw in events], purchases))
    return 4 * len(purchases) / (monotonic() - began)


def measure(kind: str, purchases: int, threads: int) -> None:
    with fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        runtime = open_runtime(make_settings(database_url=database_url, stripe_webhook_secret=WEBHOOK_SECRET))
        seed_templates(runtime)
        add_clients(runtime, range(2 * purchases))
        deliver_all = [(1, range(purchases)), (threads, range(purchases, 2 * purchases))]
        told = ", ".join(f"{rate(runtime, numbers, count):.0f}/s in {count} threads" for count, numbers in deliver_all)
        with runtime.database.read() as session:
            mails = session.execute(text("SELECT count(*) FROM message_log")).scalar_one()
        runtime.close()
    assert mails == 2 * purchases
    print(f"{kind:<11} {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--purchases", type=int, default=250)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--database", choices=("sqlite", "postgresql"))
    asked = parser.parse_args()
    for kind in [asked.database] if asked.database else ("sqlite", "postgresql"):
        measure(kind, asked.purchases, asked.threads)


if __name__ == "__main__":
    main()
