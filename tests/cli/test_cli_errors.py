"""The real program: what it prints when something is wrong, and its exit codes."""

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from notifyctl.db import migrations
from notifyctl.db.database import Database
from tests.support.processes import NOTIFYCTL, Processes
from tests.support.settings import PEPPER, SECRET

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    path = tmp_path / "notifyctl.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    database.close()
    return path


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'notifyctl.db'}",
        "NOTIFICATION_SECRET_KEY": SECRET,
        "OTP_PEPPER": PEPPER,
    }


@pytest.fixture
def run(processes: Processes, variables: dict[str, str], tmp_path: Path) -> Run:
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return processes.run(*NOTIFYCTL, *arguments, env=variables | more, cwd=tmp_path)

    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["clients", "list", "--nope"], "there is no option --nope; see `notifyctl clients list --help`"),
        (["clients", "shw"], "there is no command 'shw'; did you mean show? See `notifyctl clients --help`"),
        (["clients", "show"], "ID is missing; see `notifyctl clients show --help`"),
        (
            ["health", "recent", "--limit", "1h"],
            "--limit '1h' must be a whole number; see `notifyctl health recent --help`",
        ),
        (
            ["health", "recent", "--limit", "0"],
            "--limit '0' must be at least 1; see `notifyctl health recent --help`",
        ),
        (
            ["limits", "set", "MAIL", "3"],
            "CHANNEL 'MAIL' is unknown; did you mean EMAIL? It is one of EMAIL, SMS; see `notifyctl limits set --help`",
        ),
        (
            ["messages", "list", "--reson", "x"],
            "there is no option --reson; did you mean --reason? See `notifyctl messages list --help`",
        ),
        (["clients", "show", "a", "b"], "'b' is more than it takes; see `notifyctl clients show --help`"),
        (["send", "--client"], "--client needs a value; see `notifyctl --help`"),
        (
            ["health", "-w", "90s"],
            "--window-minutes '90s' must be 1 to 10,080 minutes: write 90s, 15m, 2h, 7d, or a number of minutes",
        ),
    ],
)
def test_a_usage_error_is_exit_2_and_points_to_the_help(run: Run, arguments: list[str], line: str) -> None:
    ran = run(*arguments)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"notifyctl: {line}\n")


def test_every_faulty_setting_has_its_own_line_and_config_shows_where_it_came_from(run: Run) -> None:
    faulty = {"DATABASE_URL": "mysql://root:hunter2@host/db", "OTP_PEPPER": "short", "HTTP_PORT": "0"}
    ran = run("config", "--format", "tsv", **faulty)
    assert ran.returncode == 2
    lines = ran.stderr.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["notifyctl:", name] for name in ("DATABASE_URL", "OTP_PEPPER", "HTTP_PORT")
    ]
    assert "DATABASE_URL\tmysql://root:***@host/db\tenvironment\t" in ran.stdout
    assert "hunter2" not in ran.stdout + ran.stderr
    assert SECRET not in ran.stdout


@pytest.mark.parametrize("form", ["table", "csv", "tsv", "json"])
def test_config_shows_a_setting_that_is_not_utf_8_as_a_fault_of_that_setting(run: Run, form: str) -> None:
    ran = run("config", "--format", form, EMAIL_SENDER="Gr\udcf6sse <hello@acme.example>")
    assert ran.returncode == 2
    assert ran.stderr == "notifyctl: EMAIL_SENDER is not UTF-8; write it in UTF-8\n"


def test_what_is_not_there_is_exit_4(run: Run, database_file: Path) -> None:
    ran = run("clients", "show", "nobody")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert ran.stderr == "notifyctl: there is no client 'nobody'; `notifyctl clients list` shows those there are\n"


def a_directory(path: Path) -> str:
    path.mkdir()
    return "is a directory; check DATABASE_URL"


def a_corrupt_file(path: Path) -> str:
    path.write_bytes(b"not a database at all " * 500)
    return "not a database"


def an_empty_file(path: Path) -> str:
    path.write_bytes(b"")
    return "run `notifyctl db upgrade`"


def a_newer_schema(path: Path) -> str:
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    database.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999', oldest_code = '9998'")
    connection.close()
    return "it takes one of 9998 or later: upgrade the program"


@pytest.mark.parametrize("make", [a_directory, a_corrupt_file, an_empty_file, a_newer_schema])
def test_a_database_that_cannot_be_used_is_exit_5_with_one_line(
    run: Run, tmp_path: Path, make: Callable[[Path], str]
) -> None:
    complaint = make(tmp_path / "notifyctl.db")
    ran = run("clients", "list")
    assert (ran.returncode, ran.stdout) == (5, "")
    assert complaint in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_server_that_does_not_answer_is_exit_5_and_its_password_is_not_shown(run: Run) -> None:
    ran = run("clients", "list", DATABASE_URL="postgresql://bob:hunter2@127.0.0.1:1/notifyctl")
    assert ran.returncode == 5
    assert "bob:***@127.0.0.1:1/notifyctl cannot be used" in ran.stderr
    assert "hunter2" not in ran.stderr
    assert ran.stderr.count("\n") == 1


