"""A real worker process, stopped and started again in the middle of its work, against a sandbox that counts."""

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.models.client import Client
from notifyctl.models.enums import Channel, ProvisioningStatus
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Sandbox
from tests.support.messages import CODE, WELCOME, code_pipe
from tests.support.processes import NOTIFYCTL, Environment, Processes

RESTARTS = 5


StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the workers say: a pipe that nobody reads would stop them."""
    return tmp_path / "worker.log"


@pytest.fixture
def start_worker(processes: Processes, environment: Environment, sandbox: Sandbox, log: Path) -> StartWorker:
    variables = environment(
        POSTMARK_API_URL=sandbox.url,
        TWILIO_API_URL=sandbox.url,
        NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="1000000",
        NOTIFICATION_SMS_PER_MINUTE_LIMIT="1000000",
    )

    def start(*options: str) -> subprocess.Popen[bytes]:
        return processes.notifyctl("worker", *options, env=variables, log=log)

    return start


def queue(runtime: Runtime, emails: int, texts: int) -> None:
    now = runtime.clock()
    with runtime.database.transaction() as session:
        session.add_all(
            Client(
                id=f"c{number}", email=f"c{number}@client.example", created_at=now, updated_at=now,
                provisioning_status=ProvisioningStatus.COMPLETED,
            )
            for number in range(emails)
        )  # fmt: skip
        session.flush()
        requests = [
            SendRequest(template_key="WELCOME_EMAIL", client_id=f"c{number}", context=WELCOME)
            for number in range(emails)
        ]
        codes = [
            SendRequest(template_key="OTP_CODE_SMS", recipient=f"+4915112{number:06}", context=CODE)
            for number in range(texts)
        ]
        runtime.orchestrator.send_many(session, requests)
        code_pipe(runtime).send_many(session, codes)


def statuses(runtime: Runtime) -> Counter[str]:
    with runtime.database.read() as session:
        counted = session.execute(text("SELECT status, count(*) AS messages FROM message_log GROUP BY 1"))
        return Counter({row.status: row.messages for row in counted})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("messages", [5_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_many_messages_survive_five_restarts_none_lost_none_doubled(
    runtime: Runtime, sandbox: Sandbox, start_worker: StartWorker, log: Path, messages: int
) -> None:
    queue(runtime, messages // 2, messages // 2)
    for _ in range(RESTARTS):
        before = sum(map(sandbox.accepted, Channel))
        worker = start_worker()
        # In the middle of its own work: what the one before had on its way still came in while it ended.
        wait_until(lambda goal=before + messages // 50: sum(map(sandbox.accepted, Channel)) >= goal)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, log.read_text()[-2_000:]
        assert statuses(runtime)["SENDING"] == 0
    assert 0 < statuses(runtime)["QUEUED"] < messages
    last = start_worker("--once")
    assert last.wait(120) == 0, log.read_text()[-2_000:]
    assert statuses(runtime) == {"SENT": messages}
    seen = Counter(getattr(arrival, "recipients", None) or arrival.to for arrival in sandbox.messages())
    assert len(seen) == messages
    assert set(seen.values()) == {1}


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


def test_an_idle_worker_wakes_for_new_work(
    runtime: Runtime, sandbox: Sandbox, start_worker: StartWorker, log: Path
) -> None:
    worker = start_worker()
    wait_until(lambda: "worker started" in log.read_text())
    sleep(1.5)
    queue(runtime, 0, 1)
    wait_until(lambda: len(sandbox.messages()) == 1, 10)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_once_exits_when_nothing_is_due(runtime: Runtime, start_worker: StartWorker) -> None:
    assert start_worker("--once").wait(30) == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_missing_provider_key_is_one_line_that_names_it(
    processes: Processes, environment: Environment, runtime: Runtime
) -> None:
    values = environment()
    del values["TWILIO_AUTH_TOKEN"], values["EMAIL_SENDER"]
    ran = processes.run(*NOTIFYCTL, "worker", "--once", env=values)
    assert ran.returncode == 6
    (line,) = ran.stderr.splitlines()
    assert "EMAIL_SENDER, TWILIO_AUTH_TOKEN not set" in line
