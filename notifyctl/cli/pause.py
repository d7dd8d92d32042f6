"""`notifyctl pause` and `notifyctl resume`: hold messages back, and let them go."""

from typing import Annotated

import typer

from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.models.enums import Channel
from notifyctl.operations import controls
from notifyctl.operations.controls import ActivePause
from notifyctl.store.pauses import PauseScope

holds = typer.Typer()

OfChannel = Annotated[Channel | None, typer.Option("--channel", case_sensitive=False, help="Only this channel.")]
OfTemplate = Annotated[str | None, typer.Option("--template", help="Only this template.")]
OfClient = Annotated[str | None, typer.Option("--client", help="Only this client.")]


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
        scope = PauseScope(channel, template, client)
        with runtime.database.transaction() as session:
            held = controls.pause(session, scope, reason=reason or "", actor=options.actor(), now=runtime.clock())
    if held is None:
        output.say(f"Already held: {scope}.")
    else:
        output.say(f"Held: {scope}. {held} waiting messages stay until `notifyctl resume`.")


@holds.command()
def resume(channel: OfChannel = None, template: OfTemplate = None, client: OfClient = None) -> None:
    """Let go what `pause` with the same options held."""
    scope = PauseScope(channel, template, client)
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        held = controls.resume(session, scope, actor=options.actor(), now=runtime.clock())
    output.say(f"Let go: {scope}. {held} waiting messages go out, unless something else holds them.")


def _list_pauses(runtime: Runtime, form: OutputFormat) -> None:
    with runtime.database.read() as session:
        pauses = controls.active_pauses(session)
    output.rows((active._asdict() for active in pauses), form, columns=ActivePause._fields)
    if not pauses and form is OutputFormat.TABLE:
        output.say("Nothing is held.")
