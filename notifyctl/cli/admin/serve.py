"""`notifyctl serve`: the HTTP API."""

import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output
from notifyctl.cli.invocation import invocation
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import ExitCode
from notifyctl.http.server import ApiServer, create_app, listen, url_of
from notifyctl.worker import systemd
from notifyctl.worker.logging import configure_logging
from notifyctl.worker.supervisor import Supervisor, this_program

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on; HTTP_HOST when not given.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="HTTP_PORT when not given; 0 takes any free one.", show_default=False
        ),
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, help="Processes that answer.")] = 1,
    listener_fd: Annotated[
        int | None, typer.Option("--listener-fd", hidden=True, help="The socket of a supervisor.")
    ] = None,
) -> None:
    """Answer HTTP requests, until SIGTERM.

    The first SIGTERM, SIGINT, SIGQUIT or SIGHUP takes no more connections, answers what was asked already and
    exits 0. A second, other than SIGHUP, exits at once. Messages are only accepted here: `notifyctl worker` sends them.
    While the database is away, at the start as later, what needs it is answered with 503.
    """
    configure_logging(debug=invocation.get().debug)
    if listener_fd is None:
        options.log_remarks("notifyctl.http")
    with opened_runtime(lasting=True) as runtime:
        if listener_fd is not None:
            _answer(runtime, _inherited(listener_fd))
            return
        settings = runtime.settings
        listener = listen(settings.http_host if host is None else host, settings.http_port if port is None else port)
        if processes == 1:
            _answer(runtime, listener, started=partial(_announce, listener, processes))
            return
    _supervise(listener, processes)


def _answer(runtime: Runtime, listener: "socket.socket", started: Callable[[], None] = lambda: None) -> None:
    def tell(state: str) -> None:
        systemd.notify(state)
        if state == "READY=1":
            started()

    ApiServer(create_app(runtime), listener, tell=tell, alive_every=systemd.watchdog_seconds()).run()


def _announce(listener: "socket.socket", processes: int) -> None:
    url = url_of(listener)
    logging.getLogger("notifyctl.http").info("listening", extra={"url": url, "processes": processes})
    if sys.stderr.isatty():
        output.say(f"The page is at {url}/admin; `notifyctl open` prints a link that signs you in.")


def _inherited(descriptor: int) -> "socket.socket":
    return socket.socket(fileno=descriptor)


def _supervise(listener: "socket.socket", processes: int) -> None:
    before_command = invocation.get()
    arguments = ["--env-file", str(before_command.env_file)] if before_command.env_file else []
    arguments += ["--debug"] if before_command.debug else []
    arguments += ["serve", "--listener-fd", str(listener.fileno())]
    code = Supervisor(
        this_program(*arguments),
        processes,
        restart=True,
        pass_fds=[listener.fileno()],
        started=partial(_announce, listener, processes),
    ).run()
    if code:
        raise typer.Exit(code if code in set(ExitCode) else ExitCode.FAILED)
