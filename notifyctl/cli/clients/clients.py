"""`notifyctl clients`: whom we write to, and what it may receive."""

from collections.abc import Sequence
from dataclasses import asdict
from shlex import quote
from typing import Annotated

import typer
from sqlmodel import Session

from notifyctl.alerts.provisioning import Announced, announce
from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output
from notifyctl.cli.listing import ListedRows, lists, nothing_matches
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.clients import csv_import, suppression_store
from notifyctl.clients import store as client_store
from notifyctl.clients.clients import WrittenClients, set_clients
from notifyctl.clients.fields import ClientChange, ClientFields
from notifyctl.errors import InvalidInput
from notifyctl.models.client import ACTIVE_SUBSCRIPTION
from notifyctl.models.enums import Channel, ProvisioningStatus, SubscriptionStatus
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.retention.erasure import erase_client
from notifyctl.text.choices import meant
from notifyctl.text.csv_import import CsvFault
from notifyctl.text.durations import moment, plural
from notifyctl.text.masking import mask

app = typer.Typer(name="clients", no_args_is_help=True)

COLUMNS = (
    "id",
    "name",
    "email",
    "phone",
    "plan",
    "provisioning_status",
    "subscription_status",
    "sms_enabled",
    "timezone",
    "locale",
    "stripe_customer_id",
)
WIDE = 110
SHOWN = (
    named("id"),
    named("name"),
    named("email"),
    named("phone", from_width=WIDE),
    named("plan"),
    Shown("provisioning", lambda row: row["provisioning_status"]),
    Shown("subscription", lambda row: row["subscription_status"]),
    Shown("SMS", lambda row: row["sms_enabled"], whole=True),
)
"""What fits a terminal."""
STYLES = {"COMPLETED": "green", "FAILED": "bold red", "past_due": "yellow", "unpaid": "red"}
CHUNK = 5_000
FAULTS_SHOWN = 50


ClientId = Annotated[
    str, typer.Argument(metavar="ID", help="Your own id of the client.", autocompletion=completion.clients)
]
Plan = Annotated[str | None, typer.Option("--plan", help="Key in the plan registry, such as PRO.")]
Provisioning = Annotated[
    ProvisioningStatus | None,
    typer.Option("--provisioning", case_sensitive=False, help="How far the client's access is set up."),
]
Subscription = Annotated[
    SubscriptionStatus | None,
    typer.Option("--subscription", case_sensitive=False, help="In Stripe's words; none when there is none."),
]


@app.command("list")
@lists
def list_clients(
    search: Annotated[str | None, typer.Option("--search", help="Part of an id, name or address.")] = None,
    plan: Plan = None,
    provisioning: Provisioning = None,
    subscription: Subscription = None,
    after: Annotated[str, typer.Option("--after", help="Go on behind this id.")] = "",
    limit: options.Limit = 100,
) -> ListedRows:
    """List clients in the order of their ids. A terminal leaves out time zone, locale and Stripe customer."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        listed = client_store.page(
            session,
            limit=limit,
            after=after,
            search=search,
            plan=plan,
            provisioning=provisioning,
            subscription=subscription,
        )
        plans = runtime.plans.plans
    is_known = plan is None or plan in plans
    why = "" if is_known else f"{plan!r} is not in the plan registry{meant(str(plan), plans)}"
    return ListedRows(
        rows=(_row(client) for client in listed),
        columns=COLUMNS,
        shown=SHOWN,
        styles=STYLES,
        nothing=nothing_matches("client", why),
        remarks=[f"{plural(limit, 'row')}; there may be more: go on with --after {quote(listed[-1].id)}"]
        if len(listed) == limit
        else (),
    )


@app.command()
def show(client_id: ClientId, form: options.Format = OutputFormat.TABLE) -> None:
    """Show all that is known of a client, what its plan allows, and whether its addresses are suppressed."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        client = client_store.require(session, client_id)
        plan = runtime.plans.plans.get(client.plan or "")
        fields = _row(client) | {
            "subscription_active": client.subscription_status in ACTIVE_SUBSCRIPTION,
            "plan_features": sorted(plan.features) if plan else [],
            "email_suppressed": _suppression(runtime, session, Channel.EMAIL, client.email),
            "phone_suppressed": _suppression(runtime, session, Channel.SMS, client.phone_e164),
            "created_at": client.created_at,
            "updated_at": client.updated_at,
            "erased_at": client.erased_at,
        }
    output.document(fields, form)


@app.command("set")
def set_client(
    client_id: ClientId,
    name: Annotated[str | None, typer.Option("--name", help="As messages address it.")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Where emails go.")] = None,
    phone: Annotated[str | None, typer.Option("--phone", help="Where SMS go, as +491701234567.")] = None,
    plan: Plan = None,
    provisioning: Provisioning = None,
    subscription: Subscription = None,
    sms: Annotated[bool | None, typer.Option("--sms/--no-sms", help="Consent to SMS.")] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="As Europe/Berlin.")] = None,
    locale: Annotated[str | None, typer.Option("--locale", help="Language of its messages, as de or de-AT.")] = None,
    stripe_customer: Annotated[str | None, typer.Option("--stripe-customer", help="As cus_9Xyz.")] = None,
) -> None:
    """Create a client, or change what is given; the rest stays as it is. An empty value clears ("")."""
    texts = {
        "name": name,
        "email": email,
        "phone": phone,
        "plan": plan,
        "provisioning_status": provisioning,
        "subscription_status": subscription,
        "sms_enabled": None if sms is None else str(sms),
        "timezone": timezone,
        "locale": locale,
        "stripe_customer_id": stripe_customer,
    }
    with opened_runtime() as runtime:
        change = _fields(runtime).change(client_id, {field: text for field, text in texts.items() if text is not None})
        with runtime.database.transaction() as session:
            written = set_clients(session, [change], actor=options.actor(), now=runtime.clock())
            announced = announce(session, runtime.orchestrator, runtime.settings, written.transitions)
    outcome = "created" if written.created else "changed" if written.changed else "unchanged"
    output.say(f"Client {change.id} {outcome}.")
    _say_announced(announced)


