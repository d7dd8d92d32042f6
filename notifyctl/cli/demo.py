"""`notifyctl demo`: the main job from end to end, on a database and a sandbox of its own."""

import logging
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from notifyctl.cli import output
from notifyctl.cli.demo_steps import run_demo
from notifyctl.stopping import interrupt_on_signal

app = typer.Typer()


@app.command()
def demo(
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep the inbox, the server and a worker up until Ctrl-C.")
    ] = False,
) -> None:
    """See the main job once: clients, templates, every gate, a retry, Stripe's webhooks, a backlog, an explanation."""
    interrupt_on_signal()  # its folder has keys in it, and is to be gone whatever ends it
    logging.getLogger("notifyctl").addHandler(logging.NullHandler())  # what the worker logs is shown in the sections
    with tempfile.TemporaryDirectory(prefix="notifyctl-demo-") as folder:
        run_demo(Path(folder), stay=stay)
    if not stay:
        output.say()
        output.say("Nothing of it is kept. `notifyctl demo --stay` keeps the inbox open.")
