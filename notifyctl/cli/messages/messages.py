"""`notifyctl messages`: see, explain, queue again, withdraw."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

import typer
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output
from notifyctl.cli.listing import ListedRows, lists, nothing_matches
from notifyctl.cli.messages.explanation import explanation_fields, print_explanation
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.cli.terminal import STATUS_STYLES
from notifyctl.clients import store as client_store
from notifyctl.clients import suppression_store
from notifyctl.delivery.requeue import Choice, Requeue
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.models.message import WAITING
from notifyctl.operations import heartbeats
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.cancel import cancel_messages, count_waiting
from notifyctl.orchestrator.explain import SHORT, explain_message
from notifyctl.orchestrator.filters import EVERY_REASON, FILTERS, MessageFilters, find_message
from notifyctl.orchestrator.holds import QuietHours, held_by
from notifyctl.orchestrator.message_store import MessageFilter, MessageRow
from notifyctl.templates import store as template_store
from notifyctl.text.durations import age, plural
from notifyctl.text.masking import mask

SEEN_LATELY = timedelta(minutes=1)
app = typer.Typer(name="messages", no_args_is_help=True)
COLUMNS = (
    "id", "status", "reason", "channel", "template_key", "client_id", "recipient", "attempts", "created_at", "sent_at",
)  # fmt: skip
WIDE, NARROW = 110, 70


def _text_option(name: str) -> tuple[object, object]:
    option = typer.Option(OPTIONS[name], help=_HELP[name], autocompletion=_COMPLETED.get(name))
    return Annotated[str | None, option], None


OPTIONS = {
    "status": "--status",
    "reason": "--reason",
    "channel": "--channel",
    "template_key": "--template",
    "client_id": "--client",
    "lane": "--lane",
    "recipient": "--to",
    "since": "--since",
    "until": "--until",
}
"""By the names of FILTERS."""
_HELP = {
    "status": "As FAILED or RETRY_SCHEDULED.",
    "reason": "Why it was blocked, failed or bounced: as SUPPRESSED or PROVIDER_UNAVAILABLE.",
    "channel": "EMAIL or SMS.",
    "template_key": "Only this template.",
    "client_id": "Only this client.",
    "lane": "URGENT, TRANSACTIONAL or BULK.",
    "recipient": "Only this address or number.",
    "since": "Accepted since: 2h, 7d, or 2026-03-01T12:00Z.",
    "until": "Accepted before: 2h, 7d, or 2026-03-01T12:00Z.",
}
_COMPLETED: Mapping[str, Callable[..., list[str]]] = {
    "status": completion.among(MessageStatus),
    "reason": completion.among(EVERY_REASON),
    "channel": completion.among(Channel),
    "template_key": completion.templates,
    "client_id": completion.clients,
    "lane": completion.among(Lane),
}
WRITTEN = options.Shared(
    {name: _text_option(name) for name in FILTERS},
    lambda given: {name: text for name, text in given.items() if text is not None},
)
"""What was written of the filters, by the names of FILTERS."""
Written = Mapping[str, str]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show recipients in full.")]
MessageId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A message's id, or its beginning or end; last is the newest message.",
        autocompletion=completion.messages,
    ),
]
MessageIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        help="Ids of messages, or their beginnings or ends; last is the newest message.",
        autocompletion=completion.messages,
    ),
]


SHOWN = (
    Shown("id", lambda row: row["id"][-SHORT:], whole=True),
    named("status", whole=True),
    named("reason"),
    Shown("template", lambda row: row["template_key"]),
    Shown("client", lambda row: row.get("client_id"), from_width=WIDE),
    Shown("to", lambda row: row["recipient"], from_width=NARROW),
    named("age", whole=True),
)
"""What fits a terminal."""


@app.command("list")
@lists
@options.taking(written=WRITTEN)
def list_messages(
    written: Written,
    limit: options.Limit = 50,
    reveal: Reveal = False,
) -> ListedRows:
    """List messages, the newest first. A terminal shows the most important columns, and the ends of ids."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        now = runtime.clock()
        listed = message_store.find(session, _filter(runtime, written, now), limit=limit)
        why = "" if listed else _why_nothing(session, written)
    rows = [_row(message, reveal) | {"age": age(message.created_at, now)} for message in listed]
    return ListedRows(
        rows=rows,
        columns=COLUMNS,
        also=[name for name in MessageRow._fields if name not in COLUMNS],
        shown=SHOWN,
        styles=STATUS_STYLES,
        nothing=nothing_matches("message", why),
    )


