"""Every command that lists things takes the same options, and none is wider than its terminal."""

import json
import os
import re
import signal
from itertools import product

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.cli.listing import LAYOUT
from notifyctl.cli.main import whole_tree
from notifyctl.cli.terminal import LEAST_CELL, fitted
from notifyctl.errors import ExitCode
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import RESET, WELCOME, message, send
from tests.support.processes import NOTIFYCTL, Environment, Processes

LISTS = (
    "messages list", "health recent", "audit list", "jobs list", "jobs history", "workers", "keys list", "limits show",
    "clients list", "compliance list", "suppressions list", "stripe events", "templates list",
)  # fmt: skip


def test_every_list_takes_the_options_of_a_list() -> None:
    tree = whole_tree()
    for path in LISTS:
        command = tree
        for name in path.split():
            command = command.commands[name]  # type: ignore[assignment]
        assert {parameter.name for parameter in command.params} >= set(LAYOUT.options), path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("messages list --client acmee", "No message matches: there is no client 'acmee'; did you mean acme?"),
        ("audit list --client acmee", "No audit row matches: there is no client 'acmee'; did you mean acme?"),
        ("compliance list --client acmee", "No item matches: there is no client 'acmee'; did you mean acme?"),
        ("stripe events --client acmee", "No event matches: there is no client 'acmee'; did you mean acme?"),
        (
            "stripe events --type invoice.payd",
            "No event matches: type 'invoice.payd' does nothing here; did you mean invoice.paid?",
        ),
        ("clients list --plan nope", "No client matches: 'nope' is not in the plan registry."),
        ("compliance list --client acme", "No item matches."),
        ("stripe events --type invoice.*", "No event matches."),
    ],
)
def test_an_empty_list_says_what_of_the_question_is_not_there(
    runtime: Runtime, notifyctl: CommandLine, command: str, said: str
) -> None:
    a_client(runtime)
    assert notifyctl(*command.split()).err == f"{said}\n"


@pytest.fixture
def sent(runtime: Runtime) -> list[str]:
    """Ids, the newest first."""
    a_client(runtime)
    older, newer = send(runtime, "WELCOME_EMAIL", WELCOME), send(runtime, "PASSWORD_RESET", RESET)
    return [newer.message_id, older.message_id]


def test_columns_are_chosen_by_name_in_every_form(runtime: Runtime, notifyctl: CommandLine, sent: list[str]) -> None:
    wanted = [{"lane": message(runtime, one).lane, "id": one} for one in sent]
    assert json.loads(notifyctl("messages", "list", "--json", "lane,id").out) == wanted
    assert json.loads(notifyctl("messages", "list", "-f", "json", "--columns", " Lane , id").out) == wanted
    assert notifyctl("messages", "list", "-f", "csv", "--columns", "template_key").out.split() == [
        "template_key", "PASSWORD_RESET", "WELCOME_EMAIL",
    ]  # fmt: skip
    assert notifyctl("messages", "list", "--columns", "status").out.split() == ["status", "QUEUED", "QUEUED"]
    (newest, _) = json.loads(notifyctl("health", "recent", "--json", "id,age").out)
    assert newest == {"id": sent[0], "age": newest["age"]}
    assert list(json.loads(notifyctl("health", "recent", "-f", "json").out)) == ["items"]


def test_ids_alone_are_whole_and_one_a_line(notifyctl: CommandLine, sent: list[str]) -> None:
    assert notifyctl("messages", "list", "-q").out.split("\n") == [*sent, ""]
    assert notifyctl("messages", "list", "--ids", "--status", "FAILED").out == ""
    assert notifyctl("templates", "list", "-q").out.split()[-1] == "WELCOME_EMAIL"
    assert "audit_seal" in notifyctl("jobs", "list", "-q").out.split()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--columns", "staus"], "column 'staus' is unknown; did you mean status?"),
        (["--json", "?"], "column '?' is unknown; it is one of id, status, reason, "),
        (["--json", "id", "--columns", "id"], "--json says both the format and the columns"),
        (["--json", "id", "-f", "csv"], "--json says both the format and the columns"),
        (["-q", "-f", "json"], "--ids prints ids alone"),
        (["--watch"], "--watch shows a table on a terminal"),
    ],
    ids=str,
)
def test_what_cannot_be_printed_is_one_clear_line(
    runtime: Runtime, notifyctl: CommandLine, arguments: list[str], said: str
) -> None:
    ran = notifyctl("messages", "list", *arguments)
    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert ran.err.startswith(f"notifyctl: {said}")
    assert len(ran.err.splitlines()) == 1


def test_columns_share_the_room_and_what_is_whole_is_cut_last() -> None:
    for natural in product((1, 5, 9, 30), repeat=3):
        for whole in product((False, True), repeat=3):
            for room in (3, 12, 20, 40, 100):
                widths = fitted(natural, whole, room)
                assert sum(widths) <= room, (natural, whole, room)
                assert all(1 <= width <= most for width, most in zip(widths, natural, strict=True))
                if sum(natural) <= room:
                    assert widths == list(natural)
                for width, most, is_whole in zip(widths, natural, whole, strict=True):
                    if is_whole and width < most:
                        cut = [one for one, stays in zip(widths, whole, strict=True) if not stays]
                        assert all(one <= LEAST_CELL for one in cut), (natural, whole, room, widths)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_list_is_watched_until_it_is_interrupted(
    runtime: Runtime, processes: Processes, environment: Environment, sent: list[str]
) -> None:
    ours, its_end = os.openpty()
    variables = environment(COLUMNS="80", LINES="24", TERM="xterm")
    watching = processes.start(
        *NOTIFYCTL, "messages", "list", "--watch", env=variables, stdin=its_end, stdout=its_end, stderr=its_end
    )
    os.close(its_end)
    screen = ""
    while screen.count(sent[0][-8:]) < 2:
        screen += os.read(ours, 65_536).decode()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 0
    os.close(ours)
    assert re.search(r"\x1b\[\?1049h", screen)
