"""`notifyctl messages`: see, explain, queue again, withdraw; and how verdicts and explanations look."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output, terminal
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.cli.terminal import STATUS_STYLES
from notifyctl.clients import store as client_store
from notifyctl.clients import suppression_store
from notifyctl.delivery.requeue import Choice, Requeue
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.enums import MessageStatus
from notifyctl.operations import heartbeats
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.cancel import cancel_messages, count_waiting
from notifyctl.orchestrator.explain import SHORT, Explanation, Step, explain_message
from notifyctl.orchestrator.filters import FILTERS, MessageFilters, find_message
from notifyctl.orchestrator.gates import PASSED_WHEN, GateOutcome, Verdict
from notifyctl.orchestrator.holds import QuietHours, held_by
from notifyctl.orchestrator.message_store import MessageFilter, MessageRow
from notifyctl.templates import store as template_store
from notifyctl.text.choices import meant
from notifyctl.text.durations import age, moment, plural, printable
from notifyctl.text.masking import mask

_MARKS = {"passed": ("ok", "green"), "refused": ("no", "bold red"), "not asked": ("--", "dim")}
_WORDS = {"passed": "", "refused": "bold", "not asked": "dim"}
SEEN_LATELY = timedelta(minutes=1)
app = typer.Typer(name="messages", no_args_is_help=True)
COLUMNS = (
    "id", "status", "reason", "channel", "template_key", "client_id", "recipient", "attempts", "created_at", "sent_at",
)  # fmt: skip
WIDE, NARROW = 110, 70


def _text_option(name: str, help_text: str) -> tuple[object, object]:
    return Annotated[str | None, typer.Option(name, help=help_text)], None


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
WRITTEN = options.Shared(
    {name: _text_option(OPTIONS[name], _HELP[name]) for name in FILTERS},
    lambda given: {name: text for name, text in given.items() if text is not None},
)
"""What was written of the filters, by the names of FILTERS."""
Written = Mapping[str, str]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show recipients in full.")]
MessageId = Annotated[
    str,
    typer.Argument(metavar="ID", help="A message's id, or its beginning or end; last is the newest message."),
]
MessageIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Ids of messages, or their beginnings or ends; last is the newest message."),
]


def print_verdicts(verdicts: Iterable[Verdict]) -> None:
    """What had to hold, and the reason that the gate would give for a refusal."""
    terminal.listing(
        [
            (
                _MARKS[verdict.outcome],
                (PASSED_WHEN[verdict.gate], _WORDS[verdict.outcome]),
                (verdict.gate.value, _WORDS[verdict.outcome] or "dim"),
                verdict.detail,
            )
            for verdict in verdicts
        ]
    )


def verdict_rows(verdicts: Iterable[Verdict]) -> list[dict[str, str]]:
    return [
        {"gate": verdict.gate.value, "verdict": verdict.outcome.value, "detail": verdict.detail} for verdict in verdicts
    ]


def print_explanation(message: MessageRow, explanation: Explanation, *, gates: bool) -> None:
    """`gates`: each of them, and every step. Otherwise what was found stays on the screen, whatever its height."""
    console = terminal.console()
    status = (message.status.value, terminal.STATUS_STYLES[message.status])
    head = [
        Text.assemble((message.template_key, "bold"), f" {message.id}  ", status),
        Text(printable(explanation.sentence)),
        *([Text(printable(explanation.next_step), "bold")] if explanation.next_step else []),
    ]
    about = [f"version {message.template_version}", *([f"in {message.language}"] if message.language else [])]
    first = explanation.steps[0].at if explanation.steps else message.created_at
    title = Text(f"\nWhat happened ({', '.join([f'{first:%Y-%m-%d}', *about])})")
    steps = terminal.listed([_step_cells(step, first) for step in explanation.steps])
    short = _gates_in_short(explanation.verdicts)
    room = console.height - terminal.height_of(*head, title, short) - LINES_BESIDE_STEPS
    shown, left_out = (steps, 0) if gates else terminal.that_fit(steps, room)
    for part in head:
        console.print(part)
    if gates and explanation.verdicts:
        console.print("\nGates at acceptance")
        print_verdicts(explanation.verdicts)
    console.print(title)
    for number, line in enumerate(shown):
        console.print(line, soft_wrap=True)
        if left_out and not number:
            console.print(Text(f"  … {plural(left_out, 'step')} more; --gates shows all", "dim"))
    if short and not gates:
        console.print(short)


LINES_BESIDE_STEPS = 2
"""An empty one, and the prompt that follows."""


def _gates_in_short(verdicts: Sequence[Verdict]) -> Text:
    """`Gates: 8 passed, SUPPRESSED refused; --gates shows each`. The sentence has why."""
    if not verdicts:
        return Text()
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    refused = [f"{verdict.gate} refused" for verdict in verdicts if verdict.outcome is GateOutcome.REFUSED]
    not_asked = [f"{outcomes[GateOutcome.NOT_ASKED]} not asked"] if outcomes[GateOutcome.NOT_ASKED] else []
    parts = ", ".join([f"{outcomes[GateOutcome.PASSED]} passed", *refused, *not_asked])
    return Text(f"\nGates: {parts}; --gates shows each")


def _step_cells(step: Step, first: datetime) -> tuple[terminal.Cell, ...]:
    name = step.action.removeprefix("NOTIFICATION_")
    return moment(step.at, beside=first), (name, terminal.STATUS_STYLES.get(name, "")), step.detail


def explanation_fields(message: MessageRow, explanation: Explanation) -> dict[str, object]:
    """For programs."""
    return {
        "id": message.id,
        "template_key": message.template_key,
        "template_version": message.template_version,
        "language": message.language,
        "status": message.status,
        "explanation": explanation.sentence,
        "next_step": explanation.next_step or None,
        "gates": verdict_rows(explanation.verdicts),
        "timeline": [
            {"at": step.at, "action": step.action, "actor": step.actor, "detail": step.detail}
            for step in explanation.steps
        ],
    }


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
        nothing = "" if listed else _nothing(session, written, "No message matches")
    rows = [_row(message, reveal) | {"age": age(message.created_at, now)} for message in listed]
    said = nothing if nothing.endswith("?") else f"{nothing}."
    return ListedRows(
        rows=rows,
        columns=COLUMNS,
        also=[name for name in MessageRow._fields if name not in COLUMNS],
        shown=SHOWN,
        styles=STATUS_STYLES,
        nothing=said,
    )


@app.command()
def show(message_id: MessageId, reveal: Reveal = False, form: options.Format = OutputFormat.TABLE) -> None:
    """Show every field of one message."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        message = find_message(session, message_id)
    output.document(_row(message, reveal), form)


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
    _require_some("--reason, --template, --client or --since", ids, narrowed)
    with opened_runtime() as runtime:
        now = runtime.clock()
        criteria = _filter(runtime, {**narrowed, "status": MessageStatus.FAILED}, now, _known(runtime, ids))
        again = Requeue(runtime.keys, runtime.plans, sms_enabled=runtime.settings.sms_enabled)
        with runtime.database.read() as session:
            choice = again.choose(session, criteria, now)
            nothing = _nothing(session, written, "no failed message that matches can be sent again")
        _tell_of(choice, now)
        if not choice.ids:
            raise NotFound(nothing)
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
    _require_some("--template, --client or --since", ids, written)
    with opened_runtime() as runtime:
        now = runtime.clock()
        criteria = _filter(runtime, written, now, _known(runtime, ids))
        with runtime.database.read() as session:
            waiting = count_waiting(session, criteria)
            nothing = _nothing(session, written, "no waiting message matches (only waiting ones can be canceled)")
        if not waiting:
            raise NotFound(nothing)
        options.confirm(f"Cancel {_messages(waiting)}?", yes)
        with runtime.database.transaction() as session:
            canceled = cancel_messages(session, criteria, actor=options.actor(), now=now)
    output.say(f"{_messages(canceled)} canceled.")


