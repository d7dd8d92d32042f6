"""Nothing of lane BULK goes out in its client's quiet hours, however it came to be due in them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.clock import Stopwatch
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.orchestrator.explain import explain_message
from notifyctl.orchestrator.holds import QuietHours, held_by
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.clocks import StandingClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import REMINDER, RESET, WELCOME, message, send
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

BERLIN = "Europe/Berlin"
EVENING = datetime(2026, 3, 2, 19, 59, 50, tzinfo=UTC)
"""Ten seconds before 21:00 in Berlin."""
NIGHT = EVENING + timedelta(hours=2)
MORNING = datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
"""08:00 there."""
TEMPLATE = "COMPLIANCE_EXPIRY_REMINDER"


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(NIGHT)


@pytest.fixture
def runtime(database_url: str, sandbox: Sandbox, clock: StandingClock, per_minute: int) -> Iterator[Runtime]:
    settings = make_settings(
        database_url=database_url,
        postmark_api_url=sandbox.url,
        twilio_api_url=sandbox.url,
        notification_email_per_minute_limit=per_minute,
        quiet_hours="21:00-08:00",
    )
    stopwatch = Stopwatch("test", lambda: clock.now.timestamp())
    opened = open_shared(settings, clock=clock, stopwatch=stopwatch)
    seed_templates(opened)
    a_client(opened, timezone=BERLIN)
    yield opened
    opened.close()


def remind(runtime: Runtime, **more: Any) -> str:
    return send(runtime, TEMPLATE, REMINDER, **more).message_id


def where(runtime: Runtime, message_id: str) -> tuple[str, int, datetime | None]:
    found = message(runtime, message_id)
    return found.status.value, found.attempts, found.next_attempt_at


def test_what_is_accepted_at_night_goes_out_in_the_morning(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher, sandbox: Sandbox
) -> None:
    reminder = remind(runtime)
    assert where(runtime, reminder) == ("QUEUED", 0, MORNING)
    drain(dispatcher())
    clock.now = MORNING - timedelta(microseconds=1)
    drain(dispatcher())
    assert not sandbox.accepted(Channel.EMAIL)
    clock.now = MORNING
    drain(dispatcher())
    assert where(runtime, reminder) == ("SENT", 1, None)
    assert message(runtime, reminder).throttled_at is None


def test_other_lanes_and_strangers_know_no_night(
    runtime: Runtime, dispatcher: MakeDispatcher, sandbox: Sandbox
) -> None:
    send(runtime, "WELCOME_EMAIL", WELCOME)
    send(runtime, "PASSWORD_RESET", RESET)
    context = {"subject": "x", "details": "y", "count": 1}
    send(runtime, "COMPLIANCE_SLA_ALERT", context, recipient="ops@acme.example")
    drain(dispatcher())
    assert sandbox.accepted(Channel.EMAIL) == 3


def test_it_is_the_clients_night(runtime: Runtime, dispatcher: MakeDispatcher) -> None:
    a_client(runtime, "tokyo", timezone="Asia/Tokyo")
    a_client(runtime, "denver", timezone="America/Denver")
    ids = [remind(runtime, client_id=client_id) for client_id in ("tokyo", "denver", "acme")]
    drain(dispatcher())
    assert [where(runtime, found)[0] for found in ids] == ["QUEUED", "SENT", "QUEUED"]
    assert where(runtime, ids[0])[2] == datetime(2026, 3, 2, 23, 0, tzinfo=UTC)


def test_a_retry_that_comes_due_at_night_waits_for_the_morning_and_uses_no_attempt(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher, sandbox: Sandbox
) -> None:
    clock.now = EVENING
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("http", status=503, times=1),), seed=1))
    reminder = remind(runtime)
    drain(dispatcher())
    assert where(runtime, reminder)[:2] == ("RETRY_SCHEDULED", 1)
    clock.turn(minutes=5)
    drain(dispatcher())
    assert where(runtime, reminder) == ("RETRY_SCHEDULED", 1, MORNING)
    clock.now = MORNING
    drain(dispatcher())
    assert where(runtime, reminder) == ("SENT", 2, None)


def test_what_the_throttle_carries_into_the_night_waits_as_queued(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher, sandbox: Sandbox
) -> None:
    clock.now = EVENING
    reminder = remind(runtime)
    statement = "UPDATE message_log SET status = 'DEFERRED_THROTTLED', throttled_at = created_at"
    with runtime.database.transaction() as session:
        session.execute(text(statement))
    clock.now = NIGHT
    drain(dispatcher())
    assert where(runtime, reminder) == ("QUEUED", 0, MORNING)
    assert message(runtime, reminder).throttled_at == EVENING
    assert not sandbox.accepted(Channel.EMAIL)


@pytest.mark.parametrize("per_minute", [1])
def test_what_finds_the_minute_full_at_night_is_not_throttled_but_waits_for_the_morning(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher
) -> None:
    clock.now = EVENING
    reminder = remind(runtime)
    clock.now = NIGHT
    send(runtime, "PASSWORD_RESET", RESET)
    worker = dispatcher()
    drain(worker)
    drain(worker)
    assert where(runtime, reminder) == ("QUEUED", 0, MORNING)
    assert message(runtime, reminder).throttled_at is None
    with runtime.database.read() as session:
        assert "NOTIFICATION_THROTTLED" not in {row.action for row in audit_log.of_message(session, reminder)}


@pytest.mark.parametrize("per_minute", [20])
def test_a_backlog_of_sleepers_holds_up_nobody_who_is_awake(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher
) -> None:
    clock.now = EVENING
    a_client(runtime, "denver", timezone="America/Denver")
    requests = [_numbered(number, "acme") for number in range(700)] + [_numbered(700, "denver")]
    with runtime.database.transaction() as session:
        ids = [found.message_id for found in runtime.orchestrator.send_many(session, requests)]
    clock.now = NIGHT
    updates: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE message_log SET status=CASE"):
            updates.append(statement)

    event.listen(runtime.database.engine, "before_cursor_execute", note)
    drain(dispatcher())
    assert 1 < len(updates) < 6, "they are put off by the hundred, not by what the minute has room for"
    assert where(runtime, ids[-1])[0] == "SENT"
    with runtime.database.read() as session:
        counts = session.execute(
            text("SELECT status, count(*), count(throttled_at) FROM message_log GROUP BY status ORDER BY status")
        ).all()
    assert [tuple(row) for row in counts] == [("QUEUED", 700, 0), ("SENT", 1, 0)]


def _numbered(number: int, client_id: str) -> SendRequest:
    context = REMINDER | {"item_reference": f"TL-{number}"}
    return SendRequest(template_key=TEMPLATE, client_id=client_id, context=context)


def test_a_client_that_has_moved_sleeps_where_it_is_now(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher
) -> None:
    clock.now = EVENING
    reminder = remind(runtime)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE client SET timezone = 'Asia/Tokyo'"))
    drain(dispatcher())
    assert where(runtime, reminder) == ("QUEUED", 0, datetime(2026, 3, 2, 23, 0, tzinfo=UTC))


def test_why_it_waits_is_explained(runtime: Runtime, clock: StandingClock) -> None:
    reminder = remind(runtime)
    with runtime.database.read() as session:
        row = message(runtime, reminder)
        held = held_by(session, row, QuietHours(*runtime.settings.quiet_span), clock())
        found = explain_message(row, audit_log.of_message(session, reminder), now=clock(), workers=1, held_by=held)
    assert found.sentence == (
        "It will be sent at 2026-03-03 07:00:00Z; held by its client's quiet hours (21:00-08:00 in Europe/Berlin)."
    )
    assert found.steps[0].detail == "it is in its client's quiet hours; next attempt 2026-03-03 07:00:00Z"
    with runtime.database.read() as session:
        assert held_by(session, row, QuietHours(*runtime.settings.quiet_span), MORNING) == []


def test_one_that_expires_before_the_morning_is_not_sent_late(
    runtime: Runtime, clock: StandingClock, dispatcher: MakeDispatcher
) -> None:
    reminder = remind(runtime)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET expires_at = created_at"))
    clock.now = MORNING
    drain(dispatcher())
    assert message(runtime, reminder).status is MessageStatus.EXPIRED
