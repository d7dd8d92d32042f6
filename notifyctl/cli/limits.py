"""`notifyctl limits`: how many messages of a channel a minute, over all workers."""

from typing import Annotated

import typer
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.delivery.allowance import Allowance
from notifyctl.models.enums import Channel
from notifyctl.operations.controls import reset_limit, set_limit
from notifyctl.store import outbox
from notifyctl.store.limits import per_minute

app = typer.Typer(name="limits", no_args_is_help=True)

LimitedChannel = Annotated[Channel, typer.Argument(metavar="EMAIL|SMS", case_sensitive=False, help="The channel.")]
COLUMNS = ("channel", "per_minute_limit", "source", "used", "waiting")


@app.command()
def show(form: options.Format = OutputFormat.TABLE) -> None:
    """The limits in force, where they come from, and how much of the present minute is used."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        limits = [_limit(runtime, session, channel) for channel in Channel]
    output.rows(limits, form, columns=COLUMNS)


def _limit(runtime: Runtime, session: Session, channel: Channel) -> dict[str, object]:
    by_operator = per_minute(session, channel)
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
def set_per_minute(
    channel: LimitedChannel,
    limit: Annotated[int, typer.Argument(metavar="PER_MINUTE", min=1, help="Messages a minute.")],
) -> None:
    """Set a limit for all workers at once. It wins over the environment until `limits reset`."""
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        set_limit(session, channel, limit, actor=options.actor(), now=runtime.clock())
    output.say(f"{channel} is limited to {limit} a minute.")


@app.command()
def reset(channel: LimitedChannel) -> None:
    """Go back to the limit of the environment."""
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        reset_limit(session, channel, actor=options.actor(), now=runtime.clock())
    output.say(f"{channel} is limited by the environment again.")
