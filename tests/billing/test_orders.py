"""Lives of subscriptions, told in every order, in both generations of fields: the same state, mails and words."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from notifyctl.billing.processing import ProcessingOptions
from notifyctl.bootstrap import Runtime
from notifyctl.models.columns import table
from notifyctl.models.enums import Origin
from notifyctl.models.message import MessagePayload
from notifyctl.orchestrator import message_store
from notifyctl.sandbox import StripeScenario
from notifyctl.sandbox import trigger as trigger_events
from tests.support.clients import a_client
from tests.support.stripe_payloads import (
    DAY,
    ERAS,
    MONTH,
    NOW,
    Era,
    a_checkout,
    a_failed_invoice,
    a_price,
    a_subscription,
    an_ended_subscription,
    an_event,
    an_invoice,
    completed,
    created,
    deleted,
    event_id,
    failed,
    paid,
    updated,
)
from tests.support.stripe_world import CANCELED, CONFIRMED, FAILED, audits, receive, the_client

eras = pytest.mark.parametrize("era", ERAS, ids=["before 2025-03-31", "since 2025-03-31"])
_numbers = count(1)
KEYED = {"id": "price_1Pro", "object": "price", "product": "prod_1Pro", "lookup_key": "pro_monthly"}
"""The plan registry knows only its lookup key, which an invoice of since 2025-03-31 does not have."""
SOLO = KEYED | {"id": "price_1Solo", "product": "prod_1Solo", "lookup_key": "solo_monthly"}
UNKNOWN = a_price("gold")


@dataclass(frozen=True)
class Who:
    """One telling of a life has its own client, subscription and ids; told twice, they sort alike."""

    number: int

    @property
    def client(self) -> str:
        return f"c{self.number:05}"

    @property
    def customer(self) -> str:
        return f"cus_{self.number:05}"

    @property
    def sub(self) -> str:
        return f"sub_{self.number:05}"

    def id(self, name: str) -> str:
        return f"evt_{self.number:05}_{name}"

    def invoice(self, name: str = "1") -> str:
        return f"in_{self.number:05}_{name}"


Life = Callable[[Who, Era], Sequence[bytes]]


def a_purchase(who: Who, era: Era) -> list[bytes]:
    """Paid by card, with a price that an invoice alone cannot name a plan for."""
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "price": KEYED, "era": era}
    bill: dict[str, Any] = {"subscription": who.sub, "customer": who.customer, "price": KEYED, "era": era}
    bought = a_checkout(f"cs_{who.number}", subscription=who.sub, customer=who.customer, client=who.client)
    return [
        created(a_subscription(**sub, status="incomplete"), id=who.id("a")),
        paid(an_invoice(who.invoice(), **bill), at=NOW + 1, id=who.id("b")),
        updated(a_subscription(**sub), at=NOW + 1, id=who.id("c")),
        completed(bought, at=NOW + 2, id=who.id("d")),
    ]


def a_purchase_on_credit(who: Who, era: Era) -> list[bytes]:
    """What was paid is less than what the checkout shows, and a fee that is no plan stands first."""
    fee = {
        "id": "il_0", "object": "line_item", "period": {"start": NOW, "end": NOW}, "metadata": {},
        "pricing": {"price_details": {"price": "price_fee", "product": "prod_fee"}},
    }  # fmt: skip
    bill = an_invoice(
        who.invoice(), subscription=who.sub, customer=who.customer, price=KEYED, era=era, amount_paid=2900
    )
    bill["lines"]["data"].insert(0, fee)
    bought = a_checkout(f"cs_{who.number}", subscription=who.sub, customer=who.customer, client=who.client)
    return [
        created(a_subscription(who.sub, customer=who.customer, price=KEYED, era=era), id=who.id("a")),
        paid(bill, at=NOW + 1, id=who.id("b")),
        completed(bought, at=NOW + 2, id=who.id("d")),
    ]


def a_purchase_and_an_upgrade(who: Who, era: Era) -> list[bytes]:
    """What was bought is told, and not what it has become a moment later."""
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    return [
        created(a_subscription(**sub, price=SOLO), id=who.id("a")),
        paid(
            an_invoice(who.invoice(), subscription=who.sub, customer=who.customer, price=SOLO, era=era),
            id=who.id("b"),
        ),
        completed(
            a_checkout(f"cs_{who.number}", subscription=who.sub, customer=who.customer, client=None), id=who.id("c")
        ),
        updated(a_subscription(**sub, price=KEYED), at=NOW + 5, id=who.id("d")),
    ]


def a_trial(who: Who, era: Era) -> list[bytes]:
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "price": KEYED, "era": era, "status": "trialing"}
    bought = a_checkout(
        f"cs_{who.number}", subscription=who.sub, customer=who.customer, client=None, paid="no_payment_required",
        amount_total=0,
    )  # fmt: skip
    return [
        created(a_subscription(**sub), id=who.id("a")),
        paid(
            an_invoice(who.invoice(), subscription=who.sub, customer=who.customer, price=KEYED, era=era, amount=0),
            id=who.id("b"),
        ),
        completed(bought, at=NOW + 1, id=who.id("c")),
    ]


def a_bank_debit_that_bounces(who: Who, era: Era) -> list[bytes]:
    """The subscription is active at once; the bank says no days later, twice."""
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    bill: dict[str, Any] = {
        "subscription": who.sub, "customer": who.customer, "reason": "subscription_create", "era": era,
    }  # fmt: skip
    unpaid = a_checkout(f"cs_{who.number}", subscription=who.sub, customer=who.customer, client=None, paid="unpaid")
    return [
        created(a_subscription(**sub), id=who.id("a")),
        completed(unpaid, at=NOW + 1, id=who.id("b")),
        failed(a_failed_invoice(who.invoice(), **bill), at=NOW + 3 * DAY, id=who.id("c")),
        an_event("checkout.session.async_payment_failed", unpaid, at=NOW + 3 * DAY, id=who.id("d")),
        failed(a_failed_invoice(who.invoice(), **bill, attempt=2), at=NOW + 6 * DAY, id=who.id("e")),
    ]


def a_bank_debit_made_good(who: Who, era: Era) -> list[bytes]:
    return [
        *a_bank_debit_that_bounces(who, era)[:3],
        paid(
            an_invoice(who.invoice(), subscription=who.sub, customer=who.customer, attempt=2, era=era),
            at=NOW + 6 * DAY,
            id=who.id("f"),
        ),
    ]


def a_card_that_fails_at_checkout(who: Who, era: Era) -> list[bytes]:
    bill: dict[str, Any] = {"subscription": who.sub, "customer": who.customer, "era": era}
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    return [
        created(a_subscription(**sub, status="incomplete"), id=who.id("a")),
        failed(a_failed_invoice(who.invoice(), **bill, reason="subscription_create"), at=NOW + 1, id=who.id("b")),
        updated(a_subscription(**sub, status="incomplete_expired"), at=NOW + DAY, id=who.id("c")),
    ]


def an_old_card_that_fails_at_checkout(who: Who, era: Era) -> list[bytes]:
    """Of before invoices had a billing reason, and then it is abandoned."""
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    bill = a_failed_invoice(who.invoice(), subscription=who.sub, customer=who.customer, reason=None, era=era)
    return [
        created(a_subscription(**sub, status="incomplete"), id=who.id("a")),
        failed(bill, at=NOW + 1, id=who.id("b")),
        deleted(an_ended_subscription(**sub), at=NOW + DAY, id=who.id("c")),
    ]


def a_renewal_made_good(who: Who, era: Era) -> list[bytes]:
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "price": KEYED, "era": era}
    bill: dict[str, Any] = {"subscription": who.sub, "customer": who.customer, "price": KEYED, "era": era}
    return [
        created(a_subscription(**sub), id=who.id("a")),
        failed(a_failed_invoice(who.invoice("2"), **bill), at=NOW + MONTH, id=who.id("b")),
        updated(a_subscription(**sub, status="past_due"), at=NOW + MONTH, id=who.id("c")),
        paid(
            an_invoice(who.invoice("2"), **bill, reason="subscription_cycle", attempt=2),
            at=NOW + MONTH + DAY,
            id=who.id("d"),
        ),
    ]


def a_renewal_made_good_by_who_then_upgrades(who: Who, era: Era) -> list[bytes]:
    """What was paid late is the plan of then."""
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    late = an_invoice(
        who.invoice("2"), subscription=who.sub, customer=who.customer, price=SOLO, era=era,
        reason="subscription_cycle", attempt=2,
    )  # fmt: skip
    return [
        created(a_subscription(**sub, price=SOLO), id=who.id("a")),
        paid(late, at=NOW + 5, id=who.id("b")),
        updated(a_subscription(**sub, price=KEYED), at=NOW + 9, id=who.id("c")),
    ]


def one_attempt_told_twice(who: Who, era: Era) -> list[bytes]:
    """Paid by hand and failed again: the same attempt by Stripe's count, and another day for the next."""
    bill: dict[str, Any] = {"subscription": who.sub, "customer": who.customer, "era": era}
    return [
        created(a_subscription(who.sub, customer=who.customer, era=era), id=who.id("a")),
        failed(a_failed_invoice(who.invoice("2"), **bill), at=NOW + 5, id=who.id("b")),
        failed(
            a_failed_invoice(who.invoice("2"), **bill, next_payment_attempt=NOW + 5 * DAY),
            at=NOW + 9,
            id=who.id("c"),
        ),
    ]


