"""The steps of install.md that can be taken without root and systemd, on a PostgreSQL and a sandbox."""

import os
import re
import shutil
import sys
import tempfile
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


IN_AN_EMPTY_DEBIAN = """
root=$1
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" /bin/bash -exu /walk.sh
"""
SYSTEMCTL = """#!/bin/sh
# What systemd would do with the units, without what it holds them by.
[ "$1 $2" = "enable --now" ] || exit 0
shift 2
for unit; do
    case $unit in *.timer) continue ;; esac
    program=$(sed -n 's/^ExecStart=//p' "/etc/systemd/system/$unit.service")
    install -d -m 700 -o notifyctl -g notifyctl /var/lib/notifyctl
    export NOTIFYCTL_ENV_FILE=/etc/notifyctl/env STATE_DIRECTORY=/var/lib/notifyctl
    (cd /var/lib/notifyctl && runuser -u notifyctl -- $program >"/var/log/$unit" 2>&1 &)
done
"""


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("debootstrap") is None,
    reason="it takes root and debootstrap, which Debian has as a package of that name",
)
def test_all_steps_lead_there_from_an_empty_debian(sandbox: Sandbox, processes: Processes) -> None:
    """Minutes: it fetches a Debian, PostgreSQL and every dependency. systemd alone is not itself."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    blocks[0] += "pg_ctlcluster 15 main start\n"  # as it does by itself where systemd runs
    blocks[1] = f"cd /usr/local/src/notifyctl\n{blocks[1]}"
    blocks[3] += f"echo POSTMARK_API_URL={sandbox.url} >> /etc/notifyctl/env\n"
    wait = "until notifyctl workers --format tsv | grep -q working; do sleep 0.2; done\n"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = Path(folder) / "debian"
        made = processes.run(
            "debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root, timeout=600
        )
        assert made.returncode == 0, made.stdout[-2000:]
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
        files = {
            "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
            "usr/local/bin/systemctl": SYSTEMCTL,
            "etc/apt/apt.conf.d/yes": 'APT::Get::Assume-Yes "true";\n',
            "walk.sh": "\n".join([*blocks[:7], wait, *blocks[7:]]),
        }
        for name, text in files.items():
            (root / name).write_text(text)
            (root / name).chmod(0o755)
        source = root / "usr/local/src/notifyctl"
        source.mkdir()
        ran = processes.run("sh", "-c", f"git -C {ROOT} archive HEAD | tar -x -C {source}")
        assert ran.returncode == 0, ran.stderr
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        variables = kept | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        variables["DEBIAN_FRONTEND"] = "noninteractive"
        ours = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        walked = processes.run(*ours, "sh", "-c", IN_AN_EMPTY_DEBIAN, "sh", root, env=variables, timeout=600)
        assert walked.returncode == 0, (walked.stdout + walked.stderr)[-4000:]
    [mail] = sandbox.messages()
    assert isinstance(mail, Email)
    assert (str(mail.sender), mail.subject) == ('"Muster GmbH" <hallo@muster.example>', "Ihr Konto ist eingerichtet")
    said = walked.stdout + walked.stderr
    assert [line for line in said.splitlines() if re.search(r"  (warn|fail)  ", line)] == []
