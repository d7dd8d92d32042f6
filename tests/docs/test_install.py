"""The steps of install.md that can be taken without root and systemd, on a PostgreSQL and a sandbox."""

import os
import re
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from notifyctl.sandbox import Email, Sandbox
from tests.support.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "install.md"
NOT_OURS = ("systemctl ", "chown ", "install ")
"""What takes root or systemd; `install` makes a folder for a user that is not there."""


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}: .*?-->\n```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return "\n".join(line for line in found[1].splitlines() if not line.startswith(NOT_OURS))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_steps_lead_to_a_german_mail_and_a_doctor_that_finds_nothing(
    database_url: str, sandbox: Sandbox, processes: Processes, tmp_path: Path
) -> None:
    etc, program, units = tmp_path / "etc", Path(sys.executable).parent / "notifyctl", tmp_path / "system"
    (tmp_path / "bin").mkdir()
    etc.mkdir()
    instead = {
        "/opt/notifyctl/bin/notifyctl": str(program),
        "/etc/notifyctl": str(etc),
        "/usr/local/bin/notifyctl": str(tmp_path / "bin" / "notifyctl"),
        "/etc/systemd/system": str(units),
        "/var/lib/notifyctl": str(tmp_path),
        "postgresql:///notifyctl": database_url,
        "runuser -u notifyctl -- ": "",
    }
    variables = {
        "PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "POSTMARK_API_URL": sandbox.url,
        "QUIET_HOURS": "00:00-00:00",
    }

    def run(*names: str) -> str:
        script = "\n".join(map(block, names))
        for theirs, ours in instead.items():
            script = script.replace(theirs, ours)
        ran = processes.run("bash", "-euo", "pipefail", "-c", script, env=variables, cwd=tmp_path)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    run("settings", "command", "tables", "units")
    assert (etc / "env").stat().st_mode & 0o777 == 0o600
    [service] = re.findall("^ExecStart=(.*)", (units / "notifyctl.service").read_text(), re.MULTILINE)
    worker = processes.start(
        *service.replace("/opt/notifyctl/bin/notifyctl", str(program)).split(),
        env=variables | {"NOTIFYCTL_ENV_FILE": str(etc / "env"), "STATE_DIRECTORY": str(tmp_path)},
    )
    run("mail")
    deadline = monotonic() + 30
    while not (mails := sandbox.messages()):
        assert monotonic() < deadline, processes.said_by(worker)
        sleep(0.05)
    [mail] = mails
    assert isinstance(mail, Email)
    assert mail.subject == "Ihr Konto ist eingerichtet"
    assert str(mail.sender) == '"Muster GmbH" <hallo@muster.example>'
    assert "Hafenstraße 1, 20457 Hamburg" in mail.text
    said = run("well")
    assert "acme-prod  last 1 h" in said
    assert {line.split("  ")[0]: line for line in said.splitlines() if re.search(r"  (warn|fail)  ", line)} == {}
    worker.terminate()
    assert worker.wait(30) == 0
