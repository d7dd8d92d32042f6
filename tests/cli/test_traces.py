"""What a real worker leaves behind, and what health makes of it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from notifyctl.bootstrap import Runtime
from tests.support.processes import Environment

PROGRAM = [sys.executable, "-m", "notifyctl"]


def health(environment: Environment, folder: Path) -> dict[str, Any]:
    command = [*PROGRAM, "health", "--format", "json"]
    ran = subprocess.run(command, env=environment(), cwd=folder, capture_output=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_cron_and_a_worker_that_stopped_are_told_apart(
    runtime: Runtime, environment: Environment, tmp_path: Path
) -> None:
    assert [problem["code"] for problem in health(environment, tmp_path)["problems"]] == ["NO_WORKER"]
    quiet: dict[str, Any] = {"env": environment(), "cwd": tmp_path, "stderr": subprocess.DEVNULL}
    subprocess.run([*PROGRAM, "worker", "--once"], timeout=60, check=True, **quiet)
    assert health(environment, tmp_path)["problems"] == []

    worker = subprocess.Popen([*PROGRAM, "worker"], **quiet)
    deadline = time.monotonic() + 60
    while health(environment, tmp_path)["workers"] == 0:
        assert time.monotonic() < deadline
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    found = health(environment, tmp_path)
    [problem] = found["problems"]
    assert (found["workers"], problem["level"], problem["code"]) == (0, "WARNING", "NO_WORKER")
    assert f"(process {worker.pid}), stopped " in problem["text"]
    listed = subprocess.run([*PROGRAM, "workers"], capture_output=True, text=True, timeout=60, check=True, **{
        name: value for name, value in quiet.items() if name != "stderr"
    })  # fmt: skip
    assert "No worker is running" in listed.stderr