def a_price_that_no_plan_names(who: Who, era: Era) -> list[bytes]:
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    return [
        created(a_subscription(**sub, price=a_price("solo_monthly")), id=who.id("a")),
        updated(a_subscription(**sub), at=NOW + 1, id=who.id("b")),
        updated(a_subscription(**sub, price=UNKNOWN), at=NOW + 2, id=who.id("c")),
    ]


def an_end_without_items(who: Who, era: Era) -> list[bytes]:
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    ended = an_ended_subscription(**sub)
    del ended["items"]
    return [
        created(a_subscription(**sub, price=UNKNOWN, status="incomplete"), id=who.id("a")),
        updated(a_subscription(**sub), at=NOW + 1, id=who.id("b")),
        updated(a_subscription(**sub, price=UNKNOWN), at=NOW + 2, id=who.id("c")),
        deleted(ended, at=NOW + DAY, id=who.id("d")),
    ]


def an_end_after_the_checkout_was_left_and_paid(who: Who, era: Era) -> list[bytes]:
    """The end, then what makes it none, then what makes it one again: whichever is heard of last."""
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    return [
        created(a_subscription(**sub, status="incomplete"), id=who.id("a")),
        updated(a_subscription(**sub), at=NOW + 60, id=who.id("b")),
        deleted(an_ended_subscription(**sub, cause="payment_failed"), at=NOW + DAY, id=who.id("c")),
        deleted(an_ended_subscription(**sub), at=NOW + DAY, id=who.id("d")),
    ]


