"""What a real worker leaves behind, and what health makes of it."""

import json
import signal
import time
from typing import Any

from notifyctl.bootstrap import Runtime
from tests.support.command_line import CommandLine
from tests.support.processes import NOTIFYCTL, Environment, Processes


def test_cron_and_a_worker_that_stopped_are_told_apart(
    runtime: Runtime, processes: Processes, environment: Environment, notifyctl: CommandLine
) -> None:
    def health() -> dict[str, Any]:
        ran = notifyctl("health", "--format", "json")
        assert ran.code == 0
        found: dict[str, Any] = json.loads(ran.out)
        return found

    def problems() -> list[dict[str, Any]]:
        return [problem for problem in health()["problems"] if problem["code"] != "SANDBOX"]

    assert [problem["code"] for problem in problems()] == ["NO_WORKER"]
    assert processes.run(*NOTIFYCTL, "worker", "--once", env=environment()).returncode == 0
    assert problems() == []

    worker = processes.notifyctl("worker", env=environment())
    deadline = time.monotonic() + 60
    while health()["workers"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    workers = health()["workers"]
    [problem] = problems()
    assert (workers, problem["level"], problem["code"]) == (0, "WARNING", "NO_WORKER")
    assert f"(process {worker.pid}), stopped " in problem["text"]
    listed = notifyctl("workers")
    assert (listed.code, "No worker is running" in listed.err) == (0, True)
