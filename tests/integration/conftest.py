import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from notifyctl.cli.main import main
from tests.conftest import Environment


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


CommandLine = Callable[..., Ran]


@pytest.fixture
def notifyctl(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """Runs a command on this test's database: in this process, with the real program's error boundary."""

    def run(*arguments: str, **variables: str) -> Ran:
        for name, value in environment(**variables).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return Ran(ended.value.code, *capsys.readouterr())

    root = logging.getLogger("notifyctl")
    before = (root.handlers, root.level, root.propagate)
    yield run
    root.handlers, level, root.propagate = before
    root.setLevel(level)
