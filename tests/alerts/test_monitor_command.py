"""`notifyctl monitor`, as Nagios and cron call it."""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from notifyctl.alerts.spikes.monitor import JOB
from notifyctl.bootstrap import Runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.models.enums import JobOutcome
from notifyctl.operations import job_runs
from notifyctl.worker.jobs import runs
from notifyctl.worker.jobs.registry import find_job
from tests.support.alerts import ADMIN, OPS, alerts, audited, failed, queue, sent
from tests.support.clocks import StandingClock
from tests.support.command_line import CommandLine
from tests.support.messages import a_worker
from tests.support.processes import Environment, Processes

MONITORS = 10


@pytest.fixture
def clock(database_url: str) -> Iterator[StandingClock]:
    """The command reads the real clock: what these tests record is of now."""
    database = Database(database_url)
    yield StandingClock(database.clock())
    database.close()


@pytest.fixture(autouse=True)
def _somebody_is_at_work(request: pytest.FixtureRequest) -> None:
    """Else the monitor has that to tell, too."""
    if "runtime" in request.fixturenames:
        a_worker(request.getfixturevalue("runtime"))


def test_all_well_is_one_line_with_performance_data_and_exit_0(runtime: Runtime, notifyctl: CommandLine) -> None:
    sent(runtime, 12)
    ran = notifyctl("monitor")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "OK - EMAIL OK: 12 sent, none failed; SMS OK: nothing sent"
        " | email_failed=0;;;0 email_sent=12;;;0 email_rate=0.0%;10;25;0;100 email_oldest_due=0s;;300;0"
        " sms_failed=0;;;0 sms_sent=0;;;0 sms_rate=0.0%;10;25;0;100 sms_oldest_due=0s;;300;0\n"
    )


def test_a_spike_is_told_and_sets_the_exit_code(runtime: Runtime, notifyctl: CommandLine) -> None:
    sent(runtime, 20)
    failed(runtime, 5)
    ran = notifyctl("monitor", OPS_ALERT_EMAIL=OPS, ADMIN_ALERT_EMAILS=f"{ADMIN},{OPS}")
    assert ran.code == 1
    assert ran.out.startswith(
        "WARNING - EMAIL WARNING: 5 of 25 failed (20.0%), UNKNOWN 5, WELCOME_EMAIL 5; 5 clients are affected,"
        " alert queued: raised; SMS OK: nothing sent | email_failed=5;;;0 email_sent=20;;;0"
        " email_rate=20.0%;10;25;0;100"
    )
    assert [(template, to) for template, to, _ in alerts(runtime)] == [
        ("NOTIFICATION_SPIKE_ALERT_ADMIN", ADMIN),
        ("OPS_ALERT_NOTIFICATION_SPIKE", OPS),
    ]
    failed(runtime, 5, prefix="more")
    assert notifyctl("monitor", OPS_ALERT_EMAIL=OPS).code == 2
    assert notifyctl("monitor", "--channel", "sms", OPS_ALERT_EMAIL=OPS).code == 0


@pytest.mark.parametrize(
    ("settings", "flags", "code"),
    [
        ({}, (), 0),
        ({"WARN_MIN": "4"}, (), 1),
        ({"WARN_MIN": "4"}, ("--warn-percent", "16.7"), 0),
        ({"WARN_MIN": "4"}, ("-w", "16.7"), 0),
        ({"CRIT_MIN": "4"}, ("--crit-percent", "16"), 2),
        ({"CRIT_MIN": "4"}, ("-c", "16"), 2),
        ({"WARN_MIN": "4", "CRIT_MIN": "4", "CRIT_PERCENT": "16"}, ("-c", "16.7"), 1),
        ({"WARN_MIN": "4"}, ("--channel", "SMS"), 0),
    ],
    ids=str,
)
def test_thresholds_come_from_the_settings_and_percents_from_the_command_line_as_well(
    runtime: Runtime, notifyctl: CommandLine, settings: dict[str, str], flags: tuple[str, ...], code: int
) -> None:
    sent(runtime, 20)
    failed(runtime, 4)
    ran = notifyctl("monitor", *flags, **{f"NOTIFICATION_SPIKE_{name}": value for name, value in settings.items()})
    assert ran.code == code
    assert ("email_rate" in ran.out) == ("SMS" not in flags)


def test_quiet_prints_only_what_is_wrong(runtime: Runtime, notifyctl: CommandLine) -> None:
    assert notifyctl("monitor", "--quiet").out == ""
    failed(runtime, 12)
    ran = notifyctl("monitor", "--quiet")
    assert (ran.code, ran.out.split(" - ")[0]) == (2, "CRITICAL")


