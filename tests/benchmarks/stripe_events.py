"""Stripe's events a second, from their body to the commit of state and mail: delivered one by one, replayed from the
store and from a file, and delivered while another process replays.

Each purchase is four events of a client of its own: subscription, invoice, update, checkout. A file has them oldest
first, so that those of one purchase stand far apart.
"""

import os
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from itertools import count
from tempfile import NamedTemporaryFile
from time import monotonic

from sqlalchemy import text

from notifyctl.billing.event import read_event
from notifyctl.billing.replay.listing_store import EventFilter
from notifyctl.billing.replay.replay import Replay
from notifyctl.billing.replay.sources import EventSpool, ReplayItem, stored_items
from notifyctl.bootstrap import Runtime
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientChange
from notifyctl.models.enums import Origin, StripeEventStatus
from notifyctl.providers.stripe import signature_fault
from tests.benchmarks.harness import (
    DATABASES,
    NAMES,
    Figure,
    environment,
    fresh_store,
    main,
    measures,
    program,
    ratio,
    turns,
    wait_until,
)
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

PURCHASES = 60
"""Of a round."""
BESIDE = 40
"""Times as many are replayed beside deliveries, so that these end first."""
_numbers = count()


def some(runtime: Runtime, purchases: int) -> list[int]:
    """Numbers of clients of their own."""
    numbers = [next(_numbers) for _ in range(purchases)]
    values = [(f"c{n}", {"email": f"c{n}@client.example", "stripe_customer_id": f"cus_{n}"}) for n in numbers]
    with runtime.database.transaction() as session:
        set_clients(session, [ClientChange(*value) for value in values], actor="bench", now=runtime.clock())
    return numbers


def a_purchase(number: int, at: int) -> list[bytes]:
    sub, customer = f"sub_{number}", f"cus_{number}"
    return [
        created(a_subscription(sub, customer=customer, status="incomplete"), at=at),
        paid(an_invoice(f"in_{number}", subscription=sub, customer=customer), at=at + 1),
        updated(a_subscription(sub, customer=customer), at=at + 1),
        completed(a_checkout(f"cs_{number}", subscription=sub, customer=customer, client=f"c{number}"), at=at + 2),
    ]


def delivered(runtime: Runtime, purchases: int = PURCHASES) -> float:
    """Events a second, one after the other."""
    at = int(runtime.clock().timestamp())
    raws = [raw for number in some(runtime, purchases) for raw in a_purchase(number, at)]
    began = monotonic()
    for raw in raws:
        header = signed(raw)["Stripe-Signature"]
        assert signature_fault(raw, header, runtime.settings.stripe_webhook_secret, runtime.clock()) is None
        assert runtime.billing.receive(raw).status == "PROCESSED"
    return len(raws) / (monotonic() - began)


def in_a_file(runtime: Runtime, purchases: int) -> list[bytes]:
    at = int(runtime.clock().timestamp())
    told = (a_purchase(number, at) for number in some(runtime, purchases))
    return [raw for together in zip(*told, strict=True) for raw in together]


def replayed(runtime: Runtime) -> float:
    """Events a second, in one thread."""
    now = runtime.clock()
    with EventSpool(Origin.FILE) as spool:
        for raw in in_a_file(runtime, PURCHASES):
            spool.add(read_event(raw, now), raw)
        return rate_of(runtime, spool)


def replayed_from_store(runtime: Runtime) -> float:
    """Of events that were received, and never worked on."""
    runtime.billing.record_many(in_a_file(runtime, PURCHASES), origin=Origin.WEBHOOK, actor="bench")
    return rate_of(runtime, stored_items(runtime.database, EventFilter(status=StripeEventStatus.RECEIVED)))


def rate_of(runtime: Runtime, items: Iterable[ReplayItem]) -> float:
    began = monotonic()
    done = list(Replay(runtime.billing, runtime.database, actor="bench", mail_old=False).run(items))
    assert {each.outcome.status for each in done} == {"PROCESSED"}
    assert len(done) >= 4 * PURCHASES  # a replay that was ended beside deliveries has left some
    return len(done) / (monotonic() - began)


def delivered_beside(runtime: Runtime) -> float:
    """The same, while another process replays the events of others."""
    with NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"\n".join(raw.replace(b"\n", b" ") for raw in in_a_file(runtime, BESIDE * PURCHASES)))
        file.flush()
        before = stored(runtime)
        command = ("-m", "notifyctl", "stripe", "replay", "--file", file.name)
        env = environment(runtime.settings) | {"XDG_STATE_HOME": os.devnull}
        with program(*command, env=env, stdout=subprocess.DEVNULL) as replay:
            wait_until(lambda: stored(runtime) > before)
            rate = delivered(runtime)
            assert replay.poll() is None, "it ended before the deliveries did"
    return rate


def stored(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM stripe_event")).scalar_one())


@measures("S7")
def events(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with fresh_store(kind, stripe_webhook_secret=WEBHOOK_SECRET) as runtime:
            runs = {
                "alone": lambda runtime=runtime: delivered(runtime),
                "replayed": lambda runtime=runtime: replayed(runtime),
                "stored": lambda runtime=runtime: replayed_from_store(runtime),
                "beside": lambda runtime=runtime: delivered_beside(runtime),
            }
            delivered(runtime, 5)
            found = turns(rounds, runs)
            mails = "SELECT count(*) FROM message_log"
            with runtime.database.read() as session:
                assert session.execute(text(mails)).scalar_one() >= 4 * rounds * PURCHASES
        alone = statistics.median(found["alone"])
        yield Figure(
            "S7",
            f"Stripe replay from the store, {NAMES[kind]}",
            statistics.median(found["stored"]),
            "/s",
            at_least=300 if kind == "postgresql" else None,
            beside=f"from a file {statistics.median(found['replayed']):.0f}/s, delivered one by one {alone:.0f}/s",
        )
        yield Figure(
            "S7",
            f"deliveries beside a replay, to alone, {NAMES[kind]}",
            ratio(found["beside"], found["alone"]),
            at_least=0.8 if kind == "postgresql" else None,
            beside=f"{statistics.median(found['beside']):.0f}/s, {alone:.0f}/s alone",
        )


if __name__ == "__main__":
    main()
