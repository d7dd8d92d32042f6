"""The pure rules of billing: amounts, the order of reports, waiting after failures, and what an error may say."""

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from notifyctl.billing.event import is_same_event, read_event
from notifyctl.billing.failures import RETRY_AFTER, describe_error, next_attempt
from notifyctl.billing.handlers import EVENTS
from notifyctl.billing.mails import Addressee, money, read_history
from notifyctl.billing.objects import read_subscription
from notifyctl.billing.subscription import Payments, SubscriptionState, best, with_payments, with_report
from notifyctl.clients.plans import SHIPPED
from notifyctl.errors import InvalidInput, NotFound
from tests.support.stripe_payloads import (
    DAY,
    NOW,
    a_checkout,
    a_price,
    a_subscription,
    an_ended_subscription,
    an_event,
    created,
    deleted,
    paid,
    updated,
)

NOON = datetime.fromtimestamp(NOW, UTC)
LATER = NOON + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (4900, "usd", "49.00 USD"),
        (5, "eur", "0.05 EUR"),
        (123456789, "usd", "1234567.89 USD"),
        (500, "jpy", "500 JPY"),
        (1250, "kwd", "1.250 KWD"),
        (500, "isk", "5 ISK"),
        (550, "ugx", "5.50 UGX"),
        (0, "usd", None),
        (-100, "usd", None),
        (None, "usd", None),
        (100, None, None),
    ],
)
def test_an_amount_is_written_in_the_units_of_its_currency(amount: int | None, currency: str | None, text: str) -> None:
    assert money(amount, currency) == text


def state_after(*raws: bytes) -> SubscriptionState:
    state = SubscriptionState("sub_1")
    for raw in raws:
        event = read_event(raw, NOON)
        state = with_report(state, read_subscription(event.object), event, SHIPPED)
    return with_payments(state, Payments(None, None))


