"""Real threads and real processes against one database: what must happen once happens once."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.errors import IdempotencyConflict
from notifyctl.orchestrator.requests import Decision, SendRequest
from tests.support.clients import a_client
from tests.support.messages import CODE, RESET, WELCOME, all_messages, pipe_for
from tests.support.processes import Environment, Processes

THREADS = 12
ROUNDS = 4


def _at_once(runtime: Runtime, request: Callable[[int], SendRequest]) -> list[Decision | Exception]:
    """THREADS senders that start together, each in a transaction of its own."""
    barrier = Barrier(THREADS)

    def one(number: int) -> Decision | Exception:
        barrier.wait(30)
        try:
            with runtime.database.transaction() as session:
                asked = request(number)
                return pipe_for(runtime, asked.template_key).send(session, asked)
        except IdempotencyConflict as conflict:
            return conflict

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def _kinds(decisions: list[Any]) -> Counter[str]:
    return Counter(type(decision).__name__ for decision in decisions)


@pytest.mark.parametrize("has_rate", [True, False], ids=["rate-limited", "without a rate"])
def test_one_key_used_at_once_makes_one_message(runtime: Runtime, has_rate: bool) -> None:
    a_client(runtime)
    if not has_rate:
        with runtime.database.transaction() as session:
            session.execute(text("UPDATE notification_template SET rate_limit_window_seconds = NULL"))
    for round_ in range(ROUNDS):
        with runtime.database.transaction() as session:
            session.execute(text("DELETE FROM message_log"))
        decisions = _at_once(
            runtime,
            lambda _, key=f"k{round_}": SendRequest(
                template_key="WELCOME_EMAIL", client_id="acme", context=WELCOME, idempotency_key=key
            ),
        )
        assert _kinds(decisions) == {"Queued": 1, "Duplicate": THREADS - 1}
        assert len({decision.message_id for decision in decisions}) == 1  # type: ignore[union-attr]


def test_one_key_used_at_once_for_different_messages_makes_one_and_conflicts(runtime: Runtime) -> None:
    a_client(runtime)
    decisions = _at_once(
        runtime,
        lambda number: SendRequest(
            template_key="WELCOME_EMAIL",
            client_id="acme",
            context=WELCOME | {"client_name": f"Acme {number}"},
            idempotency_key="k",
        ),
    )
    assert _kinds(decisions) == {"Queued": 1, "IdempotencyConflict": THREADS - 1}


@pytest.mark.parametrize(
    ("template", "context", "who", "allowed"),
    [
        ("WELCOME_EMAIL", WELCOME, {"client_id": "acme"}, 1),
        ("PASSWORD_RESET", RESET, {"client_id": "acme"}, 3),
        ("OTP_CODE_SMS", CODE, {"recipient": "+4915112345678"}, 3),
    ],
    ids=["one a day to a client", "three an hour to a client", "three in half an hour to a number"],
)
def test_a_window_holds_when_all_ask_at_once(
    runtime: Runtime, template: str, context: dict[str, Any], who: dict[str, str], allowed: int
) -> None:
    a_client(runtime)
    decisions = _at_once(runtime, lambda _: SendRequest(template_key=template, context=context, **who))
    assert _kinds(decisions) == {"Queued": allowed, "Blocked": THREADS - allowed}


def test_bulk_senders_that_share_clients_neither_deadlock_nor_overrun_a_window(runtime: Runtime) -> None:
    names = [f"client-{number:02}" for number in range(20)]
    for name in names:
        a_client(runtime, name)
    barrier = Barrier(4)

    def bulk(number: int) -> list[Decision]:
        order = names if number % 2 else list(reversed(names))
        requests = [SendRequest(template_key="WELCOME_EMAIL", client_id=name, context=WELCOME) for name in order]
        barrier.wait(30)
        with runtime.database.transaction() as session:
            return runtime.orchestrator.send_many(session, requests)

    with ThreadPoolExecutor(4) as pool:
        decisions = [decision for found in pool.map(bulk, range(4)) for decision in found]
    assert _kinds(decisions) == {"Queued": 20, "Blocked": 60}


SENDER = """
import sys
from notifyctl.bootstrap import open_runtime
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.settings import load_settings

runtime = open_runtime(load_settings())
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    for request in (
        SendRequest(template_key="PASSWORD_RESET", client_id="acme", context={reset}),
        SendRequest(
            template_key="WELCOME_EMAIL", client_id="beacon", context={welcome}, idempotency_key="welcome-beacon"
        ),
    ):
        with runtime.database.transaction() as session:
            runtime.orchestrator.send(session, request)
"""


def test_processes_share_windows_and_keys(
    runtime: Runtime, processes: Processes, environment: Environment, tmp_path: Path
) -> None:
    a_client(runtime)
    a_client(runtime, "beacon")
    script = tmp_path / "sender.py"
    script.write_text(SENDER.format(reset=RESET, welcome=WELCOME))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    senders = [processes.start(sys.executable, script, env=environment(), **pipes) for _ in range(4)]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "ready\n"
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
    assert [sender.wait(60) for sender in senders] == [0, 0, 0, 0]
    with runtime.database.read() as session:
        found = Counter((row.template_key, row.status.value) for row in all_messages(session))
    assert found == {
        ("PASSWORD_RESET", "QUEUED"): 3,
        ("PASSWORD_RESET", "BLOCKED"): 37,
        ("WELCOME_EMAIL", "QUEUED"): 1,
    }
