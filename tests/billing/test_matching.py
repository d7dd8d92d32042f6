"""Whose an event is: by names and ids that the company gave, never by an address."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientChange
from notifyctl.retention.erasure import Erased, erase_client
from tests.support.clients import a_client
from tests.support.clocks import StandingClock
from tests.support.stripe_payloads import (
    DAY,
    NOW,
    a_checkout,
    a_failed_invoice,
    a_subscription,
    an_ended_subscription,
    an_event,
    an_invoice,
    completed,
    created,
    deleted,
    failed,
    paid,
    updated,
)
from tests.support.stripe_world import (
    CONFIRMED,
    FAILED,
    audits,
    event,
    mails,
    receive,
    statuses,
    subscription_state,
    the_client,
)


@pytest.fixture
def fresh(runtime: Runtime) -> Runtime:
    """With a client `new` that Stripe's customer is not known of."""
    a_client(runtime, "new", plan=None, subscription_status="none")
    return runtime


def erase(runtime: Runtime, client_id: str = "acme") -> Erased:
    with runtime.database.transaction() as session:
        return erase_client(session, runtime.keys, client_id, actor="test", now=runtime.clock())


NAMED: list[tuple[str, dict[str, Any]]] = [
    ("customer.subscription.created", a_subscription(customer="cus_n", metadata={"client_id": "new"})),
    ("checkout.session.completed", a_checkout(customer="cus_n", client="new")),
    ("checkout.session.completed", a_checkout(customer="cus_n", client=None, metadata={"client_id": "new"})),
    ("invoice.paid", an_invoice(customer="cus_n", metadata={"client_id": "new"})),
    (
        "invoice.paid",
        an_invoice(
            customer="cus_n",
            parent={"subscription_details": {"subscription": "sub_1", "metadata": {"client_id": "new"}}},
        ),
    ),
    ("invoice.paid", an_invoice(customer="cus_n", subscription_details={"metadata": {"client_id": "new"}})),
    (
        "invoice.paid",
        an_invoice(customer="cus_n", lines={"data": [{"subscription": "sub_1", "metadata": {"client_id": "new"}}]}),
    ),
]


@pytest.mark.parametrize(
    ("kind", "subject"),
    NAMED,
    ids=["subscription", "reference", "session", "invoice", "parent", "details", "line"],
)
def test_a_client_that_is_named_is_found_and_linked(fresh: Runtime, kind: str, subject: dict[str, Any]) -> None:
    outcome = receive(fresh, an_event(kind, subject))
    assert (outcome.status, outcome.client_id) == ("PROCESSED", "new")
    assert the_client(fresh, "new").stripe_customer_id == "cus_n"


@pytest.mark.parametrize("customer", ["cus_1", {"id": "cus_1", "object": "customer", "email": "x@x.example"}])
def test_a_client_is_found_by_its_customer_also_when_that_is_expanded(runtime: Runtime, customer: Any) -> None:
    assert receive(runtime, created(a_subscription(customer=customer))).client_id == "acme"


def test_an_address_finds_nobody(runtime: Runtime) -> None:
    invoice = an_invoice(customer="cus_stranger", customer_email="acme@client.example")
    checkout = a_checkout(
        customer="cus_stranger", subscription="sub_2", client=None, customer_email="acme@client.example"
    )
    for raw in (paid(invoice), completed(checkout)):
        assert receive(runtime, raw).status == "UNMATCHED"
    assert (mails(runtime), the_client(runtime).stripe_customer_id) == ([], "cus_1")


def test_a_checkout_of_payment_mode_links_as_well(fresh: Runtime) -> None:
    outcome = receive(fresh, completed(a_checkout(mode="payment", subscription=None, customer="cus_n", client="new")))
    assert (outcome.status, mails(fresh)) == ("PROCESSED", [])
    assert the_client(fresh, "new").stripe_customer_id == "cus_n"


def test_a_customer_is_taken_from_nobody_and_replaces_none(fresh: Runtime) -> None:
    receive(fresh, completed(a_checkout(customer="cus_1", client="new")))
    assert the_client(fresh, "new").stripe_customer_id is None
    receive(fresh, completed(a_checkout(customer="cus_other", client="acme", subscription="sub_2")))
    assert the_client(fresh).stripe_customer_id == "cus_1"


def test_a_subscription_bought_as_another_customer_stays_with_the_client_of_its_checkout(runtime: Runtime) -> None:
    receive(runtime, completed(a_checkout(customer="cus_again", client="acme", subscription="sub_2")))
    receive(runtime, created(a_subscription("sub_2", customer="cus_again")))
    receive(runtime, failed(a_failed_invoice(customer="cus_again", subscription="sub_2"), at=NOW + 60))
    assert the_client(runtime).subscription_status == "past_due"
    assert mails(runtime, client_id="acme") == [FAILED, CONFIRMED]


def test_a_subscription_whose_metadata_are_corrected_moves_to_the_other_client(fresh: Runtime) -> None:
    receive(fresh, created(a_subscription(metadata={"client_id": "acme"})))
    receive(fresh, updated(a_subscription(metadata={"client_id": "new"}), at=NOW + 60))
    assert (subscription_state(fresh).client_id, the_client(fresh, "new").subscription_status) == ("new", "active")


def test_what_names_nobody_is_ignored(runtime: Runtime) -> None:
    outcome = receive(runtime, completed(a_checkout(customer=None, client=None, subscription=None)))
    assert (outcome.status, outcome.reason) == ("IGNORED", "it names neither a client nor a customer")


