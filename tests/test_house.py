"""What holds for the package as a whole, and no lint rule says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import figures
from tests.figures import Module

LIBRARIES = ("sqlalchemy", "sqlmodel")
STATEMENTS = {"select", "insert", "update", "delete", "text", "func", "exists"}
SQL_FOLDERS = ("db/", "operations/", "models/")
SQL_MODULES = {
    "audit/append_only.py",
    "audit/log.py",
    "delivery/outbox.py",
    "health/latencies.py",
    "health/reports.py",
    "orchestrator/gate_facts.py",
}


def statements_in(module: Module) -> Iterator[str]:
    """What a module imports to write SQL with."""
    for node in ast.walk(module.tree):
        match node:
            case ast.ImportFrom(module=str(library), names=names) if library.split(".")[0] in LIBRARIES:
                yield from STATEMENTS & {alias.name for alias in names}
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in LIBRARIES)


def may_have_sql(path: str) -> bool:
    """A store is a file of that name beside what it stores; a few have a better one."""
    inner = path.removeprefix("notifyctl/")
    return inner.startswith(SQL_FOLDERS) or inner.endswith(("/store.py", "_store.py")) or inner in SQL_MODULES


def test_sql_stands_in_the_stores_alone() -> None:
    writing = {module.path for module in figures.modules() if set(statements_in(module))}
    assert len(writing) > 20
    assert {path for path in writing if not may_have_sql(path)} == set()


@pytest.mark.parametrize(
    "code",
    [
        "from sqlalchemy import func",
        "import sqlalchemy as sa",
        "from sqlmodel import Session, select",
        "def f():\n    from sqlalchemy.sql import text",
    ],
)
def test_sql_is_seen_wherever_it_is_imported(code: str) -> None:
    assert set(statements_in(Module("notifyctl/cli/health/health.py", code)))


def makes_a_database(module: Module) -> bool:
    calls = (node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    return any(isinstance(called, ast.Name) and called.id == "Database" for called in calls)


def test_a_database_is_made_from_all_of_the_settings() -> None:
    """By `open_database`: who makes one of a URL alone leaves out the others. Only a backup has none."""
    makers = [module.path for module in figures.modules() if makes_a_database(module)]
    assert makers == ["notifyctl/db/database.py", "notifyctl/transfer/backup_store.py"]


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return figures.measured(figures.modules())


@pytest.mark.parametrize("figure", figures.LIMITS)
def test_no_figure_is_over_its_limit(figure: str, measured: dict[str, int]) -> None:
    assert measured[figure] <= figures.LIMITS[figure], "`make figures` shows what counts, and where"


def test_what_is_counted() -> None:
    source = (
        "from typing import Any\nclass A:\n    def f(self):\n        import os\n        from x import y\nclass A: ...\n"
    )
    module = Module("notifyctl/x/y.py", source)
    assert figures.measured([module]) == {
        "modules": 1, "modules in a folder": 1, "lines of a module": 6, "Any": 1, "imports in functions": 2,
        "class names used twice": 1,
    }  # fmt: skip
    assert list(module.functions()) == [(3, "notifyctl/x/y.py:3 f")]


def test_a_rule_is_silenced_for_a_reason() -> None:
    """Which stands behind it."""
    bare = re.compile(r"#\s*noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?\s*$", re.MULTILINE)
    root = Path(__file__).parents[1]
    files = [path for folder in ("notifyctl", "tests", "docs", "migrations") for path in (root / folder).rglob("*.py")]
    assert len(files) > 500
    assert [str(path.relative_to(root)) for path in files if bare.search(path.read_text())] == []
