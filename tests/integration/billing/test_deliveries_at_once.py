"""Real threads and killed processes: what must happen once happens once, and nothing is left half done."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from conftest import Environment
from factories import a_client
from stripe_payloads import (
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
from stripe_world import CONFIRMED, FAILED, SetClock, audits, event, mails, receive, standing, statuses, the_client

from notifyctl.billing.outcome import Outcome
from notifyctl.billing.processing import Order
from notifyctl.bootstrap import Runtime
from notifyctl.models.stripe_event import Origin

THREADS = 12


def at_once(runtime: Runtime, raws: Sequence[bytes]) -> list[Outcome]:
    barrier = Barrier(len(raws))

    def one(raw: bytes) -> Outcome:
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
        assert (client.plan, client.subscription_status, standing(runtime, sub).status) == ("PRO", "active", "active")
        assert mails(runtime, client_id=f"c{number}") == [CONFIRMED]
    assert statuses(runtime) == {"PROCESSED": 24}


def test_the_events_of_one_client_take_turns(runtime: Runtime) -> None:
    """Each weighs all its subscriptions: one that had not seen the others' would write down the worse."""
    for number in range(8):
        customer, names = f"cus_x{number}", [f"sub_{number}_{one}" for one in range(THREADS)]
        a_client(runtime, f"c{number}", stripe_customer_id=customer, plan=None, subscription_status="none")
        reports = [a_subscription(name, customer=customer, status="unpaid") for name in names[1:]]
        at_once(runtime, [created(one) for one in [*reports, a_subscription(names[0], customer=customer)]])

        client = the_client(runtime, f"c{number}")
        assert (client.plan, client.subscription_status) == ("PRO", "active")


def test_a_replay_beside_a_delivery_mails_once(runtime: Runtime) -> None:
    raw = paid(an_invoice())
    runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True)
    replay = Order("cli", mail_old=True, is_replay=True)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(runtime.billing.receive, raw) for _ in range(4)]
        jobs += [pool.submit(runtime.billing.process, event_id(raw), replay) for _ in range(4)]
        assert {job.result().status for job in jobs} == {"PROCESSED"}
    assert mails(runtime) == [CONFIRMED]


def test_retries_at_once_try_each_event_once(runtime: Runtime, clock: SetClock) -> None:
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

moment, number, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
runtime = open_runtime(load_settings())
runtime.clock()
seen = 0

def die(*_):
    global seen
    seen += 1
    if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(runtime.database.engine, moment, die)
runtime.billing.receive(Path(path).read_bytes())
print("survived")
"""


@pytest.mark.parametrize(
    ("moment", "number", "left"),
    [
        ("begin", 1, None),
        ("commit", 1, None),
        ("begin", 2, "RECEIVED"),
        ("commit", 2, "RECEIVED"),
        ("begin", 3, "PROCESSED"),
    ],
    ids=["before storing", "before its commit", "after storing", "before the commit of its work", "after its work"],
)
def test_a_killed_process_leaves_nothing_half_done(
    runtime: Runtime,
    clock: SetClock,
    environment: Environment,
    tmp_path: Path,
    moment: str,
    number: int,
    left: str | None,
) -> None:
    a_client(runtime, "new", plan=None, subscription_status="none")
    receive(runtime, created(a_subscription("sub_9", customer="cus_9")))
    raw = completed(a_checkout(subscription="sub_9", customer="cus_9", client="new"))
    script, body = tmp_path / "receiver.py", tmp_path / "event.json"
    script.write_text(KILLED)
    body.write_bytes(raw)
    variables = environment(STRIPE_WEBHOOK_SECRET=f"{WEBHOOK_SECRET},{OLD_SECRET}")
    ran = subprocess.run(
        [sys.executable, script, moment, str(number), body], env=variables, capture_output=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (-signal.SIGKILL, b"")
    row = event(runtime, event_id(raw))
    assert (row.status if row else None) == left
    done = left == "PROCESSED"
    assert (mails(runtime), the_client(runtime, "new").stripe_customer_id) == (
        ([CONFIRMED], "cus_9") if done else ([], None)
    )
    receive(runtime, raw)
    clock.now += timedelta(minutes=2)
    runtime.billing.retry()
    assert (mails(runtime), the_client(runtime, "new").plan) == ([CONFIRMED], "PRO")
    assert statuses(runtime) == {"PROCESSED": 2}


def test_what_a_killed_process_stored_is_finished_without_another_delivery(
    runtime: Runtime, clock: SetClock, environment: Environment, tmp_path: Path
) -> None:
    raw = paid(an_invoice())
    script, body = tmp_path / "receiver.py", tmp_path / "event.json"
    script.write_text(KILLED)
    body.write_bytes(raw)
    ran = subprocess.run(
        [sys.executable, script, "begin", "2", body], env=environment(), capture_output=True, timeout=60
    )
    assert ran.returncode == -signal.SIGKILL
    # Its own clock was the wall's.
    clock.now = event(runtime, event_id(raw)).next_attempt_at
    assert runtime.billing.retry().settled == 1
    assert mails(runtime) == [CONFIRMED]
