"""From the request of a code to the provider's call by way of PgBouncer in transaction mode, where nobody can listen.

    python -m tests.benchmarks.pooled_pick_up [--rounds 5]

The worker asks again and again instead; what a question costs is printed as well.
"""

import argparse
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from time import monotonic

import psycopg

from notifyctl.bootstrap import open_runtime
from notifyctl.db import wakeup
from tests.benchmarks import harness
from tests.benchmarks.harness import Provider, percentile
from tests.benchmarks.pick_up import Idle, waits_ms
from tests.support.poolers import start_pooler
from tests.support.processes import Processes

QUESTIONS = 20_000


def cost_of_a_question(database_url: str) -> str:
    """Of those that a worker asks again and again where it cannot listen."""
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid() AS server").fetchone() or (0,)
        before, asked_at = harness.cpu_seconds(pid), monotonic()
        for _ in range(QUESTIONS):
            connection.execute("SELECT pg_current_snapshot()::text").fetchone()
        each = (monotonic() - asked_at) / QUESTIONS
        at_work = (harness.cpu_seconds(pid) - before) / QUESTIONS
    share = at_work / wakeup.POLL_SECONDS
    return (
        f"{each * 1000:.2f} ms, {at_work * 1e6:.0f} µs of the server's CPU; an idle worker costs {share:.2%} of a core"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        provider = stack.enter_context(harness.provider())
        direct = stack.enter_context(
            harness.fresh_store("postgresql", postmark_api_url=provider, twilio_api_url=provider)
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # PgBouncer runs as another user
        programs = Processes(folder, None)
        stack.callback(programs.end)
        url = start_pooler(direct.settings.database_url, programs, "transaction")
        settings = direct.settings.model_copy(update={"database_url": url})
        idle = Idle(stack.enter_context(closing(open_runtime(settings))), stack)
        waits = waits_ms(Provider(provider), {"code": idle.code}, rounds)["code"]
        print(f"p50 {median(waits):.1f} ms, p95 {percentile(waits, 0.95):.1f} ms")
        print(f"a question takes {cost_of_a_question(url)}")


if __name__ == "__main__":
    main()
