"""Every argument and option says what it is for."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from notifyctl.cli.main import app


def parameters(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{path} {name}")
    for parameter in command.params:
        yield f"{path} {parameter.name}", parameter


def test_a_parameter_has_help_that_is_a_sentence() -> None:
    every = list(parameters(get_command(app), "notifyctl"))
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