def a_row_that_nobody_can_read(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    with connection:
        connection.execute(
            "INSERT INTO client (id, name, timezone, locale, provisioning_status, subscription_status,"
            " sms_enabled, created_at, updated_at)"
            " VALUES ('x', '', 'UTC', 'en', 'LOST', 'none', 0, '2026-03-02', '2026-03-02')"
        )
    connection.close()


def test_what_nobody_expected_is_exit_1_in_one_line_and_has_a_traceback_with_debug(
    run: Run, database_file: Path
) -> None:
    a_row_that_nobody_can_read(database_file)
    ran = run("clients", "list")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("notifyctl: unexpected LookupError: 'LOST'")
    assert ran.stderr.count("\n") == 1
    debugged = run("--debug", "clients", "list")
    assert debugged.returncode == 1
    assert debugged.stderr.startswith("Traceback (most recent call last):")
    assert debugged.stderr.splitlines()[-1] == ran.stderr.strip()


@pytest.fixture
def waiting(
    processes: Processes, variables: dict[str, str], tmp_path: Path, database_file: Path
) -> subprocess.Popen[str]:
    """A command that reads stdin until it ends."""
    pipe = subprocess.PIPE
    return processes.notifyctl(
        "clients", "import", "-", env=variables, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def test_an_interrupt_is_exit_130_with_one_line(waiting: subprocess.Popen[str]) -> None:
    assert waiting.stdin is not None
    waiting.stdin.write("id,name\n")
    waiting.stdin.flush()
    deadline = time.monotonic() + 30
    while _unread(waiting.stdin):  # once it has read this much, it waits for more
        assert time.monotonic() < deadline
        time.sleep(0.05)
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err) == (130, "", "notifyctl: interrupted\n")


def _unread(pipe: IO[str]) -> int:
    """Bytes that nobody has taken out of it yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder)


def test_a_reader_that_goes_away_ends_it_quietly(
    processes: Processes, variables: dict[str, str], tmp_path: Path, database_file: Path
) -> None:
    (tmp_path / "many.csv").write_text("id,name\n" + "".join(f"c-{n},{'x' * 100}\n" for n in range(1_000)))
    pipeline = (
        f"set -o pipefail; {sys.executable} -m notifyctl clients import many.csv >imported"
        f" && {sys.executable} -m notifyctl clients list -n 1000 -f jsonl | head -n 1"
    )
    ran = processes.run("bash", "-c", pipeline, env=variables, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("\n") == 1


def test_init_makes_an_installation_that_works_and_never_overwrites(run: Run, tmp_path: Path) -> None:
    bare = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'own.db'}",
        "NOTIFICATION_SECRET_KEY": "",
        "OTP_PEPPER": "",
    }
    made = run("init", **bare)
    assert (made.returncode, made.stdout) == (0, "")
    assert made.stderr.splitlines()[0] == "Wrote .env with fresh secrets; only you can read it."
    assert run("db", "upgrade", **bare).returncode == 0
    again = run("init", **bare)
    assert again.returncode == 1
    assert again.stderr.startswith("notifyctl: .env exists already and is left as it is; ")
    assert again.stderr.count("\n") == 1


def test_init_names_the_sandbox_for_trying_without_keys(run: Run) -> None:
    assert "`notifyctl init --sandbox`" in run("init").stderr


def test_init_prints_the_file_where_none_can_be_written(run: Run, tmp_path: Path) -> None:
    printed = run("init", "--env-file", "-")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert list(tmp_path.glob("*env*")) + list(tmp_path.glob("-")) == []
    (tmp_path / "printed").write_text(printed.stdout)
    assert run("--env-file", "printed", "config", **NOT_SET).returncode == 0
    refused = run("init", "--env-file", "-", "--sandbox")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


NOT_SET = dict.fromkeys(("DATABASE_URL", "NOTIFICATION_SECRET_KEY", "OTP_PEPPER"), "")


def test_init_with_the_sandbox_leaves_nothing_to_be_set_up(run: Run, tmp_path: Path) -> None:
    made = run("init", "--sandbox", **NOT_SET)
    assert (made.returncode, made.stdout) == (0, "")
    assert (tmp_path / "notifyctl.db").stat().st_mode & 0o777 == 0o600
    (tmp_path / "below").mkdir()
    health = run("--env-file", "below/../.env", "health", **NOT_SET).stdout
    assert health.startswith(tmp_path.name)
    assert "email, SMS and Stripe go to 127.0.0.1:8026, a sandbox on this host" in " ".join(health.split())
    doctor = json.loads(run("doctor", "--format", "json", **NOT_SET).stdout)
    alright = {row["check"] for row in doctor if row["status"] == "ok"}
    assert {"database", "schema", "templates", "email", "sms", "sandbox", "secrets", "env file mode"} <= alright


def test_init_with_the_sandbox_leaves_nothing_where_the_folder_cannot_be_written_in_a_setting(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "a #b").mkdir()
    ran = run("init", "--sandbox", "--env-file", "a #b/.env", **NOT_SET)
    assert ran.returncode == 2
    assert "has a comment behind the value of DATABASE_URL" in ran.stderr
    assert ran.stderr.endswith("a #b/.env was taken away again\n")
    assert list((tmp_path / "a #b").iterdir()) == []


def test_init_with_the_sandbox_takes_no_database_of_other_secrets(
    run: Run, tmp_path: Path, database_file: Path
) -> None:
    ran = run("init", "--sandbox", **NOT_SET)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert f"{database_file} exists already, and has other secrets than a new file; take an empty folder" in ran.stderr
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize("command", [["config"], ["messages", "list"]], ids=" ".join)
def test_a_named_env_file_that_is_not_there_is_exit_2_whoever_named_it(run: Run, command: list[str]) -> None:
    by_option = run("--env-file", "/nope", *command)
    by_variable = run(*command, NOTIFYCTL_ENV_FILE="/nope")
    for ran, name in ((by_option, "--env-file"), (by_variable, "NOTIFYCTL_ENV_FILE")):
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr == f"notifyctl: {name} /nope: no such file; `notifyctl init --env-file /nope` writes one\n"


def test_the_globally_named_env_file_is_the_one_that_init_writes(run: Run, tmp_path: Path) -> None:
    assert run("--env-file", "other.env", "init").returncode == 0
    assert (tmp_path / "other.env").is_file()
    assert not (tmp_path / ".env").exists()
