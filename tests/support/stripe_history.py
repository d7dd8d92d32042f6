"""A client's history at Stripe, as the sandbox tells it, and the whole database as one value."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, text

from notifyctl.bootstrap import Runtime
from notifyctl.sandbox import Sandbox, StripeScenario, TriggeredEvent, trigger

Json = dict[str, Any]


def happened(name: str, now: datetime, *, client_id: str = "acme", **fields: Any) -> list[TriggeredEvent]:
    return trigger(name, StripeScenario(client_id=client_id, now=now, **fields))


def told(*stories: Iterable[TriggeredEvent]) -> list[Json]:
    """The events of it, in the order given."""
    return [triggered.event for story in stories for triggered in story]


def on_books(sandbox: Sandbox, *stories: Iterable[TriggeredEvent]) -> list[Json]:
    for story in stories:
        for triggered in story:
            sandbox.stripe.record(triggered.event, triggered.objects)
    return told(*stories)


def a_year(now: datetime, client_id: str = "acme") -> list[Json]:
    """Bought, a payment failed and was made good, canceled: all of it within the last 20 minutes."""

    def ago(minutes: int) -> datetime:
        return now - timedelta(minutes=minutes)

    return told(
        happened("purchase", ago(20), client_id=client_id),
        happened("invoice.payment_failed", ago(15), client_id=client_id, invoice=2),
        happened("invoice.payment_failed", ago(10), client_id=client_id, invoice=2, attempt=2),
        happened("invoice.paid", ago(5), client_id=client_id, invoice=2, attempt=3),
        happened("customer.subscription.deleted", ago(1), client_id=client_id),
    )


A_YEARS_MAILS = ["SUBSCRIPTION_CANCELED", "SUBSCRIPTION_CONFIRMED", "SUBSCRIPTION_CONFIRMED"]
"""Where it is told at one go: what is said of the failures is withdrawn when the payment is made good."""


def write_lines(path: Path, events: Iterable[Json]) -> str:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return str(path)


def dump(runtime: Runtime, *, leave_out: Iterable[str] = (), but: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in a fixed order; without the tables `leave_out` and the column `but`."""
    found = {}
    with runtime.database.read() as session:
        for name in sorted(set(inspect(session.connection()).get_table_names()) - set(leave_out)):
            rows = session.execute(text(f'SELECT * FROM "{name}"'))
            values = (tuple(value for column, value in row._mapping.items() if column != but) for row in rows)
            found[name] = sorted(values, key=repr)
    return found