@app.command()
def show(message_id: MessageId, reveal: Reveal = False, form: options.Format = OutputFormat.TABLE) -> None:
    """Show every field of one message. A terminal leaves out the empty ones."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        message = find_message(session, message_id)
    row = _row(message, reveal)
    if form is OutputFormat.TABLE and output.on_terminal():
        row = {name: value for name, value in row.items() if output.flat(value)}
    output.document(row, form)


@app.command()
def explain(
    message_id: MessageId,
    gates: Annotated[bool, typer.Option("--gates", help="Show every gate's verdict, and every step.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Explain why it did or did not arrive: in one sentence, with what to do about it, and step by step."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        message = find_message(session, message_id)
        rows = audit_log.of_message(session, message.id)
        now = runtime.clock()
        explanation = explain_message(
            message,
            rows,
            now=now,
            workers=heartbeats.count_working(session, now - SEEN_LATELY),
            held_by=held_by(session, message, QuietHours(*runtime.settings.quiet_span), now),
            suppressed=_suppressed(runtime, session, message),
        )
    if form is OutputFormat.TABLE:
        print_explanation(message, explanation, gates=gates)
    else:
        output.document(explanation_fields(message, explanation), form)


def _suppressed(runtime: Runtime, session: Session, message: MessageRow) -> str | None:
    if message.recipient is None:
        return None
    hashes = runtime.keys.recipient_hashes(message.channel, message.recipient)
    found = suppression_store.find(session, message.channel, hashes)
    return found.reason if found else None


@app.command()
@options.taking(written=WRITTEN)
def retry(
    written: Written,
    ids: MessageIds = None,
    yes: options.Yes = False,
) -> None:
    """Queue failed messages again, after showing how many. Expired and erased ones are refused.

    What a gate would refuse now stays FAILED, and is told with what lifts that: a message that a worker found refused
    would be BLOCKED for good.
    """
    status = written.get("status", MessageStatus.FAILED)
    if status.upper() != MessageStatus.FAILED:
        raise InvalidInput(f"--status {status}: only FAILED messages can be sent again")
    narrowed = {name: text for name, text in written.items() if name != "status"}
    _require_some([name for name in OPTIONS if name != "status"], ids, narrowed)
    with opened_runtime() as runtime:
        now = runtime.clock()
        known = _known(runtime, ids)
        criteria = _filter(runtime, {**narrowed, "status": MessageStatus.FAILED}, now, known)
        others = _others(known, (MessageStatus.FAILED,), "only FAILED messages can be sent again")
        again = Requeue(runtime.keys, runtime.plans, sms_enabled=runtime.settings.sms_enabled)
        with runtime.database.read() as session:
            choice = again.choose(session, criteria, now)
            why = _why_nothing(session, written)
        _tell_of(choice, now)
        if not choice.ids:
            raise NotFound(others or _so("no failed message that matches can be sent again", why))
        if others:
            output.say(f"{others}.")
        options.confirm(f"Send {_messages(len(choice.ids))} again?", yes)
        with runtime.database.transaction() as session:
            queued = again.queue(session, choice.ids, actor=options.actor(), now=runtime.clock())
    output.say(f"{_messages(queued)} queued again.")


def _tell_of(choice: Choice, now: "datetime") -> None:
    for refusal, count in choice.refused.items():
        if refusal.gate is None:
            output.say(f"{count} will not be sent again: {refusal.why}.")
        else:
            lift = f"; to lift that: {refusal.remedy}" if refusal.remedy else ""
            output.say(f"{count} would be {refusal.why} now and stay{'s' * (count == 1)} FAILED{lift}")
    if choice.oldest_at is not None and len(choice.ids) > 1:
        parts = ", ".join(f"{count} {key}" for key, count in sorted(choice.by_template.items()))
        output.say(f"To be sent again: {parts}; the oldest was accepted {age(choice.oldest_at, now)} ago.")


@app.command()
@options.taking(written=WRITTEN)
def cancel(
    written: Written,
    ids: MessageIds = None,
    yes: options.Yes = False,
) -> None:
    """Withdraw messages that still wait. One that a worker is sending is left alone."""
    _require_some(list(OPTIONS), ids, written)
    with opened_runtime() as runtime:
        now = runtime.clock()
        known = _known(runtime, ids)
        criteria = _filter(runtime, written, now, known)
        others = _others(known, WAITING, "only waiting messages can be canceled")
        with runtime.database.read() as session:
            waiting = count_waiting(session, criteria)
            why = _why_nothing(session, written)
        if not waiting:
            raise NotFound(others or _so("no waiting message matches (only waiting ones can be canceled)", why))
        if others:
            output.say(f"{others}.")
        options.confirm(f"Cancel {_messages(waiting)}?", yes)
        with runtime.database.transaction() as session:
            canceled = cancel_messages(session, criteria, actor=options.actor(), now=now)
    output.say(f"{_messages(canceled)} canceled.")


def _messages(count: int) -> str:
    return plural(count, "message")


def _require_some(narrowing: Sequence[str], *filters: object) -> None:
    """`narrowing`: the names of the filters that do."""
    if not any(filters):
        *more, last = (OPTIONS[name] for name in narrowing)
        raise InvalidInput(f"say which messages: give their ids, or {', '.join(more)} or {last}")


def _known(runtime: Runtime, ids: list[str] | None) -> list[MessageRow] | None:
    """These messages. Raises NotFound for the first that is not there."""
    if not ids:
        return None
    with runtime.database.read() as session:
        return [find_message(session, text) for text in ids]


def _others(known: list[MessageRow] | None, wanted: Collection[MessageStatus], rule: str) -> str:
    """Of those that were named: which have another status, and the rule that leaves them out; empty where none has."""
    others = [f"{message.id[-SHORT:]} is {message.status}" for message in known or () if message.status not in wanted]
    return f"{', '.join(others)}: {rule}" if others else ""


def _filter(runtime: Runtime, written: Written, now: datetime, known: list[MessageRow] | None = None) -> MessageFilter:
    """Raises InvalidInput for the first filter that is at fault."""
    reader = MessageFilters(runtime.keys, runtime.settings.otp_default_region, now)
    criteria, faults = reader.read(written)
    for name, words in faults.items():
        raise InvalidInput(f"{OPTIONS[name]} {written[name]!r} {words}")
    options.in_order(criteria.since, criteria.until)
    return replace(criteria, ids=None if known is None else [message.id for message in known])


def _why_nothing(session: Session, written: Written) -> str:
    """Where a client is asked for that is not there. Raises NotFound for such a template."""
    if (key := written.get("template_key")) is not None:
        template_store.require(session, key)
    return client_store.absence(session, written.get("client_id"))


def _so(nothing: str, why: str) -> str:
    return f"{nothing}: {why}" if why else nothing


def _row(message: MessageRow, reveal: bool) -> dict[str, object]:
    recipient = message.recipient if reveal or not message.recipient else mask(message.recipient)
    return message._asdict() | {"recipient": recipient}
