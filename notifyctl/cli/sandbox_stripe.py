"""`notifyctl sandbox stripe`: what happens at Stripe, on command."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from notifyctl.cli import options, output
from notifyctl.errors import ConfigurationError, InvalidInput, NotifyctlError

if TYPE_CHECKING:
    from notifyctl.providers.sandbox import Happening
    from notifyctl.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Stripe's part: make something happen there.")

DEFAULT_SANDBOX = "http://127.0.0.1:8026"
WEBHOOK = "/api/webhooks/stripe"
NOWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what a server listens on, and nobody can dial
MAX_AMOUNT = 10**12


class Trigger(StrEnum):
    """providers.sandbox.TRIGGERS, without the cost of importing the sandbox for --help."""

    PURCHASE = "purchase"
    CHECKOUT = "checkout.session.completed"
    CHECKOUT_PAID_LATER = "checkout.session.async_payment_succeeded"
    PAID = "invoice.paid"
    PAYMENT_FAILED = "invoice.payment_failed"
    CREATED = "customer.subscription.created"
    UPDATED = "customer.subscription.updated"
    DELETED = "customer.subscription.deleted"


class Shape(StrEnum):
    NEW = "new"
    OLD = "old"


@app.command()
def trigger(
    event: Annotated[str, typer.Argument(metavar="EVENT", help=f"One of {', '.join(Trigger)}.")],
    client: Annotated[str, typer.Option("--client", help="Your own id of the client; Stripe's ids follow from it.")],
    attempt: Annotated[int, typer.Option("--attempt", min=1, max=99, help="Of paying the invoice.")] = 1,
    last: Annotated[bool, typer.Option("--last", help="Stripe will not try to collect the payment again.")] = False,
    amount: Annotated[str, typer.Option("--amount", help="In the currency's own unit.")] = "49.00",
    currency: Annotated[str, typer.Option("--currency", help="Three letters.")] = "eur",
    price: Annotated[
        str, typer.Option("--price", help="A price's id (price_…), a product's (prod_…), or a lookup key.")
    ] = "pro_monthly",
    status: Annotated[
        str, typer.Option("--status", help="Of the subscription afterwards, for customer.subscription.created/updated.")
    ] = "active",
    cause: Annotated[
        str, typer.Option("--cause", help="Why it was canceled: cancellation_requested, payment_failed, ….")
    ] = "cancellation_requested",
    unpaid: Annotated[bool, typer.Option("--unpaid", help="The checkout waits for a slow payment.")] = False,
    invoice: Annotated[
        int | None,
        typer.Option("--invoice", min=1, help="1 is the subscription's first, 2 that of its first renewal, and so on."),
    ] = None,
    subscription: Annotated[
        int, typer.Option("--subscription", min=1, help="2 is the one after the first was canceled, and so on.")
    ] = 1,
    customer: Annotated[
        str | None, typer.Option("--customer", help="Stripe's customer; by default made from the client's id.")
    ] = None,
    api_version: Annotated[
        Shape, typer.Option("--api-version", help="old: the fields as they were before 2025-03-31.")
    ] = Shape.NEW,
    livemode: Annotated[
        bool | None, typer.Option("--live/--test", help="The event's mode; by default as STRIPE_LIVEMODE.")
    ] = None,
    ago: Annotated[str, typer.Option("--ago", metavar="DURATION", help="It happened so long ago: 90s, 2h, 4d.")] = "0s",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="Where to post it; by default to the webhook of the settings."),
    ] = None,
    times: Annotated[int, typer.Option("--times", min=1, max=1000, help="Post each event so often.")] = 1,
    show: Annotated[bool, typer.Option("--print", help="Print the events, one JSON a line; post nothing.")] = False,
    yes: options.Yes = False,
) -> None:
    """Make Stripe's events for a client and post them, signed with STRIPE_WEBHOOK_SECRET, to the webhook.

    purchase is a subscription, its checkout and its paid invoice. An invoice that fails is that of the first renewal,
    and so is one that is paid at a later attempt; else it is the subscription's first. A sandbox that runs at
    STRIPE_API_URL lists the events afterwards. Prints the webhook's answers; exit 1 if it refused one.
    """
    from notifyctl.clock import system_clock
    from notifyctl.providers.sandbox import Order, happen

    settings = options.settings()
    kind = options.one_of(Trigger, "EVENT", event)
    is_of_renewal = kind is Trigger.PAYMENT_FAILED or attempt > 1
    order = Order(
        client_id=_named(client),
        now=system_clock() - options.parse_duration(ago),
        customer_id=customer,
        price=price,
        amount=_minor_units(amount, currency),
        currency=currency.lower(),
        subscription=subscription,
        invoice=invoice or (2 if is_of_renewal else 1),
        attempt=attempt,
        is_last_attempt=last,
        status=status,
        cause=cause,
        is_unpaid=unpaid,
        livemode=settings.stripe_livemode if livemode is None else livemode,
        is_old=api_version is Shape.OLD,
    )
    happenings = happen(str(kind), order)
    if show:
        for happening in happenings:
            print(json.dumps(happening.event, separators=(",", ":"), ensure_ascii=True))
        return
    _deliver(settings, happenings, _target(settings, to, yes), times, system_clock())


def _deliver(settings: "Settings", happenings: Sequence["Happening"], url: str, times: int, now: datetime) -> None:
    from notifyctl.providers.sandbox.stripe_post import deliver, put_on_books

    secret, sandbox = _secret(settings), _sandbox(settings)
    refused = recorded = 0
    for happening in happenings:
        replies = [deliver(url, happening.event, secret=secret, now=now) for _ in range(times)]
        for reply in replies:
            words = reply.text if reply.status else f"no answer ({reply.text})"
            print(output.one_line(f"{happening.event['type']} {happening.event['id']}: {reply.status or ''} {words}"))
        refused += sum(not reply.is_taken for reply in replies)
        recorded += put_on_books(sandbox, happening, is_delivered=any(reply.is_taken for reply in replies))
    if recorded:
        output.say(f"The sandbox at {sandbox} has them on its books.")
    if refused:
        raise NotifyctlError(
            f"{url} did not take {refused} of {len(happenings) * times}; is `notifyctl serve` running there,"
            " with the same STRIPE_WEBHOOK_SECRET?"
        )


def _named(client: str) -> str:
    if not client.strip():
        raise InvalidInput("--client is empty; give your own id of the client")
    return client


def _minor_units(amount: str, currency: str) -> int:
    from notifyctl.billing.mails import THREE_DECIMALS, WHOLE

    code = currency.lower()
    if len(code) != 3 or not (code.isascii() and code.isalpha()):
        raise InvalidInput(f"--currency {currency!r} is no currency; write three letters, as eur")
    places = 0 if code in WHOLE else 3 if code in THREE_DECIMALS else 2
    try:
        units = Decimal(amount).scaleb(places)
        whole = int(units)
    except (InvalidOperation, ValueError, OverflowError):
        raise InvalidInput(f"--amount {amount!r} is no amount; write it as 49.00") from None
    if whole != units or not 0 <= whole <= MAX_AMOUNT:
        raise InvalidInput(f"--amount {amount}: {code.upper()} has {places} decimals, and it must not be negative")
    return whole


def _secret(settings: "Settings") -> str:
    if not settings.stripe_webhook_secret:
        raise ConfigurationError(["STRIPE_WEBHOOK_SECRET is not set; it is what `notifyctl serve` checks events with"])
    return settings.stripe_webhook_secret[0].get_secret_value()


def _target(settings: "Settings", to: str | None, yes: bool) -> str:
    """Somebody's real webhook is asked about first: its clients would get mails of what never happened."""
    url = to or f"{settings.public_base_url or _served(settings)}{WEBHOOK}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"--to {url!r} is no URL; write it as http://127.0.0.1:8080{WEBHOOK}")
    if to is None and not _is_local(parts.hostname):
        options.confirm(f"Post events of what never happened to {url}?", yes)
    return url


def _served(settings: "Settings") -> str:
    host = NOWHERE.get(settings.http_host, settings.http_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def _is_local(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _sandbox(settings: "Settings") -> str:
    """Never Stripe itself."""
    host = urlsplit(settings.stripe_api_url).hostname or ""
    return DEFAULT_SANDBOX if host.endswith("stripe.com") else settings.stripe_api_url
