"""Stripe's objects in both generations of their fields, and in whatever else may stand there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyctl.billing import objects
from notifyctl.billing.objects import read_checkout, read_invoice, read_subscription
from notifyctl.billing.subscription import find_plan
from notifyctl.clients.plans import SHIPPED
from tests.support.stripe_payloads import (
    DAY,
    ERAS,
    MONTH,
    NOW,
    Era,
    a_checkout,
    a_price,
    a_subscription,
    an_ended_subscription,
    an_invoice,
)

eras = pytest.mark.parametrize("era", ERAS, ids=["before 2025-03-31", "since 2025-03-31"])


@eras
def test_a_subscription_reads_the_same_in_either_generation(era: Era) -> None:
    subscription = read_subscription(an_ended_subscription(era=era))
    plan, price = find_plan(subscription.prices, SHIPPED)
    assert plan is SHIPPED.plans["PRO"]
    assert price is not None
    ends = subscription.period_end or price.period_end
    assert (subscription.id, subscription.customer, subscription.status, subscription.end_cause) == (
        "sub_1",
        "cus_1",
        "canceled",
        "cancellation_requested",
    )
    assert ends is not None
    assert subscription.ended_at is not None
    assert (ends.timestamp(), subscription.ended_at.timestamp()) == (NOW + MONTH, NOW + DAY)


@eras
def test_an_invoice_reads_the_same_in_either_generation(era: Era) -> None:
    invoice = read_invoice(an_invoice(era=era))
    plan, price = find_plan(invoice.prices, SHIPPED)
    assert (invoice.subscription, plan, invoice.amount_paid, invoice.currency) == (
        "sub_1",
        SHIPPED.plans["PRO"],
        4900,
        "usd",
    )
    assert price is not None
    assert price.period_end is not None
    assert price.period_end.timestamp() == NOW + MONTH


LINE = {"id": "il_1", "period": {"end": NOW}}
PLACES: dict[str, dict[str, Any]] = {
    "the invoice": {"subscription": "sub_7"},
    "the invoice, expanded": {"subscription": {"id": "sub_7", "object": "subscription"}},
    "its parent": {"parent": {"subscription_details": {"subscription": "sub_7"}}},
    "a line": {"lines": {"data": [LINE, LINE | {"subscription": "sub_7"}]}},
    "a line's parent": {
        "lines": {"data": [LINE | {"parent": {"subscription_item_details": {"subscription": "sub_7"}}}]}
    },
    "a line's id": {"lines": {"data": [{"id": "sub_7", "type": "subscription"}]}},
}


@pytest.mark.parametrize("raw", PLACES.values(), ids=PLACES)
def test_the_subscription_of_an_invoice_stands_in_one_of_many_places(raw: dict[str, Any]) -> None:
    assert read_invoice({"id": "in_1"} | raw).subscription == "sub_7"


PRICES: dict[str, dict[str, Any]] = {
    "plan": {"plan": {"id": "pro", "object": "plan"}},
    "price": {"price": {"id": "price_1", "product": "pro"}},
    "expanded product": {"price": {"id": "price_1", "product": {"id": "pro"}}},
    "pricing": {"pricing": {"price_details": {"price": "price_1", "product": "pro"}}},
    "expanded price in pricing": {"pricing": {"price_details": {"price": {"id": "pro"}, "product": "prod_1"}}},
}


@pytest.mark.parametrize("line", PRICES.values(), ids=PRICES)
def test_the_price_of_a_line_stands_in_one_of_three_places(line: dict[str, Any]) -> None:
    plan, _ = find_plan(read_invoice({"id": "in_1", "lines": {"data": [line]}}).prices, SHIPPED)
    assert plan is SHIPPED.plans["PRO"]


@pytest.mark.parametrize(
    "proration", [{"proration": True}, {"parent": {"subscription_item_details": {"proration": True}}}]
)
def test_a_proration_does_not_tell_the_period(proration: dict[str, Any]) -> None:
    lines = [
        LINE | {"price": a_price("solo_monthly")} | proration,
        {"period": {"end": NOW + MONTH}, "price": a_price()},
    ]
    plan, price = find_plan(read_invoice({"lines": {"data": lines}}).prices, SHIPPED)
    assert plan is SHIPPED.plans["PRO"]
    assert price is not None
    assert price.period_end is not None
    assert price.period_end.timestamp() == NOW + MONTH


def test_a_subscription_without_items_has_its_plan_at_the_top_and_null_there_is_none() -> None:
    assert find_plan(read_subscription({"plan": {"id": "solo"}}).prices, SHIPPED)[0] is SHIPPED.plans["SOLO"]
    assert read_subscription({"plan": None}).prices == ()


@pytest.mark.parametrize(
    ("more", "day"),
    [
        ({"cancel_at_period_end": True}, NOW + MONTH),
        ({"cancel_at": NOW + DAY}, NOW + DAY),
        ({"cancel_at": NOW + DAY, "cancel_at_period_end": True}, NOW + DAY),
        ({"cancel_at_period_end": "true"}, None),
    ],
)
@eras
def test_the_day_of_an_announced_end(era: Era, more: dict[str, Any], day: int | None) -> None:
    cancel_at = read_subscription(a_subscription(era=era, **more)).cancel_at
    assert (cancel_at.timestamp() if cancel_at else None) == day


def test_a_checkout_names_clients_by_metadata_first() -> None:
    checkout = read_checkout(a_checkout(client="b", metadata={"client_id": "a"}))
    assert checkout.named_clients == ("a", "b")


@pytest.mark.parametrize(
    ("raw", "is_of_subscription", "is_unpaid"),
    [
        ({"mode": "subscription", "payment_status": "paid"}, True, False),
        ({"mode": "subscription", "payment_status": "unpaid"}, True, True),
        ({"mode": "payment", "subscription": None}, False, False),
        ({"subscription": "sub_1"}, True, False),
        ({}, False, False),
    ],
)
def test_what_a_checkout_is_for(raw: dict[str, Any], is_of_subscription: bool, is_unpaid: bool) -> None:
    checkout = read_checkout(raw)
    assert (checkout.is_of_subscription, checkout.is_unpaid) == (is_of_subscription, is_unpaid)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted(
    {
        *a_subscription(), *an_invoice(), *an_invoice(era=Era.BEFORE), *a_checkout(), "plan", "price", "period",
        "pricing", "price_details", "data", "subscription_details",
    }
)  # fmt: skip
ODD_OBJECTS = st.dictionaries(
    st.sampled_from(NAMES), ANYTHING | st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4), max_size=12
)


@given(ODD_OBJECTS)
def test_whatever_stands_in_an_object_it_is_read_without_an_error(raw: dict[str, Any]) -> None:
    for read in (read_subscription, read_invoice, read_checkout):
        read(raw)
        read(an_invoice() | raw)
        read(a_subscription() | raw)


@pytest.mark.parametrize("value", [None, 5, "", "a b", "a\x00", "é", "\ud800", "x" * 121, [], {}, {"id": 7}, True])
def test_what_is_no_id_is_none(value: Any) -> None:
    assert objects.identifier(value) is None


@pytest.mark.parametrize("value", [None, "1", 1.5, True, -1, 0, 10**11 * 3, 2**70])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert objects.moment(value) is None


@pytest.mark.parametrize("value", ["a\x00b", "a\nb", "\ud800", "", "x" * 121, 5, None])
def test_what_cannot_be_kept_names_no_client(value: Any) -> None:
    assert objects.client_name(value) is None


def test_a_client_may_be_called_anything_that_can_be_printed() -> None:
    assert objects.client_name("Müller & Söhne 7") == "Müller & Söhne 7"
