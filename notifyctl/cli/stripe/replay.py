"""`notifyctl stripe replay`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer

from notifyctl.audit import log as audit_log
from notifyctl.billing.event_context import Change, EventOutcome, MailFate, MailOutcome
from notifyctl.billing.handlers import EVENTS
from notifyctl.billing.replay.replay import Replay, Replayed, Tally
from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.cli.stripe.replay_sources import Chosen, ReplayChoice, Warnings, choose, nothing_to_replay
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import AuditAction, StripeEventStatus
from notifyctl.stopping import interrupt_on_signal
from notifyctl.text.durations import plural

COLUMNS = ("id", "created", "type", "client_id", "status", "reason", "changes", "mail")
STYLES = {
    "RECEIVED": "cyan", "PROCESSED": "green", "IGNORED": "dim", "UNMATCHED": "yellow", "FAILED": "bold red",
}  # fmt: skip
"""Of an event."""
WIDE = 110
SHOWN = (
    Shown("event", lambda row: f"{row['type']}\n{row['id']}"),
    Shown("of", lambda row: f"{row['created']:%Y-%m-%d %H:%M:%SZ}", from_width=WIDE),
    Shown("client", lambda row: row["client_id"] or ""),
    Shown("result", lambda row: "\n".join(filter(None, (row["status"], row["reason"])))),
    Shown("would change", lambda row: "\n".join(row["changes"])),
    named("mail"),
)


def replay(
    event_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EVENT_ID", help="Ids of events, or the beginning or end of one; without any, all that match."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", help="Events from a file: one, an array, a page of a list, JSON lines; - is stdin."),
    ] = None,
    from_api: Annotated[
        bool, typer.Option("--from-api", help="Events from Stripe, which keeps them for 30 days. Needs STRIPE_API_KEY.")
    ] = False,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            help="Stored events with this status, as FAILED or UNMATCHED.",
            autocompletion=completion.among(StripeEventStatus),
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="As invoice.paid or customer.subscription.*. Repeatable.",
            autocompletion=completion.among(EVENTS),
        ),
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Made since: 2h, 7d, or 2026-03-01T12:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Made before: 2h, 7d, or 2026-03-01T12:00Z.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what each event would change and send; change nothing.")
    ] = False,
    mail_old: Annotated[bool, typer.Option("--mail-old", help="Send mails also for events older than 72 h.")] = False,
    yes: options.Yes = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Work on Stripe events once more, the oldest first, and print how it went. Exit 1 if any failed.

    Without --file and --from-api they are those that are stored. It never sends a mail twice, and it may be run
    again, or beside a worker: what is done stays done. An event from a file has no signature: it is taken on your
    word, which the audit log keeps. An event that is stored already keeps the body that it was stored with.
    """
    interrupt_on_signal()
    logging.getLogger("notifyctl").addHandler(logging.NullHandler())  # what is logged is told in the output
    with opened_runtime() as runtime, ExitStack() as open_things:
        choice = _parse_choice(runtime, event_ids, file, from_api, status, types, since, until)
        chosen = choose(runtime, choice, open_things, is_rehearsal=dry_run)
        if chosen.total == 0:
            raise nothing_to_replay(choice, chosen.faults)
        if choice.is_everything and not dry_run and output.on_terminal():
            options.confirm(f"Replay all {plural(chosen.total or 0, 'event')} that are stored?", yes)
        replay = _replay(runtime, mail_old)
        if dry_run:
            _rehearse(replay, chosen, form)
            return
        _record(runtime, choice, mail_old)
        _run(replay, chosen, form)


def _parse_choice(
    runtime: Runtime,
    event_ids: list[str] | None,
    file: str | None,
    from_api: bool,
    status: str | None,
    types: list[str] | None,
    since: str | None,
    until: str | None,
) -> ReplayChoice:
    now = runtime.clock()
    first, last = options.moment("--since", since, now), options.moment("--until", until, now)
    options.in_order(first, last)
    choice = ReplayChoice(
        ids=event_ids or [],
        file=file,
        from_api=from_api,
        status=status,
        types=types or [],
        since=first,
        until=last,
    )
    choice.check()
    return choice


def _replay(runtime: Runtime, mail_old: bool) -> Replay:
    return Replay(runtime.billing, runtime.database, actor=options.actor(), mail_old=mail_old)


def _record(runtime: Runtime, choice: ReplayChoice, mail_old: bool) -> None:
    """What was replayed is on record event by event; that a file stood in for a signature, here."""
    if choice.file is None and not mail_old:
        return
    source = "file" if choice.file is not None else "api" if choice.from_api else "store"
    details = {"detail": "Stripe events replayed", "source": source, "mail_old": mail_old}
    with runtime.database.transaction() as session:
        audit_log.write(
            session, AuditAction.OPERATOR_ACTION, actor=options.actor(), now=runtime.clock(), details=details
        )


