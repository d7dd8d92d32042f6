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
from time import monotonic, sleep

from tests.benchmarks import harness
from tests.benchmarks.harness import HEADING, Figure

BUSY = 0.1
"""Cores that others use before anything begins, from which on the machine does not count as idle."""
LAST = 1_000
"""No row has such a number."""


def main() -> None:
    asked = harness.arguments().parse_args()
    names, began, busy = modules(asked.only), monotonic(), cores_in_use()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, medians of {asked.rounds} rounds")
    if busy > BUSY:
        print(f"This machine is not idle: others use {busy:.1f} cores. No figure of this run is worth keeping.")
    print(f"\n{HEADING}", flush=True)
    figures: list[Figure] = []
    kept: list[Figure] = []
    """Until those have come whose rows stand above theirs."""
    failed: list[str] = []
    options = ["--rounds", str(asked.rounds), *(["--only", ",".join(asked.only)] if asked.only else [])]
    for name, first_after in names.items():
        command = [sys.executable, "-m", name, "--json", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT) as process:
            for line in process.stdout or ():
                figures.append(Figure(**json.loads(line)))
                if place(figures[-1].id) <= first_after:
                    print(figures[-1], flush=True)
                else:
                    kept.append(figures[-1])
        if process.returncode:
            failed.append(name)
    for figure in sorted(kept, key=lambda figure: place(figure.id)):
        print(figure)
    missed = [figure for figure in figures if not figure.is_reached]
    targets = sum(bool(figure.target) for figure in figures)
    print(f"\n{targets - len(missed)} of {targets} targets are met; {(monotonic() - began) / 60:.0f} minutes")
    if failed:
        sys.exit(f"Without an end: {', '.join(failed)}")


def cores_in_use() -> float:
    """For two seconds, in which we do nothing."""

    def spent() -> float:
        user, nice, system, _idle, _waiting, *others = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")

    before = spent()
    sleep(2)
    return (spent() - before) / 2


def modules(only: list[str]) -> dict[str, int]:
    """Those that yield one of these rows, by their first row, and the first row of those that come after each."""
    paths = Path(__file__).parent.glob("*.py")
    names = [f"tests.benchmarks.{path.stem}" for path in paths if path.stem != "__main__"]
    for name in names:
        import_module(name)
    known = {number for benchmark in harness.benchmarks for number in benchmark.ids}
    if unknown := [number for number in only if number not in known]:
        sys.exit(f"No benchmark yields {', '.join(unknown)}; there are {', '.join(sorted(known, key=place))}")
    asked = {name: harness.of_module(name, only) for name in names}
    firsts = {name: min(place(one.ids[0]) for one in found) for name, found in asked.items() if found}
    order = sorted(firsts, key=lambda name: (firsts[name], name))
    return dict(zip(order, [*(firsts[name] for name in order[1:]), LAST], strict=True))


def place(number: str) -> int:
    return int(number[1:])


if __name__ == "__main__":
    main()
