"""`notifyctl keys`: who may call the HTTP API."""

import sys
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from notifyctl.cli import completion, options, output, streams
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.http import api_keys
from notifyctl.http.api_key_store import every
from notifyctl.http.api_keys import state_of
from notifyctl.http.pages import links
from notifyctl.models.enums import Scope
from notifyctl.text.durations import age, parse_duration

app = typer.Typer(name="keys", no_args_is_help=True)
link_app = typer.Typer()

COLUMNS = ("id", "name", "scopes", "state", "created_at", "expires_at", "revoked_at")
SHOWN = (
    named("id", whole=True),
    named("name"),
    named("scopes"),
    Shown("state", lambda row: row["state"], whole=True),
    named("age", whole=True),
    named("expires", whole=True),
)
STYLES = {"active": "green", "expired": "yellow", "revoked": "dim"}


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it; stands in the audit log.")],
    scope: Annotated[
        list[Scope],
        typer.Option(
            "--scope",
            case_sensitive=False,
            help="otp: codes; send: notifications; clients: their addresses and what the gates go by; read: logs and "
            "health, masked; admin: everything. Repeatable.",
        ),
    ],
    expires: Annotated[
        str | None, typer.Option("--expires", help="After so long, as 90d; never when not given.")
    ] = None,
) -> None:
    """Make a key and print it, once: it is not kept and cannot be shown again."""
    lifetime = _lifetime(expires) if expires is not None else None
    with opened_runtime() as runtime:
        now = runtime.clock()
        with runtime.database.transaction() as session:
            key = api_keys.create(
                session,
                name,
                [Scope(scope_name) for scope_name in scope],
                expires_at=now + lifetime if lifetime else None,
                actor=options.actor(),
                now=now,
            )
    print(key, flush=True)
    error = streams.lost(sys.stdout)
    if error or streams.was_closed("stdout"):
        why = f"cannot be written ({error.strerror})" if error else "is closed"
        raise NotifyctlError(
            f"the key {name} was made and nobody has read it, since stdout {why}; revoke it with"
            f" `notifyctl keys revoke {name}`"
        )
    output.say("Keep it now: only its hash is stored. It is sent as `Authorization: Bearer KEY`.")


def _lifetime(expires: str) -> timedelta:
    try:
        lifetime = parse_duration(expires)
    except InvalidInput as error:
        raise InvalidInput(f"--expires {error}") from None
    if not lifetime:
        raise InvalidInput(f"--expires {expires}: such a key would never open anything; give a longer time")
    return lifetime


@app.command("list")
@lists
def list_keys() -> ListedRows:
    """List keys, newest first; the keys themselves are not kept."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        keys = every(session)
        now = runtime.clock()
    rows = [
        {
            **asdict(key),
            "state": state_of(key, now).value,
            "age": age(key.created_at, now),
            "expires": f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never",
        }
        for key in keys
    ]
    nothing = "There is no key; `notifyctl keys create NAME --scope SCOPE` makes one."
    return ListedRows(rows=rows, columns=COLUMNS, shown=SHOWN, styles=STYLES, nothing=nothing)


@app.command()
def revoke(
    key: Annotated[
        str, typer.Argument(metavar="ID-OR-NAME", help="As `keys list` shows it.", autocompletion=completion.keys)
    ],
) -> None:
    """Revoke a key. It opens nothing from the next request on. Exit 4 when there is no such active key."""
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        revoked = api_keys.revoke(session, key, actor=options.actor(), now=runtime.clock())
    output.say(f"Key {revoked.id} ({revoked.name}) is revoked.")


@link_app.command("open")
def open_page() -> None:
    """Print a link that signs you in on the page, once and within ten minutes.

    `notifyctl serve` answers there. You are known by your own name in the audit log, and `keys revoke` ends it.
    """
    actor = options.actor()
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        link = links.page_url(runtime.settings) + links.make(session, actor=actor, now=runtime.clock())
    print(link, flush=True)
    output.say(f"It signs in {actor}, once, within {links.LIFE_IN_WORDS}. `notifyctl serve` answers there.")