def _run(replay: Replay, chosen: Chosen, form: OutputFormat) -> None:
    tally = Tally()
    try:
        for replayed in output.track(replay.run(chosen.items), "Replaying", chosen.total):
            tally.add(replayed)
            _tell_of(replayed, chosen)
    except (KeyboardInterrupt, NotifyctlError):
        output.say(f"Stopped after {plural(tally.events, 'event')}; run it again: what is done stays done.")
        raise
    output.document(_summary(tally, chosen.faults), form)
    _conclude(tally, chosen.faults)


def _tell_of(replayed: Replayed, chosen: Chosen) -> None:
    outcome = replayed.outcome
    for event in outcome.everything():
        if event.status is StripeEventStatus.FAILED:
            chosen.faults.add(f"{event.event_id} ({event.type}) failed: {event.reason}")
    if replayed.has_other_body:
        text = f"{outcome.event_id} is stored with another body than the one given; the stored one counts."
        chosen.other_bodies.add(text)


def _rehearse(replay: Replay, chosen: Chosen, form: OutputFormat) -> None:
    tally = Tally()
    rehearsed = replay.rehearse(chosen.items, watch=partial(output.track, label="Rehearsing", total=chosen.total))
    for replayed in rehearsed:
        tally.add(replayed)
        _tell_of(replayed, chosen)
    output.rows(
        (row for replayed in rehearsed for row in _rows(replayed)), form, columns=COLUMNS, shown=SHOWN, styles=STYLES
    )
    counts = _summary(tally, chosen.faults).items()
    output.say(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts if count or name == "events"))
    output.say("Nothing was changed: this was a dry run.")
    _conclude(tally, chosen.faults)


def _rows(replayed: Replayed) -> Iterator[dict[str, object]]:
    outcome = replayed.outcome
    yield _row(outcome, _reason(replayed))
    for other in outcome.matched:
        yield _row(other, other.reason or f"had matched nobody before {outcome.event_id}")
    for item in outcome.everything():
        for other in item.reopened:
            yield _row(other, other.reason or f"nothing showed before {item.event_id} that it had ever been live")


def _row(outcome: EventOutcome, reason: str | None) -> dict[str, object]:
    return {
        "id": outcome.event_id,
        "created": outcome.created,
        "type": outcome.type,
        "client_id": outcome.client_id,
        "status": outcome.status.value,
        "reason": reason,
        "changes": _change_texts(outcome.changes),
        "mail": _mail_text(outcome.mail),
    }


def _reason(replayed: Replayed) -> str | None:
    if replayed.is_bare:
        return "done already, and its body is no longer kept"
    return replayed.outcome.reason or ("done already" if replayed.was_done else None)


def _change_texts(changes: Sequence[Change]) -> list[str]:
    """One a client or subscription."""
    fields: dict[str, list[str]] = {}
    for change in changes:
        fields.setdefault(change.what, []).append(f"{change.field} {change.before or '-'} -> {change.after or '-'}")
    return [f"{what}: {', '.join(texts)}" for what, texts in fields.items()]


def _mail_text(mail: "MailOutcome | None") -> str:
    if mail is None:
        return ""
    words = {
        MailFate.QUEUED: "would be sent",
        MailFate.DUPLICATE: "is a duplicate, not sent again",
        MailFate.BLOCKED: "would be blocked",
        MailFate.WITHHELD: "is withheld",
    }
    return f"{mail.template_key} {words[mail.fate]}" + (f": {mail.detail}" if mail.detail else "")


def _summary(tally: Tally, faults: Warnings) -> dict[str, int]:
    return {
        "events": tally.events,
        "processed": tally.statuses[StripeEventStatus.PROCESSED],
        "ignored": tally.statuses[StripeEventStatus.IGNORED],
        "unmatched": tally.statuses[StripeEventStatus.UNMATCHED],
        "failed": tally.failed,
        "not_read": faults.count - tally.failed,
        "already_done": tally.already_done,
        "matched_besides": tally.matched,
        "changed_state": tally.changed,
        **{f"mails_{fate.value}": tally.mails[fate] for fate in MailFate},
    }


def _conclude(tally: Tally, faults: Warnings) -> None:
    if tally.statuses[StripeEventStatus.UNMATCHED]:
        output.hint("Link a client with `notifyctl clients set ID --stripe-customer CUS`, then replay the unmatched.")
    if tally.mails[MailFate.WITHHELD]:
        output.hint("Mails of events older than 72 h were withheld; --mail-old sends them.")
    if faults.count:
        count = tally.events + tally.matched + faults.count - tally.failed
        raise NotifyctlError(f"{faults.count} of {count} failed; what is wrong with them stands above")
