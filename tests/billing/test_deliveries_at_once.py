"""Real threads and killed processes: what must happen once happens once, and nothing is left half done."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Barrier, Event
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from notifyctl.billing.event_context import EventOutcome
from notifyctl.billing.processing import ProcessingOptions
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Origin
from tests.support.clients import a_client
from tests.support.clocks import StandingClock
from tests.support.processes import Environment, Processes
from tests.support.stripe_payloads import (
    NOW,
    OLD_SECRET,
    WEBHOOK_SECRET,
    a_checkout,
    a_failed_invoice,
    a_subscription,
    an_invoice,
    completed,
    created,
    event_id,
    failed,
    paid,
    updated,
)
from tests.support.stripe_world import (
    CONFIRMED,
    FAILED,
    audits,
    event,
    mails,
    receive,
    statuses,
    subscription_state,
    the_client,
)

THREADS = 12


def at_once(runtime: Runtime, raws: Sequence[bytes]) -> list[EventOutcome]:
    barrier = Barrier(len(raws))

    def one(raw: bytes) -> EventOutcome:
        barrier.wait(30)
        return runtime.billing.receive(raw)

    with ThreadPoolExecutor(len(raws)) as pool:
        return list(pool.map(one, raws))


def test_one_event_delivered_at_once_by_many_is_one_row_and_one_mail(runtime: Runtime) -> None:
    for number in range(4):
        raw = failed(a_failed_invoice(f"in_{number}"))
        outcomes = at_once(runtime, [raw] * THREADS)
        assert sorted(outcome.is_repeated for outcome in outcomes) == [False] + [True] * (THREADS - 1)
        assert event(runtime, event_id(raw)).attempts == 1
    assert mails(runtime) == [FAILED] * 4
    assert len(audits(runtime, "STRIPE_EVENT_RECEIVED")) == 4


def test_the_events_of_a_purchase_at_once_confirm_it_once(runtime: Runtime) -> None:
    for number in range(6):
        sub, customer = f"sub_{number}", f"cus_x{number}"
        a_client(runtime, f"c{number}", plan=None, subscription_status="none")
        outcomes = at_once(
            runtime,
            [
                created(a_subscription(sub, customer=customer, status="incomplete")),
                paid(an_invoice(f"in_{number}", subscription=sub, customer=customer), at=NOW + 1),
                updated(a_subscription(sub, customer=customer), at=NOW + 1),
                completed(
                    a_checkout(f"cs_{number}", subscription=sub, customer=customer, client=f"c{number}"), at=NOW + 2
                ),
            ],
        )
        assert "FAILED" not in [outcome.status for outcome in outcomes]
        runtime.billing.retry()  # what was marked unmatched just as the checkout linked the client
        client = the_client(runtime, f"c{number}")
        assert (client.plan, client.subscription_status, subscription_state(runtime, sub).status) == (
            "PRO",
            "active",
            "active",
        )
        assert mails(runtime, client_id=f"c{number}") == [CONFIRMED]
    assert statuses(runtime) == {"PROCESSED": 24}


def test_failed_debits_and_the_report_that_brings_their_mails_at_once(runtime: Runtime) -> None:
    for number in range(6):
        sub, customer = f"sub_{number}", f"cus_x{number}"
        a_client(runtime, f"c{number}", plan=None, subscription_status="none", stripe_customer_id=customer)
        bill: dict[str, Any] = {"subscription": sub, "customer": customer, "reason": "subscription_create"}
        events = [
            created(a_subscription(sub, customer=customer)),
            updated(a_subscription(sub, customer=customer), at=NOW + 1),
            *(failed(a_failed_invoice(f"in_{number}", **bill, attempt=one), at=NOW + one) for one in (2, 3)),
        ]
        outcomes = at_once(runtime, events * 2)
        assert "FAILED" not in [outcome.status for outcome in outcomes]
        assert mails(runtime, client_id=f"c{number}") == [FAILED] * 2
        assert the_client(runtime, f"c{number}").subscription_status == "past_due"


def test_the_events_of_one_client_take_turns(runtime: Runtime) -> None:
    """Each weighs all its subscriptions: one that had not seen the others' would write down the worse."""
    for number in range(8):
        customer, names = f"cus_x{number}", [f"sub_{number}_{one}" for one in range(THREADS)]
        a_client(runtime, f"c{number}", stripe_customer_id=customer, plan=None, subscription_status="none")
        reports = [a_subscription(name, customer=customer, status="unpaid") for name in names[1:]]
        at_once(runtime, [created(one) for one in [*reports, a_subscription(names[0], customer=customer)]])

        client = the_client(runtime, f"c{number}")
        assert (client.plan, client.subscription_status) == ("PRO", "active")


