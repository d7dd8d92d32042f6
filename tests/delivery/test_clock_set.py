"""The clock is set while others are at work: what they hold is theirs, and nothing waits for the old time."""

import threading
from datetime import timedelta

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.clock import ClockWatch
from notifyctl.delivery.claims import LEASE
from notifyctl.models.enums import Channel
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Fault, Faults, Sandbox
from notifyctl.worker.jobs import runs
from notifyctl.worker.jobs.registry import Job
from notifyctl.worker.jobs.runs import Begun, Busy
from notifyctl.worker.jobs.scheduler import SETTLED_AFTER, JobScheduler
from notifyctl.worker.worker import Worker
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, REMINDER_SMS, message, send

HOUR = timedelta(hours=1)
SETTLED = timedelta(seconds=SETTLED_AFTER + 1)


@pytest.mark.parametrize("seconds", [11.0, 90.0])
def test_a_clock_that_is_set_forward_is_noticed_for_a_while(seconds: float) -> None:
    clock = TurnableClock()
    watch = ClockWatch(clock, clock.stopwatch)
    assert not watch.was_set_forward_within(60)
    clock.ahead += HOUR
    assert not watch.was_set_forward_within(60)
    clock.set_wrong -= HOUR
    assert not watch.was_set_forward_within(60)
    clock.set_wrong += timedelta(seconds=seconds)
    assert watch.was_set_forward_within(60)
    clock.ahead += timedelta(seconds=59)
    assert watch.was_set_forward_within(60)
    clock.ahead += timedelta(seconds=2)
    assert not watch.was_set_forward_within(60)


def test_a_step_forward_ends_no_lease_of_one_who_is_sending_and_that_of_one_who_is_gone_a_little_later(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    assert dispatcher(Channel.SMS, "another").turn(claiming=True, timeout=0) == 1
    worker = Worker(runtime, {})
    worker._arrive()
    clock.set_wrong = HOUR
    worker._upkeep.keep_up()
    assert message(runtime, decision.message_id).status == "SENDING"
    clock.ahead += LEASE
    worker._upkeep.keep_up()
    assert message(runtime, decision.message_id).status == "SENDING"
    clock.ahead += SETTLED - LEASE
    worker._upkeep.keep_up()
    assert message(runtime, decision.message_id).status == "IN_DOUBT"


def test_what_was_sent_just_before_a_step_is_not_taken_for_unknown_to_the_provider(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    """Its search finds a message only after a while, and by the clock that while is over at once."""
    a_client(runtime)
    decision = send(runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS)
    sandbox.set_faults(Channel.SMS, Faults((Fault("accept-then-cut", times=1),)))
    drain(dispatcher(Channel.SMS))
    assert message(runtime, decision.message_id).status == "IN_DOUBT"
    lookups = build_lookups(runtime.settings, [Channel.SMS])
    worker = Worker(runtime, {}, lookups)
    worker._upkeep.clock_watch.was_set_forward_within(0)
    clock.set_wrong = HOUR
    assert not worker._reconcile()
    assert message(runtime, decision.message_id).status == "IN_DOUBT"
    clock.set_wrong = timedelta()
    clock.ahead += timedelta(seconds=1)
    assert not worker._reconcile()
    clock.ahead += SETTLED
    assert worker._reconcile()
    assert message(runtime, decision.message_id).status == "SENT"
    assert len(arrivals(sandbox, "+4915112345678")) == 1
    for lookup in lookups.values():
        lookup.close()


def test_a_run_of_another_is_not_taken_for_lost_because_the_clock_was_set(
    runtime: Runtime, clock: TurnableClock
) -> None:
    job = Job("probe", timedelta(minutes=5), lambda _: "")
    scheduler = JobScheduler(runtime, [job], "a", stop=threading.Event(), failed=lambda _: None)
    assert scheduler._patience() == timedelta()
    assert isinstance(runs.claim(runtime, job, "b"), Begun)
    clock.set_wrong = HOUR
    assert isinstance(runs.claim(runtime, job, "a", patience=scheduler._patience()), Busy)
    clock.ahead += SETTLED
    assert isinstance(runs.claim(runtime, job, "a", patience=scheduler._patience()), Begun)


def test_a_breaker_opens_its_next_probe_though_the_clock_was_set_back(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("http", status=503, times=5),)))
    for number in range(5):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+491511234567{number}")
    working = dispatcher(Channel.SMS)
    drain(working)
    clock.set_wrong = -HOUR
    late = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345699")
    drain(working)
    assert message(runtime, late.message_id).status == "SENT"
