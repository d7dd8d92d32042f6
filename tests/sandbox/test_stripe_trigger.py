"""`notifyctl sandbox stripe trigger` against the real webhook on a real server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.http.server import create_app
from notifyctl.sandbox import TRIGGERS, Sandbox
from tests.support.api import serving
from tests.support.clients import a_client
from tests.support.command_line import CommandLine, Ran
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings
from tests.support.stripe_world import event, mail, mails, statuses, the_client, withdrawn
from tests.support.templates import seed_templates

SECRET = "whsec_of_these_tests"


@dataclass(frozen=True)
class World:
    runtime: Runtime
    sandbox: Sandbox
    url: str
    notifyctl: CommandLine

    def trigger(self, *arguments: str, **variables: str) -> Ran:
        settings = {
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "STRIPE_API_URL": self.sandbox.url,
            "PUBLIC_BASE_URL": self.url,
            **variables,
        }
        return self.notifyctl("sandbox", "stripe", "trigger", *arguments, **settings)


@pytest.fixture
def world(database_url: str, notifyctl: CommandLine) -> Iterator[World]:
    settings = make_settings(database_url=database_url, stripe_webhook_secret=SECRET)
    runtime = open_shared(settings)
    seed_templates(runtime)
    a_client(runtime, plan=None, subscription_status="none")
    with Sandbox() as sandbox, serving(create_app(runtime)) as url:
        yield World(runtime, sandbox, url, notifyctl)
    runtime.close()


def test_a_purchase_confirms_once_and_brings_the_plan(world: World) -> None:
    ran = world.trigger("purchase", "--client", "acme")

    assert ran.code == 0, ran.err
    kinds = [line.split()[0] for line in ran.out.splitlines()]
    assert kinds == ["customer.subscription.created", "checkout.session.completed", "invoice.paid"]
    assert all(': 200 {"received":true}' in line for line in ran.out.splitlines())
    client = the_client(world.runtime)
    assert (client.plan, client.subscription_status) == ("PRO", "active")
    assert mails(world.runtime) == ["SUBSCRIPTION_CONFIRMED"]
    assert mail(world.runtime, "SUBSCRIPTION_CONFIRMED")["amount"] == "49.00 EUR"


def test_a_failed_attempt_is_told_with_its_number_and_amount(world: World) -> None:
    arguments = ("--attempt", "2", "--amount", "1250 JPY", "--times", "2")
    ran = world.trigger("invoice.payment_failed", "--client", "acme", *arguments)
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
    told = mail(world.runtime, "PAYMENT_FAILED")
    assert (told["amount"], told["attempt"], "next_attempt_on" in told) == ("1250 JPY", 2, True)
    assert statuses(world.runtime) == {"PROCESSED": 1}


def test_a_subscriptions_life_in_several_calls(world: World) -> None:
    for arguments in (
        ("purchase",), ("invoice.payment_failed",), ("invoice.paid", "--attempt", "2"),
        ("customer.subscription.updated", "--price", "solo_monthly"),
        ("customer.subscription.deleted", "--cause", "payment_failed"),
    ):  # fmt: skip
        assert world.trigger(*arguments, "--client", "acme").code == 0
    assert mails(world.runtime) == ["SUBSCRIPTION_CANCELED", "SUBSCRIPTION_CONFIRMED", "SUBSCRIPTION_CONFIRMED"]
    assert withdrawn(world.runtime) == ["PAYMENT_FAILED"]
    assert the_client(world.runtime).subscription_status == "canceled"
    assert mail(world.runtime, "SUBSCRIPTION_CANCELED")["cause"] == "payment_failed"


def test_a_slow_payment_confirms_when_it_has_come(world: World) -> None:
    world.trigger("checkout.session.completed", "--client", "acme", "--unpaid")
    assert mails(world.runtime) == []
    world.trigger("checkout.session.async_payment_succeeded", "--client", "acme")
    assert mails(world.runtime) == ["SUBSCRIPTION_CONFIRMED"]


def test_the_sandbox_has_what_was_posted_on_its_books(world: World) -> None:
    ran = world.trigger("purchase", "--client", "acme")
    assert f"The sandbox at {world.sandbox.url} has them on its books." in ran.err
    now = world.runtime.clock()
    listed = [one["id"] for one in world.sandbox.stripe.events(now)]
    assert len(listed) == 3
    assert all(event(world.runtime, event_id) for event_id in listed)
    (subscription,) = world.sandbox.stripe.objects("subscription")
    assert subscription["metadata"] == {"client_id": "acme"}


def test_an_endpoint_that_refuses_ends_with_1_and_its_words(world: World) -> None:
    ran = world.trigger("invoice.paid", "--client", "acme", STRIPE_WEBHOOK_SECRET="whsec_of_another")
    assert ran.code == 1
    assert ": 400 " in ran.out
    assert "did not take 1 of 1" in ran.err
    assert SECRET not in ran.out + ran.err
    assert statuses(world.runtime) == {}
    assert len(world.sandbox.stripe.events(world.runtime.clock())) == 1


def test_where_nobody_listens_it_says_so(world: World) -> None:
    ran = world.trigger("invoice.paid", "--client", "acme", "--to", "http://127.0.0.1:1/hook")
    assert (ran.code, "no answer (COULDNT_CONNECT)" in ran.out) == (1, True)


def test_without_a_sandbox_it_works_as_well(world: World) -> None:
    ran = world.trigger("purchase", "--client", "acme", STRIPE_API_URL="http://127.0.0.1:1")
    assert (ran.code, ran.err) == (0, "")


def test_somebodys_real_webhook_is_asked_about_first(world: World) -> None:
    ran = world.trigger("purchase", "--client", "acme", PUBLIC_BASE_URL="https://notify.acme.example")
    assert (ran.code, ran.out) == (2, "")
    assert "Post events of what never happened to https://notify.acme.example/api/webhooks/stripe?" in ran.err


def test_events_are_printed_instead_and_can_be_replayed(world: World, tmp_path: Any) -> None:
    ran = world.trigger("purchase", "--client", "acme", "--ago", "2d", "--print")
    assert (ran.code, statuses(world.runtime)) == (0, {})
    kinds = [json.loads(line)["type"] for line in ran.out.splitlines()]
    assert kinds == ["customer.subscription.created", "checkout.session.completed", "invoice.paid"]
    (tmp_path / "events").write_text(ran.out)
    assert world.notifyctl("stripe", "replay", "--file", str(tmp_path / "events")).code == 0
    assert mails(world.runtime) == ["SUBSCRIPTION_CONFIRMED"]


def test_the_mode_of_the_events_is_that_of_the_settings(world: World) -> None:
    def livemode(**variables: str) -> bool:
        ran = world.trigger("invoice.paid", "--client", "acme", "--print", **variables)
        return bool(json.loads(ran.out)["livemode"])

    assert [livemode(), livemode(STRIPE_LIVEMODE="false")] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("invoice.lost",), "there is no trigger 'invoice.lost'; did you mean invoice.paid?"),
        (("purchase", "--amount", "ten"), "--amount 'ten' is no amount"),
        (("purchase", "--amount", "NaN"), "--amount 'NaN' is no amount"),
        (("purchase", "--amount", "1.005"), "EUR has 2 decimals"),
        (("purchase", "--amount", "-1"), "must not be negative"),
        (("purchase", "--amount", "49.00 euros"), "--amount '49.00 euros' is in no currency"),
        (("purchase", "--currency", "usd"), "--currency is said by --amount now, as --amount '49.00 EUR'"),
        (("purchase", "--to", "ftp://x"), "--to 'ftp://x' is no URL"),
        (("purchase", "--ago", "soon"), "'soon' is not a duration"),
    ],
)
def test_what_cannot_be_meant_is_said(world: World, arguments: tuple[str, ...], words: str) -> None:
    ran = world.trigger(*arguments, "--client", "acme")
    assert (ran.code, ran.out, words in ran.err) == (2, "", True)


def test_the_help_names_every_trigger_of_the_sandbox(world: World) -> None:
    shown = world.trigger("--help").out
    assert [name for name in TRIGGERS if name not in shown] == []


def test_without_a_secret_nothing_is_posted(world: World) -> None:
    ran = world.trigger("purchase", "--client", "acme", STRIPE_WEBHOOK_SECRET="")
    assert (ran.code, "STRIPE_WEBHOOK_SECRET is not set" in ran.err) == (2, True)
