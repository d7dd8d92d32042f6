"""`notifyctl stripe`: what Stripe has told us, what came of it, and doing it once more."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from sqlmodel import Session

from notifyctl.billing import store as event_store
from notifyctl.billing import subscription_store
from notifyctl.billing.handlers import EVENTS
from notifyctl.billing.replay import listing_store
from notifyctl.billing.replay.reconcile import Reconciliation
from notifyctl.billing.replay.sources import SourceFilter
from notifyctl.billing.store import EventSummary, StoredEvent
from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output, terminal
from notifyctl.cli.listing import ListedRows, lists, nothing_matches
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.cli.stripe.replay import STYLES, replay
from notifyctl.cli.terminal import STATUS_STYLES
from notifyctl.clients import store as client_store
from notifyctl.errors import InvalidInput, NotFound, NotifyctlError
from notifyctl.models.enums import StripeEventStatus
from notifyctl.operations.problem import how_to_match
from notifyctl.orchestrator.explain import SHORT
from notifyctl.providers.stripe import build_stripe_api, other_mode
from notifyctl.text.choices import meant
from notifyctl.text.durations import age, iso, moment, plural
from notifyctl.text.masking import mask, masked_body

DIFFERENCE_COLUMNS = ("kind", "id", "what", "client_id", "here", "at_stripe", "mend")
DIFFERENCE_SHOWN = (
    Shown("what", lambda row: f"{row['what']}\n{row['id']}"),
    Shown("client", lambda row: row["client_id"] or ""),
    Shown("here", lambda row: row["here"] or "-"),
    Shown("at Stripe", lambda row: row["at_stripe"] or "-"),
    named("mend"),
)
app = typer.Typer(name="stripe", no_args_is_help=True)
COLUMNS = (
    "id", "type", "created", "status", "reason", "client_id", "customer_id", "subscription_id", "message_id",
    "attempts", "next_attempt_at", "received_at", "processed_at", "origin", "livemode",
)  # fmt: skip
LAST = "last"
"""Stands for the id of the newest event."""
SHOWN = (
    Shown("id", lambda row: row["id"][-SHORT:], whole=True),
    named("type"),
    named("status", whole=True),
    Shown("client", lambda row: row["client_id"] or ""),
    named("reason"),
    named("age", whole=True),
)
MESSAGE_FIELDS = ("id", "template_key", "status", "reason", "recipient", "created_at", "sent_at", "delivered_at")
SUBSCRIPTION_FIELDS = (
    "id", "client_id", "status", "plan", "price_id", "current_period_end", "cancel_at", "ended_at", "end_cause",
)  # fmt: skip
INVOICE_FIELDS = ("id", "subscription_id", "paid_at", "failed_at", "failed_attempts")
CLIENT_FIELDS = ("id", "plan", "subscription_status", "stripe_customer_id")


def reconcile(
    since: Annotated[
        str | None,
        typer.Option("--since", help="Events made since: 2h, 7d, or 2026-03-01T12:00Z. Stripe keeps 30 days."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="Events of this type; by default all that do something. Repeatable.",
            autocompletion=completion.among(EVENTS),
        ),
    ] = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Compare with Stripe: events that never came, and subscriptions that stand otherwise. Changes nothing.

    Each difference comes with what mends it. Exit 1 if there is any. Needs STRIPE_API_KEY.
    """
    with opened_runtime() as runtime, build_stripe_api(runtime.settings) as api:
        if warning := other_mode(runtime.settings):
            output.say(warning)
        now = runtime.clock()
        criteria = SourceFilter(types=tuple(types or ()), since=options.moment("--since", since, now))
        compared = Reconciliation(runtime.database, runtime.plans, api, now).compare(criteria)
    differences = compared.differences
    output.rows(map(asdict, differences), form, columns=DIFFERENCE_COLUMNS, shown=DIFFERENCE_SHOWN)
    looked_at = f"{plural(compared.events, 'event')} and {plural(compared.subscriptions, 'subscription')} at Stripe"
    if differences:
        differ = plural(len(differences), "difference")
        raise NotifyctlError(f"{looked_at} were compared: {differ}; what mends each stands beside it")
    output.say(f"{looked_at} were compared: no difference.")


app.command()(replay)
app.command()(reconcile)


@app.command()
@lists
def events(
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            help="RECEIVED, PROCESSED, IGNORED, UNMATCHED or FAILED.",
            autocompletion=completion.among(StripeEventStatus),
        ),
    ] = None,
    unmatched: Annotated[bool, typer.Option("--unmatched", help="The same as --status UNMATCHED.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --status FAILED.")] = False,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="As invoice.paid or customer.subscription.*. Repeatable.",
            autocompletion=completion.among(EVENTS),
        ),
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", help="Only of this client.", autocompletion=completion.clients)
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Made since: 2h, 7d, or 2026-03-01T12:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Made before: 2h, 7d, or 2026-03-01T12:00Z.")] = None,
    limit: options.Limit = 50,
) -> ListedRows:
    """List the events that are stored, the newest first. A terminal shows the most important columns."""
    named_status = _one_status(status, unmatched, failed)
    with opened_runtime() as runtime, runtime.database.read() as session:
        now = runtime.clock()
        first, last = options.moment("--since", since, now), options.moment("--until", until, now)
        options.in_order(first, last)
        criteria = listing_store.EventFilter(
            status=options.one_of(StripeEventStatus, "--status", named_status),
            types=types or (),
            client_id=client,
            since=first,
            until=last,
        )
        listed = listing_store.newest(session, criteria, limit=limit)
        why = "" if listed else _unknown_type(types or ()) or client_store.absence(session, client)
    rows = [_row(event) | {"age": age(event.created, now)} for event in listed]
    event = next((event for event in listed if event.status is StripeEventStatus.UNMATCHED), None)
    linked = [f"To link it: {how_to_match(event.customer_id, event.named_client, event.id)}"] if event else ()
    return ListedRows(
        rows=rows, columns=COLUMNS, shown=SHOWN, styles=STYLES, nothing=nothing_matches("event", why), hints=linked
    )


