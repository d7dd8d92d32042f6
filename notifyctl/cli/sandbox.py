"""`notifyctl sandbox`: the local stand-in for Postmark, Twilio and Stripe."""

from typing import Annotated

import typer

from notifyctl.cli import options, output, sandbox_stripe
from notifyctl.errors import InvalidInput
from notifyctl.stopping import exit_on_signal

DEFAULT_PORT = 8026

app = typer.Typer()
app.add_typer(sandbox_stripe.app, name="stripe")


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="sandbox")


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
            help="Misbehave: [email:|sms:]KIND[=RATE][,NAME=VALUE...], as sms:hang=0.1 or error=0.2,code=transient. "
            "Kinds: error, too-many, http, latency, hang, accept-then-hang, cut-before, accept-then-cut, garbage, "
            "truncated. Repeatable.",
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
    receipt_delay: Annotated[
        str, typer.Option("--receipt-delay", metavar="SECONDS", help="After acceptance: 2, or a range as 0.5-10.")
    ] = "2",
    bounced: Annotated[
        float, typer.Option("--bounced", min=0, max=1, help="Share of messages whose receipt is a bounce.")
    ] = 0.0,
    doubled: Annotated[float, typer.Option("--doubled", min=0, max=1, help="Share of receipts that come twice.")] = 0.0,
    reordered: Annotated[
        float, typer.Option("--reordered", min=0, max=1, help="Share of messages whose receipts come out of order.")
    ] = 0.0,
) -> None:
    """Run a local server that speaks Postmark's, Twilio's and Stripe's APIs and shows what arrived in an inbox page."""
    if context.invoked_subcommand is not None:
        return
    exit_on_signal()
    from datetime import timedelta

    from notifyctl.providers.sandbox import faults_from_lines, receipts_from, run

    receipts = None
    if receipts_to is not None:
        wanted = {"url": receipts_to, "token": _webhook_token(), "delay": receipt_delay, "seed": seed}
        receipts = receipts_from({**wanted, "bounced": bounced, "doubled": doubled, "reordered": reordered})
    elif bounced or doubled or reordered:
        raise InvalidInput("--bounced, --doubled and --reordered need --receipts-to URL: they are shares of receipts")
    faults = faults_from_lines(fault or [], seed)
    run(
        host,
        port,
        keep=keep,
        search_delay=timedelta(seconds=search_delay),
        faults=faults,
        receipts=receipts,
        ready=_announce,
    )


def _webhook_token() -> str | None:
    """Where the product takes it from, so that both agree; the sandbox needs none of the other settings."""
    from notifyctl.env_file import find_env_file
    from notifyctl.settings import raw_settings

    return raw_settings(find_env_file(options.given.get().env_file)).known.get("POSTMARK_WEBHOOK_TOKEN")


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
