"""What a person sees: the real program on a real terminal, 80 columns wide unless told otherwise."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.cli.listing import LEAST_ROWS
from notifyctl.models.enums import AuditAction
from notifyctl.orchestrator.requests import Decision
from tests.support.clients import a_client
from tests.support.messages import REMINDER_SMS, WELCOME, fail, send
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.stripe_history import happened, told, write_lines

Terminal = Callable[..., list[str]]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def terminal(processes: Processes, environment: Environment, tmp_path: Path) -> Terminal:
    """The lines that a command leaves on the screen, stdout and stderr as they come."""

    def run(*arguments: str, columns: int = 80, lines: int = 24, colours: bool = False) -> list[str]:
        variables = environment(COLUMNS=str(columns), LINES=str(lines), TERM="xterm-256color")
        text = processes.on_terminal(*NOTIFYCTL, *arguments, env=variables, cwd=tmp_path)
        return (text if colours else COLOUR.sub("", text)).splitlines()

    return run


@pytest.fixture
def refused(runtime: Runtime) -> Decision:
    a_client(runtime, plan="SOLO")
    send(runtime, "WELCOME_EMAIL", WELCOME)
    return send(runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS)


def test_a_message_is_a_line_that_is_cut_to_the_terminal(terminal: Terminal, refused: Decision) -> None:
    short = refused.message_id[-8:]
    for columns in (60, 80, 100, 160):
        screen = terminal("messages", "list", columns=columns)
        assert max(map(len, screen)) <= columns
        assert len(screen) == 3
        assert screen[1].split()[:2] == [short, "BLOCKED"]
    assert screen[0].split() == ["id", "status", "reason", "template", "client", "to", "age"]
    line = rf"{short}  BLOCKED +PLAN_FEATURE_MISSING  COMPLIANCE_EXPIRY_REMINDER_SMS +acme +\+49\*+78 +\d+ s"
    assert re.fullmatch(line, screen[1])
    narrow = terminal("messages", "list", columns=80)[1]
    assert re.fullmatch(rf"{short}  BLOCKED  PLAN_FEA\w*…  COMPLIANCE\w*…  \S+ +\d+ s", narrow)


def test_a_list_is_as_long_as_its_terminal_unless_somebody_says_how_long(terminal: Terminal, runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        for _ in range(60):
            audit_log.write(session, AuditAction.NOTIFICATION_SENT, actor="w", now=runtime.clock())
    screen = terminal("audit", "list", lines=24)
    assert (len(screen), screen[0].split()[0]) == (23, "id")
    assert screen[-1] == "21 rows; there may be more: raise --limit"
    assert len(terminal("audit", "list", "--limit", "40", lines=24)) == 42
    assert terminal("audit", "list", "--limit", "40", lines=24)[-1] == "40 rows; there may be more: raise --limit"
    assert len(terminal("audit", "list", "--ids", lines=24)) == 50


def test_a_list_that_is_cut_says_so_beside_its_hints_and_leaves_them_room(
    terminal: Terminal, runtime: Runtime, tmp_path: Path
) -> None:
    unmatched = [happened("invoice.paid", runtime.clock(), client_id=f"nobody-{number}") for number in range(60)]
    assert terminal("stripe", "replay", "--file", write_lines(tmp_path / "events", told(*unmatched)))
    screen = terminal("stripe", "events", lines=24)
    on_screen = sum(-(-len(line) // 80) for line in screen)
    assert (on_screen, screen[0].split()[0]) == (23, "id")
    assert screen[-2].startswith("To link it: ")
    assert re.fullmatch(r"\d\d rows; there may be more: raise --limit", screen[-1])
    assert len(terminal("stripe", "events", lines=10)) == 1 + LEAST_ROWS + 2


def test_an_empty_field_of_a_message_is_left_out(terminal: Terminal, refused: Decision, runtime: Runtime) -> None:
    screen = terminal("messages", "show", refused.message_id, "--format", "json")
    assert '  "lease_owner": null,' in screen
    shown = [line.split() for line in terminal("messages", "show", refused.message_id)[2:]]
    assert ["status", "BLOCKED"] in shown
    assert not [line for line in shown if len(line) < 2]


def test_chosen_columns_are_shown_though_they_are_empty(terminal: Terminal, refused: Decision) -> None:
    screen = terminal("messages", "list", "--columns", "id,sent_at,lane")
    assert screen[0].split() == ["id", "sent", "at", "lane"]
    assert screen[1].split() == [refused.message_id[-8:], "BULK"]


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize(
    "command",
    [
        "clients list",
        "templates list",
        "suppressions list",
        "audit list",
        "jobs list",
        "workers",
        "limits show",
        "doctor",
        "config",
        "messages show last",
        "messages explain last",
    ],
)
def test_no_listing_is_wider_than_its_terminal(
    terminal: Terminal, refused: Decision, command: str, columns: int
) -> None:
    terminal("suppressions", "add", "EMAIL", "ann@acme.example", "--note", "asked by phone on a rather long day " * 3)
    screen = terminal(*command.split(), columns=columns)
    assert not [line for line in screen if line.startswith("notifyctl: unexpected")]
    told = ("notifyctl: ", "To mend it: ")
    wide = [line for line in screen if len(line.rstrip()) > columns and not line.startswith(told)]
    assert (wide, len(screen) > 0) == ([], True)


def test_send_shows_status_and_id_and_what_to_type_next(terminal: Terminal, runtime: Runtime) -> None:
    a_client(runtime)
    values = [word for name, value in WELCOME.items() for word in ("--set", f"{name}={value}")]
    first, hint = terminal("send", "WELCOME_EMAIL", "--client", "acme", *values)
    assert re.fullmatch(rf"QUEUED {UUID}", first)
    assert hint == f"`notifyctl messages explain {first.split()[1]}` tells what became of it."


def test_a_status_has_its_colour(terminal: Terminal, refused: Decision) -> None:
    assert "\x1b[33mBLOCKED\x1b[0m" in "\n".join(terminal("messages", "list", colours=True))
    assert terminal("messages", "explain", "last", colours=True)[0].endswith("\x1b[33mBLOCKED\x1b[0m")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (60, 20)])
def test_what_was_found_stays_on_the_screen_however_long_the_story_is(
    terminal: Terminal, runtime: Runtime, columns: int, lines: int
) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    fail(runtime, decision.message_id)
    with runtime.database.transaction() as session:
        for attempt in range(1, 40):
            audit_log.write(
                session,
                AuditAction.NOTIFICATION_RETRY_SCHEDULED,
                actor="w",
                now=runtime.clock(),
                message_id=decision.message_id,
                details={"attempt": attempt, "error": "You tried to send to a recipient that was away. " * 12},
            )
    screen = terminal("messages", "explain", "last", columns=columns, lines=lines)
    assert len(screen) < lines
    assert max(map(len, screen)) <= columns
    assert screen[0].endswith("FAILED")
    assert "notifyctl messages retry" in " ".join(screen)
    assert "  … 38 steps more; --gates shows all" in screen
    assert "attempt 39: You tried" in " ".join(screen)
    assert screen[-1].startswith("Gates: ")
    assert len(terminal("messages", "explain", "last", "--gates", columns=columns, lines=lines)) > 200


def test_doctor_says_what_is_wrong_first_and_all_that_is_well_together(terminal: Terminal, runtime: Runtime) -> None:
    screen = terminal("doctor", columns=100)
    words = [line.split()[0] for line in screen if line.startswith("  ") and line[2] != " "]
    assert words == sorted(words, key=["fail", "warn", "ok"].index)
    assert re.match(r"  ok +\d+ more +`--format json` names them$", next(line for line in screen if " more " in line))
    assert re.fullmatch(r"No check failed; \d+ of \d+ checks warn\.", screen[-1])
    tall = " ".join(terminal("doctor", columns=100, lines=60))
    assert re.search(r"  ok +\d+ more +settings, secrets,", tall)


def test_what_could_not_be_checked_is_one_line_for_its_one_cause(terminal: Terminal, runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    screen = terminal("doctor")
    (line,) = [line for line in screen if "not checked" in line]
    assert re.fullmatch(r"  warn  \d\d checks +not checked; mend the database first", line)


def test_config_shows_what_is_set_and_any_setting_by_its_name(terminal: Terminal, runtime: Runtime) -> None:
    screen = terminal("config")
    assert not [line for line in screen if line.split()[-1:] == ["default"]]
    assert re.fullmatch(r"\d\d settings more with their defaults: --all, or config NAME", screen[-1])
    assert len(terminal("config", "--all")) > len(screen) + 40
    assert terminal("config", "otp_max_attempts")[1].split() == ["OTP_MAX_ATTEMPTS", "5", "default"]
    (said,) = terminal("config", "QUIET_HOUR", columns=200)
    assert said == (
        "notifyctl: there is no setting 'QUIET_HOUR'; did you mean QUIET_HOURS? `notifyctl config --all` lists all"
    )
