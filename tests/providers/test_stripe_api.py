"""The adapter for Stripe's API, by Stripe's own library, against the sandbox."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifyctl.errors import InvalidInput, ProviderError
from notifyctl.providers.stripe import MOST_AT_ONCE, StripeApi, build_stripe_api, other_mode
from notifyctl.sandbox import STRIPE, Fault, Faults, Sandbox, StripeScenario, trigger
from tests.support.sandboxes import at_rest
from tests.support.settings import make_settings

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
KEY = "sk_test_7c1f0a"


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Sandbox:
    at_rest(sandbox_server).clock = lambda: NOON
    sandbox_server.stripe.api_key = KEY
    return sandbox_server


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def api(sandbox: Sandbox, pauses: list[float]) -> Iterator[StripeApi]:
    with StripeApi(KEY, sandbox.url, pause=pauses.append) as api:
        yield api


def record(sandbox: Sandbox, at: datetime, name: str = "invoice.paid", client_id: str = "acme") -> str:
    (triggered,) = trigger(name, StripeScenario(client_id=client_id, now=at))
    sandbox.stripe.record(triggered.event, triggered.objects)
    return triggered.id


def ids(events: Any) -> list[str]:
    return [event["id"] for event in events]


@pytest.mark.usefixtures("exhaustive")
def test_events_come_oldest_first_however_many_there_are_at_a_time(sandbox: Sandbox, api: StripeApi) -> None:
    moments = [NOON - timedelta(days=29) + timedelta(hours=number) for number in range(50)]
    moments += [NOON - timedelta(days=3) + timedelta(seconds=number) for number in range(2 * MOST_AT_ONCE)]
    oldest_first = [record(sandbox, moment) for moment in moments]

    found = ids(api.events(NOON - timedelta(days=40), NOON))

    assert found == oldest_first


@pytest.mark.usefixtures("exhaustive")
def test_more_events_in_one_second_than_are_held_otherwise(sandbox: Sandbox, api: StripeApi) -> None:
    made = {record(sandbox, NOON - timedelta(days=1)) for _ in range(MOST_AT_ONCE + 1)}
    assert set(ids(api.events(NOON - timedelta(days=2), NOON))) == made


def test_events_are_asked_for_by_time_and_type(sandbox: Sandbox, api: StripeApi) -> None:
    record(sandbox, NOON - timedelta(hours=3))
    wanted = record(sandbox, NOON - timedelta(hours=2), "invoice.payment_failed")
    record(sandbox, NOON - timedelta(hours=2))
    record(sandbox, NOON - timedelta(hours=1), "invoice.payment_failed")

    found = api.events(NOON - timedelta(hours=2), NOON - timedelta(hours=1), ["invoice.payment_failed"])

    assert ids(found) == [wanted]
    with pytest.raises(InvalidInput, match="21 types"):
        list(api.events(NOON - timedelta(hours=2), NOON, [f"type.{number}" for number in range(21)]))


def test_what_comes_out_is_what_stripe_sent(sandbox: Sandbox, api: StripeApi) -> None:
    event_id = record(sandbox, NOON)
    assert api.event(event_id) == sandbox.stripe.event(event_id, NOON)


@pytest.mark.parametrize("event_id", ["evt_none", "../subscriptions", "evt_?a=b", "evt_ü"])
def test_an_event_that_stripe_does_not_have_is_none(api: StripeApi, event_id: str) -> None:
    assert api.event(event_id) is None
    assert api.subscription(event_id) is None


def test_all_subscriptions_are_listed_the_canceled_ones_too(sandbox: Sandbox, api: StripeApi) -> None:
    for number in range(130):
        name = "customer.subscription.deleted" if number % 2 else "customer.subscription.created"
        record(sandbox, NOON, name, f"client-{number}")

    found = list(api.subscriptions())

    assert len({subscription["id"] for subscription in found}) == 130
    assert [subscription["status"] for subscription in found].count("canceled") == 65


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("error", code=401), r"refuses STRIPE_API_KEY \(401\)"),
        (Fault("error", code=403), r"STRIPE_API_KEY may not read this \(403\)"),
        (Fault("error", code=429), r"no more requests for now \(429\); try again"),
        (Fault("error", code=400), "HTTP 400: Refused on purpose"),
        (Fault("error", code=500), "HTTP 500: An unknown error occurred"),
        (Fault("garbage"), "HTTP 200 with no JSON; check STRIPE_API_URL"),
        (Fault("cut-before"), "does not answer .*; check the network and STRIPE_API_URL"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("exhaustive")
def test_an_error_is_one_line_that_says_what_to_do_and_shows_no_key(
    sandbox: Sandbox, api: StripeApi, fault: Fault, words: str
) -> None:
    event_id = record(sandbox, NOON)
    sandbox.set_faults(STRIPE, Faults([fault]))
    with pytest.raises(ProviderError, match=words) as error:
        api.event(event_id)
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_call_that_came_too_fast_is_tried_again_after_a_while(
    sandbox: Sandbox, api: StripeApi, pauses: list[float]
) -> None:
    event_id = record(sandbox, NOON)
    sandbox.set_faults(STRIPE, Faults([Fault("error", code=429, times=2)]))
    assert (api.event(event_id) or {})["id"] == event_id
    assert pauses == [1.0, 2.0]


def test_a_server_that_fails_for_a_moment_is_asked_again(sandbox: Sandbox, api: StripeApi) -> None:
    event_id = record(sandbox, NOON)
    sandbox.set_faults(STRIPE, Faults([Fault("error", code=503, times=1)]))
    assert (api.event(event_id) or {})["id"] == event_id


def test_another_key_is_refused(sandbox: Sandbox) -> None:
    with StripeApi("sk_test_other", sandbox.url) as api, pytest.raises(ProviderError, match="refuses STRIPE_API_KEY"):
        api.event("evt_1")


def test_without_a_key_nothing_is_asked() -> None:
    with pytest.raises(ProviderError, match="STRIPE_API_KEY is not set"):
        build_stripe_api(make_settings(database_url="sqlite:///x.db"))


@pytest.mark.parametrize(
    ("key", "livemode", "warns"),
    [("sk_test_1", True, True), ("rk_live_1", False, True), ("sk_live_1", True, False), ("rk_test_1", False, False),
     ("sandbox", True, False)],
)  # fmt: skip
def test_a_key_of_the_other_mode_is_warned_of(key: str, livemode: bool, warns: bool) -> None:
    settings = make_settings(database_url="sqlite:///x.db", stripe_api_key=key, stripe_livemode=livemode)
    assert bool(other_mode(settings)) is warns
