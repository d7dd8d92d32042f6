import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from notifyctl.templates import catalogue
from tests.support.command_line import CommandLine
from tests.support.processes import NOTIFYCTL, Processes
from tests.support.templates import shipped_templates

Bare = Callable[..., CompletedProcess[str]]


def test_an_operator_seeds_reads_switches_and_compares_templates(notifyctl: CommandLine) -> None:
    assert notifyctl("templates", "diff").code == 1
    seeded = notifyctl("templates", "seed", "--format", "json")
    count = len(shipped_templates())
    assert (seeded.code, seeded.err) == (0, f"{count} templates, {count} changed.\n")
    assert {row["status"] for row in json.loads(seeded.out)} == {"NEW"}

    assert notifyctl("templates", "disable", "WELCOME_EMAIL").code == 0
    again = notifyctl("templates", "seed", "--format", "json")
    assert {row["status"] for row in json.loads(again.out)} == {"UNCHANGED"}
    listed = json.loads(notifyctl("templates", "list", "--format", "json").out)
    assert [row["template_key"] for row in listed if not row["enabled"]] == ["OPS_ALERT_SMS", "WELCOME_EMAIL"]

    assert notifyctl("templates", "enable", "WELCOME_EMAIL").err == "WELCOME_EMAIL is enabled.\n"
    assert notifyctl("templates", "diff").code == 0


def test_show_as_json_has_every_field_with_variables_and_example(notifyctl: CommandLine) -> None:
    notifyctl("templates", "seed")
    shown = json.loads(notifyctl("templates", "show", "OTP_CODE_SMS", "--format", "json").out)
    file = next(file for file in catalogue.load(catalogue.templates_dir()) if file.template_key == "OTP_CODE_SMS")
    assert {name: shown[name] for name in file.front.flags()} == file.front.flags()
    assert shown["variables"]["domain"]["optional"] is True
    assert shown["example"] == {"code": "493817", "valid_minutes": 10, "domain": "app.example.com"}
    assert (shown["version"], shown["versions"]) == (1, [1])
    assert notifyctl("templates", "show", "OTP_CODE_SMS", "--version", "1").code == 0
    missing = notifyctl("templates", "show", "OTP_CODE_SMS", "--version", "2")
    assert (missing.code, missing.err) == (4, "notifyctl: OTP_CODE_SMS has no version 2; it has 1\n")


def test_each_fault_of_a_template_is_a_line(notifyctl: CommandLine, tmp_path: Path) -> None:
    words = (catalogue.templates_dir() / "sms" / "OPS_ALERT_SMS.txt").read_text()
    (tmp_path / "sms").mkdir()
    (tmp_path / "sms" / "OPS_ALERT_SMS.txt").write_text(words.replace("+++", '+++\nenabeld = true\nlanes = "BULK"', 1))
    ran = notifyctl("templates", "lint", "--dir", str(tmp_path))
    place = "notifyctl: sms/OPS_ALERT_SMS.txt:"
    assert (ran.code, ran.err.splitlines()) == (
        2, [f"{place} enabeld is unknown; did you mean enabled?", f"{place} lanes is unknown; did you mean lane?"],
    )  # fmt: skip


@pytest.fixture
def bare(processes: Processes, tmp_path: Path) -> Bare:
    """notifyctl without any settings or database."""
    return lambda *arguments: processes.run(*NOTIFYCTL, "templates", *arguments, env={"HOME": str(tmp_path)})


def test_files_are_rendered_linted_and_tabled_without_a_database(bare: Bare, tmp_path: Path) -> None:
    text = bare("render", "OTP_CODE_SMS", "--set", "code=012345", "--without", "domain").stdout
    assert text == "012345 is your code. It works for 10 minutes. Do not share it with anyone.\n"
    assert bare("render", "WELCOME_EMAIL").stdout.startswith(
        "Subject: Your account is ready\n\nHello Dana Whitfield,\n"
    )
    bare("render", "WELCOME_EMAIL", "--html", "--out", str(tmp_path / "mail.html"))
    assert (tmp_path / "mail.html").read_text().startswith("<!DOCTYPE html>")
    assert bare("lint").returncode == 0
    assert bare("matrix", "--check", "--file", "page.md").returncode == 1
    assert bare("matrix", "--write", "--file", "page.md").returncode == 0
    assert bare("matrix", "--check", "--file", "page.md").returncode == 0
    assert bare("matrix").stdout == (tmp_path / "page.md").read_text()


UNKNOWN = "there is no template 'NOPE'; `notifyctl templates list` shows those there are"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (
            ["render", "NOPE"],
            4,
            UNKNOWN,
        ),
        (
            ["lint", "NOPE"],
            4,
            UNKNOWN,
        ),
        (
            ["render", "PASSWORD_RESET", "--set", "valid_minutes=soon"],
            2,
            "PASSWORD_RESET: valid_minutes must be an integer, got a string",
        ),
        (["render", "OTP_CODE_SMS", "--html"], 2, "--html: an SMS has no HTML part; use --text"),
        (["lint", "--dir", "."], 2, ". has no templates; expected email/KEY/body.txt and sms/KEY.txt"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_its_exit_code(
    bare: Bare, arguments: list[str], code: int, complaint: str
) -> None:
    answer = bare(*arguments)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert answer.stderr == f"notifyctl: {complaint}\n"
