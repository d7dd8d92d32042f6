"""How soon a worker that is started makes its first call, beside a bare `import sqlmodel` in the same run.

    python -m tests.benchmarks.worker_start [--rounds 5]

Both are whole processes, timed from outside. A message waits: the worker's time ends when the provider has it.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from statistics import median
from time import CLOCK_REALTIME, clock_gettime, perf_counter

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel
from tests.benchmarks import harness
from tests.benchmarks.harness import DATABASES, NAMES, Figure, Provider, measures, program, ratio, turns, wait_until

A_ROUND = 3
"""Starts of each: they waver more than a rate does."""


def to_first_call(runtime: Runtime, provider: Provider) -> float:
    before = harness.sent(runtime, Channel.SMS)
    harness.queue(runtime, Channel.SMS, 1)
    started = clock_gettime(CLOCK_REALTIME)
    with program("-m", "notifyctl", "worker", env=harness.environment(runtime.settings)):
        wait_until(lambda: provider.count() == 1)
        (came,) = provider.arrivals().values()
        wait_until(lambda: harness.sent(runtime, Channel.SMS) == before + 1)
    return came - started


def bare_import() -> float:
    started = perf_counter()
    subprocess.run([sys.executable, "-c", "import sqlmodel"], check=True)
    return perf_counter() - started


@measures("S9")
def start(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with harness.store_and_provider(kind) as (runtime, provider):
            taken = turns(A_ROUND * rounds, {"ours": partial(to_first_call, runtime, provider), "bare": bare_import})
        ours, bare = taken["ours"], taken["bare"]
        beside = f"{median(ours):.2f} s beside {median(bare):.2f} s"
        what = f"start to first call, {NAMES[kind]}, of `import sqlmodel`"
        yield Figure("S9", what, ratio(ours, bare), at_most=2, beside=beside)


if __name__ == "__main__":
    harness.main()