def an_old_plan_beside_a_new_unknown_one(who: Who, era: Era) -> list[bytes]:
    old: dict[str, Any] = {"id": f"{who.sub}o", "customer": who.customer, "era": era}
    new: dict[str, Any] = {"id": who.sub, "customer": who.customer, "price": UNKNOWN, "era": era}
    return [
        created(a_subscription(**old), id=who.id("a")),
        created(a_subscription(**new), at=NOW + DAY, id=who.id("b")),
        deleted(an_ended_subscription(**old), at=NOW + DAY, id=who.id("c")),
    ]


def a_status_that_we_do_not_know(who: Who, era: Era) -> list[bytes]:
    sub: dict[str, Any] = {"id": who.sub, "customer": who.customer, "era": era}
    return [
        created(a_subscription(**sub, status="incomplete"), id=who.id("a")),
        updated(a_subscription(**sub, status="past_due"), at=NOW + 60, id=who.id("b")),
        updated(a_subscription(**sub, status="resting"), at=NOW + 90, id=who.id("c")),
    ]


def a_subscription_handed_to_another_client(who: Who, era: Era) -> list[bytes]:
    sub: dict[str, Any] = {"id": who.sub, "customer": None, "era": era}
    return [
        created(a_subscription(**sub, metadata={"client_id": who.client}), id=who.id("a")),
        updated(a_subscription(**sub, metadata={"client_id": f"{who.client}b"}), at=NOW + 60, id=who.id("b")),
    ]


def a_purchase_that_names_only_its_subscription(who: Who, era: Era) -> list[bytes]:
    """Whose that is, its own event tells."""
    sub: dict[str, Any] = {"id": who.sub, "customer": None, "price": KEYED, "era": era}
    return [
        created(a_subscription(**sub, metadata={"client_id": who.client}), id=who.id("a")),
        paid(
            an_invoice(who.invoice(), subscription=who.sub, customer=None, price=KEYED, era=era),
            at=NOW + 1,
            id=who.id("b"),
        ),
        completed(
            a_checkout(f"cs_{who.number}", subscription=who.sub, customer=None, client=None),
            at=NOW + 2,
            id=who.id("c"),
        ),
    ]


