"""What the lint rules cannot say: who may speak to the providers, and who may look at the clock."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "notifyctl"
SDKS = {"postmarker", "twilio"}
CLOCKS = {
    ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
    ("time", "time"), ("time", "time_ns"), ("time", "localtime"), ("time", "gmtime"), ("time", "ctime"),
}  # fmt: skip


@cache
def sources() -> dict[str, str]:
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def mentioning(*words: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules that have one of the words somewhere; what has none of them need not be parsed."""
    for path, source in sorted(sources().items()):
        if any(word in source for word in words):
            yield path, ast.parse(source)


def imported(tree: ast.Module) -> set[str]:
    """The libraries that are imported anywhere in a module, also inside functions and by importlib."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {name.name.split(".")[0] for name in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.split(".")[0])
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                found.add(module.split(".")[0])
    return found


def wall_clock_reads(tree: ast.Module) -> list[str]:
    """`datetime.now`, `time.time` and their like, under whatever name they were imported."""
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                if (names.get(owner, owner).split(".")[-1], name) in CLOCKS:
                    found.append(f"line {node.lineno}: {owner}.{name}")
            case ast.ImportFrom(module="time", names=taken):
                found += [f"line {node.lineno}: {name.name}" for name in taken if ("time", name.name) in CLOCKS]
    return found


def test_only_the_adapters_import_the_providers_libraries() -> None:
    users = {path for path, tree in mentioning(*SDKS) if imported(tree) & SDKS}
    assert users
    assert {path for path in users if not path.startswith("providers/")} == set()


def test_only_one_time_codes_have_the_pipe_of_codes() -> None:
    users = {path for path, _ in mentioning("CodePipe", "code_pipe")}
    assert users == {"orchestrator/orchestrator.py", "otp/one_time_codes.py", "otp/phone_state.py"}


def test_only_the_command_line_has_the_pipe_of_tests() -> None:
    users = {path for path, _ in mentioning("ExamplePipe")}
    assert users == {"orchestrator/orchestrator.py", "cli/messages/templates.py"}


def test_only_the_clock_reads_the_wall_clock() -> None:
    words = {f".{name}" for _, name in CLOCKS} | {"from time import"}
    readers = {path: reads for path, tree in mentioning(*words) if (reads := wall_clock_reads(tree))}
    assert set(readers) == {"clock.py"}, readers


def test_only_the_adapters_know_the_providers_addresses() -> None:
    hosts = ("api.postmarkapp.com", "api.twilio.com")
    knowing = {
        path
        for path, tree in mentioning(*hosts)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and any(host in node.value for host in hosts)
    }
    assert {path for path in knowing if not path.startswith("providers/")} <= {"settings.py"}


@pytest.mark.parametrize(
    "code",
    [
        "import postmarker.core",
        "from twilio.rest import Client",
        "def late():\n    import twilio",
        "import importlib\nimportlib.import_module('postmarker.core')",
    ],
)
def test_an_import_of_a_providers_library_is_seen_wherever_it_stands(code: str) -> None:
    assert imported(ast.parse(code)) & SDKS


@pytest.mark.parametrize(
    "code",
    [
        "from datetime import UTC, datetime\nnow = datetime.now(UTC)",
        "import datetime as dt\nnow = dt.datetime.now()",
        "from datetime import datetime as moment\nnow = moment.utcnow()",
        "import time\nnow = time.time()",
        "from time import time\nnow = time()",
        "from datetime import date\nfactory = date.today",
    ],
)
def test_a_look_at_the_wall_clock_is_seen_under_any_name(code: str) -> None:
    assert wall_clock_reads(ast.parse(code))


def test_measuring_how_long_something_takes_is_no_look_at_the_wall_clock() -> None:
    assert not wall_clock_reads(ast.parse("from time import monotonic, sleep\nsleep(1 - monotonic() % 1)"))
