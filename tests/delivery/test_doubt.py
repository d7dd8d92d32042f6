"""Lost answers of every kind: the provider is asked before anything is sent again."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.delivery import outbox
from notifyctl.delivery.claims import LEASE
from notifyctl.delivery.in_doubt import Reconciler
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import Lookup
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, REMINDER_SMS, RESET, WELCOME, actions, message, send

MakeReconciler = Callable[..., Reconciler]


@pytest.fixture
def reconciler_with(runtime: Runtime) -> Iterator[MakeReconciler]:
    """A reconciler whose way to the providers has other settings than the worker's."""
    made: list[Lookup] = []

    def make(**settings: Any) -> Reconciler:
        lookups = build_lookups(runtime.settings.model_copy(update=settings), list(Channel))
        made.extend(lookups.values())
        return Reconciler(
            lookups=lookups, database=runtime.database, clock=runtime.clock, keys=runtime.keys, owner="reconciler"
        )

    yield make
    for lookup in made:
        lookup.close()


@pytest.fixture
def reconciler(reconciler_with: MakeReconciler) -> Reconciler:
    return reconciler_with()


LOST = {
    "cut after it was accepted": (Fault("accept-then-cut", times=1), True),
    "garbage for an answer": (Fault("garbage", times=1), True),
    "half an answer": (Fault("truncated", times=1), True),
    "502 without a word": (Fault("http", status=502, body="html", times=1), False),
    "504 without a word": (Fault("http", status=504, body="empty", times=1), False),
    "cut before it was read": (Fault("cut-before", times=1), False),
}


@pytest.mark.parametrize(("fault", "accepted"), LOST.values(), ids=LOST.keys())
@pytest.mark.parametrize("channel", list(Channel))
def test_a_lost_answer_is_settled_by_asking_and_nothing_is_sent_twice(
    runtime: Runtime,
    sandbox: Sandbox,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    reconciler: Reconciler,
    channel: Channel,
    fault: Fault,
    accepted: bool,
) -> None:
    a_client(runtime)
    template, context = ("WELCOME_EMAIL", WELCOME) if channel is Channel.EMAIL else (
        "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS,
    )  # fmt: skip
    decision = send(runtime, template, context)
    sandbox.set_faults(channel, Faults((fault,)))
    working = dispatcher(channel)
    drain(working)
    assert message(runtime, decision.message_id).status == "IN_DOUBT"
    assert reconciler.run() == 1
    if not accepted:
        assert message(runtime, decision.message_id).status == "IN_DOUBT"
        clock.ahead += timedelta(seconds=61)
        assert reconciler.run() == 1
        assert message(runtime, decision.message_id).status == "QUEUED"
        clock.ahead += timedelta(seconds=61)
        drain(working)
    row = message(runtime, decision.message_id)
    assert row.status in ("SENT", "DELIVERED")
    (arrival,) = sandbox.messages()
    assert row.provider_message_id == arrival.id
    assert row.attempts == (1 if accepted else 2)
    assert reconciler.run() == 0
    assert "NOTIFICATION_IN_DOUBT" in actions(runtime, decision.message_id)


@pytest.mark.parametrize("ahead", [-36.0, -1.0, 0.05, 1.0, 14.0, 200.0])
def test_how_far_our_clock_is_from_the_providers_makes_no_difference(
    runtime: Runtime,
    sandbox: Sandbox,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    reconciler: Reconciler,
    ahead: float,
) -> None:
    clock.ahead = timedelta(hours=ahead)
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    sandbox.set_faults(Channel.SMS, Faults((Fault("accept-then-cut", times=1),)))
    working = dispatcher(Channel.SMS)
    drain(working)
    clock.ahead += timedelta(seconds=61)
    assert reconciler.run() == 1
    assert message(runtime, decision.message_id).status in ("SENT", "DELIVERED")
    assert len(sandbox.messages()) == 1


