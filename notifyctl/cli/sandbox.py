"""`notifyctl sandbox`: the local stand-in for Postmark, Twilio and Stripe, and what happens at Stripe on command."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from notifyctl.cli import completion, options, output
from notifyctl.cli.invocation import invocation
from notifyctl.clock import system_clock
from notifyctl.env_file import find_env_file
from notifyctl.errors import ConfigurationError, InvalidInput, NotifyctlError
from notifyctl.health.installation import is_this_host
from notifyctl.sandbox import TRIGGERS, InboxStore, faults_from_lines, receipts_from_line, run
from notifyctl.settings import Settings, raw_settings
from notifyctl.stopping import exit_on_signal, stop_signals
from notifyctl.text.durations import parse_duration, printable

if TYPE_CHECKING:
    from notifyctl.sandbox import TriggeredEvent

stripe_app = typer.Typer(no_args_is_help=True, help="Stripe's part: make something happen there.")

DEFAULT_SANDBOX = "http://127.0.0.1:8026"
WEBHOOK = "/api/webhooks/stripe"
NOWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what a server listens on, and nobody can dial
MAX_AMOUNT = 10**12
DEFAULT_PORT = 8026
app = typer.Typer(name="sandbox")


@stripe_app.command("trigger")
def trigger_events(
    event: Annotated[
        str,
        typer.Argument(
            metavar="EVENT",
            help="purchase, or one event by its type.",
            autocompletion=completion.among(TRIGGERS),
        ),
    ],
    client: Annotated[str, typer.Option("--client", help="Your own id of the client; Stripe's ids follow from it.")],
    attempt: Annotated[int, typer.Option("--attempt", min=1, max=99, help="Of paying the invoice.")] = 1,
    amount: Annotated[
        str, typer.Option("--amount", help="In the currency's own unit, as '49.00 EUR' or '1250 JPY'.")
    ] = "49.00 EUR",
    price: Annotated[
        str, typer.Option("--price", help="A price's id (price_…), a product's (prod_…), or a lookup key.")
    ] = "pro_monthly",
    cause: Annotated[
        str, typer.Option("--cause", help="Why it was canceled: cancellation_requested, payment_failed, ….")
    ] = "cancellation_requested",
    unpaid: Annotated[bool, typer.Option("--unpaid", help="The checkout waits for a slow payment.")] = False,
    ago: Annotated[str, typer.Option("--ago", metavar="DURATION", help="It happened so long ago: 90s, 2h, 4d.")] = "0s",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="Where to post it; by default to the webhook of the settings."),
    ] = None,
    times: Annotated[int, typer.Option("--times", min=1, max=1000, help="Post each event so often.")] = 1,
    show: Annotated[bool, typer.Option("--print", help="Print the events, one JSON a line; post nothing.")] = False,
    former_currency: Annotated[str | None, typer.Option("--currency", hidden=True, help="Now in --amount.")] = None,
    yes: options.Yes = False,
) -> None:
    """Make Stripe's events for a client and post them, signed with STRIPE_WEBHOOK_SECRET, to the webhook.

    EVENT is purchase (a subscription, its checkout and its paid invoice), checkout.session.completed,
    checkout.session.async_payment_succeeded, invoice.paid, invoice.payment_failed, customer.subscription.created,
    customer.subscription.updated or customer.subscription.deleted.

    An invoice that fails is that of the first renewal, and so is one that is paid at a later attempt; else it is the
    subscription's first. A sandbox that runs at STRIPE_API_URL lists the events afterwards. Prints the webhook's
    answers; exit 1 if it refused one.
    """
    from notifyctl.sandbox import StripeScenario, trigger

    if former_currency is not None:
        raise InvalidInput("--currency is said by --amount now, as --amount '49.00 EUR'")
    settings = options.settings()
    event = event.lower()
    units, currency = _minor_units(amount)
    is_of_renewal = event == "invoice.payment_failed" or attempt > 1
    scenario = StripeScenario(
        client_id=_named(client),
        now=system_clock() - parse_duration(ago),
        price=price,
        amount=units,
        currency=currency,
        invoice=2 if is_of_renewal else 1,
        attempt=attempt,
        cause=cause,
        is_unpaid=unpaid,
        livemode=settings.stripe_livemode,
    )
    triggered = trigger(event, scenario)
    if show:
        for one in triggered:
            print(json.dumps(one.event, separators=(",", ":"), ensure_ascii=True))
        return
    _deliver(settings, triggered, _target(settings, to, yes), times, system_clock())


def _deliver(settings: Settings, triggered: Sequence["TriggeredEvent"], url: str, times: int, now: datetime) -> None:
    from notifyctl.sandbox.stripe.webhook import deliver, record_in_sandbox

    secret, sandbox = _secret(settings), _sandbox(settings)
    refused = recorded = 0
    for event in triggered:
        for _ in range(times):
            reply = deliver(url, event.event, secret=secret, now=now)
            words = reply.text if reply.status else f"no answer ({reply.text})"
            print(printable(f"{event.type} {event.id}: {reply.status or ''} {words}"))
            refused += not reply.is_success
        recorded += record_in_sandbox(sandbox, event)
    if recorded:
        output.say(f"The sandbox at {sandbox} has them on its books.")
    if refused:
        raise NotifyctlError(
            f"{url} did not take {refused} of {len(triggered) * times}; is `notifyctl serve` running there,"
            " with the same STRIPE_WEBHOOK_SECRET?"
        )


def _named(client: str) -> str:
    if not client.strip():
        raise InvalidInput("--client is empty; give your own id of the client")
    return client


def _minor_units(text: str) -> tuple[int, str]:
    """`49.00 EUR` is 4900 of eur."""
    from notifyctl.billing.mails import THREE_DECIMALS, WHOLE

    amount, _, currency_text = text.strip().partition(" ")
    currency = currency_text.strip().lower() or "eur"
    if len(currency) != 3 or not (currency.isascii() and currency.isalpha()):
        raise InvalidInput(f"--amount {text!r} is in no currency; write three letters behind it, as 49.00 EUR")
    places = 0 if currency in WHOLE else 3 if currency in THREE_DECIMALS else 2
    try:
        units = Decimal(amount).scaleb(places)
        whole = int(units)
    except (InvalidOperation, ValueError, OverflowError):
        raise InvalidInput(f"--amount {text!r} is no amount; write it as 49.00 EUR") from None
    if whole != units or not 0 <= whole <= MAX_AMOUNT:
        raise InvalidInput(f"--amount {text}: {currency.upper()} has {places} decimals, and it must not be negative")
    return whole, currency


def _secret(settings: Settings) -> str:
    if not settings.stripe_webhook_secret:
        raise ConfigurationError(["STRIPE_WEBHOOK_SECRET is not set; it is what `notifyctl serve` checks events with"])
    return settings.stripe_webhook_secret[0].get_secret_value()


def _target(settings: Settings, to: str | None, yes: bool) -> str:
    """Somebody's real webhook is asked about first: its clients would get mails of what never happened."""
    url = to or f"{settings.public_base_url or _served_url(settings)}{WEBHOOK}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"--to {url!r} is no URL; write it as http://127.0.0.1:8080{WEBHOOK}")
    if to is None and not is_this_host(parts.hostname):
        options.confirm(f"Post events of what never happened to {url}?", yes)
    return url


