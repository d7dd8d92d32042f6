"""A real PgBouncer before the suite's PostgreSQL, with PgBouncer's own defaults."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import make_url

from tests.support.processes import Processes

Pooled = Callable[..., str]
"""From a pool mode, and lines for the configuration, to the URL of this test's database by that way."""
PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
ABSENT = "there is no pgbouncer here; Debian has it as a package of that name"


def start_pooler(database_url: str, processes: Processes, mode: str, *lines: str) -> str:
    assert PROGRAM is not None, ABSENT
    server = make_url(database_url)
    folder = str(server.query["host"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    config = processes.folder / f"pgbouncer-{port}.ini"
    config.write_text(
        "\n".join(
            [
                "[databases]",
                f"{server.database} = host={folder} user={server.username}",
                "[pgbouncer]",
                "listen_addr = 127.0.0.1",
                f"listen_port = {port}",
                "unix_socket_dir =",
                "auth_type = any",
                f"pool_mode = {mode}",
                *lines,
            ]
        )
    )
    # It refuses to run as root.
    user = ["-u", Path(folder).owner()] if os.geteuid() == 0 else []
    processes.start(PROGRAM, *user, config)
    url = server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    wait_for_port(port)
    return url


def wait_for_port(port: int) -> None:
    """Whether it lets anybody in is for the test to see."""
    deadline = monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert monotonic() < deadline
            sleep(0.05)
        else:
            return
