"""A Python that has imported notifyctl, and forks a process for each program that it is asked for.

`python -P warm_parent.py DESCRIPTOR`: the descriptor is a socket on which requests come, with stdin, stdout and stderr
of the program. To import takes a second of the CPU, more than nearly all that a test's program does afterwards. A fork
is a process like any other: killed, stopped and waited for on its own, with its own environment and folder.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
import time
from typing import Any

LARGEST_REQUEST = 1024**2
LOADED_LATE = (
    "alembic.command",
    "alembic.ddl.sqlite",
    "anyio._backends._asyncio",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "tabulate",
    "twilio.rest.api.v2010",
    "uvicorn.lifespan.on",
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.httptools_impl",
)
"""By libraries, when they are first used."""


def import_all() -> None:
    import notifyctl

    for module in pkgutil.walk_packages(notifyctl.__path__, "notifyctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LOADED_LATE:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError("a module that was imported has started a thread, which no fork has")


def await_program(requests: socket.socket) -> dict[str, Any]:
    """Returns in a process of the program's own only; the parent ends when nobody can ask any more."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, 3)
        if not message:
            os._exit(0)
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            # Whoever asked is to wait for the program itself: it takes it over as an orphan.
            child = os.fork()
            if child == 0:
                for end in (told, tell):
                    os.close(end)
                for place, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, place)
                    os.close(descriptor)
                requests.close()
                return dict(json.loads(message))
            os.write(tell, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        requests.send(os.read(told, 100))
        for descriptor in (told, tell, *descriptors):
            os.close(descriptor)


def become(program: dict[str, Any]) -> None:
    """Its exit is the interpreter's own, as that of any program."""
    if program["new_session"]:
        os.setsid()
    if program["process_group"] is not None:
        os.setpgid(0, program["process_group"])
    os.environ.clear()
    os.environ.update(program["environment"])
    time.tzset()
    os.chdir(program["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_streams()
    module, *arguments = program["command"]
    if module.endswith(".py"):
        sys.argv = [module, *arguments]
        sys.path.insert(0, os.path.dirname(module))
        runpy.run_path(module, run_name="__main__")
    else:
        sys.argv = [module, *arguments]
        sys.path.insert(0, program["folder"])
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _open_streams() -> None:
    """As the interpreter does when it starts."""
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "closefd": False}
    stdin, stdout, stderr = (
        open(0, **options),  # noqa: SIM115  until the end
        open(1, "w", buffering=1 if os.isatty(1) else -1, **options),  # noqa: SIM115  until the end
        open(2, "w", buffering=1, **options | {"errors": "backslashreplace"}),  # noqa: SIM115  until the end
    )
    sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = stdin, stdout, stderr  # type: ignore[misc]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    gc.collect()
    gc.freeze()
    become(await_program(socket.socket(fileno=int(sys.argv[1]))))
