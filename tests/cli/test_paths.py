"""Where files are looked for and made: a home directory that is there or not, and what only `db upgrade` may make."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from notifyctl.errors import ExitCode
from tests.support.processes import NOTIFYCTL, Processes
from tests.support.settings import PEPPER, SECRET

Run = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = """
import pwd, runpy, sys

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
    ["worker", "--once"], ["send", "WELCOME_EMAIL", "--client", "ann"], ["templates", "seed"],
    ["jobs", "run", "audit_seal"],
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """All that may be written to, apart from what is kept of the programs' output."""
    place = tmp_path / "place"
    (place / "site").mkdir(parents=True)
    return place


@pytest.fixture
def variables() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER}


@pytest.fixture
def run(processes: Processes, place: Path, variables: dict[str, str]) -> Run:
    """notifyctl, or a script of its own."""

    def run(*arguments: str, script: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        program: tuple[str | Path, ...] = NOTIFYCTL
        if script:
            program = (sys.executable, processes.folder / "script.py")
            (processes.folder / "script.py").write_text(script)
        return processes.run(*program, *arguments, env=variables | more, cwd=place / "site")

    return run


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_tilde_in_the_database_url_is_the_home_directory(run: Run, place: Path) -> None:
    url, home = "sqlite:///~/notifyctl/n.db", {"HOME": str(place)}
    ran = run("db", "upgrade", DATABASE_URL=url, **home)
    assert ran.returncode == 0, ran.stderr
    assert (place / "notifyctl" / "n.db").is_file()
    assert made(place / "site") == []
    assert run("clients", "list", DATABASE_URL=url, **home).returncode == 0


def test_what_cannot_be_a_home_directory_is_refused(run: Run, place: Path) -> None:
    for url in ("sqlite:///~nobody-of-that-name/n.db", "sqlite:////~/n.db", "sqlite:///$HOME/n.db"):
        ran = run("db", "upgrade", DATABASE_URL=url, HOME=str(place))
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert ran.stderr.startswith("notifyctl: DATABASE_URL ")
    assert made(place) == ["site"]


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


def test_nothing_is_made_where_there_is_no_database(run: Run, place: Path) -> None:
    mistyped = f"{place}/site/vra/n.db"
    variables = {"DATABASE_URL": f"sqlite:///{mistyped}", "HOME": str(place), "COLUMNS": "400"}
    ran = run(json.dumps(READING), script=ALL_OF_THEM, **variables)
    assert made(place) == ["site"]
    for arguments, told in zip(READING, json.loads(ran.stdout), strict=True):
        assert mistyped in told, arguments
        assert "unexpected" not in told, arguments


def test_an_upgrade_makes_no_path_that_may_be_mistyped(run: Run, place: Path) -> None:
    ran = run("db", "upgrade", DATABASE_URL=f"sqlite:///{place}/site/vra/lib/n.db")
    assert (ran.returncode, ran.stderr) == (
        5,
        f"notifyctl: there is no folder {place}/site/vra for a database; make it, or check DATABASE_URL\n",
    )
    assert made(place) == ["site"]


def test_an_upgrade_of_a_file_that_was_not_there_says_so(run: Run, place: Path) -> None:
    url = f"sqlite:///{place}/data/n.db"
    told = f"There was no database file {place}/data/n.db: it is a new one."
    assert told in run("db", "upgrade", DATABASE_URL=url).stderr
    assert told not in run("db", "upgrade", DATABASE_URL=url).stderr


def test_no_empty_database_is_made_beside_the_one_of_before_whose_blank_is_written_otherwise(
    run: Run, place: Path
) -> None:
    """Up to 1.0.0 the path in DATABASE_URL was decoded, and `db upgrade` is the first command of each upgrade."""
    (place / "my app").mkdir()
    kept, encoded = f"sqlite:///{place}/my app/n.db", f"sqlite:///{place}/my%20app/n.db"
    assert run("db", "upgrade", DATABASE_URL=kept).returncode == 0
    before = made(place)
    told = f"a path in DATABASE_URL is taken as it stands; write {kept}\n"
    for arguments in (["db", "upgrade"], ["health"], ["worker", "--once"]):
        ran = run(*arguments, DATABASE_URL=encoded)
        assert (ran.returncode, told in ran.stderr) == (5, True), ran.stderr
    assert made(place) == before


@pytest.mark.parametrize(
    ("script", "home", "told"),
    [
        (NOBODY, {}, "there is no home directory; set HOME to a folder that may be written to"),
        ("", {"HOME": "/proc/nobody"}, "/proc/nobody cannot be used: No such file or directory; see whether it is"),
    ],
    ids=["none", "one that cannot be made"],
)
def test_a_completion_that_cannot_be_installed_says_where(
    script: str, home: dict[str, str], told: str, run: Run
) -> None:
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else it is whatever shell the tests run in
    ran = run("--install-completion", "bash", script=script, **home, **named)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith(f"notifyctl: {told}")


def test_the_default_database_is_made_with_its_folders(run: Run, place: Path) -> None:
    (place / "home").mkdir()
    assert run("db", "upgrade", HOME=str(place / "home")).returncode == 0
    assert (place / "home" / ".local/share/notifyctl/notifyctl.db").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["config"], ["init"], ["monitor"], ["db", "status"], ["doctor"], ["health"], ["clients", "set", "ann"]],
    ids=" ".join,
)
def test_nobody_needs_a_home_or_an_entry_in_passwd(run: Run, place: Path, arguments: list[str]) -> None:
    url = f"sqlite:///{place}/n.db"
    assert run("db", "upgrade", DATABASE_URL=url).returncode == 0
    ran = run(*arguments, script=NOBODY, DATABASE_URL=url)
    assert "unexpected" not in ran.stdout + ran.stderr
    assert ran.returncode == (1 if arguments in (["doctor"], ["monitor"]) else 0), ran.stderr


