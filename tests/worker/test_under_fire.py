"""Four real worker processes, stopped and killed at random, while the provider cuts some of the calls it accepted."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.models.client import Client
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.messages import CODE, WELCOME, code_pipe
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.short_minute import MINUTE

WORKERS = 4
SHORT_MINUTE = Path(__file__).parents[1] / "support" / "short_minute.py"


class Crew:
    """WORKERS processes, each replaced when it has ended."""

    def __init__(
        self, processes: Processes, environment: dict[str, str], program: Sequence[str | Path] = NOTIFYCTL
    ) -> None:
        self._processes = processes
        self._program = program
        self._environment = environment
        self.members: list[subprocess.Popen[bytes]] = []

    def man(self) -> None:
        self.members = [member for member in self.members if member.poll() is None]
        while len(self.members) < WORKERS:
            self.members.append(
                self._processes.start(*self._program, "worker", "--concurrency", "20", env=self._environment)
            )

    def hit(self, rng: random.Random) -> None:
        """It is no member from then on: one that is about to end must not be the one that is frozen."""
        self.members.pop(rng.randrange(len(self.members))).send_signal(rng.choice([signal.SIGTERM, signal.SIGKILL]))

    def freeze_one(self, runtime: Runtime) -> subprocess.Popen[bytes] | None:
        """It stops in the middle of its calls, and another takes its place. None when nobody is found at work."""
        at_work = busy(runtime)
        worker = next((member for member in self.members if member.pid in at_work), None)
        if worker is None:
            return None
        worker.send_signal(signal.SIGSTOP)
        if runtime.database.is_sqlite and not _can_write(runtime):
            worker.send_signal(signal.SIGCONT)  # it holds SQLite's write lock, and would hold it for good
            return None
        self.members.remove(worker)
        return worker


def queue(runtime: Runtime, emails: int, texts: int) -> None:
    now = runtime.clock()
    about = {"name": "", "timezone": "UTC", "locale": "en", "subscription_status": "active", "sms_enabled": False}
    about |= {"provisioning_status": "COMPLETED", "created_at": now, "updated_at": now}
    clients = [{"id": f"c{n}", "email": f"c{n}@client.example"} | about for n in range(emails)]
    requests = [SendRequest(template_key="WELCOME_EMAIL", client_id=f"c{n}", context=WELCOME) for n in range(emails)]
    codes = [SendRequest(template_key="OTP_CODE_SMS", recipient=f"+4915112{n:06}", context=CODE) for n in range(texts)]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, Client.__table__, clients)  # type: ignore[attr-defined]
        runtime.orchestrator.send_many(session, requests)
        code_pipe(runtime).send_many(session, codes)


def statuses(runtime: Runtime) -> Counter[str]:
    with runtime.database.read() as session:
        counted = session.execute(text("SELECT status, count(*) AS messages FROM message_log GROUP BY 1"))
        return Counter({row.status: row.messages for row in counted})


def busy(runtime: Runtime) -> set[int]:
    """The process ids of those that have messages on their way."""
    with runtime.database.read() as session:
        rows = session.execute(text("SELECT DISTINCT lease_owner FROM message_log WHERE status = 'SENDING'"))
        return {int(name.split(":")[1]) for name in rows.scalars()}


def _can_write(runtime: Runtime) -> bool:
    connection = sqlite3.connect(str(runtime.database.url.database), timeout=0.2, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


RECORDED_TWICE = """
    SELECT message_id FROM audit_log WHERE action IN ('NOTIFICATION_SENT', 'NOTIFICATION_DELIVERED')
    GROUP BY message_id HAVING count(*) > 1