def _unknown_type(types: Sequence[str]) -> str:
    """Stripe has many more than those that do something here: it is only said where nothing is there of it."""
    strange = [kind for kind in types if not (kind in EVENTS or kind.endswith("*"))]
    return "; ".join(f"type {kind!r} does nothing here{meant(kind, EVENTS)}" for kind in strange[:1])


@app.command()
def show(
    event_id: Annotated[
        str, typer.Argument(metavar="ID", help="As evt_1Abc, or its beginning or end; last is the newest event.")
    ],
    body: Annotated[bool, typer.Option("--body", help="Print only its body, with personal data masked.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Mask nothing.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Show one event and what came of it: the mails, how things stand now, and what was done when."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        event = _require(session, event_id)
        if body:
            _print_body(event, reveal)
            return
        fields = _row(event) | {
            "verified": event.verified,
            "api_version": event.api_version,
            "account": event.account,
            "object_id": event.object_id,
            "named_client": event.named_client,
            "body_bytes": len(event.body),
        }
        if event.status == "UNMATCHED":
            fields["remedy"] = how_to_match(event.customer_id, event.named_client, event.id)
        about = _about(runtime, session, event, reveal)
    if form is OutputFormat.TABLE and output.on_terminal():
        output.document(fields, form)
        _print_about(about)
    else:
        output.document(fields | dict(about), form)


def _one_status(status: str | None, unmatched: bool, failed: bool) -> str | None:
    names = [name for name in (status, "UNMATCHED" if unmatched else None, "FAILED" if failed else None) if name]
    if len(names) > 1:
        raise InvalidInput("--status, --unmatched and --failed say the same thing; give one of them")
    return names[0] if names else None


def _row(event: EventSummary) -> dict[str, object]:
    row = {name: getattr(event, name) for name in COLUMNS}
    return row | {"status": event.status.value, "reason": event.error or event.reason}


def _require(session: Session, event_id: str) -> StoredEvent:
    """By its whole id, a beginning or end that only one has, or `last`. Raises NotFound or InvalidInput."""
    if event_id == LAST:
        event_id = next((row.id for row in listing_store.newest(session, listing_store.EventFilter(), limit=1)), LAST)
    event = event_store.get(session, listing_store.whole_id(session, event_id))
    if event is None:
        raise NotFound(f"there is no Stripe event {event_id!r}; `notifyctl stripe events` shows those there are")
    return event


def _print_body(event: StoredEvent, reveal: bool) -> None:
    if not event.body:
        raise NotFound(f"the body of {event.id} is no longer kept")
    if not reveal:
        print(masked_body(event.body))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(event.body.rstrip(b"\n") + b"\n")


def _about(runtime: Runtime, session: Session, event: StoredEvent, reveal: bool) -> output.Row:
    messages = listing_store.mails_of(session, event)
    client = client_store.get_many(session, [event.client_id]).get(event.client_id) if event.client_id else None
    subscription = subscription_store.get(session, event.subscription_id) if event.subscription_id else None
    return {
        "mails": [
            _picked(message, MESSAGE_FIELDS) | {"recipient": message.recipient if reveal else mask(message.recipient)}
            for message in messages
        ],
        "client": _picked(client, CLIENT_FIELDS),
        "subscription": _picked(subscription, SUBSCRIPTION_FIELDS),
        "invoice": _picked(subscription_store.invoice(session, event.object_id), INVOICE_FIELDS),
        "history": [
            {"at": row.created_at, "action": row.action.value, "actor": row.actor, "details": row.metadata}
            for row in listing_store.audit_of(session, event)
        ],
    }


def _picked(row: object, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(row, name) for name in names} if row is not None else {}


def _print_about(about: output.Row) -> None:
    console = terminal.console()
    if about["mails"]:
        console.print("\nMails")
        terminal.listing(
            [
                (mail["template_key"], (mail["status"].value, STATUS_STYLES[mail["status"]]), mail["reason"] or "",
                 mail["recipient"] or "", mail["id"])
                for mail in about["mails"]
            ]
        )  # fmt: skip
    for name in ("client", "subscription", "invoice"):
        if about[name]:
            console.print(f"\nThe {name} now")
            terminal.listing([(key.replace("_", " "), _text(value)) for key, value in about[name].items()])
    console.print("\nWhat happened")
    terminal.listing(
        [(moment(step["at"]), step["action"], step["actor"], _detail(step["details"])) for step in about["history"]]
    )


def _detail(details: dict[str, object]) -> str:
    shown = {name: value for name, value in details.items() if name not in ("event_id", "type") and value is not None}
    return ", ".join(f"{name} {_text(value)}" for name, value in shown.items())


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return iso(value, "seconds")
        case bool():
            return "yes" if value else "no"
    return str(value)
