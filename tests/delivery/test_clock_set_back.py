"""The host's clock is set back by an hour while SQLite's times are the host's: nothing waits for it to catch up."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.db import clock_steps
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import AuditAction, BreakerState, Channel, JobOutcome, MessageStatus
from notifyctl.models.message import MessageLog
from notifyctl.models.otp import OtpSubject
from notifyctl.operations import breakers, heartbeats, job_runs
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Sandbox
from notifyctl.worker.worker import Worker
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, WELCOME, message, send

HOUR, MINUTE, A_MOMENT = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=5)
LEASE = timedelta(seconds=60)


@pytest.fixture
def backend() -> str:
    return "sqlite"


@pytest.fixture
def an_hour_ahead(clock: TurnableClock) -> None:
    clock.ahead = HOUR


def follow(runtime: Runtime) -> timedelta | None:
    with runtime.database.transaction() as session:
        return clock_steps.follow(session, runtime.clock(), longest_lease=LEASE)


def leave_a_trace(session: Session, runtime: Runtime) -> None:
    audit_log.write(session, AuditAction.OPERATOR_ACTION, actor="test", now=runtime.clock())


def work_once(runtime: Runtime) -> None:
    Worker(runtime, build_senders(runtime.settings, list(Channel), 5), once=True).run()


def test_what_was_accepted_before_goes_at_once(
    runtime: Runtime, clock: TurnableClock, sandbox: Sandbox, an_hour_ahead: None
) -> None:
    a_client(runtime)
    waiting = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    clock.ahead = timedelta()
    work_once(runtime)
    assert message(runtime, waiting).status is MessageStatus.SENT
    assert len(arrivals(sandbox, "acme@client.example")) == 1
    with runtime.database.read() as session:
        rows = session.exec(select(AuditLog).where(AuditLog.action == AuditAction.OPERATOR_ACTION)).scalars().all()
    (told,) = [row.details for row in rows if "clock_set_back_seconds" in row.details]
    assert 3590 < told["clock_set_back_seconds"] < 3610


def test_a_message_expires_when_it_would_have(runtime: Runtime, clock: TurnableClock, an_hour_ahead: None) -> None:
    waiting = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678").message_id
    lives = message(runtime, waiting).expires_at - runtime.clock()
    clock.ahead = timedelta()
    assert follow(runtime) is not None
    assert abs(message(runtime, waiting).expires_at - runtime.clock() - lives) < A_MOMENT


def test_a_retry_keeps_its_backoff(runtime: Runtime, clock: TurnableClock, an_hour_ahead: None) -> None:
    a_client(runtime)
    waiting = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    now = runtime.clock()
    values = {"status": MessageStatus.RETRY_SCHEDULED, "last_attempt_at": now, "next_attempt_at": now + 10 * MINUTE}
    _set(runtime, waiting, **values)
    clock.ahead = timedelta()
    follow(runtime)
    left = message(runtime, waiting).next_attempt_at - runtime.clock()
    assert 9 * MINUTE < left <= 10 * MINUTE + A_MOMENT


def test_a_message_of_a_worker_that_was_lost_is_asked_about_within_a_lease(
    runtime: Runtime, clock: TurnableClock, an_hour_ahead: None
) -> None:
    a_client(runtime)
    lost = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    until = runtime.clock() + timedelta(seconds=45)
    _set(runtime, lost, status=MessageStatus.SENDING, lease_owner="gone", lease_until=until)
    clock.ahead = timedelta()
    follow(runtime)
    assert message(runtime, lost).lease_until - runtime.clock() <= timedelta(seconds=45) + A_MOMENT


def test_a_lease_that_was_renewed_since_then_is_left_alone(
    runtime: Runtime, clock: TurnableClock, an_hour_ahead: None
) -> None:
    a_client(runtime)
    sending = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    clock.ahead = timedelta()
    until = runtime.clock() + timedelta(seconds=45)
    _set(runtime, sending, status=MessageStatus.SENDING, lease_owner="alive", lease_until=until)
    assert follow(runtime) is not None
    assert message(runtime, sending).lease_until == until


def test_jobs_the_breaker_and_locks_are_not_held_up(
    runtime: Runtime, clock: TurnableClock, an_hour_ahead: None
) -> None:
    then = runtime.clock()
    with runtime.database.transaction() as session:
        job_runs.begin(
            session, name="retention", due_at=then, attempt=1, worker="gone", now=then, lease_until=then + LEASE
        )
        breakers.open_(session, Channel.EMAIL, reason="x", now=then, probe_at=then + MINUTE)
        locked = {"phone_hash": "h", "key_id": "k", "locked_until": then + 15 * MINUTE, "updated_at": then}
        session.execute(table(OtpSubject).insert().values(**locked, failed_count=0, consecutive_failures=0))
        heartbeats.beat(session, worker="gone", now=then, stopping=False, host="h", pid=1, version="1", started_at=then)
    clock.ahead = timedelta()
    assert follow(runtime) is not None
    now = runtime.clock()
    with runtime.database.read() as session:
        run, breaker = job_runs.current_run(session, "retention"), breakers.get(session, Channel.EMAIL)
        subject = session.execute(select(table(OtpSubject))).one()
        (worker,) = heartbeats.present(session)
    assert (run.outcome, run.lease_until - now <= LEASE + A_MOMENT) == (JobOutcome.RUNNING, True)
    assert (breaker.state, breaker.probe_at - now <= MINUTE + A_MOMENT) == (BreakerState.OPEN, True)
    assert 14 * MINUTE < subject.locked_until - now <= 15 * MINUTE + A_MOMENT
    assert worker.seen_at <= now


def test_it_is_followed_once(runtime: Runtime, clock: TurnableClock, an_hour_ahead: None) -> None:
    with runtime.database.transaction() as session:
        leave_a_trace(session, runtime)
    clock.ahead = timedelta()
    assert follow(runtime) is not None
    with runtime.database.transaction() as session:
        leave_a_trace(session, runtime)
    assert follow(runtime) is None


def test_a_clock_that_goes_on_or_forward_changes_nothing(runtime: Runtime, clock: TurnableClock) -> None:
    a_client(runtime)
    waiting = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    _set(runtime, waiting, next_attempt_at=runtime.clock() + 2 * HOUR)
    before = message(runtime, waiting).next_attempt_at
    for ahead in (timedelta(), timedelta(seconds=-2), HOUR):
        clock.ahead = ahead
        assert follow(runtime) is None
    assert message(runtime, waiting).next_attempt_at == before


def test_the_dispatcher_of_a_worker_that_was_at_work_goes_on(
    runtime: Runtime, clock: TurnableClock, sandbox: Sandbox, dispatcher: MakeDispatcher, an_hour_ahead: None
) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    clock.ahead = timedelta()
    at_work = dispatcher()
    drain(at_work)
    assert arrivals(sandbox, "acme@client.example") == []
    follow(runtime)
    drain(at_work)
    assert len(arrivals(sandbox, "acme@client.example")) == 1


def _set(runtime: Runtime, message_id: str, **values: Any) -> None:
    with runtime.database.transaction() as session:
        session.execute(update(table(MessageLog)).where(table(MessageLog).c.id == message_id).values(**values))