def test_a_subscription_told_of_two_clients_at_once_is_taken_from_the_first(runtime: Runtime) -> None:
    for number in range(6):
        sub, first, second = f"sub_{number}", f"a{number}", f"b{number}"
        for name in (first, second):
            a_client(runtime, name, plan=None, subscription_status="none")
        events = [
            created(a_subscription(sub, customer=None, metadata={"client_id": first})),
            updated(a_subscription(sub, customer=None, metadata={"client_id": second}), at=NOW + 60),
        ]
        at_once(runtime, events * 3)
        left, has = (the_client(runtime, name) for name in (first, second))
        assert (left.plan, left.subscription_status) == (None, "none")
        assert (has.plan, has.subscription_status) == ("PRO", "active")


def test_a_customer_told_of_two_clients_at_once_becomes_one_of_them(runtime: Runtime) -> None:
    for number in range(6):
        customer, names = f"cus_x{number}", [f"{letter}{number}" for letter in "abcd"]
        for name in names:
            a_client(runtime, name, plan=None, subscription_status="none")
        events = [
            created(a_subscription(f"sub_{name}", customer=customer, metadata={"client_id": name})) for name in names
        ]
        outcomes = at_once(runtime, events)
        assert [outcome.status for outcome in outcomes] == ["PROCESSED"] * len(names)
        linked = [name for name in names if the_client(runtime, name).stripe_customer_id == customer]
        assert len(linked) == 1


def test_a_replay_beside_a_delivery_mails_once(runtime: Runtime) -> None:
    raw = paid(an_invoice())
    runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True)
    replay = ProcessingOptions("cli", mail_old=True, is_replay=True)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(runtime.billing.receive, raw) for _ in range(4)]
        jobs += [pool.submit(runtime.billing.process, event_id(raw), replay) for _ in range(4)]
        assert {job.result().status for job in jobs} == {"PROCESSED"}
    assert mails(runtime) == [CONFIRMED]


def test_retries_at_once_try_each_event_once(runtime: Runtime, clock: StandingClock) -> None:
    for number in range(10):
        raw = failed(a_failed_invoice(f"in_{number}"))
        runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True)
    clock.now += timedelta(minutes=2)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: runtime.billing.retry(), range(4)))
    assert (statuses(runtime), mails(runtime)) == ({"PROCESSED": 10}, [FAILED] * 10)
    assert len(audits(runtime, "STRIPE_EVENT_PROCESSED")) == 10


KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from notifyctl.bootstrap import open_runtime
from notifyctl.settings import load_settings

