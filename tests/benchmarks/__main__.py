"""All benchmarks, one after another, in one table: target beside figure. docs/performance.md explains them.

make bench [ROUNDS=5] [ONLY=S1,S4]
"""

import json
import os
import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from time import monotonic

from tests.benchmarks import harness
from tests.benchmarks.harness import HEADING, Figure

BUSY = 0.3
"""Cores in use before anything begins, from which the machine does not count as idle."""


def main() -> None:
    asked = harness.arguments().parse_args()
    began, load = monotonic(), os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, medians of {asked.rounds} rounds")
    if load > BUSY:
        print(f"This machine is not idle (load {load:.1f}): no figure of this run is worth keeping.")
    print(f"\n{HEADING}", flush=True)
    figures: list[Figure] = []
    failed: list[str] = []
    for name in modules(asked.only):
        command = [sys.executable, "-m", name, "--json", "--rounds", str(asked.rounds)]
        command += ["--only", ",".join(asked.only)] if asked.only else []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT) as process:
            for line in process.stdout or ():
                figures.append(Figure(**json.loads(line)))
                print(figures[-1], flush=True)
        if process.returncode:
            failed.append(name)
    missed = [figure for figure in figures if not figure.is_reached]
    targets = sum(bool(figure.target) for figure in figures)
    print(f"\n{targets - len(missed)} of {targets} targets are met; {(monotonic() - began) / 60:.0f} minutes")
    if failed:
        sys.exit(f"Without an end: {', '.join(failed)}")


def modules(only: list[str]) -> list[str]:
    """Those that yield one of these rows, by their first row."""
    paths = Path(__file__).parent.glob("*.py")
    names = [f"tests.benchmarks.{path.stem}" for path in paths if path.stem != "__main__"]
    for name in names:
        import_module(name)
    known = {number for benchmark in harness.benchmarks for number in benchmark.ids}
    if unknown := [number for number in only if number not in known]:
        sys.exit(f"No benchmark yields {', '.join(unknown)}; there are {', '.join(sorted(known, key=place))}")
    firsts = {name: [place(one.ids[0]) for one in harness.of_module(name, only)] for name in names}
    return sorted((name for name in names if firsts[name]), key=lambda name: min(firsts[name]))


def place(number: str) -> int:
    return int(number[1:])


if __name__ == "__main__":
    main()