@pytest.mark.parametrize("arguments", [["config"], ["health"], ["db", "upgrade"], ["init"]], ids=" ".join)
def test_without_a_home_the_default_database_is_asked_for(run: Run, place: Path, arguments: list[str]) -> None:
    ran = run(*arguments, script=NOBODY)
    assert "unexpected" not in ran.stderr
    if arguments == ["init"]:
        assert (ran.returncode, "#DATABASE_URL=\n" in (place / "site" / ".env").read_text()) == (0, True)
    else:
        assert ran.returncode == 2
        assert "notifyctl: DATABASE_URL is not set, and there is no home directory to keep a database in" in ran.stderr


@pytest.mark.parametrize("name", ["Mein Büro", "50%41 off", "a#b"])
def test_an_installation_lives_where_its_folder_stands_whatever_that_is_called(
    run: Run, place: Path, name: str
) -> None:
    folder, file = place / name, place / name / ".env"
    folder.mkdir()
    set_up = run("init", "--sandbox", "--env-file", str(file), LC_ALL="POSIX")
    assert f"sqlite:///{folder}/notifyctl.db is at revision" in set_up.stderr
    assert run("--env-file", str(file), "db", "backup", str(folder / "now?.backup")).returncode == 0
    assert made(place) == sorted([name, *(f"{name}/{one}" for one in (".env", "notifyctl.db", "now?.backup")), "site"])
    plain = name if set(name).isdisjoint("%#") else "notifyctl.db"
    assert run("--env-file", str(file), "health", COLUMNS="200").stdout.startswith(f"{plain}  last 1 h")


def test_a_tilde_in_the_name_of_the_env_file_is_the_home_directory(run: Run, place: Path) -> None:
    home = {"HOME": str(place), "DATABASE_URL": "sqlite:///n.db"}
    assert run("--env-file=~/env", "init", **home).returncode == 0
    assert made(place) == ["env", "site"]
    assert run("config", NOTIFYCTL_ENV_FILE="~/env", **home).returncode == 0
    assert run("config", NOTIFYCTL_ENV_FILE="~nobody-of-that-name/env", **home).returncode == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_working_directory_that_is_not_ours_has_no_env_file(
    processes: Processes, place: Path, variables: dict[str, str]
) -> None:
    variables["DATABASE_URL"] = f"sqlite:///{place}/n.db"
    shut = ("bash", "-c", 'chmod 600 . && exec "$@"', "bash")
    ran = processes.run(*shut, *NOTIFYCTL, "config", env=variables, cwd=place / "site")
    assert ran.returncode == 0, ran.stderr


MISSPELT = "EMAIL_SENDR is no setting of notifyctl and has no effect; did you mean EMAIL_SENDER?"


def test_a_worker_tells_in_its_log_of_names_that_are_no_settings(run: Run, place: Path) -> None:
    (place / "site" / ".env").write_text("EMAIL_SENDR=x\n")
    ran = run("worker", "--once", DATABASE_URL=f"sqlite:///{place}/none.db")
    assert MISSPELT in ran.stderr
    assert ran.returncode == 5


def test_serve_tells_of_them_and_makes_no_database(
    processes: Processes, place: Path, variables: dict[str, str]
) -> None:
    (place / "site" / ".env").write_text("EMAIL_SENDR=x\n")
    variables["DATABASE_URL"] = f"sqlite:///{place}/site/vra/n.db"
    server = processes.notifyctl("serve", "--port", "0", env=variables, cwd=place / "site")
    assert server.wait(30) == ExitCode.DATABASE
    said = processes.said_by(server)
    assert MISSPELT in said
    assert f"there is no database file {place}/site/vra/n.db; run `notifyctl db upgrade`" in said
    assert made(place) == ["site", "site/.env"]
