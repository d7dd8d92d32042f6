"""What a person sees: the real program on a real terminal, 80 columns wide unless told otherwise."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.orchestrator.requests import Decision
from tests.support.clients import a_client
from tests.support.messages import REMINDER_SMS, WELCOME, send
from tests.support.processes import NOTIFYCTL, Environment, Processes

Terminal = Callable[..., list[str]]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def terminal(processes: Processes, environment: Environment, tmp_path: Path) -> Terminal:
    """The lines that a command leaves on the screen, stdout and stderr as they come."""

    def run(*arguments: str, columns: int = 80, colours: bool = False) -> list[str]:
        variables = environment(COLUMNS=str(columns), TERM="xterm-256color")
        text = processes.on_terminal(*NOTIFYCTL, *arguments, env=variables, cwd=tmp_path)
        return (text if colours else COLOUR.sub("", text)).splitlines()

    return run


@pytest.fixture
def refused(runtime: Runtime) -> Decision:
    a_client(runtime, plan="SOLO")
    send(runtime, "WELCOME_EMAIL", WELCOME)
    return send(runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS)


def test_a_list_of_messages_fits_80_columns_with_ids_whole(terminal: Terminal, refused: Decision) -> None:
    screen = terminal("messages", "list")
    assert max(map(len, screen)) <= 80
    assert len([line for line in screen if re.search(UUID, line)]) == 2
    assert screen[2].split()[:2] == ["BLOCKED", "COMPLIANCE_EXPIRY_REMINDER_SMS"]
    assert screen[3].split() == ["PLAN_FEATURE_MISSING", refused.message_id]


def test_a_wide_terminal_has_a_line_a_message_and_its_age(terminal: Terminal, refused: Decision) -> None:
    screen = terminal("messages", "list", columns=160)
    assert screen[0].split() == ["id", "status", "template", "to", "age"]
    assert re.fullmatch(rf"{UUID} +BLOCKED PLAN_FEATURE_MISSING +COMPLIANCE_\w+ +\+49\*+78 +\d+ s *", screen[2])


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "command",
    [
        "clients list",
        "templates list",
        "suppressions list",
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
    wide = [line for line in screen if len(line.rstrip()) > columns and not line.startswith("notifyctl: ")]
    assert (wide, len(screen) > 2) == ([], True)


def test_send_shows_status_and_id_and_what_to_type_next(terminal: Terminal, runtime: Runtime) -> None:
    a_client(runtime)
    values = [word for name, value in WELCOME.items() for word in ("--set", f"{name}={value}")]
    first, hint = terminal("send", "WELCOME_EMAIL", "--client", "acme", *values)
    assert re.fullmatch(rf"QUEUED {UUID}", first)
    assert hint == f"`notifyctl messages explain {first.split()[1]}` tells what became of it."


def test_a_status_has_its_colour(terminal: Terminal, refused: Decision) -> None:
    assert "\x1b[33mBLOCKED\x1b[0m" in "\n".join(terminal("messages", "list", colours=True))
    assert terminal("messages", "explain", "last", colours=True)[0].endswith("\x1b[33mBLOCKED\x1b[0m")
