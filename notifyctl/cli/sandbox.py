"""`notifyctl sandbox`: the local stand-in for Postmark, Twilio and Stripe."""

from datetime import timedelta
from typing import Annotated

import typer

from notifyctl.cli import output
from notifyctl.cli.invocation import invocation
from notifyctl.cli.sandbox_stripe import stripe_app
from notifyctl.env_file import find_env_file
from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox import InboxStore, faults_from_lines, receipts_from_line, run
from notifyctl.settings import raw_settings
from notifyctl.stopping import exit_on_signal, stop_signals

DEFAULT_PORT = 8026

app = typer.Typer(name="sandbox")
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
            help="Misbehave: [email:|sms:|stripe:]KIND[=RATE][,NAME=VALUE...], as sms:hang=0.1 or "
            "error=0.2,code=transient. Kinds: error, too-many, http, latency, hang, accept-then-hang, cut-before, "
            "accept-then-cut, garbage, truncated. Repeatable.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Draw the same faults and receipts again.")] = None,
    search_delay: Annotated[
        float, typer.Option("--search-delay", min=0, help="Searches find a message only after so many seconds.")
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
            help="delay: seconds after acceptance, 2 or 0.5-10; bounced, doubled, reordered: shares from 0 to 1.",
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
    ]
