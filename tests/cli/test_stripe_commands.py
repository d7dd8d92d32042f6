"""`notifyctl stripe events` and `stripe show` on both databases."""

import json
from pathlib import Path
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.retention.erasure import erase_client
from tests.support.clients import a_client
from tests.support.command_line import CommandLine, Ran
from tests.support.stripe_history import a_year, happened, told, write_lines

Json = dict[str, Any]


@pytest.fixture
def events(runtime: Runtime, notifyctl: CommandLine, tmp_path: Path) -> list[Json]:
    """Those of acme, oldest first, and one of nobody that we know."""
    a_client(runtime, plan=None, subscription_status="none")
    stored = [*a_year(runtime.clock()), *told(happened("invoice.paid", runtime.clock(), client_id="nobody"))]
    assert notifyctl("stripe", "replay", "--file", write_lines(tmp_path / "events", stored)).code == 0
    return stored


def rows(ran: Ran) -> list[Json]:
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def test_events_are_listed_newest_first_and_filtered(notifyctl: CommandLine, events: list[Json]) -> None:
    ids = [one["id"] for one in events]

    def listed(*arguments: str) -> list[str]:
        return [row["id"] for row in rows(notifyctl("stripe", "events", *arguments, "--format", "jsonl"))]

    assert listed()[:5] == ids[:2:-1]
    assert listed("--limit", "2") == ids[:5:-1]
    assert listed("--unmatched") == listed("--status", "unmatched") == [ids[7]]
    assert listed("--failed") == []
    assert listed("--type", "invoice.payment_failed") == [ids[4], ids[3]]
    assert listed("--type", "customer.*") == [ids[6], ids[0]]
    assert listed("--client", "nobody") == [ids[7]]
    assert listed("--client", "acme", "--since", "16m", "--until", "3m") == [ids[5], ids[4], ids[3]]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "tsv", "github"])
def test_a_listing_has_every_form_and_no_address(notifyctl: CommandLine, events: list[Json], form: str) -> None:
    ran = notifyctl("stripe", "events", "--format", form)
    assert ran.code == 0
    assert all(one["id"] in ran.out for one in events)
    assert "@" not in ran.out


def test_a_status_is_given_once_and_is_one_there_is(notifyctl: CommandLine) -> None:
    twice = notifyctl("stripe", "events", "--failed", "--unmatched")
    assert (twice.code, "give one of them" in twice.err) == (2, True)
    unknown = notifyctl("stripe", "events", "--status", "LOST")
    assert (unknown.code, "UNMATCHED" in unknown.err) == (2, True)


def test_an_event_is_shown_with_what_came_of_it(notifyctl: CommandLine, events: list[Json]) -> None:
    ran = notifyctl("stripe", "show", events[3]["id"], "--format", "json")
    shown = json.loads(ran.out)

    assert (shown["type"], shown["status"], shown["origin"]) == ("invoice.payment_failed", "PROCESSED", "file")
    (mail,) = shown["mails"]
    assert (mail["template_key"], mail["status"], mail["recipient"]) == (
        "PAYMENT_FAILED", "CANCELED", "a***@client.example",
    )  # fmt: skip
    assert shown["client"]["subscription_status"] == "canceled"
    assert shown["subscription"]["status"] == "canceled"
    assert shown["invoice"]["failed_attempts"] == 2
    assert [step["action"] for step in shown["history"]] == [
        "STRIPE_EVENT_RECEIVED", "STRIPE_EVENT_REPLAYED", "STRIPE_EVENT_PROCESSED",
    ]  # fmt: skip
    revealed = json.loads(notifyctl("stripe", "show", events[3]["id"], "--reveal", "--format", "json").out)
    assert revealed["mails"][0]["recipient"] == "acme@client.example"


def test_an_event_that_repeats_news_shows_the_mail_that_told_it_first(
    notifyctl: CommandLine, events: list[Json]
) -> None:
    checkout, paid = (
        json.loads(notifyctl("stripe", "show", one["id"], "--format", "json").out)["mails"] for one in events[1:3]
    )
    assert [mail["id"] for mail in checkout] == [mail["id"] for mail in paid]


def test_an_event_that_matched_nobody_is_shown(notifyctl: CommandLine, events: list[Json]) -> None:
    shown = json.loads(notifyctl("stripe", "show", events[7]["id"], "--format", "json").out)
    assert (shown["status"], shown["mails"], shown["client"]) == ("UNMATCHED", [], {})
    assert "no client" in shown["reason"]


def test_a_body_is_masked_unless_it_is_revealed(notifyctl: CommandLine, events: list[Json]) -> None:
    event_id = events[3]["id"]
    masked = notifyctl("stripe", "show", event_id, "--body")
    assert "billing@acme.example" not in masked.out
    assert json.loads(masked.out)["data"]["object"]["customer_email"] == "b***@acme.example"
    revealed = notifyctl("stripe", "show", event_id, "--body", "--reveal")
    assert json.loads(revealed.out) == events[3]


def test_a_body_that_was_erased_is_not_there(runtime: Runtime, notifyctl: CommandLine, events: list[Json]) -> None:
    with runtime.database.transaction() as session:
        erase_client(session, runtime.keys, "acme", actor="test", now=runtime.clock())
    ran = notifyctl("stripe", "show", events[3]["id"], "--body")
    assert (ran.code, "is no longer kept" in ran.err) == (4, True)
    assert notifyctl("stripe", "show", events[3]["id"]).code == 0


def test_last_is_the_newest_event(notifyctl: CommandLine, events: list[Json]) -> None:
    shown = notifyctl("stripe", "show", "last", "--format", "json")
    assert json.loads(shown.out)["id"] == events[-1]["id"]


def test_an_unknown_event_is_not_found(notifyctl: CommandLine, runtime: Runtime) -> None:
    assert "there is no Stripe event 'last'" in notifyctl("stripe", "show", "last").err
    ran = notifyctl("stripe", "show", "evt_none")
    assert (ran.code, ran.out) == (4, "")
    assert "there is no Stripe event 'evt_none'" in ran.err


def test_an_event_is_found_by_a_part_of_its_id_that_no_other_has(notifyctl: CommandLine, events: list[Json]) -> None:
    whole = events[3]["id"]
    assert [one["id"] for one in events if one["id"].endswith(whole[-8:])] == [whole]
    assert json.loads(notifyctl("stripe", "show", whole[-8:], "--format", "json").out)["id"] == whole
    ran = notifyctl("stripe", "show", whole[:6] if len({one["id"][:6] for one in events}) == 1 else "evt_")
    assert ran.code in (2, 4)
    assert "several events" in ran.err or "there is no Stripe event" in ran.err
