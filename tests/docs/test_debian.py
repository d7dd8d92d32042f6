"""install.md and templates.md, walked block by block in an empty Debian whose first process is systemd."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.debian import Debian, what_is_missing
from tests.support.processes import watch

pytestmark = [pytest.mark.installation, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
SOURCE = "usr/local/src/notifyctl"
UNITS = ("notifyctl", "notifyctl-http")
STEPS = ("packages", "program", "database", "settings", "command", "tables", "units", "mail", "well")
ONLY_DOWNLOAD = 'APT::Get::Assume-Yes "true";\nAPT::Get::Download-Only "true";\n'
"""Services must start in Debian's own network, which leads nowhere: so packages are fetched before that."""
PYTHON = "/opt/notifyctl/bin/python -c"
START_SANDBOX = f"""
systemd-run --quiet --unit=sandbox /opt/notifyctl/bin/notifyctl sandbox
until {PYTHON} "import socket; socket.create_connection(('127.0.0.1', 8026))" 2>/dev/null; do sleep 0.1; done
"""
WORKS = "notifyctl workers --format tsv | grep -q working"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def named(page: str, name: str) -> str:
    found = re.search(rf"<!-- {name}: .*?-->\n```sh\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)
    assert found is not None, name
    return found[1]


@dataclass(frozen=True)
class Installed:
    debian: Debian
    printed: dict[str, str]
    mails: list[dict[str, Any]]
    """What had arrived when the walk was over."""


def inbox(debian: Debian) -> list[dict[str, Any]]:
    address = "http://127.0.0.1:8026/inbox.json"
    said = debian.run(f"{PYTHON} 'import urllib.request as web; print(web.urlopen(\"{address}\").read().decode())'")
    mails: list[dict[str, Any]] = json.loads(said)
    return mails


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    lacking = what_is_missing()
    if lacking is not None:
        pytest.skip(f"an empty Debian takes root, debootstrap, iproute2, cgroup2 and a network; here is not {lacking}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        checkout = Path(folder) / "checkout"
        put_checkout(checkout)  # before minutes in which somebody may work on it
        debian = Debian(Path(folder) / "debian")
        try:
            shutil.move(checkout, debian.root / SOURCE)
            debian.boot()
            yield walk(debian)
        finally:
            debian.close()


def walk(debian: Debian) -> Installed:
    """All lines that install.md has, in its order; what is added to them stands there in words."""
    steps = dict(zip(STEPS, blocks("install.md"), strict=True))
    (debian.root / "etc" / "apt" / "only-download.conf").write_text(ONLY_DOWNLOAD)
    debian.run(f"export APT_CONFIG=/etc/apt/only-download.conf\n{steps['packages']}", downloads=True)
    printed = {"packages": debian.run(steps["packages"])}
    printed["program"] = debian.run(f"cd /{SOURCE}\n{steps['program']}", downloads=True, seconds=900)
    without_key = "POSTMARK_API_URL=http://127.0.0.1:8026"
    assert f"add `{without_key}`" in (ROOT / "docs" / "install.md").read_text()
    steps["settings"] += f"echo {without_key} >> /etc/notifyctl/env\n{START_SANDBOX}"
    for name in ("database", "settings", "command", "tables", "units"):
        printed[name] = debian.run(steps[name])
    debian.until(WORKS)
    printed["mail"] = debian.run(steps["mail"])
    debian.until("notifyctl messages list --client probe | grep -q SENT")
    mails = inbox(debian)
    printed["well"] = debian.run(steps["well"])
    return Installed(debian, printed, mails)


def put_checkout(folder: Path) -> None:
    with watch.known():
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def test_a_mail_in_german_has_come_under_the_companys_name(installed: Installed) -> None:
    [mail] = installed.mails
    assert (mail["from"], mail["subject"]) == ('"Muster GmbH" <hallo@muster.example>', "Ihr Konto ist eingerichtet")
    assert "Hafenstraße 1, 20457 Hamburg" in mail["text"]


def test_the_doctor_finds_nothing_and_health_knows_the_installation(installed: Installed) -> None:
    said = installed.printed["well"]
    assert re.findall(r".*  (?:warn|fail)  .*", said) == []
    assert "acme-prod  last 1 h" in said


def test_every_unit_runs_sealed_off_as_its_own_user(installed: Installed) -> None:
    for unit in UNITS:
        installed.debian.run(f"systemd-analyze security --threshold=20 {unit}")
        installed.debian.run(f"systemctl is-active {unit}")
        pid = installed.debian.run(f"systemctl show -P MainPID {unit}").strip()
        assert installed.debian.run(f"stat -c %U /proc/{pid}") == "notifyctl\n"


def test_the_monitor_and_each_job_run_as_units_too(installed: Installed) -> None:
    there = "cd /etc/systemd/system"
    timers = installed.debian.run(f"{there} && ls notifyctl-*.timer").split()
    assert len(timers) == 8
    for timer in timers:
        # A worker may be at the same job, which is exit 1.
        installed.debian.until(f"systemctl start {timer.replace('.timer', '.service')}")
    # As operations.md says it.
    line = f"{there} && systemctl enable --now notifyctl-*.timer"
    assert f"`{line}`" in (ROOT / "docs" / "operations.md").read_text()
    installed.debian.run(line)
    waiting = installed.debian.run("systemctl list-timers --no-legend 'notifyctl-*'").splitlines()
    assert len(waiting) == len(timers)


@pytest.mark.parametrize("unit", UNITS)
def test_a_killed_process_is_started_again(installed: Installed, unit: str) -> None:
    before = installed.debian.run(f"systemctl show -P MainPID {unit}").strip()
    installed.debian.run(f"kill -9 {before}")
    installed.debian.until(f"now=$(systemctl show -P MainPID {unit}); test $now -gt 0 && test $now != {before}")
    installed.debian.until(f"systemctl is-active {unit}")
    installed.debian.until("notifyctl doctor")


def test_it_comes_back_after_a_reboot(installed: Installed) -> None:
    debian = installed.debian
    before = debian.run("notifyctl workers --format json")
    debian.reboot()
    debian.run(START_SANDBOX)
    for unit in UNITS:
        debian.run(f"systemctl is-active {unit}")
    debian.until(WORKS)
    names = {worker["worker"] for worker in json.loads(debian.run("notifyctl workers --format json"))}
    assert names - {worker["worker"] for worker in json.loads(before)}
    debian.until("notifyctl doctor")


def test_a_database_that_is_away_is_told_and_waited_for(installed: Installed) -> None:
    debian = installed.debian
    debian.run("systemctl stop postgresql")
    try:
        debian.until("journalctl --unit notifyctl --since -1min --priority warning | grep -q 'database unavailable'")
        assert debian.try_("notifyctl health").returncode == 5
        assert debian.try_("notifyctl monitor").stdout.startswith("UNKNOWN - database postgresql")
        assert debian.try_("systemctl start notifyctl-monitor").returncode == 1
        assert debian.try_("systemctl is-failed notifyctl-monitor").stdout == "failed\n"
        ready = "import urllib.request as web; web.urlopen('http://127.0.0.1:8080/readyz')"
        assert "HTTP Error 503" in debian.try_(f'{PYTHON} "{ready}"').stderr
        for unit in UNITS:
            debian.run(f"systemctl is-active {unit}")
    finally:
        debian.run("systemctl start postgresql")
    debian.until("systemctl start notifyctl-monitor && notifyctl doctor")
    debian.until("journalctl --unit notifyctl --lines 3 --output cat | grep -q 'job done'", within=90)


def test_every_line_in_the_journal_says_when_and_what(installed: Installed) -> None:
    lines = installed.debian.run("journalctl --output cat _SYSTEMD_UNIT=notifyctl.service").splitlines()
    assert len(lines) > 5
    assert [line for line in lines if not {"time", "level", "event"} <= json.loads(line).keys()] == []


def test_the_page_on_own_mails_works_there_as_it_stands(installed: Installed) -> None:
    for name in ("brand", "word", "layout", "language"):
        installed.debian.run(f"cd /var/lib/notifyctl\n{named('templates.md', name)}")
        if name == "brand":
            assert "`systemctl restart notifyctl`" in (ROOT / "docs" / "templates.md").read_text()
            installed.debian.run("systemctl restart notifyctl")
    installed.debian.until("notifyctl messages list --client anna | grep -q SENT")
    installed.debian.until("notifyctl messages list --format json --limit 2 | grep -vq QUEUED")
    mails = {mail["subject"]: mail for mail in inbox(installed.debian)}
    assert mails["Il suo account è pronto"]["from"].replace('"', "") == "Acme <hallo@muster.example>"
    assert any("thank you for your trust" in mail["text"] for mail in mails.values())
    installed.debian.until("notifyctl doctor")
