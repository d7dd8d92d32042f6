"""`notifyctl serve`: the HTTP API."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from notifyctl.cli import options
from notifyctl.errors import ExitCode
from notifyctl.stopping import exit_on_signal

if TYPE_CHECKING:
    import socket

    from notifyctl.bootstrap import Runtime


def add_to(app: typer.Typer) -> None:
    app.command()(serve)


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

    The first SIGTERM, SIGINT or SIGHUP takes no more connections, answers what was asked already and exits 0. A second
    SIGTERM or SIGINT exits at once. Messages are only accepted here: `notifyctl worker` sends them.
    While the database is away, at the start as later, what needs it is answered with 503.
    """
    exit_on_signal()
    from notifyctl.http.server import listen
    from notifyctl.worker.logs import configure_logging

    configure_logging(debug=options.given.get().debug)
    if listener_fd is None:
        options.log_remarks("notifyctl.http")
    with options.runtime(lasting=True) as runtime:
        if listener_fd is not None:
            _answer(runtime, _inherited(listener_fd))
            return
        settings = runtime.settings
        listener = listen(settings.http_host if host is None else host, settings.http_port if port is None else port)
        if processes == 1:
            _answer(runtime, listener, started=partial(_announce, listener, processes))
            return
    _supervise(listener, processes)


def _answer(runtime: "Runtime", listener: "socket.socket", started: Callable[[], None] = lambda: None) -> None:
    from notifyctl.http.app import create_app
    from notifyctl.http.server import ApiServer
    from notifyctl.worker import service_manager

    def tell(state: str) -> None:
        service_manager.tell(state)
        if state == "READY=1":
            started()

    ApiServer(create_app(runtime), listener, tell=tell, alive_every=service_manager.watchdog_seconds()).run()


def _announce(listener: "socket.socket", processes: int) -> None:
    import logging

    from notifyctl.http.server import url_of

    logging.getLogger("notifyctl.http").info("listening", extra={"url": url_of(listener), "processes": processes})


def _inherited(descriptor: int) -> "socket.socket":
    import socket

    return socket.socket(fileno=descriptor)


def _supervise(listener: "socket.socket", processes: int) -> None:
    from notifyctl.worker.supervisor import Supervisor, this_program

    given = options.given.get()
    arguments = ["--env-file", str(given.env_file)] if given.env_file else []
    arguments += ["--debug"] if given.debug else []
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
