"""`notifyctl worker`: the daemon."""

from typing import Annotated

import typer

from notifyctl.cli import options


def add_to(app: typer.Typer) -> None:
    app.command()(worker)


def worker(
    once: Annotated[bool, typer.Option("--once", help="Send what is due, then exit.")] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=2_000, help="SMS calls at once.")] = 100,
) -> None:
    """Send what is queued, until SIGTERM.

    The first SIGTERM or SIGINT claims no more, finishes what is on the way and exits 0. A second one exits at once;
    what was on the way is then looked up at the provider before anything is sent again.
    """
    from notifyctl.models.template import Channel
    from notifyctl.providers.senders import build_senders
    from notifyctl.worker.daemon import Worker
    from notifyctl.worker.logs import configure_logging

    configure_logging(debug=options.given.get().debug)
    with options.runtime() as runtime:
        channels = [Channel.EMAIL, Channel.SMS] if runtime.settings.sms_enabled else [Channel.EMAIL]
        daemon = Worker(runtime, build_senders(runtime.settings, channels, concurrency), once=once)
        daemon.stop_on_signals()
        daemon.run()
