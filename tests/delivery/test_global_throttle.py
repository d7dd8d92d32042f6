from datetime import timedelta

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.claims import Claim
from notifyctl.delivery.pace.throttle import TOKEN_LIFE
from notifyctl.delivery.wording import Wording
from notifyctl.models.enums import Channel, Lane
from notifyctl.operations import limits, pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator.requests import Decision, SendRequest
from notifyctl.providers.contract import OutboundMessage, Rejected
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, REMINDER, RESET, WELCOME, actions, all_messages, audit_details, message, send


def queue_welcomes(runtime: Runtime, count: int, start: int = 0) -> list[Decision]:
    names = [f"c{number:03}" for number in range(start, start + count)]
    for name in names:
        a_client(runtime, name)
    with runtime.database.transaction() as session:
        return runtime.orchestrator.send_many(
            session, [SendRequest(template_key="WELCOME_EMAIL", client_id=name, context=WELCOME) for name in names]
        )


def queue_one_after_the_other(runtime: Runtime, clock: TurnableClock, count: int, start: int = 0) -> list[Decision]:
    """Those of one moment have no order among themselves, and a table that was emptied and filled again shows it."""
    decisions = []
    for number in range(start, start + count):
        clock.ahead += timedelta(milliseconds=1)
        decisions += queue_welcomes(runtime, 1, start=number)
    return decisions


def statuses(runtime: Runtime) -> dict[str, int]:
    found: dict[str, int] = {}
    with runtime.database.read() as session:
        for row in all_messages(session):
            found[row.status.value] = found.get(row.status.value, 0) + 1
    return found