def one_of_two_handed_to_another_client(who: Who, era: Era) -> list[bytes]:
    """The plan went with it: no plan is known of the price of the one that stays."""
    sub: dict[str, Any] = {"id": who.sub, "customer": None, "era": era}
    stays = a_subscription(f"{who.sub}s", customer=who.customer, price=UNKNOWN, era=era)
    return [
        created(a_subscription(**sub, metadata={"client_id": who.client}), id=who.id("a")),
        updated(a_subscription(**sub, metadata={"client_id": f"{who.client}b"}), at=NOW + 60, id=who.id("b")),
        created(stays, at=NOW + 90, id=who.id("c")),
    ]


def a_life_as_the_sandbox_tells_it(who: Who, era: Era) -> list[bytes]:
    """With every field that Stripe sends: bought, a payment declined, and made good a month later."""

    def told(trigger: str, days: int, **more: Any) -> list[bytes]:
        now = datetime.fromtimestamp(NOW, UTC) + timedelta(days=days)
        scenario = StripeScenario(
            client_id=who.client, customer_id=who.customer, now=now, is_old=era is Era.BEFORE, **more
        )
        return [
            json.dumps(one.event | {"id": who.id(f"{days}{one.event['type']}")}).encode()
            for one in trigger_events(trigger, scenario)
        ]

    return [
        *told("purchase", 0),
        *told("invoice.payment_failed", 30, invoice=2),
        *told("invoice.paid", 31, invoice=2, attempt=2),
    ]


PRO = {"client_name": "Acme", "plan_name": "Pro", "amount": "49.00 USD", "period_end": "2026-04-01"}
FIRST = {
    "client_name": "Acme", "amount": "49.00 USD", "attempt": 1, "next_attempt_on": "2026-03-05", "update_url": "…",
}  # fmt: skip
ENDED = {
    "client_name": "Acme", "plan_name": "Pro", "ended_on": "2026-03-03", "cause": "cancellation_requested",
}  # fmt: skip
LIVES: dict[Life, tuple[str | None, str, list[tuple[str, dict[str, Any]]]]] = {
    a_purchase: ("PRO", "active", [(CONFIRMED, PRO)]),
    a_purchase_on_credit: ("PRO", "active", [(CONFIRMED, PRO | {"amount": "29.00 USD"})]),
    a_purchase_and_an_upgrade: ("PRO", "active", [(CONFIRMED, PRO | {"plan_name": "Solo"})]),
    a_life_as_the_sandbox_tells_it: (
        "PRO",
        "active",
        [
            (CONFIRMED, PRO | {"amount": "49.00 EUR"}),
            (CONFIRMED, PRO | {"amount": "49.00 EUR", "period_end": "2026-05-02"}),
        ],
    ),
    a_trial: ("PRO", "trialing", [(CONFIRMED, {name: PRO[name] for name in PRO if name != "amount"})]),
    a_bank_debit_that_bounces: ("PRO", "past_due", [(FAILED, FIRST), (FAILED, FIRST | {"attempt": 2})]),
    a_bank_debit_made_good: ("PRO", "active", [(CONFIRMED, PRO)]),
    a_card_that_fails_at_checkout: (None, "incomplete_expired", []),
    an_old_card_that_fails_at_checkout: (None, "canceled", []),
    a_renewal_made_good: ("PRO", "active", [(CONFIRMED, PRO)]),
    a_renewal_made_good_by_who_then_upgrades: ("PRO", "active", [(CONFIRMED, PRO | {"plan_name": "Solo"})]),
    one_attempt_told_twice: ("PRO", "past_due", [(FAILED, FIRST | {"next_attempt_on": "2026-03-07"})]),
    a_price_that_no_plan_names: ("PRO", "active", []),
    an_end_without_items: ("PRO", "canceled", [(CANCELED, ENDED)]),
    an_end_after_the_checkout_was_left_and_paid: ("PRO", "canceled", [(CANCELED, ENDED)]),
    an_old_plan_beside_a_new_unknown_one: ("PRO", "active", [(CANCELED, ENDED)]),
    a_status_that_we_do_not_know: ("PRO", "past_due", []),
    a_subscription_handed_to_another_client: (None, "none", []),
    a_purchase_that_names_only_its_subscription: ("PRO", "active", [(CONFIRMED, PRO)]),
    one_of_two_handed_to_another_client: (None, "active", []),
}


