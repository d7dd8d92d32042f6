"""What a worker holds in memory: idle, and after 100,000 messages, half of them SMS and half emails.

    python -m tests.benchmarks.memory

One run is enough: memory does not waver.
"""

from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel
from tests.benchmarks import harness
from tests.benchmarks.harness import DATABASES, NAMES, Figure, Provider, measures, program, queue, sent, wait_until

HALF = 50_000
CHUNK = 10_000
MOST_MIB = 130


def mebibytes(process: Popen[bytes]) -> float:
    """Resident now, with what it shares with others."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (resident,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(resident) / 1024


def send(runtime: Runtime, provider: Provider, each: int) -> None:
    """So many by each channel, until all are recorded."""
    before = provider.count()
    for channel in Channel:
        for first in range(0, each, CHUNK):
            queue(runtime, channel, min(CHUNK, each - first))
    wait_until(lambda: provider.count() == before + len(Channel) * each, seconds=300)
    wait_until(lambda: sum(sent(runtime, channel) for channel in Channel) == provider.count())


@measures("S9")
def memory(_rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with (
            harness.store_and_provider(kind) as (runtime, provider),
            program("-m", "notifyctl", "worker", env=harness.environment(runtime.settings)) as worker,
        ):
            send(runtime, provider, 1)
            idle = mebibytes(worker)
            send(runtime, provider, HALF - 1)
            after = mebibytes(worker)
        yield Figure("S9", f"memory of a worker, idle, {NAMES[kind]}", idle, "MiB", at_most=MOST_MIB)
        yield Figure("S9", f"memory after {2 * HALF:,} messages, {NAMES[kind]}", after, "MiB", at_most=MOST_MIB)


if __name__ == "__main__":
    harness.main()
