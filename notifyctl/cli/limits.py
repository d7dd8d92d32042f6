"""`notifyctl limits`: how many messages of a channel a minute, over all workers."""

from typing import Annotated, Any

import typer

from notifyctl.cli import options, output
from notifyctl.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="The global per-minute limits.")

Channel = Annotated[options.ChannelName, typer.Argument(metavar="EMAIL|SMS", case_sensitive=False, help="The channel.")]
COLUMNS = ("channel", "per_minute_limit", "source", "used", "waiting")


@app.command()
def show(form: options.Format = options.OutputFormat.TABLE) -> None:
    """The limits in force, where they come from, and how much of the present minute is used."""
    from notifyctl.models.template import Channel as ChannelKind

    with options.runtime() as runtime, runtime.database.read() as session:
        found = [_limit(runtime, session, ChannelKind(channel.value)) for channel in options.ChannelName]
    output.rows(found, form, columns=COLUMNS)


def _limit(runtime: Any, session: Any, channel: Any) -> dict[str, Any]:
    from notifyctl.delivery.allowance import Allowance
    from notifyctl.store import limits, outbox

    by_operator = limits.per_minute(session, channel)
    limit = by_operator or runtime.settings.per_minute_limit(channel)
    allowance = Allowance(channel, limit, runtime.clock, stopwatch=runtime.stopwatch)
    allowance.read(session)
    return {
        "channel": channel,
        "per_minute_limit": limit,
        "source": "operator" if by_operator else "environment",
        "used": allowance.used,
        "waiting": outbox.waiting(session, channel),
    }


@app.command("set")
def set_limit(
    channel: Channel,
    per_minute: Annotated[int, typer.Argument(metavar="PER_MINUTE", min=1, help="Messages a minute.")],
) -> None:
    """Set a limit for all workers at once. It wins over the environment until `limits reset`."""
    from notifyctl.models.template import Channel as ChannelKind
    from notifyctl.store import limits

    _change(channel, lambda session, now: limits.set_per_minute(
        session, ChannelKind(channel.value), per_minute, actor=options.actor(), now=now
    ), {"per_minute_limit": per_minute})  # fmt: skip
    output.say(f"{channel} is limited to {per_minute} a minute.")


@app.command()
def reset(channel: Channel) -> None:
    """Go back to the limit of the environment."""
    from notifyctl.models.template import Channel as ChannelKind
    from notifyctl.store import limits

    def change(session: Any, _now: Any) -> None:
        if not limits.reset(session, ChannelKind(channel.value)):
            raise NotFound(f"no limit is set for {channel}; the environment's is in force already")

    _change(channel, change, {"per_minute_limit": None})
    output.say(f"{channel} is limited by the environment again.")


def _change(channel: options.ChannelName, change: Any, details: dict[str, Any]) -> None:
    from notifyctl.models.audit import AuditAction
    from notifyctl.store import audit

    with options.runtime() as runtime, runtime.database.transaction() as session:
        now = runtime.clock()
        change(session, now)
        about = {"channel": channel.value} | details
        audit.write(session, AuditAction.LIMIT_CHANGED, actor=options.actor(), now=now, details=about)
