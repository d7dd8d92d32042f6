"""`notifyctl deploy`: what it prints is what docs/deploy/ has, and what it has is taken by those that it is for."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import time, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml

from notifyctl.cli.admin.deploy import Deployment, files_of
from notifyctl.cli.main import main
from notifyctl.operations.job_runs import MONITOR, TIMETABLE, Schedule
from tests.docs.test_docs import COMMANDS, LEAVES
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.replicas import free_port

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
CASES = Path(__file__).with_name("alert_cases.yml")
PROGRAM = "/opt/notifyctl/bin/notifyctl"
MOST_EXPOSED = 2.0
SYSTEMD = files_of(Deployment.SYSTEMD)
SERVICES = [name for name in SYSTEMD if name.endswith(".service")]


def deploy(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["deploy", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("what", Deployment)
def test_what_is_printed_lies_in_the_docs(what: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(what) == 0
    printed = capsys.readouterr().out
    texts = [file.read_text() for file in sorted((DEPLOY / what).iterdir())]
    assert len(texts) > 0
    assert printed == texts[0] if len(texts) == 1 else all(text in printed for text in texts)


def test_files_are_written_and_one_that_somebody_has_changed_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "system"
    assert deploy("systemd", "--write", str(folder)) == 0
    assert sorted(file.name for file in folder.iterdir()) == sorted(SYSTEMD)
    assert "Next: systemctl daemon-reload && systemctl enable" in capsys.readouterr().err
    changed, missing = folder / "notifyctl.service", folder / "notifyctl-http.service"
    changed.write_text("[Service]\n")
    missing.unlink()
    assert deploy("systemd", "--write", str(folder)) == 1
    said = capsys.readouterr().err
    assert f"{changed} differs from what would be written; nothing was; write to another folder" in said
    assert changed.read_text() == "[Service]\n"
    assert not missing.exists()


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert deploy("cron", "--write", str(tmp_path / "file")) == 1
    said = capsys.readouterr().err
    assert (said.count("\n"), "cannot be written to: File exists; give another folder" in said) == (1, True)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """With a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here; Debian has it in the package systemd")
    for name, text in SYSTEMD.items():
        (tmp_path / name).write_text(text.replace(PROGRAM, "/bin/true"))
    return tmp_path


def test_systemd_has_nothing_to_say_about_the_units(units: Path, processes: Processes) -> None:
    files = [units / name for name in SYSTEMD]
    ran = processes.run("systemd-analyze", "verify", "--man=no", *files, cwd=units)
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if "notifyctl" in line or str(units) in line]
    assert (ran.returncode, said) == (0, [])


def test_the_units_expose_little(units: Path, processes: Processes) -> None:
    for name in SERVICES:
        ran = processes.run("systemd-analyze", "security", "--offline=true", "--no-pager", units / name)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
        assert found is not None, ran.stderr
        assert float(found[1]) <= MOST_EXPOSED, f"{name}: {found[1]}\n{ran.stdout}"


def test_all_services_are_held_by_the_same_lines() -> None:
    held = {name: SYSTEMD[name].partition("\nUser=")[2].partition("\n\n")[0].strip() for name in SERVICES}
    assert len(held) == 4
    assert len(set(held.values())) == 1
    assert "ProtectSystem=strict" in held["notifyctl.service"]


def timer(job: Schedule) -> str:
    """As systemd.time(7) writes it."""
    match job.every:
        case time() as at:
            return f"*-*-* {at:%H:%M}:00 UTC"
        case timedelta() as every if every < timedelta(minutes=1):
            return f"*:*:0/{every.seconds}"
        case timedelta() as every:
            return f"*:0/{every.seconds // 60}" if every < timedelta(hours=1) else "*:00"