def _messages(count: int) -> str:
    return plural(count, "message")


def _require_some(options_that_do: str, *filters: object) -> None:
    if not any(filters):
        raise InvalidInput(f"say which messages: give their ids, or {options_that_do}")


def _known(runtime: Runtime, ids: list[str] | None) -> list[str] | None:
    """The ids of these messages. Raises NotFound for the first that is not there."""
    if not ids:
        return None
    with runtime.database.read() as session:
        return [find_message(session, text).id for text in ids]


def _filter(runtime: Runtime, written: Written, now: datetime, ids: list[str] | None = None) -> MessageFilter:
    """Raises InvalidInput for the first filter that is at fault."""
    reader = MessageFilters(runtime.keys, runtime.settings.otp_default_region, now)
    criteria, faults = reader.read(written)
    for name, words in faults.items():
        raise InvalidInput(f"{OPTIONS[name]} {written[name]!r} {words}")
    return replace(criteria, ids=ids)


def _nothing(session: Session, written: Written, so: str) -> str:
    """Says `so`, and why, where a client is asked for that is not there. Raises NotFound for such a template."""
    key, client = written.get("template_key"), written.get("client_id")
    if key is not None:
        template_store.require(session, key)
    if client is not None and client_store.get(session, client) is None:
        return f"{so}: there is no client {client!r}{meant(client, client_store.near(session, client))}"
    return so


def _row(message: MessageRow, reveal: bool) -> dict[str, object]:
    recipient = message.recipient if reveal or not message.recipient else mask(message.recipient)
    return message._asdict() | {"recipient": recipient}
