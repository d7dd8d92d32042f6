"""What subscriptions and clients come to, whatever order the events come in."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifyctl.billing.processing import ProcessingOptions
from notifyctl.bootstrap import Runtime
from notifyctl.clients import store as client_store
from tests.support.clients import a_client
from tests.support.runtimes import MakeRuntime
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
    an_invoice,
    completed,
    created,
    deleted,
    event_id,
    failed,
    paid,
    updated,
)
from tests.support.stripe_world import CANCELED, CONFIRMED, audits, mails, receive, subscription_state, the_client

eras = pytest.mark.parametrize("era", ERAS, ids=["before 2025-03-31", "since 2025-03-31"])


def state(runtime: Runtime, client_id: str = "acme") -> tuple[str | None, str]:
    client = the_client(runtime, client_id)
    return client.plan, client.subscription_status.value


@eras
def test_a_subscription_gives_its_client_plan_and_status(runtime: Runtime, era: Era) -> None:
    receive(runtime, created(a_subscription(era=era)))
    assert state(runtime) == ("PRO", "active")
    row = subscription_state(runtime)
    assert (row.client_id, row.customer_id, row.status, row.plan, row.price_id) == (
        "acme", "cus_1", "active", "PRO", "pro_monthly",
    )  # fmt: skip
    assert row.current_period_end.timestamp() == NOW + MONTH


@pytest.mark.parametrize("same_second", [True, False], ids=["in one second", "in order of time"])
def test_created_updated_and_deleted_end_the_same_in_all_orders(runtime: Runtime, same_second: bool) -> None:
    ends: set[Any] = set()
    for number, order in enumerate(permutations(range(3))):
        client_id, sub, customer = f"c{number}", f"sub_{number}", f"cus_c{number}"
        a_client(runtime, client_id, plan=None, subscription_status="none", stripe_customer_id=customer)
        step = 0 if same_second else 60
        events = [
            created(a_subscription(sub, customer=customer, status="incomplete")),
            updated(a_subscription(sub, customer=customer), at=NOW + step),
            deleted(an_ended_subscription(sub, customer=customer), at=NOW + 2 * step),
        ]
        receive(runtime, *(events[index] for index in order))
        row = subscription_state(runtime, sub)
        ends.add((row.status, row.plan, row.ended_at, row.end_cause, row.was_live, *state(runtime, client_id)))
        assert mails(runtime, client_id=client_id) == [CANCELED]
    assert len(ends) == 1
    assert (next(iter(ends))[0], *next(iter(ends))[-2:]) == ("canceled", "PRO", "canceled")


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_of_two_updates_in_one_second_the_paid_one_wins(runtime: Runtime, order: tuple[int, ...]) -> None:
    events = [
        updated(a_subscription(status="incomplete"), id="evt_z"),
        updated(a_subscription(status="active"), id="evt_a"),
    ]
    receive(runtime, *(events[index] for index in order))
    assert state(runtime) == ("PRO", "active")


def test_updated_before_created_makes_the_subscription(runtime: Runtime) -> None:
    receive(runtime, updated(a_subscription(), at=NOW + 1), created(a_subscription(status="incomplete")))
    assert state(runtime) == ("PRO", "active")


def test_later_older_events_do_not_revive_it(runtime: Runtime) -> None:
    receive(runtime, deleted(an_ended_subscription(), at=NOW + DAY))
    receive(runtime, created(a_subscription()), updated(a_subscription(), at=NOW + 60))
    assert state(runtime)[1] == "canceled"


def test_nothing_revives_it_whatever_its_date(runtime: Runtime) -> None:
    receive(runtime, deleted(an_ended_subscription()), updated(a_subscription(), at=NOW + MONTH))
    assert state(runtime)[1] == "canceled"


@pytest.mark.parametrize(
    "status", ["trialing", "active", "past_due", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled"]
)
def test_every_status_of_stripes_is_the_clients(runtime: Runtime, status: str) -> None:
    receive(runtime, updated(a_subscription(status=status)))
    assert state(runtime)[1] == status
    was_in_force = status in ("trialing", "active", "past_due", "unpaid", "paused")
    assert state(runtime)[0] == ("PRO" if was_in_force else None)


def test_an_unknown_status_is_stored_and_leaves_the_client_as_it_was(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), updated(a_subscription(status="resting"), at=NOW + 1))
    assert (subscription_state(runtime).status, state(runtime)) == ("resting", ("PRO", "active"))


def test_a_failed_payment_makes_it_past_due_and_the_payment_active_again(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()))
    receive(runtime, failed(a_failed_invoice(), at=NOW + 60))
    assert state(runtime) == ("PRO", "past_due")
    receive(runtime, paid(an_invoice(reason="subscription_cycle", attempt=2), at=NOW + 120))
    assert state(runtime) == ("PRO", "active")


def test_a_failed_payment_is_enough_to_know_that_it_is_past_due(runtime: Runtime) -> None:
    a_client(runtime, "beta", plan="SOLO", subscription_status="active", stripe_customer_id="cus_beta")
    receive(runtime, failed(a_failed_invoice(subscription="sub_unseen", customer="cus_beta")))
    assert state(runtime, "beta") == ("SOLO", "past_due")


def test_what_a_subscription_says_later_outweighs_its_payments(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), failed(a_failed_invoice(), at=NOW + 60))
    receive(runtime, updated(a_subscription(status="unpaid"), at=NOW + 61))
    assert state(runtime)[1] == "unpaid"
    receive(runtime, updated(a_subscription(), at=NOW + 62))
    assert state(runtime)[1] == "active"


def test_a_free_invoice_pays_no_debt(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(status="past_due")))
    receive(runtime, paid(an_invoice("in_2", reason="subscription_cycle", amount=0), at=NOW + 60))
    assert state(runtime)[1] == "past_due"


def test_an_invoice_paid_in_a_trial_does_not_end_the_trial(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(status="trialing")), paid(an_invoice(), at=NOW + 60))
    assert state(runtime)[1] == "trialing"


def test_the_plan_of_a_new_subscription_stays_when_the_old_one_ends_later(runtime: Runtime) -> None:
    solo = a_price("solo_monthly")
    receive(runtime, created(a_subscription("sub_old", price=solo)))
    receive(runtime, created(a_subscription("sub_new"), at=NOW + DAY))
    receive(runtime, deleted(an_ended_subscription("sub_old", price=solo), at=NOW + DAY + 5))
    assert state(runtime) == ("PRO", "active")


@pytest.mark.parametrize("order", list(permutations(("solo_monthly", "pro_monthly"))))
def test_of_two_active_subscriptions_the_one_with_more_features_counts(
    runtime: Runtime, order: tuple[str, str]
) -> None:
    for key in order:
        receive(runtime, created(a_subscription(f"sub_{key}", price=a_price(key))))
    assert state(runtime) == ("PRO", "active")
    receive(runtime, deleted(an_ended_subscription("sub_pro_monthly"), at=NOW + DAY))
    assert state(runtime) == ("SOLO", "active")


def test_a_live_subscription_counts_before_one_that_waits_or_has_ended(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription("sub_1", price=a_price("solo_monthly"))))
    receive(runtime, created(a_subscription("sub_2", status="incomplete"), at=NOW + 5))
    assert state(runtime) == ("SOLO", "active")


def test_a_change_of_price_changes_the_plan(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(price=a_price("solo_monthly"))))
    receive(runtime, updated(a_subscription(price=a_price("pro_yearly")), at=NOW + DAY))
    assert state(runtime) == ("PRO", "active")


@pytest.mark.parametrize("replayed", [0, 1], ids=["told first", "told last"])
def test_a_plan_that_is_added_later_is_taken_up_by_a_replay(
    make_runtime: MakeRuntime, tmp_path: Path, replayed: int
) -> None:
    plans = tmp_path / "plans.toml"
    solo = '[plans.SOLO]\nname = "Solo"\nfeatures = []\nstripe = ["solo_monthly"]\n'
    plans.write_text(solo)
    before = make_runtime(notification_plan_registry=str(plans))
    a_client(before, plan="SOLO", subscription_status="none", stripe_customer_id="cus_1")
    events = [created(a_subscription()), updated(a_subscription(), at=NOW + 60)]
    receive(before, *events)
    assert state(before) == ("SOLO", "active")

    plans.write_text(solo + '[plans.TEAM]\nname = "Team"\nfeatures = []\nstripe = ["pro_monthly"]\n')
    after = make_runtime(notification_plan_registry=str(plans))
    replay = ProcessingOptions("cli", mail_old=False, is_replay=True)
    after.billing.process(event_id(events[replayed]), replay)
    assert state(after) == ("TEAM", "active")


@pytest.mark.parametrize(
    "price",
    [
        {"id": "price_9", "product": "prod_9", "lookup_key": "pro_monthly"},
        {"id": "price_9", "product": "pro", "lookup_key": None},
        {"id": "price_9", "product": {"id": "pro", "object": "product"}},
        {"id": "pro"},
    ],
    ids=["lookup key", "product", "expanded product", "price"],
)
def test_a_plan_is_known_by_price_product_or_lookup_key(runtime: Runtime, price: dict[str, Any]) -> None:
    receive(runtime, created(a_subscription(price=price)))
    assert state(runtime) == ("PRO", "active")


def test_of_several_items_the_one_that_is_a_plan_counts(runtime: Runtime) -> None:
    add_on = {"id": "si_0", "price": a_price("extra_seats"), "current_period_end": NOW + 12 * MONTH}
    pro = {"id": "si_1", "price": a_price(), "current_period_end": NOW + MONTH}
    items = {"object": "list", "data": [add_on, pro], "has_more": False}
    receive(runtime, created(a_subscription(items=items, plan=None)))
    assert state(runtime) == ("PRO", "active")
    assert subscription_state(runtime).current_period_end.timestamp() == NOW + MONTH


def test_a_subscription_of_2014_has_its_plan_at_the_top(runtime: Runtime) -> None:
    old = {
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "start": NOW,
        "current_period_end": NOW + MONTH, "plan": {"id": "pro_monthly", "object": "plan", "name": "Pro"},
    }  # fmt: skip
    receive(runtime, created(old))
    assert state(runtime) == ("PRO", "active")


def test_every_change_of_a_client_is_audited(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), updated(a_subscription(), at=NOW + 5))
    (row,) = audits(runtime, "CLIENT_UPDATED")
    assert (row.actor, row.client_id) == ("stripe", "acme")
    assert "plan" in str(row.metadata)


def a_life(sub: str, customer: str) -> list[bytes]:
    """A subscription from its checkout over a failed renewal to the next payment, all in a few seconds."""
    one = {"customer": customer, "subscription": sub}
    invoice = f"in_{sub}"
    return [
        created(a_subscription(sub, customer=customer, status="incomplete")),
        paid(an_invoice(f"{invoice}_1", **one), at=NOW + 1),
        updated(a_subscription(sub, customer=customer), at=NOW + 1),
        completed(a_checkout(f"cs_{sub}", **one, client=None), at=NOW + 2),
        failed(a_failed_invoice(f"{invoice}_2", **one, attempt=1), at=NOW + 5),
        failed(a_failed_invoice(f"{invoice}_2", **one, attempt=2), at=NOW + 6),
        updated(a_subscription(sub, customer=customer, status="past_due"), at=NOW + 6),
        paid(an_invoice(f"{invoice}_2", **one, reason="subscription_cycle", attempt=3), at=NOW + 8),
        updated(a_subscription(sub, customer=customer), at=NOW + 8),
    ]


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(9)), again=st.lists(st.integers(0, 8), max_size=6))
def test_any_order_with_any_repetitions_ends_in_the_same_state(
    runtime: Runtime, order: list[int], again: list[int]
) -> None:
    number = _numbered(runtime)
    client_id, customer, sub = f"p{number}", f"cus_p{number}", f"sub_p{number}"
    a_client(runtime, client_id, plan=None, subscription_status="none", stripe_customer_id=customer)
    events = a_life(sub, customer)
    receive(runtime, *(events[index] for index in [*order, *again]))
    row = subscription_state(runtime, sub)
    assert (row.status, row.plan, row.was_live, row.last_event_at.timestamp()) == ("active", "PRO", True, NOW + 8)
    assert state(runtime, client_id) == ("PRO", "active")
    # A failure is no news once its invoice is paid, and withdrawn if it was written before.
    assert mails(runtime, client_id=client_id) == [CONFIRMED] * 2


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)))
def test_two_subscriptions_that_end_leave_the_same_client_in_any_order(runtime: Runtime, order: list[int]) -> None:
    """The last that was in force gives the plan, however many features the other had."""
    number = _numbered(runtime)
    client_id, customer = f"e{number}", f"cus_e{number}"
    a_client(runtime, client_id, plan=None, subscription_status="none", stripe_customer_id=customer)
    pro: dict[str, Any] = {"id": f"sub_pro{number}", "customer": customer}
    solo: dict[str, Any] = {"id": f"sub_solo{number}", "customer": customer, "price": a_price("solo_monthly")}
    events = [
        created(a_subscription(**pro, started=NOW)),
        created(a_subscription(**solo, started=NOW - DAY), at=NOW - DAY),
        paid(an_invoice(f"in_{number}", customer=customer, subscription=pro["id"]), at=NOW + 1),
        deleted(an_ended_subscription(**pro, started=NOW, ended=NOW + DAY), at=NOW + DAY),
        deleted(an_ended_subscription(**solo, started=NOW - DAY, ended=NOW + 2 * DAY), at=NOW + 2 * DAY),
        created(a_subscription(f"sub_tried{number}", customer=customer, status="incomplete_expired")),
    ]
    receive(runtime, *(events[index] for index in order))
    assert state(runtime, client_id) == ("SOLO", "canceled")


def _numbered(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return len(client_store.page(session, limit=10_000))
