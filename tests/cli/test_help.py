"""What help says, and that nothing is imported for it but what it is about."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.exceptions import TyperException

from notifyctl.cli.main import COMMANDS, app, load, whole_tree
from tests.support.processes import NOTIFYCTL, Processes


def parameters(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{path} {name}")
    for parameter in command.params:
        yield f"{path} {parameter.name}", parameter


def test_a_parameter_has_help_that_is_a_sentence() -> None:
    every = list(parameters(whole_tree(), "notifyctl"))
    assert len(every) > 200
    assert [name for name, parameter in every if (parameter.help or "")[-1:] != "."] == []


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("messages retry", "[OPTIONS] [ID]..."),
        ("templates lint", "[OPTIONS] [KEY]..."),
        ("messages show", "[OPTIONS] {ID}"),
    ],
)
def test_the_usage_line_of_a_command_with_arguments(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app([*command.split(), "--help"], standalone_mode=False, prog_name="notifyctl")
    assert capsys.readouterr().out.splitlines()[0] == f"Usage: notifyctl {command} {usage}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_of_a_command_what_its_module_says(name: str) -> None:
    command = load(name)
    assert command.help.split("\n")[0].startswith(COMMANDS[name].help)
    assert command.get_short_help_str(200) == COMMANDS[name].help


HELP = """
import sys
from notifyctl.cli.main import COMMANDS, app

app(sys.argv[1:], standalone_mode=False, prog_name="notifyctl")
# Not pydantic: Typer itself reads option values by it.
heavy = {"sqlmodel", "sqlalchemy", "pydantic_settings", "alembic", "twilio", "stripe", "postmarker",
         "fastapi", "cryptography", "phonenumbers", "email_validator", "jinja2", "rich", "tabulate"}
print(*sorted((heavy | {entry.module for entry in COMMANDS.values()}) & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_no_command(processes: Processes) -> None:
    ran = processes.run(sys.executable, "-c", HELP, "--help")
    assert ran.stdout.startswith("Usage: notifyctl [OPTIONS] COMMAND [ARGS]...")
    assert (ran.stderr, ran.returncode) == ("\n", 0)


def test_the_help_of_a_command_imports_its_module_alone(processes: Processes) -> None:
    ran = processes.run(sys.executable, "-c", HELP, "limits", "set", "--help")
    assert ran.stdout.startswith("Usage: notifyctl limits set [OPTIONS] {EMAIL|SMS} {PER_MINUTE}")
    modules = [name for name in ran.stderr.split() if name.startswith("notifyctl")]
    assert (modules, ran.returncode) == (["notifyctl.cli.admin.limits"], 0)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("notifyctl lim", ["limits"]),
        ("notifyctl limits ", ["show", "set", "reset"]),
        ("notifyctl monitor --wa", ["--warn-percent"]),
    ],
)
def test_a_shell_completes_commands_and_their_options(processes: Processes, words: str, completed: list[str]) -> None:
    asked = {"_NOTIFYCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    ran = processes.run(*NOTIFYCTL, env={**os.environ, **asked})
    assert (ran.stdout.split(), ran.stderr) == (completed, "")


def test_a_mistyped_command_gets_a_suggestion_from_the_table() -> None:
    with pytest.raises(TyperException, match=r"No such command 'limit'\. Did you mean 'limits'"):
        app(["limit"], standalone_mode=False, prog_name="notifyctl")
