"""`notifyctl limits`, `pause` and `resume`: how much of a channel goes a minute, and what does not go at all."""

from typing import Annotated

import typer
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import OutputFormat, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.clients import store as client_store
from notifyctl.delivery import outbox
from notifyctl.delivery.pace.allowance import Allowance
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import CHANNELS, Channel
from notifyctl.operations import controls
from notifyctl.operations.controls import ActivePause, reset_limit, set_limit
from notifyctl.operations.limits import per_minute
from notifyctl.operations.pauses import PauseScope
from notifyctl.settings import MAX_COUNT
from notifyctl.templates import store as template_store
from notifyctl.text.durations import age, plural

app = typer.Typer(name="limits", no_args_is_help=True)

COLUMNS = ("channel", "per_minute_limit", "source", "used", "waiting")
holds = typer.Typer()
PAUSES_SHOWN = (
    named("channel", whole=True),
    named("template"),
    named("client"),
    named("held", whole=True),
    named("reason"),
    named("by"),
    named("age", whole=True),
)
OfChannel = Annotated[Channel | None, typer.Option("--channel", case_sensitive=False, help="Only this channel.")]
OfTemplate = Annotated[
    str | None, typer.Option("--template", help="Only this template.", autocompletion=completion.templates)
]
OfClient = Annotated[str | None, typer.Option("--client", help="Only this client.", autocompletion=completion.clients)]


@app.command()
@lists
def show() -> ListedRows:
    """The limits in force, where they come from, and how much of the present minute is used."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        limits = [_limit(runtime, session, channel) for channel in Channel]
    return ListedRows(rows=limits, columns=COLUMNS, key="channel")


def _limit(runtime: Runtime, session: Session, channel: Channel) -> dict[str, object]:
    by_operator = per_minute(session, channel)
    limit = by_operator or runtime.settings.per_minute_limit(channel)
    allowance = Allowance(channel, limit, runtime.clock, stopwatch=runtime.stopwatch)
    allowance.read(session)
    return {
        "channel": channel,
        "per_minute_limit": limit,
        "source": "operator" if by_operator else _source(runtime, channel),
        "used": allowance.used,
        "waiting": outbox.count_waiting(session, channel),
    }


def _source(runtime: Runtime, channel: Channel) -> str:
    return "environment" if CHANNELS[channel].limit_setting in runtime.settings.model_fields_set else "default"


@app.command("set")
def set_per_minute(
    channel: options.ChannelArgument,
    limit: Annotated[int, typer.Argument(metavar="PER_MINUTE", min=1, max=MAX_COUNT, help="Messages a minute.")],
) -> None:
    """Set a limit for all workers at once. It wins over the environment until `limits reset`."""
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        set_limit(session, channel, limit, actor=options.actor(), now=runtime.clock())
    output.say(f"{channel} is limited to {limit} a minute.")


@app.command()
def reset(channel: options.ChannelArgument) -> None:
    """Go back to the limit of the environment."""
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        reset_limit(session, channel, actor=options.actor(), now=runtime.clock())
    output.say(f"{channel} is limited by the environment again.")


@holds.command()
def pause(
    channel: OfChannel = None,
    template: OfTemplate = None,
    client: OfClient = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; shown wherever a held message is explained.")
    ] = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Hold messages: they are accepted and wait. Without any option, list what is held.

    Several options narrow it: --channel SMS --client acme holds only that client's SMS.
    To hold everything, name each channel.
    A message whose send-by time passes while it is held expires when it is let go.
    """
    with opened_runtime() as runtime:
        if not (channel or template or client or reason):
            _list_pauses(runtime, form)
            return
        scope = _scope(runtime, channel, template, client)
        if not (reason or "").strip():
            raise InvalidInput("--reason is missing; say why, for those who will ask")
        with runtime.database.transaction() as session:
            held = controls.pause(session, scope, reason=reason or "", actor=options.actor(), now=runtime.clock())
    if held is None:
        output.say(f"Already held: {scope}; `{scope.command('resume')}` lets it go.")
    else:
        output.say(
            f"Held: {scope}. {plural(held, 'waiting message stays', 'waiting messages stay')} until"
            f" `{scope.command('resume')}`."
        )


@holds.command()
def resume(channel: OfChannel = None, template: OfTemplate = None, client: OfClient = None) -> None:
    """Let go what `pause` with the same options held."""
    with opened_runtime() as runtime:
        scope = _scope(runtime, channel, template, client)
        with runtime.database.transaction() as session:
            held = controls.resume(session, scope, actor=options.actor(), now=runtime.clock())
    waiting = plural(held, "waiting message goes", "waiting messages go")
    output.say(f"Let go: {scope}. {waiting} out, unless held by something else.")


def _scope(runtime: Runtime, channel: Channel | None, template: str | None, client: str | None) -> PauseScope:
    """Raises NotFound for what is not there, InvalidInput where nothing is named."""
    if not (channel or template or client):
        raise InvalidInput("say what: --channel, --template or --client")
    with runtime.database.read() as session:
        key = template_store.require(session, template).template_key if template else None
        return PauseScope(channel, key, client_store.require(session, client).id if client else None)


def _list_pauses(runtime: Runtime, form: OutputFormat) -> None:
    with runtime.database.read() as session:
        pauses = controls.active_pauses(session)
        now = runtime.clock()
    rows = [active._asdict() | {"age": age(active.since, now)} for active in pauses]
    if form is OutputFormat.TABLE and output.on_terminal():
        output.print_list(rows, PAUSES_SHOWN)
    else:
        output.rows(rows, form, columns=ActivePause._fields)
    if not pauses and form is OutputFormat.TABLE:
        output.say("Nothing is held.")