def test_the_same_as_json(runtime: Runtime, notifyctl: CommandLine) -> None:
    failed(runtime, 12)
    ran = notifyctl("monitor", "--format", "json", OPS_ALERT_EMAIL=OPS)
    found = json.loads(ran.out)
    assert (ran.code, found["status"], found["exit_code"]) == (2, "CRITICAL", 2)
    email = found["channels"]["EMAIL"]
    assert (email["failed"], email["sent"], email["rate_percent"], email["clients"]) == (12, 0, 100.0, 12)
    assert email["top_templates"] == [{"template_key": "WELCOME_EMAIL", "failed": 12}]
    assert (email["spike"]["level"], email["moved"], email["alert_queued"]) == ("CRITICAL", "raised", "raised")
    assert found["channels"]["SMS"]["status"] == "OK"


def test_the_job_is_the_same_monitor(runtime: Runtime, notifyctl: CommandLine) -> None:
    failed(runtime, 12)
    ran = notifyctl("jobs", "run", "run_notification_failure_spike_monitor", OPS_ALERT_EMAIL=OPS)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == ("EMAIL CRITICAL: 12 of 12 failed (100.0%); SMS OK: nothing sent; EMAIL alert queued: raised\n")
    assert notifyctl("monitor", OPS_ALERT_EMAIL=OPS).code == 2
    assert len(alerts(runtime)) == 1


def test_it_leaves_a_run_of_the_job_and_no_worker_repeats_it(runtime: Runtime, notifyctl: CommandLine) -> None:
    failed(runtime, 12)
    for _ in range(2):
        assert notifyctl("monitor", OPS_ALERT_EMAIL=OPS).code == 2
    *later, run = monitor_runs(runtime)
    assert (run.attempt, run.outcome) == (1, JobOutcome.DONE)
    assert run.summary.startswith("EMAIL CRITICAL: 12 of 12 failed (100.0%); SMS OK: nothing sent; EMAIL alert queued")
    assert all(one.due_at > run.due_at for one in later), "of one slot there is one"
    claimed = runs.claim(runtime, find_job(JOB), "web1:1:a")
    assert isinstance(claimed, runs.NotDue) or find_job(JOB).due_at(runtime.clock()) > run.due_at


def test_it_hides_no_run_that_hangs(runtime: Runtime, clock: StandingClock, notifyctl: CommandLine) -> None:
    clock.turn(hours=-1)
    assert isinstance(runs.claim(runtime, find_job(JOB), "web1:1:a"), runs.Begun)
    assert "jobs are overdue" in notifyctl("monitor").out
    assert [run.outcome for run in monitor_runs(runtime)] == [JobOutcome.RUNNING]


def test_it_mends_a_run_that_failed(runtime: Runtime, clock: StandingClock, notifyctl: CommandLine) -> None:
    begun = runs.claim(runtime, find_job(JOB), "web1:1:a")
    assert isinstance(begun, runs.Begun)
    runs.record(runtime, begun, runs.Ended(JobOutcome.FAILED, "no memory"))
    notifyctl("monitor")
    last = monitor_runs(runtime)[0]
    assert last.outcome is JobOutcome.DONE


@pytest.mark.parametrize("flags", [("--channel", "EMAIL"), ("--crit-percent", "50"), ("-w", "20")], ids=str)
def test_a_run_by_other_measures_is_not_the_jobs(
    runtime: Runtime, notifyctl: CommandLine, flags: tuple[str, ...]
) -> None:
    assert notifyctl("monitor", *flags).code == 0
    assert monitor_runs(runtime) == []


def monitor_runs(runtime: Runtime) -> Sequence[Any]:
    with runtime.database.read() as session:
        return job_runs.history(session, JOB, 10)


def test_ten_monitors_at_once_raise_one_alert(runtime: Runtime, processes: Processes, environment: Environment) -> None:
    failed(runtime, 12)
    variables = environment(OPS_ALERT_EMAIL=OPS, ADMIN_ALERT_EMAILS=ADMIN)
    running = [processes.notifyctl("monitor", env=variables) for _ in range(MONITORS)]
    codes = [process.wait(timeout=120) for process in running]
    printed = [processes.said_by(process) for process in running]
    assert codes == [2] * MONITORS, printed
    assert sorted(template for template, _, _ in alerts(runtime)) == [
        "NOTIFICATION_SPIKE_ALERT_ADMIN",
        "OPS_ALERT_NOTIFICATION_SPIKE",
    ]
    assert [action for action, _ in audited(runtime, "SPIKE%")] == ["SPIKE_RAISED"]
    assert audited(runtime, "NOTIFICATION_BLOCKED") == []
    assert sum("alert queued" in text for text in printed) == 1
    slots = [run.due_at for run in monitor_runs(runtime)]
    assert 1 <= len(slots) == len(set(slots)) <= 2, "one for each slot that they ran in"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--channel", "FAX"),
            "--channel 'FAX' is unknown; it is one of EMAIL, SMS; see `notifyctl monitor --help`",
        ),
        (("--bogus",), "there is no option --bogus; see `notifyctl monitor --help`"),
        (("--warn-percent", "101"), "--warn-percent"),
        (("--format", "xml"), "--format"),
    ],
    ids=str,
)
def test_a_mistyped_option_is_unknown_and_not_critical(
    notifyctl: CommandLine, flags: tuple[str, ...], words: str
) -> None:
    ran = notifyctl("monitor", *flags)
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert ran.out.startswith("UNKNOWN - ")
    assert words in ran.out


