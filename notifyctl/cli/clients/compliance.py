"""`notifyctl compliance`: what of a client's expires, and when."""

from datetime import date, datetime, timedelta
from typing import Annotated

import typer

from notifyctl.alerts.compliance import items as compliance_items
from notifyctl.alerts.compliance import store as compliance_store
from notifyctl.alerts.compliance.items import CheckedItems, ItemsWritten, days_left
from notifyctl.alerts.compliance.store import ListedItem
from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output
from notifyctl.cli.clients.clients import refuse_faults
from notifyctl.cli.listing import ListedRows, lists, nothing_matches
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.clients import store as client_store
from notifyctl.models.enums import AuditAction
from notifyctl.text.durations import plural

app = typer.Typer(name="compliance", no_args_is_help=True)

COLUMNS = ("client_id", "client_name", "reference", "name", "expires_on", "days_left", "reminded_at", "timezone")
WIDE = 110
SHOWN = (
    named("client_id"),
    named("client_name", from_width=WIDE),
    named("reference"),
    named("name"),
    named("expires_on", whole=True),
    Shown("left", lambda row: _days(row["days_left"]), whole=True),
    Shown("reminded", lambda row: f"{row['reminded_at']:%Y-%m-%d}" if row["reminded_at"] else "", from_width=WIDE),
)
STYLES = {"expired": "bold red", "today": "yellow"}
CHUNK = 5_000

ClientId = Annotated[str, typer.Argument(metavar="CLIENT", help="The client's id.", autocompletion=completion.clients)]
Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="The item's, as `compliance list` shows it.")]


@app.command("import")
def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE.csv", help="UTF-8, or - for stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file; change nothing.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Create and change items from CSV: all of the file, or nothing when a row is bad.

    The first line names the columns, in any order: client_id, name, reference, expires_on.
    A client and a reference are one item; importing a file again changes nothing.
    A waiting reminder of a date that is no longer so is withdrawn.
    """
    with opened_runtime() as runtime:
        parsed = compliance_items.parse(options.read_input(file), file)
        records = output.track(parsed.records, "Checking", len(parsed.records))
        checked = compliance_items.check(parsed, records)
        result = _write(runtime, checked, file, dry_run=dry_run)
    if dry_run:
        output.say(f"{file} is fine: {plural(len(checked.items), 'item')}. Nothing was changed.")
        return
    counts = {"created": result.created, "changed": result.changed, "unchanged": result.unchanged}
    output.document(counts | {"reminders_withdrawn": result.withdrawn}, form)


@app.command("list")
@lists
def list_items(
    client: Annotated[
        str | None, typer.Option("--client", help="Only this client's.", autocompletion=completion.clients)
    ] = None,
    search: Annotated[str | None, typer.Option("--search", help="Part of an id, name or reference.")] = None,
    within: Annotated[
        int | None,
        typer.Option(
            "--within",
            parser=options.span("--within", "d", most=36_500),
            metavar="DURATION",
            help="Only what expires in at most so long: 30d, 2w, or a number of days.",
        ),
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Only what has expired.")] = False,
    limit: options.Limit = 100,
) -> ListedRows:
    """List items, the first to expire first. Days are counted in the client's time zone."""
    most = -1 if expired else within
    with opened_runtime() as runtime, runtime.database.read() as session:
        now = runtime.clock()
        # A day more: somewhere it is tomorrow already.
        until = None if most is None else _day_in(now, most + 1)
        items = compliance_store.page(session, limit=limit, client_id=client, search=search, until=until)
        rows = [
            _row(item, left)
            for item in items
            for left in [days_left(item.expires_on, item.timezone, now)]
            if most is None or left <= most
        ]
        why = "" if rows else client_store.absence(session, client)
    return ListedRows(
        rows=rows,
        columns=COLUMNS,
        key="reference",
        shown=SHOWN,
        styles=STYLES,
        nothing=nothing_matches("item", why),
        remarks=[f"{plural(limit, 'row')}; there may be more: raise --limit, or narrow it"]
        if len(items) == limit
        else (),
    )


@app.command()
def renew(
    client_id: ClientId,
    reference: Reference,
    new_date: Annotated[str, typer.Argument(metavar="NEW_DATE", help="The last day it is valid, as 2027-04-13.")],
) -> None:
    """Give an item another expiry date. A waiting reminder of the former one is withdrawn."""
    day = compliance_items.read_date(new_date)
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        result = compliance_items.renew(session, client_id, reference, day, actor=options.actor(), now=runtime.clock())
    outcome = "expires" if result.changed else "expires as before"
    output.say(f"{reference} of {client_id} {outcome} on {day}.{_withdrawn(result.withdrawn)}")


@app.command()
def remove(client_id: ClientId, reference: Reference, yes: options.Yes = False) -> None:
    """Take an item off the list for good. A waiting reminder of it is withdrawn."""
    with opened_runtime() as runtime:
        with runtime.database.transaction() as session:
            compliance_items.locked(session, client_id, reference)
        options.confirm(f"Remove {reference} of {client_id} for good?", yes)
        with runtime.database.transaction() as session:
            withdrawn = compliance_items.remove(
                session, client_id, reference, actor=options.actor(), now=runtime.clock()
            )
    output.say(f"{reference} of {client_id} is removed.{_withdrawn(withdrawn)}")


def _write(runtime: Runtime, checked: CheckedItems, file: str, *, dry_run: bool) -> ItemsWritten:
    """All of the file in one transaction: a file is never half imported, also when this process is killed."""
    result, actor = ItemsWritten(), options.actor()
    with runtime.database.transaction() as session:
        existing = compliance_store.lock_clients(session, checked.client_ids)
        refuse_faults([*checked.faults, *checked.unknown_clients(existing)], file)
        if dry_run:
            return result
        chunks = [checked.items[start : start + CHUNK] for start in range(0, len(checked.items), CHUNK)]
        for chunk in output.track(chunks, "Writing", len(chunks)):
            result += compliance_items.write(session, chunk, actor=actor, now=runtime.clock())
        details = {"command": "compliance import", "created": result.created, "changed": result.changed}
        if result.created or result.changed:
            audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=runtime.clock(), details=details)
    return result


def _day_in(now: "datetime", days: int) -> date | None:
    """None beyond the calendar's end."""
    try:
        return now.date() + timedelta(days=days)
    except OverflowError:
        return None


def _row(item: ListedItem, left: int) -> dict[str, object]:
    fields = {column: getattr(item, column, None) for column in COLUMNS}
    reminded = item.reminded and item.asked_for == item.expires_on
    return fields | {"days_left": left, "reminded_at": item.asked_at if reminded else None}


def _days(left: int) -> str:
    if left < 0:
        return f"expired {-left} d ago"
    return f"{left} d" if left else "today"


def _withdrawn(count: int) -> str:
    return f" Withdrawn: {plural(count, 'waiting reminder')}." if count else ""