def deliver(last_step):
    runtime = open_runtime(load_settings())
    runtime.clock()
    steps = 0
    def step(*_):
        nonlocal steps
        steps += 1
        if steps == last_step:
            os.kill(os.getpid(), signal.SIGKILL)
    for moment in ("begin", "before_cursor_execute", "commit"):
        event.listen(runtime.database.engine, moment, step)
    runtime.billing.receive(Path(sys.argv[1]).read_bytes())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        deliver(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Delivers an event in a process of its own for each number that it reads, which is killed at that step of the work:
a statement, or the begin or commit of a transaction. Prints how the process ended.
"""


@pytest.fixture
def deliver_until(
    processes: Processes, environment: Environment, tmp_path: Path
) -> Iterator[Callable[[bytes, int], int]]:
    """Its exit code, of a delivery that is killed at the step of that number; 0 when it had done before."""
    script, body = tmp_path / "receiver.py", tmp_path / "event.json"
    script.write_text(KILLED)
    variables = environment(STRIPE_WEBHOOK_SECRET=f"{WEBHOOK_SECRET},{OLD_SECRET}")
    receiver = processes.start(
        sys.executable, script, body, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert receiver.stdin is not None
    assert receiver.stdout is not None
    to, answer = receiver.stdin, receiver.stdout

    def deliver(raw: bytes, step: int) -> int:
        body.write_bytes(raw)
        print(step, file=to, flush=True)
        return int(answer.readline())

    yield deliver
    to.close()
    assert receiver.wait(30) == 0


def test_a_process_that_is_killed_at_any_step_leaves_nothing_half_done(
    runtime: Runtime, clock: StandingClock, deliver_until: Callable[[bytes, int], int]
) -> None:
    a_client(runtime, "new", plan=None, subscription_status="none")
    receive(runtime, created(a_subscription("sub_9", customer="cus_9")))
    raw = completed(a_checkout(subscription="sub_9", customer="cus_9", client="new"))
    left = []
    for step in count(1):
        if deliver_until(raw, step) != -signal.SIGKILL:
            break
        row = event(runtime, event_id(raw))
        left.append(row.status.value if row else None)
        is_done = left[-1] == "PROCESSED"
        assert mails(runtime) == ([CONFIRMED] if is_done else [])
        client = the_client(runtime, "new")
        assert (client.stripe_customer_id, subscription_state(runtime, "sub_9") is not None) == (
            ("cus_9", True) if is_done else (None, False)
        )
        if not is_done:
            assert [row.action for row in audits(runtime, "STRIPE%")][2:] == ["STRIPE_EVENT_RECEIVED"] * bool(row)
    assert list(dict.fromkeys(left)) == [None, "RECEIVED", "PROCESSED"]
    assert left.count("RECEIVED") > 15

    clock.now += timedelta(minutes=2)
    runtime.billing.retry()
    assert (mails(runtime), the_client(runtime, "new").plan) == ([CONFIRMED], "PRO")
    assert statuses(runtime) == {"PROCESSED": 2}


def test_what_a_killed_process_stored_is_finished_without_another_delivery(
    runtime: Runtime, clock: StandingClock, deliver_until: Callable[[bytes, int], int]
) -> None:
    raw = paid(an_invoice())
    step = next(
        step for step in count(1) if deliver_until(raw, step) == -signal.SIGKILL and event(runtime, event_id(raw))
    )
    assert step > 2
    # Its own clock was the wall's.
    clock.now = event(runtime, event_id(raw)).next_attempt_at
    assert runtime.billing.retry().settled == 1
    assert mails(runtime) == [CONFIRMED]


def test_a_rehearsal_and_a_delivery_of_what_it_comes_to_later_never_wait_for_each_other_in_a_circle(
    runtime: Runtime,
) -> None:
    """The rehearsal holds the client; the delivery begins with an event that the rehearsal has not reached yet."""
    ids = []
    for number in range(2):
        raw = failed(a_failed_invoice(f"in_{number}"))
        ids.append(runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True).event_id)
    holds_client, goes_on = Event(), Event()

    lock = "FROM client" if runtime.database.is_sqlite else "FOR UPDATE"

    def pause(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not holds_client.is_set() and "FROM client" in statement and lock in statement:
            holds_client.set()
            assert goes_on.wait(30)

    sqlalchemy_event.listen(runtime.database.engine, "after_cursor_execute", pause)
    with ThreadPoolExecutor(2) as pool:
        rehearsal = pool.submit(runtime.billing.rehearse, ids)
        assert holds_client.wait(30)
        delivery = pool.submit(runtime.billing.process, ids[1], ProcessingOptions("stripe", mail_old=True))
        _wait_until_it_waits(runtime)
        goes_on.set()
        assert [outcome.status for outcome in rehearsal.result(30)] == ["PROCESSED"] * 2
        assert delivery.result(30).status == "PROCESSED"
    assert (mails(runtime), statuses(runtime)) == ([FAILED], {"PROCESSED": 1, "RECEIVED": 1})


def _wait_until_it_waits(runtime: Runtime) -> None:
    """On SQLite it waits at its very beginning."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = monotonic() + 30
    while not runtime.database.is_sqlite:
        with runtime.database.read() as session:
            if session.execute(waiting).scalar_one():
                return
        assert monotonic() < deadline
        sleep(0.02)