def test_bad_settings_are_unknown(notifyctl: CommandLine) -> None:
    ran = notifyctl("monitor", NOTIFICATION_SPIKE_WARN_PERCENT="many", OTP_PEPPER="short")
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert "NOTIFICATION_SPIKE_WARN_PERCENT" in ran.out
    assert "OTP_PEPPER" in ran.out
    assert json.loads(notifyctl("monitor", "--format", "json", OTP_PEPPER="short").out)["status"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("base", "has no tables of notifyctl; run `notifyctl db upgrade`"),
        ("0004", "is at revision 0004, this notifyctl needs"),
    ],
    ids=["empty", "half migrated"],
)
def test_a_database_without_this_schema_is_unknown(
    database_url: str, notifyctl: CommandLine, revision: str, words: str
) -> None:
    database = Database(database_url)
    migrations.downgrade(database, revision)
    database.close()
    ran = notifyctl("monitor")
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert ran.out.startswith("UNKNOWN - database ")
    assert words in ran.out


def test_a_database_file_that_is_not_there_is_unknown_and_not_made(tmp_path: Path, notifyctl: CommandLine) -> None:
    ran = notifyctl("monitor", DATABASE_URL=f"sqlite:///{tmp_path / 'none.db'}")
    assert (ran.code, ran.err) == (3, "")
    assert ran.out.startswith("UNKNOWN - there is no database file ")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("what", ["a directory", "not a database", "an empty file"])
def test_a_file_that_is_no_database_is_unknown(tmp_path: Path, notifyctl: CommandLine, what: str) -> None:
    path = tmp_path / "some.db"
    if what == "a directory":
        path.mkdir()
    else:
        path.write_bytes(b"once upon a time, there was no database" * 100 if what == "not a database" else b"")
    ran = notifyctl("monitor", DATABASE_URL=f"sqlite:///{path}")
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert ran.out.startswith("UNKNOWN - ")
    assert path.name in ran.out


def test_a_database_that_cannot_be_written_is_unknown(runtime: Runtime, notifyctl: CommandLine) -> None:
    url = runtime.settings.database_url
    if not runtime.database.is_sqlite:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        Path(url.removeprefix("sqlite:///")).chmod(0o400)
    ran = notifyctl("monitor")
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert ran.out.startswith("UNKNOWN - database ")
    assert ("it is set read-only" if not runtime.database.is_sqlite else "cannot be ") in ran.out


def test_a_stranger_to_the_server_is_unknown(postgres: str, notifyctl: CommandLine) -> None:
    ran = notifyctl("monitor", DATABASE_URL=postgres.replace("://postgres", "://stranger", 1))
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert 'role "stranger" does not exist' in ran.out


def test_a_server_that_is_not_there_is_unknown(notifyctl: CommandLine) -> None:
    ran = notifyctl("monitor", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (ran.code, ran.err, ran.out.count("\n")) == (3, "", 1)
    assert ran.out.startswith("UNKNOWN - database postgresql")


def test_a_locked_database_is_unknown_before_others_would_give_up(
    database_url: str, notifyctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifyctl.cli.health.monitor.PATIENCE_SECONDS", 0.5)
    if database_url.startswith("sqlite"):
        path = database_url.removeprefix("sqlite:///")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ran = notifyctl("monitor")
        other.close()
    else:
        with psycopg.connect(database_url) as other_session:
            other_session.execute("LOCK TABLE message_log IN ACCESS EXCLUSIVE MODE")
            ran = notifyctl("monitor")
    assert (ran.code, ran.err) == (3, "")
    assert "is busy: others hold what is needed here" in ran.out


def test_work_left_lying_is_told_with_its_age(runtime: Runtime, clock: StandingClock, notifyctl: CommandLine) -> None:
    clock.turn(minutes=-7)
    queue(runtime, 1)
    ran = notifyctl("monitor")
    assert ran.code == 2
    assert "EMAIL CRITICAL: messages have been due for 7 min, and nobody sends them" in ran.out