def test_an_unmatched_event_is_kept_whole_and_says_why(runtime: Runtime) -> None:
    raw = paid(an_invoice(customer="cus_unknown"))
    outcome = receive(runtime, raw)
    row = event(runtime, outcome.event_id)
    assert (row.status, row.reason, row.body) == ("UNMATCHED", "no client is known by what it names", raw)
    assert (row.customer_id, row.subscription_id, row.object_id) == ("cus_unknown", "sub_1", "in_1")


def test_a_checkout_brings_in_what_came_before_it(fresh: Runtime) -> None:
    """The order of real life: the subscription and its invoice are told before the checkout that names the client."""
    receive(fresh, created(a_subscription(customer="cus_n", status="incomplete")))
    receive(fresh, paid(an_invoice(customer="cus_n"), at=NOW + 2))
    receive(fresh, updated(a_subscription(customer="cus_n"), at=NOW + 2))
    assert statuses(fresh) == {"UNMATCHED": 3}
    receive(fresh, completed(a_checkout(customer="cus_n", client="new"), at=NOW + 3))
    assert statuses(fresh) == {"PROCESSED": 4}
    client = the_client(fresh, "new")
    assert (client.plan, client.subscription_status, client.stripe_customer_id) == ("PRO", "active", "cus_n")
    assert mails(fresh) == [CONFIRMED]


def test_a_client_that_is_linked_by_hand_gets_its_events_with_the_next_retry(fresh: Runtime) -> None:
    receive(fresh, created(a_subscription(customer="cus_n")), paid(an_invoice(customer="cus_n")))
    assert fresh.billing.retry().settled == 0
    with fresh.database.transaction() as session:
        set_clients(session, [ClientChange("new", {"stripe_customer_id": "cus_n"})], actor="test", now=fresh.clock())
    assert fresh.billing.retry().settled == 2
    assert (the_client(fresh, "new").plan, mails(fresh)) == ("PRO", [CONFIRMED])


def test_a_client_that_is_named_before_it_is_known_gets_its_events_once_it_is(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(customer="cus_n", metadata={"client_id": "later"})))
    a_client(runtime, "later", plan=None, subscription_status="none")
    assert runtime.billing.retry().settled == 1
    assert the_client(runtime, "later").plan == "PRO"


def test_what_matched_nobody_for_three_days_is_no_news_when_it_is_matched(fresh: Runtime, clock: StandingClock) -> None:
    receive(fresh, created(a_subscription(customer="cus_n")), paid(an_invoice(customer="cus_n")))
    clock.now += timedelta(days=4)
    with fresh.database.transaction() as session:
        set_clients(session, [ClientChange("new", {"stripe_customer_id": "cus_n"})], actor="test", now=fresh.clock())
    fresh.billing.retry()
    assert (the_client(fresh, "new").plan, mails(fresh)) == ("PRO", [])


def test_a_redelivery_of_an_unmatched_event_is_matched_once_the_client_is_known(fresh: Runtime) -> None:
    raw = paid(an_invoice(customer="cus_n"))
    receive(fresh, raw)
    with fresh.database.transaction() as session:
        set_clients(session, [ClientChange("new", {"stripe_customer_id": "cus_n"})], actor="test", now=fresh.clock())
    assert receive(fresh, raw).status == "PROCESSED"


def test_an_address_in_client_reference_id_stands_in_the_body_alone(runtime: Runtime) -> None:
    for reference in ("someone@private.example", "+491701234567"):
        receive(runtime, completed(a_checkout(f"cs_{reference}", customer="cus_x", client=reference)))
    with runtime.database.read() as session:
        rows = session.execute(text("SELECT named_client, reason, error, object_id FROM stripe_event")).all()
    assert "private" not in str([row[:3] for row in rows])
    assert "1701234567" not in str([row[:3] for row in rows])
    assert "private" not in str(audits(runtime))


def test_erasing_a_client_blanks_its_events_and_ends_their_replay(runtime: Runtime) -> None:
    first = receive(runtime, completed(a_checkout())).event_id
    other = receive(
        runtime, an_event("customer.updated", {"id": "cus_1", "object": "customer", "name": "Ann"})
    ).event_id
    kept = receive(runtime, an_event("customer.updated", {"id": "cus_9", "object": "customer"})).event_id
    assert erase(runtime).stripe_events_blanked == 2
    for event_id in (first, other):
        row = event(runtime, event_id)
        assert (row.body, row.customer_id, row.named_client) == (b"", None, None)
    assert event(runtime, kept).body != b""
    assert subscription_state(runtime).customer_id is None
    (outcome,) = runtime.billing.rehearse([first])
    assert (outcome.status, outcome.reason) == ("IGNORED", "what it said is no longer kept")


def test_erasing_a_client_without_a_customer_blanks_no_event_without_one(fresh: Runtime) -> None:
    other = receive(fresh, an_event("price.created", {"id": "price_9", "object": "price"})).event_id
    first = receive(fresh, created(a_subscription())).event_id
    assert erase(fresh, "new").stripe_events_blanked == 0
    assert [erase(fresh).stripe_events_blanked, erase(fresh).stripe_events_blanked] == [1, 0]
    assert (event(fresh, first).body, event(fresh, other).body != b"") == (b"", True)


def test_what_stripe_tells_of_an_erased_client_later_is_blanked_at_once(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()))
    erase(runtime)
    outcome = receive(runtime, deleted(an_ended_subscription(), at=NOW + DAY))
    assert (outcome.status, outcome.reason, mails(runtime)) == ("IGNORED", "client acme was erased", [])
    assert event(runtime, outcome.event_id).body == b""
    assert subscription_state(runtime).status == "active"