def _served_url(settings: Settings) -> str:
    host = NOWHERE.get(settings.http_host, settings.http_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def _sandbox(settings: Settings) -> str:
    """Never Stripe itself."""
    host = urlsplit(settings.stripe_api_url).hostname or ""
    return DEFAULT_SANDBOX if host.endswith("stripe.com") else settings.stripe_api_url


app.add_typer(stripe_app, name="stripe")


@app.callback(invoke_without_command=True)
def sandbox(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = DEFAULT_PORT,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Forget the oldest beyond this many messages.")] = 200_000,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="SPEC",
            help="Misbehave: [API:]KIND[=RATE][,NAME=VALUE...], as sms:hang=0.1 or "
            "error=0.2,code=transient. Kinds: error, too-many, http, latency, hang, accept-then-hang, cut-before, "
            "accept-then-cut, garbage, truncated. Repeatable.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Draw the same faults and receipts again.")] = None,
    search_delay: Annotated[
        float,
        typer.Option(
            "--search-delay",
            parser=options.seconds("--search-delay", most=24 * 60 * 60),
            metavar="DURATION",
            help="Searches find a message only after so long: 5s, 2m, or a number of seconds.",
        ),
    ] = 0.0,
    receipts_to: Annotated[
        str | None,
        typer.Option(
            "--receipts-to",
            metavar="URL",
            help="Post Postmark's webhooks there, with POSTMARK_WEBHOOK_TOKEN if it is set, and Twilio's to each "
            "message's StatusCallback.",
        ),
    ] = None,
    receipts: Annotated[
        str | None,
        typer.Option(
            "--receipts",
            metavar="NAME=VALUE,...",
            help="delay: after acceptance, as 2s or 5s-2m; bounced, doubled, reordered: shares from 0 to 1.",
        ),
    ] = None,
    former: Annotated[
        str | None,
        typer.Option("--receipt-delay", "--bounced", "--doubled", "--reordered", hidden=True, help="Now --receipts."),
    ] = None,
) -> None:
    """Run a local server that speaks Postmark's, Twilio's and Stripe's APIs and shows what arrived in an inbox page."""
    if context.invoked_subcommand is not None:
        return
    exit_on_signal()
    if former is not None:
        raise InvalidInput(
            "--receipt-delay, --bounced, --doubled and --reordered are one option now: "
            "--receipts delay=0.5-5,bounced=0.1,doubled=0.1,reordered=0.1"
        )
    if receipts is not None and receipts_to is None:
        raise InvalidInput("--receipts needs --receipts-to URL: where they are to go")
    run(
        host,
        port,
        inbox=InboxStore(keep, timedelta(seconds=search_delay)),
        faults=faults_from_lines(fault or [], seed),
        receipts=receipts_from_line(receipts or "", receipts_to, _webhook_token(), seed) if receipts_to else None,
        ready=_announce,
        until=stop_signals(),
    )


def _webhook_token() -> str | None:
    """As the product reads it, so that both agree; the sandbox needs none of the other settings."""
    return raw_settings(find_env_file(invocation.get().env_file)).known.get("POSTMARK_WEBHOOK_TOKEN")


def _announce(url: str) -> None:
    output.say(f"Inbox at {url}; Ctrl-C stops it, and nothing of it is kept.")
    output.say()
    output.say("Point notifyctl at it:")
    for line in environment(url):
        output.say(f"  export {line}")


def environment(url: str) -> list[str]:
    return [
        f"POSTMARK_API_URL={url}",
        "POSTMARK_SERVER_TOKEN=sandbox",
        "EMAIL_SENDER=hello@acme.example",
        f"TWILIO_API_URL={url}",
        "TWILIO_ACCOUNT_SID=ACsandbox",
        "TWILIO_AUTH_TOKEN=sandbox",
        "TWILIO_FROM_NUMBER=+15005550006",
        f"STRIPE_API_URL={url}",
        "STRIPE_API_KEY=sandbox",
        "STRIPE_WEBHOOK_SECRET=whsec_sandbox",
        "POSTMARK_WEBHOOK_TOKEN=sandbox",
    ]
