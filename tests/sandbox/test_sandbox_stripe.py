"""The sandbox's Stripe, asked by Stripe's own library."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import stripe

from notifyctl.billing.event import read_event
from notifyctl.billing.objects import read_checkout, read_invoice, read_subscription
from notifyctl.errors import InvalidInput
from notifyctl.sandbox import STRIPE, TRIGGERS, Fault, Faults, Sandbox, StripeScenario, trigger
from notifyctl.sandbox.stripe.webhook import signature
from tests.support.sandboxes import at_rest

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Sandbox:
    at_rest(sandbox_server).clock = lambda: NOON
    return sandbox_server


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[stripe.StripeClient]:
    http = stripe.RequestsClient(timeout=5)
    base_addresses: Any = {"api": sandbox.url}
    yield stripe.StripeClient("sk_test_x", base_addresses=base_addresses, max_network_retries=0, http_client=http)
    http.close()


def a_scenario(**fields: Any) -> StripeScenario:
    return StripeScenario(**({"client_id": "acme", "now": NOON} | fields))


def record(sandbox: Sandbox, name: str = "invoice.paid", **fields: Any) -> list[str]:
    events = trigger(name, a_scenario(**fields))
    for triggered in events:
        sandbox.stripe.record(triggered.event, triggered.objects)
    return [triggered.id for triggered in events]


def minutes_ago(minutes: int) -> datetime:
    return NOON - timedelta(minutes=minutes)


def ids(page: Any) -> list[str]:
    return [item.id for item in page.data]


def test_events_are_listed_newest_first_in_pages(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    oldest_first = [record(sandbox, now=minutes_ago(250 - number))[0] for number in range(250)]

    page = client.v1.events.list({"limit": 100})

    assert ids(page) == oldest_first[:-101:-1]
    assert page.has_more
    assert [event.id for event in page.auto_paging_iter()] == oldest_first[::-1]


def test_events_are_found_by_type_and_time(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    [failed] = record(sandbox, "invoice.payment_failed", now=minutes_ago(3))
    [paid] = record(sandbox, "invoice.paid", now=minutes_ago(2))
    [canceled] = record(sandbox, "customer.subscription.deleted", now=minutes_ago(1))
    since = int(minutes_ago(2).timestamp())

    def found(**query: Any) -> list[str]:
        return ids(client.v1.events.list(query))  # type: ignore[arg-type]

    assert found() == [canceled, paid, failed]
    assert found(types=["invoice.paid", "invoice.payment_failed"]) == [paid, failed]
    assert found(created={"gte": since}) == [canceled, paid]
    assert found(created={"gt": since}) == [canceled]
    assert found(created={"lte": since}) == [paid, failed]
    assert found(created={"lt": since}) == [failed]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 101},
        {"limit": 0},
        {"types": [f"type.{number}" for number in range(21)]},
        {"starting_after": "evt_unknown"},
        {"created": {"gte": "yesterday"}},
        {"colour": "red"},
    ],
    ids=["limit above 100", "limit 0", "21 types", "unknown cursor", "time in words", "unknown"],
)
def test_a_list_that_stripe_refuses_is_refused(client: stripe.StripeClient, query: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.events.list(query)
    assert refused.value.http_status == 400


def test_an_event_is_gone_after_30_days(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    [kept] = record(sandbox, now=NOON - timedelta(days=30))
    [gone] = record(sandbox, now=NOON - timedelta(days=30, seconds=1))

    assert client.v1.events.retrieve(kept).id == kept
    assert ids(client.v1.events.list()) == [kept]
    with pytest.raises(stripe.InvalidRequestError) as missing:
        client.v1.events.retrieve(gone)
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_subscriptions_are_listed_by_status_and_read_one_by_one(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    record(sandbox, "purchase", client_id="acme")
    record(sandbox, "customer.subscription.deleted", client_id="bolt")
    acme, bolt = a_scenario(client_id="acme"), a_scenario(client_id="bolt")

    assert ids(client.v1.subscriptions.list()) == [acme.subscription_id]
    everything = client.v1.subscriptions.list({"status": "all", "limit": 1})
    assert {item.id for item in everything.auto_paging_iter()} == {acme.subscription_id, bolt.subscription_id}
    assert ids(client.v1.subscriptions.list({"status": "canceled"})) == [bolt.subscription_id]
    assert client.v1.subscriptions.retrieve(bolt.subscription_id).status == "canceled"
    assert client.v1.customers.retrieve(acme.customer).metadata["client_id"] == "acme"
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription: 'sub_none'"):
        client.v1.subscriptions.retrieve("sub_none")


def test_subscriptions_are_listed_only_by_what_stripe_calls_a_status(client: stripe.StripeClient) -> None:
    assert [ids(client.v1.subscriptions.list({"status": status})) for status in ("all", "ended", "past_due")] == [
        []
    ] * 3
    for status in ("gone", "none", ""):
        with pytest.raises(stripe.InvalidRequestError, match="Invalid status: must be one of active, ") as refused:
            client.v1.subscriptions.list({"status": status})
        assert (refused.value.http_status, refused.value.param) == (400, "status")


def test_without_the_right_key_nothing_is_told(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.stripe.api_key = "sk_test_other"
    with pytest.raises(stripe.AuthenticationError):
        client.v1.events.list()
    answer = requests.get(f"{sandbox.url}/v1/events", timeout=5)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error")


def test_faults_strike_as_often_as_they_are_set_to(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.set_faults(STRIPE, Faults([Fault("error", code=429, times=1)]))
    with pytest.raises(stripe.RateLimitError):
        client.v1.events.list()
    assert client.v1.events.list().data == []

    for line, error in (
        ("stripe:cut-before", stripe.APIConnectionError),
        ("stripe:too-many", stripe.RateLimitError),
        ("stripe:http,status=502", stripe.APIError),
        ("stripe:error,code=403", stripe.PermissionError),
    ):
        assert requests.put(f"{sandbox.url}/faults", json={"faults": [line]}, timeout=5).status_code == 200
        with pytest.raises(error):
            client.v1.events.list()
    assert "Faults for Stripe" in requests.get(sandbox.url, timeout=5).text
    assert requests.delete(f"{sandbox.url}/faults", timeout=5).status_code == 204
    assert client.v1.events.list().data == []


def test_what_is_said_of_both_channels_is_not_said_of_stripe(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    assert requests.put(f"{sandbox.url}/faults", json={"faults": ["http"]}, timeout=5).status_code == 200
    assert client.v1.events.list().data == []


def test_an_unknown_path_is_told_as_stripe_tells_it(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL") as refused:
        client.v1.charges.list()
    assert refused.value.http_status == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["events", "events/evt_1", "subscriptions", "customers", "customers/cus_1", "charges"])
def test_a_method_that_is_not_known_is_refused_in_json(sandbox: Sandbox, method: str, path: str) -> None:
    headers = {"Authorization": "Bearer sk_test_1"}
    answer = requests.request(method, f"{sandbox.url}/v1/{path}", headers=headers, timeout=5)
    assert answer.status_code == (404 if method in ("DELETE", "POST") else 405)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(f"Unrecognized request URL ({method}: /v1/{path}).")
    assert answer.headers["Request-Id"].startswith("req_")


def test_a_first_debit_that_bounces_makes_no_checkout_of_what_is_live(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    for name in ("customer.subscription.created", "invoice.payment_failed"):
        record(sandbox, name)
    assert client.v1.subscriptions.retrieve(a_scenario().subscription_id).status == "past_due"


def test_what_happens_is_told_over_http(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    [triggered] = trigger("invoice.payment_failed", a_scenario(invoice=2))
    body = {"event": triggered.event, "objects": triggered.objects}
    url = f"{sandbox.url}/stripe/events"

    assert [requests.post(url, json=body, timeout=5).status_code for _ in range(2)] == [204, 204]

    assert ids(client.v1.events.list()) == [triggered.id]
    assert client.v1.subscriptions.retrieve(a_scenario().subscription_id).status == "past_due"
    for bad in ({}, {"event": {"id": "evt_1"}}, {"event": triggered.event, "objects": [1]}, []):
        assert requests.post(url, json=bad, timeout=5).status_code == 400
    assert requests.delete(f"{sandbox.url}/stripe", timeout=5).status_code == 204
    assert client.v1.events.list().data == []


def test_the_signature_is_the_one_that_the_library_makes() -> None:
    body = json.dumps({"id": "evt_1", "object": "event", "note": "ü"}, ensure_ascii=False)
    signed = signature(body.encode(), "whsec_x", NOON)
    assert signed == stripe.WebhookSignature.generate_signature_header(body, "whsec_x", timestamp=int(NOON.timestamp()))


@pytest.mark.parametrize("is_old", [False, True], ids=["fields of today", "fields of before 2025-03-31"])
@pytest.mark.parametrize("name", TRIGGERS)
def test_every_event_names_one_client_customer_and_subscription(name: str, is_old: bool) -> None:
    scenario = a_scenario(is_old=is_old, invoice=2)
    readers = {"subscription": read_subscription, "invoice": read_invoice, "checkout.session": read_checkout}
    for triggered in trigger(name, scenario):
        event = stripe.Event.construct_from(triggered.event, "sk_test_x").to_dict(for_json=True)
        assert event == triggered.event
        envelope = read_event(json.dumps(triggered.event).encode(), NOON)
        told: Any = readers[envelope.object["object"]](envelope.object)
        assert (envelope.created, envelope.livemode) == (NOON, True)
        assert (told.customer, set(told.named_clients)) == (scenario.customer, {"acme"})
        assert getattr(told, "subscription", told.id) == scenario.subscription_id


def test_both_generations_of_fields_say_the_same() -> None:
    new, old = (trigger("purchase", a_scenario(is_old=is_old)) for is_old in (False, True))
    for one, other in zip(new, old, strict=True):
        assert one.event["api_version"] != other.event["api_version"]
    period_ends = [
        read_subscription(told[0].event["data"]["object"]).period_end
        or read_subscription(told[0].event["data"]["object"]).prices[0].period_end
        for told in (new, old)
    ]
    assert period_ends == [NOON + timedelta(days=30)] * 2
    invoices = [read_invoice(told[2].event["data"]["object"]) for told in (new, old)]
    assert invoices[0].subscription == invoices[1].subscription
    assert invoices[0].amount_paid == invoices[1].amount_paid == 4900


@pytest.mark.parametrize(("name", "said"), [("invoice.lost", "did you mean invoice.paid"), ("nothing", "purchase")])
def test_an_unknown_trigger_is_told_what_was_meant_or_those_there_are(name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        trigger(name, a_scenario())