@app.command("import")
def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE.csv", help="UTF-8, or - for stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file; change nothing.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Create and change clients from CSV: all of the file, or nothing when a row is bad.

    The first line names the columns, in any order: id, and any of name, email, phone, plan,
    provisioning_status, subscription_status, sms_enabled, timezone, locale, stripe_customer_id.
    A column that is absent leaves what is there; an empty cell clears it.
    Importing a file again changes nothing.
    """
    with opened_runtime() as runtime:
        parsed = csv_import.parse(options.read_input(file), file)
        records = output.track(parsed.records, "Checking", len(parsed.records))
        checked = csv_import.check(parsed, records, _fields(runtime))
        with runtime.database.read() as session:
            refuse_faults([*checked.faults, *csv_import.conflicts(session, checked)], file)
        if dry_run:
            output.say(f"{file} is fine: {plural(len(checked.changes), 'client')}. Nothing was changed.")
            return
        result, announced = _write(runtime, checked.changes)
    counts = {"created": result.created, "changed": result.changed, "unchanged": result.unchanged}
    output.document(counts, form)
    _say_announced(announced)


@app.command()
def erase(
    client_id: ClientId,
    yes: options.Yes = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Erase a client's personal data for good; the history stays under its id and keyed hashes.

    Waiting messages are canceled. Prints how much was removed.
    """
    with opened_runtime() as runtime:
        with runtime.database.read() as session:
            client = client_store.require(session, client_id)
            messages = message_store.count_by_status(session, MessageFilter(client_id=client_id))
        if client.erased_at is not None:
            output.say(f"Client {client_id!r} was erased already, at {moment(client.erased_at)}.")
        elif not yes:
            known = [text for text in (client.name, mask(client.email), mask(client.phone_e164)) if text]
            addressed = plural(sum(messages.values()), "message")
            output.say(
                f"To be erased: {', '.join(known) or 'no address'}, and the addresses and values of {addressed}."
            )
        options.confirm(f"Erase the personal data of client {client_id!r} for good?", yes)
        with runtime.database.transaction() as session:
            erased = erase_client(session, runtime.keys, client_id, actor=options.actor(), now=runtime.clock())
    output.document(asdict(erased), form)
    if erased.messages_in_flight:
        on_the_way = plural(erased.messages_in_flight, "message on its way keeps", "messages on their way keep")
        output.say(f"{on_the_way} the address until that is settled; run it again in a few minutes.")


def _fields(runtime: Runtime) -> ClientFields:
    return ClientFields(runtime.plans, runtime.settings.otp_default_region)


def _write(runtime: Runtime, changes: Sequence["ClientChange"]) -> tuple["WrittenClients", "Announced"]:
    """All of the file in one transaction: a file is never half imported, also when this process is killed.

    Failures of the whole file are announced together, since many are summed up in one mail.
    """
    chunks = [changes[start : start + CHUNK] for start in range(0, len(changes), CHUNK)]
    result, announced = WrittenClients(), Announced()
    with runtime.database.transaction() as session:
        for chunk in output.track(chunks, "Writing", len(chunks)):
            of_chunk = set_clients(session, chunk, actor=options.actor(), now=runtime.clock())
            others = [change for change in of_chunk.transitions if change.new is not ProvisioningStatus.FAILED]
            announced += announce(session, runtime.orchestrator, runtime.settings, others)
            result += of_chunk
        failed = [change for change in result.transitions if change.new is ProvisioningStatus.FAILED]
        announced += announce(session, runtime.orchestrator, runtime.settings, failed)
    return result, announced


def _say_announced(announced: Announced) -> None:
    if announced.welcomed:
        output.say(f"Queued: {announced.welcomed} WELCOME_EMAIL.")
    if announced.alerted:
        output.say(f"Queued: {announced.alerted} PROVISIONING_FAILED_ADMIN.")
    for warning in announced.warnings:
        output.say(f"Warning: {warning}.")


def _row(client: object) -> dict[str, object]:
    return {column: getattr(client, "phone_e164" if column == "phone" else column) for column in COLUMNS}


def _suppression(runtime: Runtime, session: Session, channel: Channel, address: str | None) -> str | None:
    if not address:
        return None
    suppression = suppression_store.find(session, channel, runtime.keys.recipient_hashes(channel, address))
    return str(suppression.reason) if suppression else None


def refuse_faults(faults: Sequence[CsvFault], file: str) -> None:
    """Says each with its line. Raises InvalidInput if there are any."""
    if not faults:
        return
    for fault in sorted(faults)[:FAULTS_SHOWN]:
        output.say(f"{file} line {fault.line}, {fault.text}")
    if len(faults) > FAULTS_SHOWN:
        output.say(f"… and {len(faults) - FAULTS_SHOWN} more")
    raise InvalidInput(
        f"{file} has {plural(len(faults), 'fault')}; nothing was imported, mend them and import it again"
    )