@pytest.mark.usefixtures("exhaustive")
@eras
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_a_life_comes_to_the_same_in_every_order(runtime: Runtime, backend: str, life: Life, era: Era) -> None:
    orders = list(permutations(range(len(life(Who(0), era)))))
    step = max(1, len(orders) // (24 if backend == "sqlite" else 8))
    for order in orders[::step] + orders[-1:]:
        who = somebody(runtime)
        events = life(who, era)
        receive(runtime, *(events[index] for index in order))
        assert outcome(runtime, who) == LIVES[life], order


@pytest.mark.usefixtures("exhaustive")
@eras
def test_an_end_silences_what_comes_after_it_and_nothing_else(runtime: Runtime, backend: str, era: Era) -> None:
    orders = list(permutations(range(4)))
    for order in orders if backend == "sqlite" else orders[::3]:
        who = somebody(runtime)
        ended = an_ended_subscription(who.sub, customer=who.customer, price=KEYED, era=era)
        events = [*a_purchase(who, era)[1:], deleted(ended, at=NOW + DAY, id=who.id("e"))]
        receive(runtime, *(events[index] for index in order))
        is_told_before = order.index(3) > min(order.index(0), order.index(2))
        mails = [(CANCELED, ENDED)] + ([(CONFIRMED, PRO)] if is_told_before else [])
        assert outcome(runtime, who) == ("PRO", "canceled", mails), order


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_so_it_does_with_events_told_again_in_between(runtime: Runtime, data: st.DataObject) -> None:
    life = data.draw(st.sampled_from(list(LIVES)))
    era = data.draw(st.sampled_from(ERAS))
    who = somebody(runtime)
    events = life(who, era)
    order = data.draw(st.permutations(range(len(events))))
    again = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=4))
    receive(runtime, *(events[index] for index in order))
    replay = ProcessingOptions("cli", mail_old=False, is_replay=True)
    for index in again:
        runtime.billing.process(event_id(events[index]), replay)
    assert outcome(runtime, who) == LIVES[life]


@pytest.mark.usefixtures("exhaustive")
@eras
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_worked_on_together_a_life_comes_to_the_same_and_leaves_the_same_log(
    runtime: Runtime, life: Life, era: Era
) -> None:
    one_by_one, together = somebody(runtime), somebody(runtime)
    for raw in [*life(one_by_one, era), *life(together, era)]:
        runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True)
    options = ProcessingOptions("stripe", mail_old=True)
    for raw in life(one_by_one, era):
        runtime.billing.process(event_id(raw), options)

    outcomes = runtime.billing.process_together([(event_id(raw), options) for raw in life(together, era)])

    assert [each.event_id for each in outcomes] == [event_id(raw) for raw in life(together, era)]
    assert outcome(runtime, together) == outcome(runtime, one_by_one) == LIVES[life]
    assert logged(runtime, together) == logged(runtime, one_by_one)


def logged(runtime: Runtime, who: Who) -> list[str]:
    """Every audit row about somebody, with the same names whoever it is."""
    rows = (f"{row.action} {row.actor} {row.client_id} {row.metadata}" for row in audits(runtime, "%"))
    own = (row.replace(f"{who.number:05}", "N") for row in rows if f"{who.number:05}" in row)
    return sorted(re.sub(r"cs_\d+|_[0-9a-f]{24}", "_N", row) for row in own)


def somebody(runtime: Runtime) -> Who:
    who = Who(next(_numbers))
    a_client(
        runtime, who.client, plan=None, subscription_status="none", stripe_customer_id=who.customer,
        timezone="Europe/Berlin", name="Acme",
    )  # fmt: skip
    a_client(runtime, f"{who.client}b", plan=None, subscription_status="none")
    return who


def outcome(runtime: Runtime, who: Who) -> tuple[str | None, str, list[tuple[str, dict[str, Any]]]]:
    client = the_client(runtime, who.client)
    return client.plan, client.subscription_status.value, written(runtime, who.client)


def written(runtime: Runtime, client_id: str) -> list[tuple[str, dict[str, Any]]]:
    """What is to go out, with its words, in a fixed order."""
    payload = table(MessagePayload)
    with runtime.database.read() as session:
        rows = message_store.find(session, message_store.MessageFilter(client_id=client_id), limit=100)
        texts = {row.message_id: row.context for row in session.execute(select(payload))}
    mails = [(row.template_key, json.loads(texts[row.id])) for row in rows if row.status == "QUEUED"]
    for _, words in mails:
        words |= {"update_url": "…"} if "update_url" in words else {}
    return sorted(mails, key=lambda mail: (mail[0], json.dumps(mail[1])))
