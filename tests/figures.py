"""How big and how tangled the package is, beside its limits, and how long the last `make test` took: `make figures`."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
LAST_RUN = ROOT / ".pytest_cache" / "suite.xml"

LIMITS = {
    "modules": 283,
    "modules in a folder": 12,
    "lines of a module": 370,
    "Any": 60,
    "imports in functions": 31,
    "class names used twice": 0,
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Row = tuple[float, str]


@dataclass(frozen=True)
class Module:
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def functions(self) -> Iterator[Row]:
        """Lines of each without its docstring, and where it stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTIONS):
                first = node.body[0] if ast.get_docstring(node) is not None else None
                docstring = (first.end_lineno or 0) - first.lineno + 1 if first else 0
                yield (node.end_lineno or 0) - node.lineno + 1 - docstring, f"{self.path}:{node.lineno} {node.name}"

    def imports_in_functions(self) -> set[int]:
        """Their lines."""
        functions = (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))
        inner = (node for function in functions for node in ast.walk(function))
        return {node.lineno for node in inner if isinstance(node, (ast.Import, ast.ImportFrom))}

    def classes(self) -> list[str]:
        return [node.name for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]


def modules(package: Path = ROOT / "notifyctl") -> list[Module]:
    """All but the `__init__.py`, which say what their folder is for and no more."""
    paths = sorted(path for path in package.rglob("*.py") if path.name != "__init__.py")
    return [Module(path.relative_to(package.parent).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def measured(package: Sequence[Module]) -> dict[str, int]:
    """By the names in LIMITS."""
    return {
        "modules": len(package),
        "modules in a folder": max(Counter(module.folder for module in package).values()),
        "lines of a module": max(module.lines for module in package),
        "Any": sum(len(re.findall(r"\bAny\b", module.text)) for module in package),
        "imports in functions": sum(len(module.imports_in_functions()) for module in package),
        "class names used twice": len(used_twice(package)),
    }


def used_twice(package: Sequence[Module]) -> list[tuple[str, list[str]]]:
    """Each name with the modules that have a class of it."""
    places: dict[str, list[str]] = {}
    for module in package:
        for name in module.classes():
            places.setdefault(name, []).append(module.path)
    return [(name, paths) for name, paths in sorted(places.items()) if len(paths) > 1]


def main() -> None:
    package = modules()
    show("Figures", ((value, f"{name:24} at most {LIMITS[name]}") for name, value in measured(package).items()))
    files, lines = Counter(module.folder for module in package), Counter[str]()
    for module in package:
        lines[module.folder] += module.lines
    show("Lines and modules of each folder", ((lines[name], f"{files[name]:3}  {name}/") for name in sorted(files)))
    show("Lines and modules in all", [(lines.total(), f"{files.total():3}")])
    show("Largest modules", largest((module.lines, module.path) for module in package))
    show("Longest functions", largest(row for module in package for row in module.functions()))
    show("Class names used twice", ((len(paths), f"{name}: {', '.join(paths)}") for name, paths in used_twice(package)))
    if LAST_RUN.exists():
        cases = ElementTree.parse(LAST_RUN).iter("testcase")
        tests = [(float(case.get("time", 0)), f"{case.get('classname')}::{case.get('name')}") for case in cases]
        show("Seconds of the last `make test`", [(sum(seconds for seconds, _ in tests), f"{len(tests):,} tests")])
        show("Slowest tests", largest(tests))


def largest(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, reverse=True)[:10]


def show(title: str, rows: Iterable[Row]) -> None:
    print(f"\n{title}")
    for value, name in rows:
        print(f"{value:10,.0f}  {name}")


if __name__ == "__main__":
    main()