@pytest.mark.parametrize("per_minute", [10])
def test_a_turn_that_was_held_up_before_its_calls_has_its_tokens_again(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Wording.render

    def slowly(self: Wording, item: Claim) -> OutboundMessage | Rejected:
        monkeypatch.undo()
        clock.ahead += TOKEN_LIFE
        return render(self, item)

    queue_welcomes(runtime, 9)
    monkeypatch.setattr(Wording, "render", slowly)
    drain(dispatcher())
    assert statuses(runtime) == {"SENT": 9}


@pytest.mark.parametrize("per_minute", [600])
def test_a_host_that_renders_slowly_claims_no_more_than_it_can_send_in_time(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight at once take longer than their tokens live, each time: they were claimed and given back for ever."""
    render = Wording.render

    def slowly(self: Wording, item: Claim) -> OutboundMessage | Rejected:
        clock.ahead += TOKEN_LIFE / 3
        return render(self, item)

    queue_welcomes(runtime, 8)
    monkeypatch.setattr(Wording, "render", slowly)
    working = dispatcher()
    for _ in range(24):
        working.turn(claiming=True, timeout=5)
    assert working.totals == {"SENT": 8}


@pytest.mark.parametrize("per_minute", [10])
def test_the_global_throttle_defers_and_schedules_again(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    decisions = queue_one_after_the_other(runtime, clock, 25)
    working = dispatcher()
    drain(working)
    assert statuses(runtime) == {"SENT": 9, "DEFERRED_THROTTLED": 16}
    deferred = [message(runtime, decision.message_id) for decision in decisions[9:]]
    forecasts = [row.next_attempt_at for row in deferred]
    assert forecasts == sorted(forecasts)
    assert forecasts[0] > clock()
    assert timedelta(seconds=60) < forecasts[-1] - clock() < timedelta(seconds=200)
    assert {row.attempts for row in deferred} == {0}
    assert all(row.throttled_at is not None for row in deferred)
    sent_by_then = []
    for _ in range(140):
        clock.ahead += timedelta(seconds=1)
        drain(working)
        sent_by_then.append(len(sandbox.messages()))
    assert sent_by_then[49] == 9
    assert sent_by_then[119] >= 18
    for _ in range(60):
        clock.ahead += timedelta(seconds=1)
        drain(working)
    assert statuses(runtime) == {"SENT": 25}
    last = actions(runtime, decisions[-1].message_id)
    assert last == ["NOTIFICATION_QUEUED", "NOTIFICATION_THROTTLED", "NOTIFICATION_SENT"]
    assert audit_details(runtime, decisions[-1].message_id)[1]["next_attempt_at"][-1] == "Z"
    order = [mail.recipients[0] for mail in sandbox.messages()]
    assert order == sorted(order)


@pytest.mark.parametrize("per_minute", [10])
def test_a_deferral_is_written_once_and_uses_up_no_retry(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    queue_welcomes(runtime, 12)
    working = dispatcher()
    for _ in range(30):
        drain(working)
        clock.ahead += timedelta(seconds=1)
    with runtime.database.read() as session:
        count = "SELECT count(*) FROM audit_log WHERE action = 'NOTIFICATION_THROTTLED'"
        assert session.execute(text(count)).scalar_one() == 3
    clock.ahead += timedelta(minutes=2)
    drain(working)
    clock.ahead += timedelta(minutes=2)
    drain(working)
    with runtime.database.read() as session:
        assert {row.attempts for row in all_messages(session)} == {1}


@pytest.mark.parametrize("per_minute", [10])
def test_workers_share_one_budget(runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher) -> None:
    queue_welcomes(runtime, 40)
    working = [dispatcher(owner=f"worker-{number}") for number in range(4)]
    for _ in range(5):
        for each in working:
            drain(each)
    assert len(sandbox.messages()) == 9


@pytest.mark.parametrize("per_minute", [20])
def test_an_urgent_message_leaves_at_once_behind_a_backlog(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    queue_welcomes(runtime, 60)
    working = dispatcher()
    drain(working)
    assert len(sandbox.messages()) == 19
    decision = send(runtime, "PASSWORD_RESET", RESET, client_id="c000")
    drain(working)
    assert message(runtime, decision.message_id).status == "SENT"
    assert len(sandbox.messages()) == 20


@pytest.mark.usefixtures("exhaustive")
def test_an_urgent_email_does_not_wait_for_a_batch_that_is_on_its_way(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    queue_welcomes(runtime, 5)
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("latency", ms=3_000),)))
    batches = dispatcher()
    assert batches.turn(claiming=True, timeout=0) == 5
    while len(sandbox.presented(Channel.EMAIL)) < 5:
        batches.turn(claiming=True, timeout=0.05)
    sandbox.clear_faults()
    decision = send(runtime, "PASSWORD_RESET", RESET, client_id="c000")
    urgent = dispatcher(lanes=(Lane.URGENT,))
    drain(urgent)
    assert message(runtime, decision.message_id).status == "SENT"
    assert not batches.is_idle
    drain(batches)
    assert statuses(runtime) == {"SENT": 6}


@pytest.mark.parametrize("per_minute", [10])
def test_new_arrivals_queue_behind_what_was_deferred(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    queue_one_after_the_other(runtime, clock, 15)
    working = dispatcher()
    drain(working)
    clock.ahead += timedelta(seconds=30)
    queue_one_after_the_other(runtime, clock, 5, start=500)
    for _ in range(120):
        clock.ahead += timedelta(seconds=1)
        drain(working)
    order = [mail.recipients[0] for mail in sandbox.messages()]
    assert len(order) == 20
    assert order[-5:] == [f"c{number}@client.example" for number in range(500, 505)]


@pytest.mark.parametrize("per_minute", [10])
def test_a_limit_that_an_operator_sets_wins_at_once_and_can_be_taken_back(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    queue_welcomes(runtime, 30)
    working = dispatcher()
    drain(working)
    assert len(sandbox.messages()) == 9
    with runtime.database.transaction() as session:
        limits.set_per_minute(session, Channel.EMAIL, 7_000, actor="test", now=runtime.clock())
    drain(working)
    assert len(sandbox.messages()) > 9


@pytest.mark.parametrize("per_minute", [10])
def test_a_refused_message_uses_no_token(runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher) -> None:
    queue_one_after_the_other(runtime, clock, 20)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE client SET provisioning_status = 'FAILED' WHERE id < 'c010'"))
    drain(dispatcher())
    assert statuses(runtime) == {"BLOCKED": 10, "SENT": 9, "DEFERRED_THROTTLED": 1}


@pytest.mark.parametrize("per_minute", [10])
def test_each_channel_has_a_minute_of_its_own(runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher) -> None:
    queue_welcomes(runtime, 12)
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    drain(dispatcher())
    drain(dispatcher(Channel.SMS))
    assert message(runtime, decision.message_id).status == "SENT"


def test_bulk_moves_while_transactional_messages_keep_coming(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    for number in range(12):
        a_client(runtime, f"b{number}")
        send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER, client_id=f"b{number}")
    working = dispatcher()
    queue_welcomes(runtime, 100)
    drain(working)
    tags = [mail.tag for mail in sandbox.messages()]
    assert tags.count("COMPLIANCE_EXPIRY_REMINDER") == 12


SCOPES = {
    "its channel": PauseScope(channel="EMAIL"),
    "its template": PauseScope(template_key="WELCOME_EMAIL"),
    "its client": PauseScope(client_id="c000"),
    "all three": PauseScope("EMAIL", "WELCOME_EMAIL", "c000"),
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES.keys())
def test_a_paused_message_waits_and_goes_out_after(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, scope: PauseScope
) -> None:
    with runtime.database.transaction() as session:
        pauses.add(session, scope, reason="incident", actor="test", now=runtime.clock())
    (decision,) = queue_welcomes(runtime, 1)
    working = dispatcher()
    drain(working)
    assert message(runtime, decision.message_id).status == "QUEUED"
    with runtime.database.transaction() as session:
        assert pauses.held(session, scope) == 1
        assert pauses.remove(session, scope)
    drain(working)
    assert message(runtime, decision.message_id).status == "SENT"


@pytest.mark.parametrize(
    "scope",
    [
        PauseScope(channel="SMS"),
        PauseScope(template_key="PASSWORD_RESET"),
        PauseScope("EMAIL", "WELCOME_EMAIL", "other"),
    ],
)
def test_a_pause_of_something_else_holds_nothing(
    runtime: Runtime, dispatcher: MakeDispatcher, scope: PauseScope
) -> None:
    with runtime.database.transaction() as session:
        pauses.add(session, scope, reason="incident", actor="test", now=runtime.clock())
    (decision,) = queue_welcomes(runtime, 1)
    drain(dispatcher())
    assert message(runtime, decision.message_id).status == "SENT"


def test_an_anonymous_message_is_not_held_by_a_pause_of_a_client(runtime: Runtime, dispatcher: MakeDispatcher) -> None:
    with runtime.database.transaction() as session:
        pauses.add(session, PauseScope(client_id="acme"), reason="x", actor="test", now=runtime.clock())
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    drain(dispatcher(Channel.SMS))
    assert message(runtime, decision.message_id).status == "SENT"


WRONG = [timedelta(days=-1), timedelta(hours=-1), timedelta(seconds=-90), timedelta(seconds=90), timedelta(hours=1)]


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("per_minute", [10])
def test_a_clock_that_is_set_neither_empties_the_minute_nor_keeps_it_shut(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, wrong: timedelta
) -> None:
    """The host's on SQLite, the database's on PostgreSQL, as after a failover."""
    queue_welcomes(runtime, 40)
    working = [dispatcher(owner="worker-1"), dispatcher(owner="worker-2")]
    for each in working:
        drain(each)
    assert len(sandbox.messages()) == 9
    clock.set_wrong = wrong
    for each in [*working, dispatcher(owner="started-since")]:
        drain(each)
    assert len(sandbox.messages()) == 9
    clock.ahead += timedelta(seconds=30)
    for each in working:
        drain(each)
    assert len(sandbox.messages()) == 9
    for _ in range(70):
        clock.ahead += timedelta(seconds=1)
        for each in working:
            drain(each)
    assert 14 <= len(sandbox.messages()) <= 18


@pytest.mark.parametrize("per_minute", [10])
def test_what_is_deferred_after_a_step_is_forecast_by_the_clock_as_it_is_now(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    queue_welcomes(runtime, 10)
    working = dispatcher()
    drain(working)
    clock.set_wrong = timedelta(hours=5)
    (late,) = queue_welcomes(runtime, 1, start=500)
    drain(working)
    row = message(runtime, late.message_id)
    assert row.status == "DEFERRED_THROTTLED"
    assert timedelta() < row.next_attempt_at - clock() < timedelta(seconds=80)


RECORDS = ["[1, 2]", "7", '{"buckets": 3}', '{"buckets": [[1]], "time": {"at": "noon", "origin": 3}}', '{"limit": 10}']


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("per_minute", [10])
def test_a_record_that_nobody_can_read_holds_the_channel_up_for_a_minute_at_most(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, record: str
) -> None:
    queue_welcomes(runtime, 5)
    with runtime.database.transaction() as session:
        session.execute(
            text("INSERT INTO notification_outbound_budget (channel, state) VALUES ('EMAIL', :state)"),
            {"state": record},
        )
    working = dispatcher()
    drain(working)
    clock.ahead += timedelta(seconds=62)
    for _ in range(40):
        drain(working)
        clock.ahead += timedelta(seconds=1)
    assert len(sandbox.messages()) >= 4


@pytest.mark.parametrize("per_minute", [10])
def test_a_record_of_an_earlier_version_still_counts(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    queue_welcomes(runtime, 20)
    drain(dispatcher())
    with runtime.database.transaction() as session:
        state = limits.read_budget(session, Channel.EMAIL)
        del state["time"]
        limits.save_budget(session, Channel.EMAIL, state)
    drain(dispatcher())
    assert len(sandbox.messages()) == 9
