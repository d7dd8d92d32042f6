"""Where files are looked for and made: a home directory that is there or not, and what only `db upgrade` may make."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.settings import PEPPER, SECRET

Run = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = """
import os, pwd, runpy, sys

def nobody(*_):
    raise KeyError("getpwuid(): uid not found")

pwd.getpwuid = pwd.getpwnam = nobody
sys.argv[0] = "notifyctl"
runpy.run_module("notifyctl", run_name="__main__")
"""
"""The program, run by a user without an entry in passwd."""

READING = [
    ["db", "status"], ["health"], ["health", "recent"], ["monitor"], ["doctor"], ["config"], ["clients", "list"],
    ["messages", "list"], ["workers"], ["limits", "show"], ["jobs", "list"], ["audit", "verify"], ["templates", "diff"],
    ["suppressions", "list"], ["compliance", "list"], ["keys", "list"], ["stripe", "events"], ["otp", "status", "+491"],
    ["worker", "--once"], ["serve", "--port", "0"], ["send", "WELCOME_EMAIL", "--client", "ann"], ["templates", "seed"],
    ["jobs", "run", "audit_seal"],
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "work").mkdir()

    def run(*arguments: str, program: tuple[str, ...] = ("-m", "notifyctl"), **more: str) -> Any:
        variables = {"PATH": os.environ["PATH"], "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, **more}
        return subprocess.run(
            [sys.executable, *program, *arguments],
            env=variables, cwd=tmp_path / "work", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_tilde_in_the_database_url_is_the_home_directory(run: Run, tmp_path: Path) -> None:
    url, home = "sqlite:///~/notifyctl/n.db", {"HOME": str(tmp_path)}
    ran = run("db", "upgrade", DATABASE_URL=url, **home)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "notifyctl" / "n.db").is_file()
    assert made(tmp_path / "work") == []
    assert run("clients", "list", DATABASE_URL=url, **home).returncode == 0


def test_what_cannot_be_a_home_directory_is_refused(run: Run, tmp_path: Path) -> None:
    for url in ("sqlite:///~nobody-of-that-name/n.db", "sqlite:////~/n.db", "sqlite:///$HOME/n.db"):
        ran = run("db", "upgrade", DATABASE_URL=url, HOME=str(tmp_path))
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert ran.stderr.startswith("notifyctl: DATABASE_URL ")
    assert made(tmp_path) == ["work"]


ALL_OF_THEM = """
import contextlib, io, json, sys
from notifyctl.cli.main import main

told = []
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main(arguments)
    told.append(said.getvalue())
print(json.dumps(told))
"""


def test_nothing_is_made_where_there_is_no_database(run: Run, tmp_path: Path) -> None:
    mistyped = f"{tmp_path}/work/vra/n.db"
    variables = {"DATABASE_URL": f"sqlite:///{mistyped}", "HOME": str(tmp_path), "COLUMNS": "400"}
    ran = run(json.dumps(READING), program=("-c", ALL_OF_THEM), **variables)
    assert made(tmp_path) == ["work"]
    for arguments, told in zip(READING, json.loads(ran.stdout), strict=True):
        assert mistyped in told, arguments
        assert "unexpected" not in told, arguments


def test_an_upgrade_makes_no_path_that_may_be_mistyped(run: Run, tmp_path: Path) -> None:
    ran = run("db", "upgrade", DATABASE_URL=f"sqlite:///{tmp_path}/work/vra/lib/n.db")
    assert (ran.returncode, ran.stderr) == (
        5,
        f"notifyctl: There is no folder {tmp_path}/work/vra for a database; make it, or check DATABASE_URL\n",
    )
    assert made(tmp_path) == ["work"]


def test_an_upgrade_of_a_file_that_was_not_there_says_so(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/data/n.db"
    told = f"There was no database file {tmp_path}/data/n.db: it is a new one."
    assert told in run("db", "upgrade", DATABASE_URL=url).stderr
    assert told not in run("db", "upgrade", DATABASE_URL=url).stderr


def test_the_default_database_is_made_with_its_folders(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    assert run("db", "upgrade", HOME=str(tmp_path / "home")).returncode == 0
    assert (tmp_path / "home" / ".local/share/notifyctl/notifyctl.db").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["config"], ["init"], ["monitor"], ["db", "status"], ["doctor"], ["health"], ["clients", "set", "ann"]],
    ids=" ".join,
)
def test_nobody_needs_a_home_or_an_entry_in_passwd(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    url = f"sqlite:///{tmp_path}/n.db"
    assert run("db", "upgrade", DATABASE_URL=url).returncode == 0
    ran = run(*arguments, program=("-c", NOBODY), DATABASE_URL=url)
    assert "unexpected" not in ran.stdout + ran.stderr
    assert ran.returncode == (1 if arguments == ["doctor"] else 0), ran.stderr


@pytest.mark.parametrize("arguments", [["config"], ["health"], ["db", "upgrade"], ["init"]], ids=" ".join)
def test_without_a_home_the_default_database_is_asked_for(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    ran = run(*arguments, program=("-c", NOBODY))
    assert "unexpected" not in ran.stderr
    if arguments == ["init"]:
        assert (ran.returncode, "#DATABASE_URL=\n" in (tmp_path / "work" / ".env").read_text()) == (0, True)
    else:
        assert ran.returncode == 2
        assert "notifyctl: DATABASE_URL is not set, and there is no home directory to keep a database in" in ran.stderr


def test_a_tilde_in_the_name_of_the_env_file_is_the_home_directory(run: Run, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "DATABASE_URL": "sqlite:///n.db"}
    assert run("--env-file=~/env", "init", **home).returncode == 0
    assert made(tmp_path) == ["env", "work"]
    assert run("config", NOTIFYCTL_ENV_FILE="~/env", **home).returncode == 0
    assert run("config", NOTIFYCTL_ENV_FILE="~nobody-of-that-name/env", **home).returncode == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_working_directory_that_is_not_ours_has_no_env_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "work").chmod(0o600)
    assert run("config", DATABASE_URL=f"sqlite:///{tmp_path}/n.db").returncode == 0


@pytest.mark.parametrize("command", [["worker", "--once"], ["serve", "--port", "0"]], ids=" ".join)
def test_a_daemon_tells_in_its_log_of_names_that_are_no_settings(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "work" / ".env").write_text("EMAIL_SENDR=x\n")
    ran = run(*command, DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    assert "EMAIL_SENDR is no setting of notifyctl and has no effect; did you mean EMAIL_SENDER?" in ran.stderr
    assert ran.returncode == 5
