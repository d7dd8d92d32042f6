"""`notifyctl sandbox`: the local stand-in for Postmark and Twilio."""

from typing import Annotated

import typer

from notifyctl.cli import output

DEFAULT_PORT = 8026


def add_to(app: typer.Typer) -> None:
    app.command()(sandbox)


def sandbox(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = DEFAULT_PORT,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Forget the oldest beyond this many messages.")] = 200_000,
) -> None:
    """Run a local server that speaks Postmark's and Twilio's APIs and shows what arrived in an inbox page."""
    from notifyctl.providers.sandbox import run

    run(host, port, keep=keep, ready=_announce)


def _announce(url: str) -> None:
    output.say(f"Inbox at {url}  (Ctrl-C stops it; what arrived is kept in memory only)\n")
    output.say("Point notifyctl at it:")
    for line in environment(url):
        output.say(f"  export {line}")


def environment(url: str) -> list[str]:
    return [
        f"POSTMARK_API_URL={url} POSTMARK_SERVER_TOKEN=sandbox EMAIL_SENDER=hello@acme.example",
        f"TWILIO_API_URL={url} TWILIO_ACCOUNT_SID=ACsandbox TWILIO_AUTH_TOKEN=sandbox TWILIO_FROM_NUMBER=+15005550006",
    ]
