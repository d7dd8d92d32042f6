"""`notifyctl stripe reconcile` on both databases, against the sandbox's Stripe."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.sandbox import STRIPE, Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.command_line import CommandLine, Ran
from tests.support.stripe_history import dump, happened, on_books, told, write_lines
from tests.support.stripe_world import the_client

pytestmark = pytest.mark.usefixtures("exhaustive")

Json = dict[str, Any]


@pytest.fixture
def stripe(notifyctl: CommandLine, sandbox: Sandbox) -> CommandLine:
    return lambda *arguments: notifyctl("stripe", *arguments, STRIPE_API_URL=sandbox.url, STRIPE_API_KEY="sk_live_1")


@pytest.fixture
def bought(runtime: Runtime, sandbox: Sandbox, stripe: CommandLine, tmp_path: Path) -> list[Json]:
    """Client acme has bought; Stripe and we agree on it."""
    a_client(runtime, plan=None, subscription_status="none")
    events = on_books(sandbox, happened("purchase", runtime.clock() - timedelta(hours=1)))
    assert stripe("replay", "--file", write_lines(tmp_path / "events", events)).code == 0
    return events


def differences(ran: Ran) -> list[Json]:
    assert ran.code == 1, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def compare(stripe: CommandLine, *arguments: str) -> list[Json]:
    return differences(stripe("reconcile", "--format", "jsonl", *arguments))


def test_where_all_agree_there_is_no_difference(runtime: Runtime, bought: list[Json], stripe: CommandLine) -> None:
    before = dump(runtime)
    ran = stripe("reconcile")
    assert (ran.code, "3 events and 1 subscription at Stripe were compared: no difference." in ran.err) == (0, True)
    assert dump(runtime) == before
    assert json.loads(stripe("reconcile", "--format", "json").out) == []


def test_an_event_that_never_came_is_named_with_what_mends_it(
    runtime: Runtime, bought: list[Json], sandbox: Sandbox, stripe: CommandLine
) -> None:
    (canceled,) = on_books(sandbox, happened("customer.subscription.deleted", runtime.clock()))
    before = dump(runtime)

    event, subscription = compare(stripe)

    assert dump(runtime) == before
    mend = f"notifyctl stripe replay --from-api {canceled['id']}"
    assert (event["kind"], event["id"], event["what"]) == ("event", canceled["id"], "customer.subscription.deleted")
    assert (event["client_id"], event["mend"]) == ("acme", mend)
    assert (subscription["kind"], subscription["what"]) == ("subscription", "status")
    assert (subscription["here"], subscription["at_stripe"], subscription["mend"]) == ("active", "canceled", mend)
    assert stripe(*mend.split()[2:]).code == 0
    assert stripe("reconcile").code == 0
    assert the_client(runtime).subscription_status == "canceled"


def test_a_subscription_that_changed_before_stripes_events_begin_is_told_with_a_way_out(
    bought: list[Json], sandbox: Sandbox, stripe: CommandLine
) -> None:
    (told_by_stripe,) = sandbox.stripe.objects("subscription")
    sandbox.stripe.put({**told_by_stripe, "status": "unpaid"})
    (found,) = compare(stripe)
    assert (found["what"], found["here"], found["at_stripe"]) == ("status", "active", "unpaid")
    assert "change its metadata in Stripe's dashboard" in found["mend"]


def test_a_plan_that_was_added_to_the_registry_is_mended_by_a_replay_of_what_was_told_last(
    runtime: Runtime, bought: list[Json], notifyctl: CommandLine, sandbox: Sandbox, tmp_path: Path
) -> None:
    plans = tmp_path / "plans.toml"
    plans.write_text('[plans.TEAM]\nname = "Team"\nfeatures = []\nstripe = ["pro_monthly"]\n')

    def stripe(*arguments: str) -> Ran:
        variables = {"STRIPE_API_URL": sandbox.url, "STRIPE_API_KEY": "sk_live_1"}
        return notifyctl("stripe", *arguments, **variables, NOTIFICATION_PLAN_REGISTRY=str(plans))

    (found,) = compare(stripe)
    assert (found["what"], found["here"], found["at_stripe"]) == ("plan", "PRO", "TEAM")
    assert found["mend"] == f"notifyctl stripe replay {bought[0]['id']}"
    assert stripe(*found["mend"].split()[2:]).code == 0
    assert the_client(runtime).plan == "TEAM"
    assert stripe("reconcile").code == 0


@pytest.mark.parametrize("is_old", [False, True], ids=["fields of today", "fields of before 2025-03-31"])
def test_each_field_that_differs_is_told(
    runtime: Runtime, bought: list[Json], sandbox: Sandbox, stripe: CommandLine, is_old: bool
) -> None:
    later = runtime.clock() + timedelta(days=7)
    (updated,) = happened("customer.subscription.updated", later, is_old=is_old, price="solo_monthly")
    sandbox.stripe.put(updated.objects[1])
    found = {one["what"]: (one["here"], one["at_stripe"]) for one in compare(stripe)}
    assert found.keys() == {"plan", "price_id", "current_period_end"}
    assert found["plan"] == ("PRO", "SOLO")


def test_a_subscription_that_we_never_heard_of_is_told_unless_it_is_history(
    runtime: Runtime, sandbox: Sandbox, stripe: CommandLine
) -> None:
    now = runtime.clock()
    stories = {
        "live": happened("customer.subscription.created", now - timedelta(days=90), client_id="live"),
        "ended": happened("customer.subscription.deleted", now - timedelta(days=9), client_id="ended"),
        "history": happened("customer.subscription.deleted", now - timedelta(days=90), client_id="history"),
    }
    on_books(sandbox, *stories.values())
    found = [one for one in compare(stripe) if one["kind"] == "subscription"]
    assert {one["client_id"]: (one["what"], one["at_stripe"]) for one in found} == {
        "live": ("missing", "active"),
        "ended": ("missing", "canceled"),
    }


def test_one_that_matched_nobody_is_mended_by_linking_the_client(
    runtime: Runtime, notifyctl: CommandLine, sandbox: Sandbox, stripe: CommandLine, tmp_path: Path
) -> None:
    events = on_books(sandbox, happened("customer.subscription.created", runtime.clock(), client_id="late"))
    stripe("replay", "--file", write_lines(tmp_path / "events", events))
    (found,) = compare(stripe)
    customer = events[0]["data"]["object"]["customer"]
    assert found["mend"] == (
        f"notifyctl clients set ID --stripe-customer {customer}, then notifyctl stripe replay {events[0]['id']}"
    )
    notifyctl("clients", "set", "late-client", "--name", "Late", "--stripe-customer", customer)
    assert stripe("replay", events[0]["id"]).code == 0
    assert stripe("reconcile").code == 0


def test_a_live_one_that_stripe_does_not_know_is_told(
    runtime: Runtime, bought: list[Json], stripe: CommandLine, tmp_path: Path
) -> None:
    a_client(runtime, "ghost", plan=None, subscription_status="none")
    events = told(happened("customer.subscription.created", runtime.clock(), client_id="ghost"))
    stripe("replay", "--file", write_lines(tmp_path / "ghost", events))
    (found,) = compare(stripe)
    assert (found["client_id"], found["what"], found["here"], found["at_stripe"]) == (
        "ghost", "missing", "active", None,
    )  # fmt: skip
    assert "STRIPE_API_KEY" in found["mend"]


def test_only_events_since_then_and_of_these_types_are_compared(
    runtime: Runtime, sandbox: Sandbox, stripe: CommandLine
) -> None:
    a_client(runtime)
    on_books(sandbox, happened("invoice.paid", runtime.clock() - timedelta(hours=3)))
    (late,) = on_books(sandbox, happened("invoice.payment_failed", runtime.clock() - timedelta(hours=1)))

    def missing(*arguments: str) -> list[str]:
        return [one["id"] for one in compare(stripe, *arguments) if one["kind"] == "event"]

    assert missing("--since", "2h") == [late["id"]]
    assert missing("--type", "invoice.payment_failed") == [late["id"]]
    assert len(missing()) == 2


def test_more_than_a_page_of_each(runtime: Runtime, sandbox: Sandbox, stripe: CommandLine) -> None:
    now = runtime.clock()
    on_books(
        sandbox,
        *(happened("customer.subscription.created", now, client_id=f"client-{number}") for number in range(230)),
    )
    assert len(compare(stripe)) == 460


def test_stripe_that_cannot_be_asked_is_a_providers_error(
    runtime: Runtime, sandbox: Sandbox, stripe: CommandLine
) -> None:
    sandbox.set_faults(STRIPE, Faults([Fault("error", code=401)]))
    ran = stripe("reconcile")
    assert (ran.code, "refuses STRIPE_API_KEY (401)" in ran.err) == (6, True)