"""


def thaw_and_stop(frozen: subprocess.Popen[bytes]) -> None:
    """It comes back to answers of calls whose messages others have settled since."""
    frozen.send_signal(signal.SIGCONT)
    sleep(2)
    frozen.send_signal(signal.SIGTERM)
    assert frozen.wait(60) == 0


def run_under_fire(
    runtime: Runtime,
    sandbox: Sandbox,
    processes: Processes,
    environment: Environment,
    *,
    messages: int,
    kills: int,
    seconds: float,
    seed: int,
) -> None:
    queue(runtime, messages // 2, messages // 2)
    for channel in Channel:
        slow = Fault("latency", ms=(100, 300))
        sandbox.set_faults(channel, Faults((Fault("accept-then-cut", rate=0.02), slow), seed=seed))
    variables = environment(
        POSTMARK_API_URL=sandbox.url,
        TWILIO_API_URL=sandbox.url,
        NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="1000000",
        NOTIFICATION_SMS_PER_MINUTE_LIMIT="1000000",
        IN_DOUBT_SEARCH_DELAY_SECONDS="2",
    )
    rng, deadline = random.Random(seed), monotonic() + seconds
    crew = Crew(processes, variables)
    hits, frozen = 0, None
    while (found := statuses(runtime)) != {"SENT": messages}:
        assert monotonic() < deadline, found
        crew.man()
        sleep(0.05)
        share = (found["SENT"] + found["DELIVERED"]) / messages
        if frozen is None and share > 0:
            frozen = crew.freeze_one(runtime)
        if hits < kills and share >= (hits + 1) / (kills + 2):
            crew.hit(rng)
            hits += 1
        if found["SENT"] + found["DELIVERED"] == messages:
            break
    assert hits == kills
    assert frozen is not None
    thaw_and_stop(frozen)
    processes.end()
    assert statuses(runtime).keys() <= {"SENT", "DELIVERED"}
    with runtime.database.read() as session:
        assert session.execute(text(RECORDED_TWICE)).all() == []
    for channel in Channel:
        accepted = sandbox.accepted_by_recipient(channel)
        assert len(accepted) == messages // 2
        assert [address for address, times in accepted.items() if times != 1] == []


@pytest.mark.timeout(500)
def test_killed_workers_and_cut_calls_lose_nothing_and_double_nothing(
    runtime: Runtime, sandbox: Sandbox, processes: Processes, environment: Environment, seed: int
) -> None:
    run_under_fire(runtime, sandbox, processes, environment, messages=4_000, kills=5, seconds=450, seed=seed)


@pytest.mark.soak
@pytest.mark.timeout(1_500)
def test_twenty_thousand_messages_under_fire(
    runtime: Runtime, sandbox: Sandbox, processes: Processes, environment: Environment, seed: int
) -> None:
    run_under_fire(runtime, sandbox, processes, environment, messages=20_000, kills=20, seconds=1_400, seed=seed)


@pytest.mark.soak
@pytest.mark.timeout(1_500)
def test_four_workers_hold_a_limit_of_120_a_minute_over_a_backlog_of_2000(
    runtime: Runtime, sandbox: Sandbox, processes: Processes, environment: Environment
) -> None:
    queue(runtime, 2_000, 0)
    variables = environment(
        POSTMARK_API_URL=sandbox.url, TWILIO_API_URL=sandbox.url, NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="120"
    )
    Crew(processes, variables).man()
    while len(sandbox.presented(Channel.EMAIL)) < 2_000:
        sleep(1)
    times = sandbox.presented(Channel.EMAIL)
    minutes = Counter(int((at - times[0]) // 60) for at in times)
    full = [minutes[number] for number in range(max(minutes))]
    assert sandbox.peak_per_minute(Channel.EMAIL) <= 120
    assert min(full) >= 114, full


def test_four_workers_share_a_limit_and_an_urgent_message_overtakes(
    runtime: Runtime, sandbox: Sandbox, processes: Processes, environment: Environment
) -> None:
    queue(runtime, 400, 0)
    variables = environment(
        POSTMARK_API_URL=sandbox.url, TWILIO_API_URL=sandbox.url, NOTIFICATION_EMAIL_PER_MINUTE_LIMIT="120"
    )
    reset = {"client_name": "Acme", "reset_url": "https://cloud.example/reset", "valid_minutes": 60}
    Crew(processes, variables, program=(sys.executable, SHORT_MINUTE)).man()
    while len(sandbox.presented(Channel.EMAIL)) < 118:
        sleep(0.1)
    asked = monotonic()
    with runtime.database.transaction() as session:
        request = SendRequest(template_key="PASSWORD_RESET", client_id="c399", context=reset)
        runtime.orchestrator.send(session, request)
    while sandbox.messages()[-1].tag != "PASSWORD_RESET":  # type: ignore[union-attr]
        assert monotonic() - asked < MINUTE / 2
        sleep(0.02)
    while monotonic() - asked < MINUTE + 2:
        sleep(0.1)
    processes.end()
    times = sandbox.presented(Channel.EMAIL)
    assert max(sum(at <= other < at + MINUTE for other in times) for at in times) <= 120
    assert sum(at - times[0] < MINUTE for at in times) >= 114
    assert statuses(runtime)["DEFERRED_THROTTLED"] > 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_processes_start_and_stop_together_and_the_first_sigterm_is_graceful(
    runtime: Runtime, sandbox: Sandbox, processes: Processes, environment: Environment
) -> None:
    queue(runtime, 0, 50)
    variables = environment(
        POSTMARK_API_URL=sandbox.url, TWILIO_API_URL=sandbox.url, NOTIFICATION_SMS_PER_MINUTE_LIMIT="6000"
    )
    supervisor = processes.notifyctl("worker", "--processes", "3", env=variables, start_new_session=True)
    deadline = monotonic() + 60
    while len(sandbox.messages()) < 50 or _present(runtime) < 3:
        assert monotonic() < deadline
        sleep(0.1)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    assert _present(runtime) == 0
    assert statuses(runtime) == {"SENT": 50}


def _present(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM worker_heartbeat WHERE left_at IS NULL")).scalar_one())
