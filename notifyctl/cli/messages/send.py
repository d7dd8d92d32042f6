"""`notifyctl send`: one message through the pipe."""

from typing import Annotated

import typer

from notifyctl.cli import completion, options, output, terminal
from notifyctl.cli.invocation import program
from notifyctl.cli.messages.explanation import print_verdicts, verdict_rows
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import InvalidInput, RefusedByGate
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate, SendRequest
from notifyctl.templates import store as template_store
from notifyctl.templates.context import from_text

app = typer.Typer()


@app.command()
def send(
    template_key: Annotated[
        str, typer.Argument(metavar="KEY", help="The template, as WELCOME_EMAIL.", autocompletion=completion.templates)
    ],
    client: Annotated[
        str | None, typer.Option("--client", help="Send to this client.", autocompletion=completion.clients)
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Send to this address or number.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A template variable; repeatable. NAME=@FILE reads it from a file, NAME=@- from stdin: the way for"
            " secrets, which everybody on this machine can otherwise see in the list of processes. @@ stands for @.",
        ),
    ] = None,
    locale: options.Locale = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key never makes a second message.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every gate's verdict and send nothing.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Queue one message for the worker. Exit 3 when a gate refuses it."""
    if (client is None) == (to is None):
        raise InvalidInput("give --client or --to, one of the two")
    if not (client or to):
        raise InvalidInput(f"{'--client' if to is None else '--to'} is empty; say whom it is for")
    values = options.parse_assignments(assignments or [])
    with opened_runtime() as runtime:
        with runtime.database.read() as session:
            template = template_store.require(session, template_key)
        request = SendRequest(
            template_key=template.template_key,
            client_id=client,
            recipient=to,
            context=from_text(template.variables, values),
            locale=locale,
            idempotency_key=idempotency_key,
            source="cli",
            actor=options.actor(),
        )
        if dry_run:
            with runtime.database.read() as session:
                decision = runtime.orchestrator.preview(session, request)
        else:
            with runtime.database.transaction() as session:
                decision = runtime.orchestrator.send(session, request)
    _show_verdicts(decision, form) if dry_run else show(decision, form)
    refuse(decision)


def refuse(decision: Decision) -> None:
    """Raises RefusedByGate."""
    if isinstance(decision, Blocked):
        raise RefusedByGate(f"refused by {decision.reason}: {decision.detail}")


def answer(decision: Decision) -> dict[str, object]:
    return {
        "id": decision.message_id,
        "status": decision.status.value,
        "reason": decision.reason if isinstance(decision, Blocked) else None,
        "duplicate_of": decision.message_id if isinstance(decision, Duplicate) else None,
    }


def show(decision: Decision, form: OutputFormat) -> None:
    if form is not OutputFormat.TABLE:
        output.document(answer(decision), form)
        return
    terminal.status_line(decision.status, decision.message_id)
    if isinstance(decision, Duplicate):
        output.say("That idempotency key has been used before: this is its message, and no other was made.")
    if not isinstance(decision, Blocked):
        output.hint(f"`{program()} messages explain {decision.message_id}` tells what became of it.")


def _show_verdicts(decision: Decision, form: OutputFormat) -> None:
    if isinstance(decision, Duplicate):
        output.say(f"Nothing would be sent: the key belongs to message {decision.message_id} ({decision.status}).")
    elif form is OutputFormat.TABLE:
        print_verdicts(decision.verdicts)
    else:
        output.rows(verdict_rows(decision.verdicts), form, columns=("gate", "verdict", "detail"))
