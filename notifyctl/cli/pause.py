"""`notifyctl pause` and `notifyctl resume`: hold messages back, and let them go."""

from typing import TYPE_CHECKING, Annotated

import typer

from notifyctl.cli import options, output
from notifyctl.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from notifyctl.bootstrap import Runtime
    from notifyctl.store.pauses import Scope

OfChannel = Annotated[
    options.ChannelName | None, typer.Option("--channel", case_sensitive=False, help="Only this channel.")
]
OfTemplate = Annotated[str | None, typer.Option("--template", help="Only this template.")]
OfClient = Annotated[str | None, typer.Option("--client", help="Only this client.")]


def add_to(app: typer.Typer) -> None:
    app.command()(pause)
    app.command()(resume)


def pause(
    channel: OfChannel = None,
    template: OfTemplate = None,
    client: OfClient = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; shown wherever a held message is explained.")
    ] = None,
    form: options.Format = options.OutputFormat.TABLE,
) -> None:
    """Hold messages: they are accepted and wait. Without any option, list what is held.

    Several options narrow it: --channel SMS --client acme holds only that client's SMS.
    To hold everything, name each channel.
    A message whose send-by time passes while it is held expires when it is let go.
    """
    from notifyctl.models.audit import AuditAction
    from notifyctl.store import audit, pauses

    with options.runtime() as runtime:
        if not (channel or template or client or reason):
            _list(runtime, form)
            return
        scope = _scope(runtime, channel, template, client)
        if not reason or not reason.strip():
            raise InvalidInput("--reason is missing; say why, for those who will ask")
        with runtime.database.transaction() as session:
            now = runtime.clock()
            if not pauses.add(session, scope, reason=reason, actor=options.actor(), now=now):
                output.say(f"Already held: {scope}.")
                return
            details = {"scope": str(scope), "reason": reason}
            audit.write(
                session, AuditAction.PAUSED, actor=options.actor(), now=now, client_id=scope.client_id, details=details
            )
            held = pauses.held(session, scope)
    output.say(f"Held: {scope}. {held} waiting messages stay until `notifyctl resume`.")


def resume(channel: OfChannel = None, template: OfTemplate = None, client: OfClient = None) -> None:
    """Let go what `pause` with the same options held."""
    from notifyctl.models.audit import AuditAction
    from notifyctl.store import audit, pauses

    with options.runtime() as runtime:
        scope = _scope(runtime, channel, template, client)
        with runtime.database.transaction() as session:
            now = runtime.clock()
            held = pauses.held(session, scope)
            if not pauses.remove(session, scope):
                raise NotFound(f"nothing is held by {scope}; `notifyctl pause` without options lists what is")
            audit.write(
                session,
                AuditAction.RESUMED,
                actor=options.actor(),
                now=now,
                client_id=scope.client_id,
                details={"scope": str(scope)},
            )
    output.say(f"Let go: {scope}. {held} waiting messages go out, unless something else holds them.")


def _list(runtime: "Runtime", form: options.OutputFormat) -> None:
    from notifyctl.store import pauses

    with runtime.database.read() as session:
        rows = [
            {
                "channel": row.channel,
                "template": row.template_key,
                "client": row.client_id,
                "held": pauses.held(session, pauses.scope_of(row)),
                "reason": row.reason,
                "by": row.actor,
                "since": row.created_at,
            }
            for row in pauses.everything(session)
        ]
    output.rows(rows, form, columns=("channel", "template", "client", "held", "reason", "by", "since"))
    if not rows and form is options.OutputFormat.TABLE:
        output.say("Nothing is held.")


def _scope(
    runtime: "Runtime", channel: options.ChannelName | None, template: str | None, client: str | None
) -> "Scope":
    from notifyctl.store import clients, templates
    from notifyctl.store.pauses import Scope

    if not (channel or template or client):
        raise InvalidInput("say what: --channel, --template or --client")
    with runtime.database.read() as session:
        if template and template not in templates.by_key(session, [template]):
            raise NotFound(f"There is no template {template!r}; `notifyctl templates list` shows those there are")
        if client and clients.get(session, client) is None:
            raise NotFound(f"there is no client {client!r}; `notifyctl clients list` shows those there are")
    return Scope(channel.value if channel else None, template, client)
