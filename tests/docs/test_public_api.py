"""`import notifyctl`: what it offers, what it costs, and that the documentation needs nothing else."""

import ast
import re
import sys
from pathlib import Path

import pytest

import notifyctl
from notifyctl import public_api
from notifyctl.clients.fields import COLUMN_OF
from notifyctl.errors import NotifyctlError
from tests.support.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = ("docs/python.md", "README.md")
SLOW = ("sqlalchemy", "sqlmodel", "pydantic", "typer")
MISUSED = """
import notifyctl
notifyctl.no_such_name
notifyctl.SendRequest(template_key="WELCOME_EMAIL", client=1)
values: notifyctl.ClientValues = {"mail": "anna@acme.example"}
"""


def examples(page: str) -> str:
    """The Python on a page, as one module."""
    return "\n".join(PYTHON.findall((ROOT / page).read_text(encoding="utf-8")))


def test_the_import_alone_costs_nothing(processes: Processes) -> None:
    script = "import notifyctl, sys; notifyctl.__version__; print(*sys.modules); notifyctl.Queued; print(*sys.modules)"
    printed = processes.run(sys.executable, "-c", script, fresh=True).stdout.splitlines()
    before, after = (set(line.split()) for line in printed)
    assert before.isdisjoint(SLOW)
    assert "notifyctl.public_api" not in before
    assert after >= {"notifyctl.public_api", "sqlalchemy"}


def test_a_module_is_imported_from_the_package_without_the_public_api(processes: Processes) -> None:
    script = "import sys; from notifyctl import errors; print('notifyctl.public_api' in sys.modules)"
    assert processes.run(sys.executable, "-c", script, fresh=True).stdout == "False\n"


def test_each_public_name_is_there_and_no_other() -> None:
    for name in public_api.__all__:
        assert getattr(notifyctl, name) is getattr(public_api, name)
    assert notifyctl.__all__ == public_api.__all__
    assert {*public_api.__all__, "__version__"} <= set(dir(notifyctl))
    for name in ("no_such_name", "TypedDict", "__wrapped__", "a.b"):
        assert not hasattr(notifyctl, name)
    with pytest.raises(AttributeError, match=r"^module 'notifyctl' has no attribute 'no_such_name'$"):
        notifyctl.no_such_name  # noqa: B018  what is asked for is what raises


def test_every_error_is_a_subclass_of_the_one_to_catch() -> None:
    exported = [getattr(notifyctl, name) for name in public_api.__all__]
    errors = [one for one in exported if isinstance(one, type) and issubclass(one, Exception)]
    assert len(errors) > 3
    assert all(issubclass(error, NotifyctlError) for error in errors)


def test_the_fields_of_a_client_are_those_of_the_import() -> None:
    assert list(notifyctl.ClientValues.__annotations__) == list(COLUMN_OF)


@pytest.mark.parametrize("page", PAGES)
def test_the_documentation_uses_nothing_else(page: str) -> None:
    nodes = list(ast.walk(ast.parse(examples(page))))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {module for module in modules if str(module).startswith("notifyctl")} == {"notifyctl"}


def test_the_examples_are_right_about_the_types(processes: Processes, tmp_path: Path) -> None:
    """As a host application sees them: by the marker of the installed package, with mypy's strictest rules."""
    pages = (*PAGES, "docs/sandbox.md")
    sources = {page.replace("/", "_").replace(".md", ".py"): examples(page) for page in pages} | {"misused.py": MISUSED}
    for name, source in sources.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context")
    checked = processes.run(*mypy, *sources, cwd=tmp_path, timeout=170)
    faults = [re.sub(r": error: .* \[(.+)\]$", r" \1", line) for line in checked.stdout.splitlines()]
    assert faults == ["misused.py:3 attr-defined", "misused.py:4 call-arg", "misused.py:5 typeddict-unknown-key"]
