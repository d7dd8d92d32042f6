"""What clients read of a purchase, with a worker at work between its events."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from notifyctl.billing.processing import MAIL_WAITS
from notifyctl.bootstrap import Runtime
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.stripe_payloads import NOW, Era, a_checkout, a_subscription, an_invoice, completed, created, paid

KEYED = {"id": "price_1Pro", "object": "price", "product": "prod_1Pro", "lookup_key": "pro_monthly"}


def a_buyer(runtime: Runtime, number: int) -> dict[str, Any]:
    client_id, customer = f"c{number}", f"cus_{number}"
    a_client(runtime, client_id, name="Acme", plan=None, subscription_status="none", stripe_customer_id=customer)
    return {"subscription": f"sub_{number}", "customer": customer}


def a_purchase(number: int, who: dict[str, Any]) -> list[bytes]:
    sub = {"id": who["subscription"], "customer": who["customer"], "price": KEYED}
    return [
        created(a_subscription(**sub)),
        paid(an_invoice(f"in_{number}", **who, price=KEYED, era=Era.SINCE), at=NOW + 1),
        completed(a_checkout(f"cs_{number}", **who, client=None), at=NOW + 1),
    ]


@pytest.mark.usefixtures("exhaustive")
def test_one_purchase_is_one_text_in_every_order(
    runtime: Runtime, dispatcher: MakeDispatcher, sandbox: Sandbox
) -> None:
    worker = dispatcher()
    texts: set[tuple[Any, ...]] = set()
    for number, order in enumerate(permutations(range(3))):
        who = a_buyer(runtime, number)
        events = a_purchase(number, who)
        for index in order:
            runtime.billing.receive(events[index])
            drain(worker)
        (mail,) = arrivals(sandbox, f"c{number}@client.example")
        texts.add((mail.subject, mail.text, mail.html))
    ((_, text, _),) = texts
    assert all(words in text for words in ("Pro", "US$49.00", "1 April 2026"))


@pytest.mark.parametrize("complete", [False, True], ids=["the rest never comes", "the rest comes late"])
def test_it_waits_no_longer_than_a_moment_for_the_rest(
    runtime: Runtime, dispatcher: MakeDispatcher, sandbox: Sandbox, clock: TurnableClock, complete: bool
) -> None:
    worker = dispatcher()
    who = a_buyer(runtime, 1)
    rest = a_purchase(1, who)
    runtime.billing.receive(rest.pop(2))
    drain(worker)
    assert arrivals(sandbox, "c1@client.example") == []

    clock.ahead += MAIL_WAITS + timedelta(seconds=1)
    drain(worker)
    for raw in rest if complete else []:
        runtime.billing.receive(raw)
        drain(worker)

    (mail,) = arrivals(sandbox, "c1@client.example")
    assert "US$49.00" in mail.text
    assert "Pro" not in mail.text