LIVES = {
    "in one second": [
        created(a_subscription(status="incomplete"), id="evt_c"),
        updated(a_subscription(), id="evt_b"),
        deleted(an_ended_subscription(), id="evt_a"),
    ],
    "two updates in one second": [
        updated(a_subscription(price=a_price("solo")), id="evt_1"),
        updated(a_subscription(price=a_price("pro")), id="evt_2"),
        created(a_subscription(status="incomplete"), id="evt_3"),
    ],
    "ended twice": [
        updated(an_ended_subscription(cause=None), at=NOW + 1, id="evt_1"),
        deleted(an_ended_subscription(cause="payment_failed"), at=NOW + 2, id="evt_2"),
        deleted(an_ended_subscription(cause="cancellation_requested", ended=NOW + 5), at=NOW + 3, id="evt_3"),
    ],
    "canceled by an update after the end": [
        created(a_subscription(), id="evt_1"),
        deleted(an_ended_subscription(), at=NOW + DAY, id="evt_2"),
        updated(an_ended_subscription(cause="payment_failed"), at=NOW + 2 * DAY, id="evt_3"),
    ],
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_reports_in_any_order_come_to_the_same(life: list[bytes]) -> None:
    assert len({state_after(*order) for order in permutations(life)}) == 1
    assert len({state_after(*order, *order) for order in permutations(life)}) == 1


REPORTED = [
    # reported, paid, failed, as seconds after the report -> status
    ("active", None, None, "active"),
    ("active", None, 1, "past_due"),
    ("active", None, 0, "past_due"),
    ("active", None, -1, "active"),
    ("trialing", None, 1, "past_due"),
    ("unpaid", None, 1, "unpaid"),
    ("incomplete", None, 1, "incomplete"),
    ("past_due", 1, None, "active"),
    ("past_due", -1, None, "past_due"),
    ("incomplete", 0, None, "active"),
    ("unpaid", 1, None, "active"),
    ("trialing", 1, None, "trialing"),
    ("active", 2, 1, "active"),
    ("active", 1, 2, "past_due"),
    ("canceled", 5, None, "canceled"),
    ("incomplete_expired", 5, None, "incomplete_expired"),
    (None, None, 1, "past_due"),
    (None, 1, None, "active"),
    (None, None, None, None),
]


@pytest.mark.parametrize(("status", "paid_after", "failed_after", "expected"), REPORTED)
def test_a_status_is_what_was_reported_and_what_was_paid_since(
    status: str | None, paid_after: int | None, failed_after: int | None, expected: str | None
) -> None:
    def moment(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOON + timedelta(seconds=seconds)

    state = SubscriptionState("sub_1", reported_status=status, reported_at=NOON if status else None)
    assert with_payments(state, Payments(moment(paid_after), moment(failed_after))).status == expected


def test_the_best_subscription_is_chosen_by_status_then_features_then_age() -> None:
    def one(name: str, status: str | None, plan: str | None, started: datetime = NOON) -> SubscriptionState:
        return SubscriptionState(name, status=status, plan=plan, started_at=started)

    ascending = [
        one("h", "resting", "PRO"),
        one("g", "canceled", "PRO"),
        one("f", "incomplete", "PRO"),
        one("e", "past_due", "PRO"),
        one("d", "trialing", "PRO"),
        one("c", "active", None),
        one("b", "active", "SOLO"),
        one("a", "active", "SOLO", LATER),
        one("0", "active", "PRO"),
    ]
    for count in range(2, len(ascending) + 1):
        for some in (ascending[:count], ascending[count - 1 :: -1]):
            assert best(some, SHIPPED) is ascending[count - 1]
    assert best(ascending[:1], SHIPPED) is None


def test_a_failed_event_is_tried_again_ever_later_and_at_last_no_more() -> None:
    waits = [next_attempt(attempts, NOON) for attempts in range(1, len(RETRY_AFTER) + 2)]
    assert waits == [*(NOON + wait for wait in RETRY_AFTER), None]
    assert sorted(RETRY_AFTER) == list(RETRY_AFTER)


def test_an_error_of_ours_is_told_in_its_words_and_any_other_by_its_place() -> None:
    assert describe_error(NotFound("there is no template 'X'")) == "there is no template 'X'"
    assert describe_error(KeyError("ann@private.example")) == "KeyError"
    try:
        read_event(b"ann@private.example", NOON)
    except InvalidInput as error:
        text = describe_error(error)
    assert text.startswith("InvalidInput in notifyctl/billing/event.py, line ")


def test_a_day_is_that_of_the_clients_zone_and_of_utc_where_that_is_unknown() -> None:
    late = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
    assert Addressee("", "Europe/Berlin", None).day(late) == "2026-03-03"
    assert Addressee("", "Nowhere/Atall", None).day(late) == "2026-03-02"
    assert Addressee("", "UTC", None).day(None) is None


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"pending_webhooks": 3}, True),
        ({"request": {"id": "req_1"}}, True),
        ({"created": 7}, False),
        ({"data": {"object": {}}}, False),
    ],
)
def test_deliveries_of_an_event_differ_in_what_does_not_matter(changed: dict[str, Any], same: bool) -> None:
    raw = paid({"id": "in_1"})
    assert is_same_event(raw, json.dumps(json.loads(raw) | changed, indent=2).encode()) is same


def test_a_body_that_is_nested_almost_too_deep_is_compared_without_an_error() -> None:
    deep = b'{"id": "evt_1", "type": "x", "data": ' + b"[" * 900 + b"]" * 900 + b"}"
    assert isinstance(is_same_event(deep, deep.replace(b": ", b":")), bool)


def test_the_events_that_do_something_are_these() -> None:
    assert sorted(EVENTS) == [
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.subscription.updated",
        "invoice.paid",
        "invoice.payment_failed",
    ]


@pytest.mark.parametrize(
    ("kind", "payment", "count"),
    [
        ("checkout.session.completed", "paid", 1),
        ("checkout.session.completed", "unpaid", 0),
        ("checkout.session.async_payment_succeeded", "unpaid", 1),
        ("charge.succeeded", "paid", 0),
    ],
)
def test_a_checkout_is_history_once_it_is_paid(kind: str, payment: str, count: int) -> None:
    event = read_event(an_event(kind, a_checkout(paid=payment)), NOON)
    history = read_history([event], {name: kind.history for name, kind in EVENTS.items()})
    assert len(history.checkouts) == count
