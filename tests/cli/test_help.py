"""What help says, and that nothing is imported for it but what it is about."""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException

from notifyctl.bootstrap import Runtime
from notifyctl.cli.examples import EXAMPLES, lines_of
from notifyctl.cli.main import COMMANDS, GROUPS, app, load, whole_tree
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send
from tests.support.processes import NOTIFYCTL, Environment, Processes


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
    assert ran.stdout.startswith("Usage: notifyctl limits set [OPTIONS] {CHANNEL} {PER_MINUTE}")
    modules = [name for name in ran.stderr.split() if name.startswith("notifyctl")]
    assert (modules, ran.returncode) == (["notifyctl.cli.admin.limits"], 0)


def test_a_worker_imports_nothing_that_only_others_use(processes: Processes) -> None:
    ran = processes.run(sys.executable, "-c", HELP, "worker", "--help")
    unused = {"alembic", "stripe", "fastapi", "phonenumbers", "email_validator", "rich", "tabulate"}
    assert (unused & set(ran.stderr.split()), ran.returncode) == (set(), 0)


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    for name, child in inner.items():
        yield from leaves(child, f"{path} {name}".strip())
    if not inner or getattr(command, "invoke_without_command", False):
        yield path, command


def test_every_command_has_examples_that_it_takes() -> None:
    every = dict(leaves(whole_tree()))
    assert len(every) > 70
    assert [path for path in every if path not in EXAMPLES] == []
    assert [path for path in EXAMPLES if path not in every] == []
    for path, command in every.items():
        assert "Examples:" in command.epilog
        for line in lines_of(path):
            arguments = shlex.split(line)[1 + len(path.split()) :]
            command.make_context(path, arguments)


def test_every_command_is_in_one_group_of_the_help() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["messages"], ["messages", "explain"]):
        app(["help", *command], standalone_mode=False, prog_name="notifyctl")
        said = capsys.readouterr().out
        app([*command, "--help"], standalone_mode=False, prog_name="notifyctl")
        assert capsys.readouterr().out == said
    with pytest.raises(TyperException):
        app(["help", "mesages"], standalone_mode=False, prog_name="notifyctl")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("notifyctl lim", ["limits"]),
        ("notifyctl limits ", ["show", "set", "reset"]),
        ("notifyctl monitor --wa", ["--warn-percent"]),
        ("notifyctl messages list --status B", ["BOUNCED", "BLOCKED"]),
        ("notifyctl messages list --reason IN_", ["IN_DOUBT_HELD"]),
        ("notifyctl jobs run mis", ["missing_receipts"]),
        ("notifyctl stripe events --type invoice.p", ["invoice.paid", "invoice.payment_failed"]),
        ("notifyctl sandbox stripe trigger pur", ["purchase"]),
        ("notifyctl config QUIET", ["QUIET_HOURS"]),
        ("notifyctl help messages re", ["retry"]),
    ],
)
def test_a_shell_completes_commands_and_their_options(processes: Processes, words: str, completed: list[str]) -> None:
    asked = {"_NOTIFYCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    ran = processes.run(*NOTIFYCTL, env={**os.environ, **asked})
    assert (ran.stdout.split(), ran.stderr) == (completed, "")


def test_a_shell_completes_what_is_in_the_store(
    processes: Processes, runtime: Runtime, environment: Environment
) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    for words, completed in (
        ("notifyctl send WELC", ["WELCOME_EMAIL"]),
        ("notifyctl clients show ac", ["acme"]),
        ("notifyctl messages list --client acme", ["acme"]),
        ("notifyctl messages explain ", ["last", message_id[-8:]]),
    ):
        asked = {"_NOTIFYCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        ran = processes.run(*NOTIFYCTL, env=environment(**asked))
        assert (ran.stdout.split(), ran.stderr) == (completed, ""), words


def test_where_nothing_can_be_asked_nothing_is_completed(processes: Processes, tmp_path: Path) -> None:
    asked = {"_NOTIFYCTL_COMPLETE": "complete_bash", "COMP_WORDS": "notifyctl clients show a", "COMP_CWORD": "3"}
    ran = processes.run(*NOTIFYCTL, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **asked}, cwd=tmp_path)
    assert (ran.stdout.strip(), ran.stderr) == ("", "")


def test_a_mistyped_command_gets_a_suggestion_from_the_table() -> None:
    with pytest.raises(TyperException, match=r"No such command 'limit'\. Did you mean 'limits'"):
        app(["limit"], standalone_mode=False, prog_name="notifyctl")
