"""Four real worker processes, stopped and killed at random, while the provider cuts some of the calls it accepted."""

import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import cast

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.delivery.pace.throttle import Budget, BudgetState
from notifyctl.models.enums import Channel
from notifyctl.operations import limits
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Email, Fault, Faults, Sandbox
from tests.support.crews import RECORDED_TWICE, Crew, queue, statuses, thaw_and_stop
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.settings import make_settings
from tests.support.setups import SetUp
from tests.support.short_minute import MINUTE
from tests.support.templates import seed_templates

SHORT_LEASE = Path(__file__).parents[1] / "support" / "short_lease.py"
SHORT_MINUTE = Path(__file__).parents[1] / "support" / "short_minute.py"


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
    program: Sequence[str | Path] = NOTIFYCTL,
    freezing: bool = True,
    strike: Callable[[], None] = lambda: None,
) -> None:
    """`strike` is called once, when half of them are sent."""
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
    crew = Crew(processes, variables, program)
    hits, frozen, is_struck = 0, None, False
    while (found := statuses(runtime)) != {"SENT": messages}:
        assert monotonic() < deadline, found
        crew.man()
        sleep(0.05)
        share = (found["SENT"] + found["DELIVERED"]) / messages
        if freezing and frozen is None and share > 0:
            frozen = crew.freeze_one(runtime)
        if hits < kills and share >= (hits + 1) / (kills + 2):
            crew.hit(rng)
            hits += 1
        if not is_struck and share >= 0.5:
            strike()
            is_struck = True
        if found["SENT"] + found["DELIVERED"] == messages:
            break
    assert hits == kills
    assert (frozen is not None) == freezing
    if frozen is not None:
        thaw_and_stop(frozen)
    crew.end()
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_killed_workers_lose_nothing_and_double_nothing_in_each_set_up(
    set_up: SetUp, sandbox: Sandbox, processes: Processes, environment: Environment, seed: int
) -> None:
    runtime = open_runtime(make_settings(database_url=set_up.url))
    seed_templates(runtime)
    run_under_fire(
        runtime,
        sandbox,
        processes,
        partial(environment, DATABASE_URL=set_up.url),
        messages=400,
        kills=2,
        seconds=250,
        seed=seed,
        program=(sys.executable, SHORT_LEASE),
        freezing=False,  # one that is frozen in a transaction holds its locks for half a minute
        strike=set_up.strike,
    )
    runtime.close()


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
    used = 0  # tokens, of which a worker that is stalled by a busy host forfeits some
    while len(sandbox.presented(Channel.EMAIL)) < 118:
        used = max(used, _used(runtime))
        sleep(0.1)
    used = max(used, _used(runtime))
    asked = monotonic()
    with runtime.database.transaction() as session:
        request = SendRequest(template_key="PASSWORD_RESET", client_id="c399", context=reset)
        runtime.orchestrator.send(session, request)
    while not any(isinstance(sent, Email) and sent.tag == "PASSWORD_RESET" for sent in sandbox.messages()):
        assert monotonic() - asked < MINUTE / 2
        sleep(0.02)
    while monotonic() - asked < MINUTE + 2:
        sleep(0.1)
    processes.end()
    times = sandbox.presented(Channel.EMAIL)
    assert max(sum(at <= other < at + MINUTE for other in times) for at in times) <= 120
    assert used >= 114
    assert statuses(runtime)["DEFERRED_THROTTLED"] > 0


def _used(runtime: Runtime) -> int:
    """Of the limit of 120, within the minute of the last taking."""
    with runtime.database.read() as session:
        state = limits.read_budget(session, Channel.EMAIL)
    return Budget.load(cast(BudgetState, state), 120).used if state else 0


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
