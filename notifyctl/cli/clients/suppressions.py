"""`notifyctl suppressions`: addresses that must not be written to."""

from collections.abc import Callable
from typing import Annotated

import typer

from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.clients import suppression_store, suppressions
from notifyctl.clients.suppression_store import Cause
from notifyctl.clients.suppressions import NOT_LIFTED_BY_US, lift, suppress
from notifyctl.errors import NotFound
from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.text.addresses import normal_address
from notifyctl.text.durations import age, plural
from notifyctl.text.masking import mask

app = typer.Typer(name="suppressions", no_args_is_help=True)

COLUMNS = ("channel", "address", "reason", "source", "note", "created_at", "recipient_hash", "acted_at", "causes")
SHOWN = (
    named("channel"),
    Shown("address", lambda row: row["address"] or ERASED),
    named("reason", whole=True),
    named("source"),
    named("note"),
    named("age", whole=True),
)
"""What fits a terminal."""
ERASED = "(erased)"
CHUNK = 25


Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Email address, or phone as +491701234567.")]


@app.command("list")
@lists
def list_suppressions(
    channel: Annotated[
        Channel | None, typer.Option("--channel", case_sensitive=False, help="Only this channel.")
    ] = None,
    reason: Annotated[
        SuppressionReason | None, typer.Option("--reason", case_sensitive=False, help="Only for this reason.")
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show whole addresses.")] = False,
    limit: options.Limit = 100,
) -> ListedRows:
    """List suppressions, newest first. An erased address has only its hash left."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        listed = suppression_store.page(
            session,
            limit=limit,
            channel=channel,
            reason=reason,
        )
        now = runtime.clock()
    rows = (
        {
            **row._asdict(),
            "address": row.address if reveal else mask(row.address) or None,
            "acted_at": row.acted_at or row.created_at,
            "causes": [_words(cause) for cause in suppression_store.causes_of(row)],
            "age": age(row.created_at, now),
        }
        for row in listed
    )
    return ListedRows(
        rows=rows,
        columns=COLUMNS,
        key="address",
        shown=SHOWN,
        nothing="No suppression matches.",
        remarks=[f"{plural(limit, 'row')}; there may be more: raise --limit"] if len(listed) == limit else (),
    )


@app.command()
def add(
    channel: options.ChannelArgument,
    address: Address,
    reason: Annotated[
        SuppressionReason, typer.Option("--reason", case_sensitive=False, help="What it is suppressed for.")
    ] = SuppressionReason.MANUAL,
    note: Annotated[str | None, typer.Option("--note", help="Why, for the next reader.")] = None,
) -> None:
    """Suppress an address. Messages to it are blocked from now on."""
    with opened_runtime() as runtime:
        kind, normal = _recipient(runtime, channel, address)
        with runtime.database.transaction() as session:
            before = suppression_store.find(session, kind, runtime.keys.recipient_hashes(kind, normal))
            added = suppress(
                session,
                runtime.keys,
                kind,
                normal,
                reason=reason,
                note=note,
                actor=options.actor(),
                now=runtime.clock(),
            )
    if before is None:
        output.say(f"{kind} {normal} is suppressed.")
    elif added:
        output.say(
            f"{kind} {normal} was suppressed already ({before.reason} by {before.source}); {reason} holds as well."
        )
    else:
        output.say(f"{kind} {normal} was suppressed already.")


@app.command()
def remove(channel: options.ChannelArgument, address: Address) -> None:
    """Lift a suppression, also one that a bounce or complaint made. Exit 4 when there is none.

    What happened before now does not suppress the address again, even if we hear of it only later.
    """
    with opened_runtime() as runtime:
        kind, normal = _recipient(runtime, channel, address)
        with runtime.database.transaction() as session:
            lifted = lift(session, runtime.keys, kind, normal, actor=options.actor(), now=runtime.clock())
    if not lifted:
        raise NotFound(f"{kind} {normal} is not suppressed; `notifyctl suppressions list --reveal` shows what is")
    output.say(f"{kind} {normal} is no longer suppressed ({', '.join(map(_words, lifted))}).")
    for source in dict.fromkeys(cause.source for cause in lifted):
        if source in NOT_LIFTED_BY_US:
            output.say(NOT_LIFTED_BY_US[source])


@app.command()
def rekey(
    drop_lost: Annotated[
        bool, typer.Option("--drop-lost", help="Remove those of erased addresses whose secret is lost.")
    ] = False,
    yes: options.Yes = False,
) -> None:
    """Have suppressions found by the first secret of NOTIFICATION_SECRET_KEY, when another is to go or is lost.

    Give every host that secret first: one that lacks it no longer finds what was moved. A suppression of an erased
    address cannot be moved, and holds only while its secret is there.
    """
    with opened_runtime() as runtime:
        known = runtime.keys.ids
        with runtime.database.read() as session:
            erased = suppression_store.count_erased(session)
        lost = sum(count for key_id, count in erased.items() if key_id not in known)
        if lost and drop_lost:
            options.confirm(f"Remove {plural(lost, 'suppression')} whose addresses nobody can tell any more?", yes)
        output.say(f"{plural(_in_chunks(runtime, suppressions.rekey), 'suppression')} moved to the first secret.")
        for key_id in known[1:]:
            if count := erased.get(key_id):
                need = plural(count, "suppression of an erased address needs", "suppressions of erased addresses need")
                output.say(f"{need} the secret of key {key_id}: keep it.")
        if lost and drop_lost:
            output.say(f"{plural(_in_chunks(runtime, suppressions.drop_lost), 'suppression')} removed.")
        elif lost:
            nobody = plural(lost, "suppression of an erased address is", "suppressions of erased addresses are")
            output.say(f"{nobody} found by nobody, for want of a secret: put it back, or say --drop-lost.")


def _in_chunks(runtime: Runtime, act: Callable[..., int]) -> int:
    """Transactions that nobody has to wait for."""
    total = 0
    while True:
        with runtime.database.transaction() as session:
            done = act(session, runtime.keys, actor=options.actor(), now=runtime.clock(), limit=CHUNK)
        total += done
        if not done:
            return total


def _words(cause: Cause) -> str:
    return f"{cause.reason} by {cause.source}"


def _recipient(runtime: Runtime, channel: Channel, address: str) -> tuple["Channel", str]:
    return Channel(channel), normal_address(channel, address, runtime.settings.otp_default_region)
