"""`notifyctl messages`: see, explain, queue again, withdraw."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from notifyctl.cli import options, output
from notifyctl.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from sqlmodel import Session

    from notifyctl.bootstrap import Runtime
    from notifyctl.orchestrator.explain import Explanation
    from notifyctl.store.messages import Filter

app = typer.Typer(no_args_is_help=True, help="See, explain, retry and cancel messages.")

COLUMNS = (
    "id", "status", "reason", "channel", "template_key", "client_id", "recipient", "attempts", "created_at", "sent_at",
)  # fmt: skip
STYLES = {
    "SENT": "green", "DELIVERED": "green", "FAILED": "bold red", "BOUNCED": "bold red", "IN_DOUBT": "magenta",
    "BLOCKED": "yellow", "EXPIRED": "yellow", "RETRY_SCHEDULED": "cyan", "DEFERRED_THROTTLED": "cyan",
}  # fmt: skip

Status = Annotated[str | None, typer.Option("--status", help="As FAILED or RETRY_SCHEDULED.")]
TemplateKey = Annotated[str | None, typer.Option("--template", help="Only this template.")]
ClientId = Annotated[str | None, typer.Option("--client", help="Only this client.")]
Recipient = Annotated[str | None, typer.Option("--to", help="Only this address or number.")]
Since = Annotated[str | None, typer.Option("--since", help="Accepted since: 2h, 7d, or 2026-03-01T12:00Z.")]
Until = Annotated[str | None, typer.Option("--until", help="Accepted before: 2h, 7d, or 2026-03-01T12:00Z.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show recipients in full.")]
MessageId = Annotated[str, typer.Argument(metavar="ID")]
MessageIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...")]


@app.command("list")
def list_messages(
    status: Status = None,
    template: TemplateKey = None,
    client: ClientId = None,
    to: Recipient = None,
    since: Since = None,
    until: Until = None,
    limit: options.Limit = 50,
    reveal: Reveal = False,
    form: options.Format = options.OutputFormat.TABLE,
) -> None:
    """The newest messages first."""
    from notifyctl.store import messages

    with options.runtime() as runtime, runtime.database.read() as session:
        wanted = _filter(runtime, status=status, template=template, client=client, to=to, since=since, until=until)
        found = messages.find(session, wanted, limit=limit)
    output.rows([_row(message, reveal) for message in found], form, columns=COLUMNS, styles=STYLES)
    if not found and form is options.OutputFormat.TABLE:
        output.say("No message matches.")


@app.command()
def show(message_id: MessageId, reveal: Reveal = False, form: options.Format = options.OutputFormat.TABLE) -> None:
    """Every field of one message."""
    with options.runtime() as runtime, runtime.database.read() as session:
        message = _require(session, message_id)
    fields = {("metadata" if name == "details" else name): value for name, value in message._mapping.items()}
    output.document(fields | _row(message, reveal, only_recipient=True), form)


@app.command()
def explain(message_id: MessageId, form: options.Format = options.OutputFormat.TABLE) -> None:
    """Why it did or did not arrive: in one sentence, by every gate, and step by step."""
    from notifyctl.orchestrator.explain import explain as explained
    from notifyctl.store import audit, workers

    with options.runtime() as runtime, runtime.database.read() as session:
        message = _require(session, message_id)
        rows = audit.of_message(session, message.id)
        found = explained(message, rows, now=runtime.clock(), workers=len(workers.present(session)))
    if form is options.OutputFormat.TABLE:
        print_explanation(message, found)
    else:
        output.document(_explanation_fields(message, found), form)


def print_explanation(message: Any, found: "Explanation") -> None:
    console = output.console()
    console.print(f"[bold]{message.template_key}[/bold] {message.id}  [bold]{message.status}[/bold]")
    console.print(found.sentence, markup=False)
    if found.verdicts:
        console.print("\nGates at acceptance")
        marks = {
            "passed": "[green]ok[/green]",
            "refused": "[bold red]no[/bold red]",
            "not asked": "[dim]--[/dim]",
        }
        for verdict in found.verdicts:
            console.print(f"  {marks[verdict.outcome]}  {verdict.gate:<26}", end="")
            console.print(verdict.detail, markup=False)
    console.print("\nWhat happened")
    for step in found.steps:
        console.print(f"  {output.iso(step.at)}  {step.action:<29}{step.detail}", markup=False)


def _explanation_fields(message: Any, found: "Explanation") -> dict[str, Any]:
    return {
        "id": message.id,
        "template_key": message.template_key,
        "status": message.status,
        "explanation": found.sentence,
        "gates": [
            {"gate": verdict.gate, "verdict": verdict.outcome, "detail": verdict.detail} for verdict in found.verdicts
        ],
        "timeline": [
            {"at": step.at, "action": step.action, "actor": step.actor, "detail": step.detail} for step in found.steps
        ],
    }


@app.command()
def retry(
    ids: MessageIds = None,
    status: Annotated[str, typer.Option("--status", help="Only FAILED ones can be sent again.")] = "FAILED",
    reason: Annotated[str | None, typer.Option("--reason", help="As PROVIDER_UNAVAILABLE.")] = None,
    template: TemplateKey = None,
    client: ClientId = None,
    since: Since = None,
    until: Until = None,
    yes: options.Yes = False,
) -> None:
    """Queue failed messages again, after showing how many. Expired and erased ones are refused."""
    from notifyctl.models.audit import AuditAction
    from notifyctl.store import audit, messages

    if status.upper() != "FAILED":
        raise InvalidInput(f"--status {status}: only FAILED messages can be sent again")
    _require_some(ids, reason, template, client, since)
    with options.runtime() as runtime:
        now = runtime.clock()
        wanted = _filter(
            runtime,
            ids=ids,
            status=status,
            reason=reason,
            template=template,
            client=client,
            since=since,
            until=until,
        )
        with runtime.database.read() as session:
            _require_known(session, ids)
            found = messages.retryable(session, wanted, now=now)
        chosen = found.pop("", [])
        for why, refused in found.items():
            output.say(f"{len(refused)} will not be sent again: {why}.")
        if not chosen:
            raise NotFound("No failed message that matches can be sent again")
        options.confirm(f"Send {_messages(len(chosen))} again?", yes)
        with runtime.database.transaction() as session:
            moved = messages.requeue(session, chosen, now=now)
            entries = [
                audit.entry(
                    AuditAction.OPERATOR_ACTION,
                    actor=options.actor(),
                    now=now,
                    client_id=message.client_id,
                    message_id=message.id,
                    details={"detail": "queued again"},
                )
                for message in moved
            ]
            audit.write_many(session, entries)
    output.say(f"{_messages(len(moved))} queued again.")


@app.command()
def cancel(
    ids: MessageIds = None,
    template: TemplateKey = None,
    client: ClientId = None,
    since: Since = None,
    until: Until = None,
    yes: options.Yes = False,
) -> None:
    """Withdraw messages that still wait. One that a worker is sending is left alone."""
    from notifyctl.models.audit import AuditAction
    from notifyctl.models.message import WAITING
    from notifyctl.store import audit, messages

    _require_some(ids, template, client, since)
    with options.runtime() as runtime:
        now = runtime.clock()
        wanted = _filter(runtime, ids=ids, template=template, client=client, since=since, until=until)
        with runtime.database.read() as session:
            _require_known(session, ids)
            counts = messages.count_by_status(session, wanted)
        waiting = sum(counts.get(status, 0) for status in WAITING)
        if not waiting:
            raise NotFound("No waiting message matches; only waiting ones can be canceled")
        options.confirm(f"Cancel {_messages(waiting)}?", yes)
        with runtime.database.transaction() as session:
            moved = messages.cancel(session, wanted, now=now)
            entries = [
                audit.entry(
                    AuditAction.NOTIFICATION_CANCELED,
                    actor=options.actor(),
                    now=now,
                    client_id=message.client_id,
                    message_id=message.id,
                    details={"detail": "withdrawn by an operator"},
                )
                for message in moved
            ]
            audit.write_many(session, entries)
    output.say(f"{_messages(len(moved))} canceled.")


def _messages(count: int) -> str:
    return f"{count} message{'s' if count != 1 else ''}"


def _require_some(*filters: object) -> None:
    if not any(filters):
        raise InvalidInput("say which messages: give their ids, or --template, --client or --since")


def _require(session: "Session", message_id: str) -> Any:
    from notifyctl.store import messages

    message = messages.get(session, _uuid(message_id))
    if message is None:
        raise NotFound(f"There is no message {message_id}; `notifyctl messages list` shows the newest")
    return message


def _require_known(session: "Session", ids: list[str] | None) -> None:
    for message_id in ids or ():
        _require(session, message_id)


def _uuid(text: str) -> str:
    from uuid import UUID

    try:
        return str(UUID(text))
    except ValueError:
        raise InvalidInput(f"{text!r} is not a message id, which is a UUID such as 0198c7b2-…") from None


def _filter(
    runtime: "Runtime",
    *,
    ids: list[str] | None = None,
    status: str | None = None,
    reason: str | None = None,
    template: str | None = None,
    client: str | None = None,
    to: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> "Filter":
    from notifyctl.models.message import MessageStatus
    from notifyctl.store.messages import Filter

    return Filter(
        ids=[_uuid(message_id) for message_id in ids] if ids else None,
        status=options.one_of(MessageStatus, "--status", status),
        reason=reason,
        template_key=template,
        client_id=client,
        recipient_hashes=_hashes(runtime, to) if to else None,
        since=options.parse_moment(since, runtime.clock()) if since else None,
        until=options.parse_moment(until, runtime.clock()) if until else None,
    )


def _hashes(runtime: "Runtime", address: str) -> list[str]:
    from notifyctl.orchestrator.addresses import normal_email, normal_phone

    if "@" in address:
        return runtime.keys.recipient_hashes("EMAIL", normal_email(address))
    return runtime.keys.recipient_hashes("SMS", normal_phone(address, runtime.settings.otp_default_region))


def _row(message: Any, reveal: bool, *, only_recipient: bool = False) -> dict[str, Any]:
    from notifyctl.orchestrator.masking import mask

    recipient = message.recipient if reveal or not message.recipient else mask(message.recipient)
    if only_recipient:
        return {"recipient": recipient}
    return {name: message._mapping[name] for name in COLUMNS} | {"recipient": recipient}