def crontab(job: Schedule) -> str:
    """As crontab(5) writes it; not oftener than cron can."""
    if isinstance(job.every, time):
        return f"{job.every.minute} {job.every.hour} * * *"
    minutes = max(1, job.every.seconds // 60)
    return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *" if minutes < 60 else "0 * * * *"


def test_every_job_has_its_timer() -> None:
    wanted = {f"notifyctl-job@{job.name}.timer": timer(job) for job in TIMETABLE if job.name != MONITOR}
    wanted["notifyctl-monitor.timer"] = timer(next(job for job in TIMETABLE if job.name == MONITOR))
    timers = {name: text for name, text in SYSTEMD.items() if name.endswith(".timer")}
    assert {name: re.findall("OnCalendar=(.*)", text) for name, text in timers.items()} == {
        name: [schedule] for name, schedule in wanted.items()
    }


def test_every_job_has_its_line_in_the_crontab() -> None:
    [(name, text)] = files_of(Deployment.CRON).items()
    assert "." not in name, "cron passes over a file with a dot in its name"
    lines = [line.split(None, 6) for line in text.splitlines() if re.match(r"[\d*]", line)]
    assert {line[5] for line in lines} == {"notifyctl"}
    schedules = {line[6]: " ".join(line[:5]) for line in lines}
    assert {command.split()[3]: schedule for command, schedule in schedules.items() if " jobs run " in command} == {
        job.name: crontab(job) for job in TIMETABLE
    }
    assert [schedule for command, schedule in schedules.items() if "worker --once" in command] == ["* * * * *"]


def commands() -> Iterator[str]:
    for what in (Deployment.SYSTEMD, Deployment.CRON):
        for text in files_of(what).values():
            yield from re.findall(rf"{PROGRAM} ([^>\n]+)", text)
    compose = yaml.safe_load(files_of(Deployment.COMPOSE)["compose.yaml"])
    for service in compose["services"].values():
        yield " ".join(service.get("command", []))
        yield from re.findall(r"notifyctl ([^&]+)", " ".join(service.get("entrypoint", [])))


def test_every_command_exists() -> None:
    found = [command.split() for command in commands() if command]
    assert len(found) > 10
    for words in found:
        path = "notifyctl"
        while words and f"{path} {words[0]}" in COMMANDS:
            path = f"{path} {words.pop(0)}"
        assert path in LEAVES
        assert all(word in COMMANDS[path] for word in words if word.startswith("--")), words


def test_compose_waits_for_the_tables_and_keeps_what_must_be_kept() -> None:
    compose = yaml.safe_load(files_of(Deployment.COMPOSE)["compose.yaml"])
    ours = {name: service for name, service in compose["services"].items() if service["image"] == "notifyctl"}
    assert set(ours) == {"migrate", "worker", "server"}
    assert all(service["volumes"] == ["state:/var/lib/notifyctl"] for service in ours.values())
    for name in ("worker", "server"):
        assert ours[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert ours[name]["stop_grace_period"] == "60s"
    assert set(compose["volumes"]) == {"state", "database"}
    # Services that build one image race for its name.
    assert [name for name, service in ours.items() if "build" in service] == ["migrate"]
    # While its image makes the database, PostgreSQL answers on the socket, and is not there to stay.
    assert "--host" in compose["services"]["postgres"]["healthcheck"]["test"]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool here; Debian has it in the package prometheus"
)
def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path, processes: Processes) -> None:
    for name, text in files_of(Deployment.PROMETHEUS).items():
        (tmp_path / name).write_text(text)
    shutil.copy(CASES, tmp_path)
    ran = processes.run("promtool", "test", "rules", tmp_path / CASES.name)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_case() -> None:
    rules = yaml.safe_load(files_of(Deployment.PROMETHEUS)["notifyctl.rules.yml"])
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test.get("alert_rule_test", [])]
    assert names == {case["alertname"] for case in cases if "exp_alerts" in case}


def test_the_dashboard_has_no_panel_twice_in_a_place() -> None:
    board: dict[str, Any] = json.loads(files_of(Deployment.GRAFANA)["notifyctl.json"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def health_check(pid: int) -> str:
    """The image's, which asks about its first process."""
    found = re.search(
        r"^HEALTHCHECK .*?CMD \\\n(.*?[^\\])\n", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1].replace("\\\n", " ").replace("/proc/1/", f"/proc/{pid}/")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("command", ["worker", "serve"])
def test_the_image_is_healthy_while_its_program_is_at_work(
    command: str, environment: Environment, processes: Processes
) -> None:
    variables = environment(HTTP_PORT=str(free_port()))
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    program = processes.start(*NOTIFYCTL, command, env=variables, fresh=True)

    def is_healthy() -> bool:
        return processes.run("sh", "-c", health_check(program.pid), env=variables).returncode == 0

    deadline = monotonic() + 60
    while not is_healthy():
        assert program.poll() is None, processes.said_by(program)
        assert monotonic() < deadline, processes.said_by(program)
        sleep(0.1)
    program.terminate()
    assert program.wait(30) == 0
    assert not is_healthy()


def test_the_image_that_runs_has_nothing_that_builds_it() -> None:
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    builds = re.findall(r"^([\w.-]+)==", (ROOT / "requirements-build.lock").read_text(), re.MULTILINE)
    assert "hatchling" in builds
    assert set(builds).isdisjoint(locked)
    _, _, runs = (ROOT / "Dockerfile").read_text().rpartition("FROM ")
    assert "COPY --from=build /opt/notifyctl /opt/notifyctl\n" in runs
    assert "pip" not in runs
