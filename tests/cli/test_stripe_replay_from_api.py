"""`notifyctl stripe replay --from-api` on both databases, against the sandbox's Stripe."""

import json
from datetime import timedelta
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.sandbox import STRIPE, Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.command_line import CommandLine, Ran
from tests.support.stripe_history import happened, on_books
from tests.support.stripe_world import event, mails, statuses


@pytest.fixture(autouse=True)
def acme(runtime: Runtime) -> None:
    a_client(runtime, plan=None, subscription_status="none")


@pytest.fixture(autouse=True)
def key(sandbox: Sandbox) -> None:
    sandbox.stripe.api_key = "sk_live_1"


@pytest.fixture
def replay(notifyctl: CommandLine, sandbox: Sandbox) -> CommandLine:
    settings = {"STRIPE_API_URL": sandbox.url, "STRIPE_API_KEY": "sk_live_1"}
    return lambda *arguments, **more: notifyctl("stripe", "replay", "--from-api", *arguments, **(settings | more))


def summary(ran: Ran) -> dict[str, int]:
    return {name: count for name, count in json.loads(ran.out).items() if count}


def an_unhandled_event(number: int, created: int) -> dict[str, Any]:
    return {"id": f"evt_other_{number}", "object": "event", "type": "charge.updated", "created": created}


@pytest.mark.usefixtures("exhaustive")
def test_events_are_fetched_oldest_first_and_count_as_stripes_own(
    runtime: Runtime, replay: CommandLine, sandbox: Sandbox
) -> None:
    events = on_books(sandbox, happened("purchase", runtime.clock() - timedelta(minutes=9)))

    rehearsed = replay("--dry-run", "--format", "jsonl")
    assert [json.loads(line)["id"] for line in rehearsed.out.splitlines()] == [one["id"] for one in events]
    assert statuses(runtime) == {}
    ran = replay("--format", "json")

    assert summary(ran) == {"events": 3, "processed": 3, "changed_state": 1, "mails_queued": 1, "mails_duplicate": 1}
    stored = event(runtime, events[0]["id"])
    assert (stored.origin, stored.verified) == ("api", True)
    assert summary(replay("--format", "json"))["already_done"] == 3
    assert mails(runtime) == ["SUBSCRIPTION_CONFIRMED"]


@pytest.mark.usefixtures("exhaustive")
def test_only_the_types_that_do_something_are_fetched_unless_others_are_named(
    runtime: Runtime, replay: CommandLine, sandbox: Sandbox
) -> None:
    (bought, *_) = on_books(sandbox, happened("purchase", runtime.clock()))
    for number in range(150):  # more than a page
        sandbox.stripe.record(an_unhandled_event(number, bought["created"]))

    assert summary(replay("--format", "json"))["events"] == 3
    assert summary(replay("--type", "charge.*", "--format", "json")) == {"events": 150, "ignored": 150}
    assert statuses(runtime) == {"PROCESSED": 3, "IGNORED": 150}


def test_an_event_is_fetched_by_its_id_and_one_that_is_gone_is_named(
    runtime: Runtime, replay: CommandLine, sandbox: Sandbox
) -> None:
    (wanted, _, _) = on_books(sandbox, happened("purchase", runtime.clock()))

    ran = replay(wanted["id"], "evt_gone", "--format", "json")

    assert (ran.code, summary(ran)["processed"]) == (1, 1)
    assert "evt_gone: Stripe no longer has it, or never had: it keeps events for 30 days" in ran.err
    assert statuses(runtime) == {"PROCESSED": 1}
    assert replay("evt_gone").code == 4


def test_what_is_older_than_stripe_keeps_is_warned_of(replay: CommandLine) -> None:
    ran = replay("--since", "60d")
    assert (ran.code, "Stripe keeps events for 30 days" in ran.err) == (4, True)


def test_a_key_of_the_other_mode_is_warned_of(replay: CommandLine, sandbox: Sandbox) -> None:
    sandbox.stripe.api_key = "sk_test_1"
    ran = replay(STRIPE_API_KEY="sk_test_1")
    assert "STRIPE_API_KEY is a test key, while STRIPE_LIVEMODE is true" in ran.err


@pytest.mark.parametrize(
    ("fault", "words"),
    [(Fault("error", code=403), "may not read this"), (Fault("garbage"), "with no JSON")],
    ids=["forbidden", "garbage"],
)
def test_stripe_that_cannot_be_asked_is_a_providers_error(
    replay: CommandLine, sandbox: Sandbox, fault: Fault, words: str
) -> None:
    sandbox.set_faults(STRIPE, Faults([fault]))
    ran = replay()
    assert (ran.code, words in ran.err) == (6, True)


def test_without_a_key_stripe_is_not_asked(replay: CommandLine) -> None:
    ran = replay(STRIPE_API_KEY="")
    assert (ran.code, "STRIPE_API_KEY is not set" in ran.err) == (6, True)