def test_a_clock_that_was_set_back_meanwhile_holds_the_message_and_doubles_nothing(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, reconciler: Reconciler
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    sandbox.set_faults(Channel.SMS, Faults((Fault("accept-then-cut", times=1),)))
    drain(dispatcher(Channel.SMS))
    clock.ahead -= timedelta(minutes=10)
    while reconciler.run():
        pass
    clock.ahead += timedelta(minutes=11)
    while reconciler.run():
        pass
    assert message(runtime, decision.message_id).status in ("SENT", "DELIVERED", "FAILED")
    assert len(sandbox.messages()) == 1


def test_a_killed_workers_accepted_message_is_found_and_not_sent_again(
    runtime: Runtime,
    sandbox: Sandbox,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    reconciler: Reconciler,
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    killed = dispatcher(Channel.SMS, "killed")
    assert killed.turn(claiming=True, timeout=0) == 1
    while not sandbox.messages():
        killed._sender.collect(0.1)
    clock.ahead += LEASE + timedelta(seconds=1)
    with runtime.database.transaction() as session:
        assert outbox.expire_leases(session, clock())
    assert reconciler.run() == 1
    assert message(runtime, decision.message_id).status in ("SENT", "DELIVERED")
    assert "OTP_SENT" in actions(runtime, decision.message_id)
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_payload")).scalar_one() == 0
    drain(dispatcher(Channel.SMS, "other"))
    assert len(sandbox.messages()) == 1


def test_two_same_texts_to_one_number_in_doubt_each_take_one_of_what_went_out(
    runtime: Runtime,
    sandbox: Sandbox,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    reconciler: Reconciler,
) -> None:
    decisions = [send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678") for _ in range(2)]
    sandbox.set_faults(Channel.SMS, Faults((Fault("accept-then-cut", times=1), Fault("cut-before", times=1))))
    working = dispatcher(Channel.SMS, concurrency=1)
    drain(working)
    assert {message(runtime, decision.message_id).status for decision in decisions} == {"IN_DOUBT"}
    clock.ahead += timedelta(seconds=61)
    while reconciler.run():
        pass
    found = sorted(message(runtime, decision.message_id).status for decision in decisions)
    assert found in (["QUEUED", "SENT"], ["DELIVERED", "QUEUED"])
    clock.ahead += timedelta(seconds=61)
    drain(working)
    rows = [message(runtime, decision.message_id) for decision in decisions]
    assert len({row.provider_message_id for row in rows}) == 2
    assert len(sandbox.messages()) == 2


@pytest.mark.parametrize(
    ("template", "context", "status"),
    [("PASSWORD_RESET", RESET, "FAILED"), ("WELCOME_EMAIL", WELCOME, "QUEUED")],
    ids=["HOLD", "RESEND"],
)
def test_on_doubt_decides_only_where_the_provider_cannot_tell(
    runtime: Runtime,
    sandbox: Sandbox,
    dispatcher: MakeDispatcher,
    reconciler_with: MakeReconciler,
    template: str,
    context: dict[str, Any],
    status: str,
) -> None:
    a_client(runtime)
    decision = send(runtime, template, context)
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("cut-before", times=1),)))
    drain(dispatcher())
    reconciler_with(postmark_server_token=SecretStr("a token that was revoked")).run()
    row = message(runtime, decision.message_id)
    assert row.status == status
    if status == "FAILED":
        assert row.reason == "IN_DOUBT_HELD"


def test_a_provider_that_is_down_is_asked_again_and_nothing_is_decided(
    runtime: Runtime,
    sandbox: Sandbox,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    reconciler: Reconciler,
    reconciler_with: MakeReconciler,
) -> None:
    a_client(runtime)
    decision = send(runtime, "PASSWORD_RESET", RESET)
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("accept-then-cut", times=1),)))
    drain(dispatcher())
    down = reconciler_with(postmark_api_url="http://127.0.0.1:9")
    assert down.run() == 1
    assert message(runtime, decision.message_id).status == "IN_DOUBT"
    assert down.run() == 0
    clock.ahead += timedelta(seconds=31)
    reconciler.run()
    assert message(runtime, decision.message_id).status in ("SENT", "DELIVERED")
    assert len(arrivals(sandbox, "acme@client.example")) == 1


def test_an_unanswered_batch_opens_the_breaker_and_probes_close_it_again(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    for number in range(20):
        a_client(runtime, f"c{number:02}")
        send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number:02}")
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("error", code=100),)))
    working = dispatcher()
    drain(working)
    presented = len(sandbox.presented(Channel.EMAIL))
    assert presented == 20
    for number in range(20, 30):
        a_client(runtime, f"c{number:02}")
        send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number:02}")
    drain(working)
    drain(dispatcher(owner="worker-2"))
    assert len(sandbox.presented(Channel.EMAIL)) == presented
    clock.ahead += timedelta(seconds=11)
    drain(working)
    assert len(sandbox.presented(Channel.EMAIL)) == presented + 1
    sandbox.clear_faults()
    clock.ahead += timedelta(seconds=21)
    drain(working)
    drain(working)
    with runtime.database.read() as session:
        assert session.execute(text("SELECT state FROM provider_breaker")).scalar_one() == "CLOSED"
        waiting = session.execute(text("SELECT count(*) FROM message_log WHERE status = 'QUEUED'")).scalar_one()
    assert waiting == 0


def test_one_channels_breaker_leaves_the_other_alone(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("error", code="transient"),)))
    for number in range(6):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+49151123456{number:02}")
    drain(dispatcher(Channel.SMS))
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    drain(dispatcher())
    assert message(runtime, decision.message_id).status == "SENT"
    with runtime.database.read() as session:
        states = session.execute(text("SELECT channel, state FROM provider_breaker")).all()
    assert [tuple(row) for row in states] == [("SMS", "OPEN")]


def test_a_revoked_key_does_not_fail_the_whole_queue(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    for number in range(30):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+49151123456{number:02}")
    sandbox.set_faults(Channel.SMS, Faults((Fault("error", code="ACCOUNT_PROBLEM"),)))
    drain(dispatcher(Channel.SMS, concurrency=5))
    with runtime.database.read() as session:
        found = dict(session.execute(text("SELECT status, count(*) FROM message_log GROUP BY 1")).all())  # type: ignore[arg-type]
        assert session.execute(text("SELECT state FROM provider_breaker")).scalar_one() == "OPEN"
    assert found["FAILED"] <= 15  # five to open it, and what was on the way by then
    assert found["QUEUED"] >= 15


def test_what_we_could_not_render_says_nothing_about_the_provider(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("error", code="transient"),)))
    for number in range(5):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+491511234560{number}")
    working = dispatcher(Channel.SMS)
    drain(working)
    send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345699")
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_payload SET key_id = 'gone'"))
    clock.ahead += timedelta(seconds=11)
    drain(working)
    with runtime.database.read() as session:
        assert session.execute(text("SELECT state FROM provider_breaker")).scalar_one() != "CLOSED"
