"""A worker that is held up while its SMS are on their way: by a frozen database, or by a signal that stopped it.

Both look the same from the sender: nobody calls it for a while. What came meanwhile is not lost, and what did not come
was not waited for.
"""

from collections.abc import Iterator, Sequence
from time import monotonic, sleep

import pytest
from sqlalchemy import event

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.delivery.pace.breaker import FAILURES_TO_OPEN, Breaker, BreakerDecision
from notifyctl.delivery.pace.throttle import TOKEN_LIFE
from notifyctl.models.enums import Channel
from notifyctl.operations import breakers
from notifyctl.providers.contract import Accepted, Answer, OutboundMessage, SendResult, Unknown
from notifyctl.providers.registry import build_senders
from notifyctl.providers.twilio.sender import TwilioSender
from notifyctl.sandbox import Sandbox
from notifyctl.worker.worker import make_dispatcher
from tests.support.clients import a_client
from tests.support.clocks import NOON, TurnableClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, WELCOME, message, send
from tests.support.scripted_server import HANG, Reply, ScriptedServer

CREATED = {"sid": "SM1", "status": "queued", "error_code": None, "error_message": None}
TIMEOUT = 1.0


@pytest.fixture
def senders() -> Iterator[list[TwilioSender]]:
    made: list[TwilioSender] = []
    yield made
    for sender in made:
        sender.close()


def sender_to(url: str, senders: list[TwilioSender]) -> TwilioSender:
    account = "AC" + "0" * 32
    senders.append(TwilioSender(account, "token", url, None, "+15005550006", None, 8, timeout_seconds=TIMEOUT))
    return senders[-1]


def sms(number: int) -> OutboundMessage:
    return OutboundMessage(f"m{number}", "OTP_CODE_SMS", f"+1555867531{number}", "Your code is 123456")


def answers_of(sender: TwilioSender, seconds: float) -> list[SendResult]:
    deadline, answers = monotonic() + seconds, list[Answer]()
    while sender.in_flight and monotonic() < deadline:
        answers += sender.collect(0.05)
    return [answer.result for answer in answers]


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize("listened", [0.0, 0.3], ids=["at once", "after a while"])
def test_what_came_while_nobody_listened_is_an_answer(senders: list[TwilioSender], listened: float) -> None:
    with ScriptedServer(*[Reply(201, CREATED)] * 6) as server:
        sender = sender_to(server.url, senders)
        sender.submit([sms(number) for number in range(6)])
        early = answers_of(sender, listened) if listened else []
        sleep(TIMEOUT * 2)
        results = early + answers_of(sender, 5)
    assert [type(result) for result in results] == [Accepted] * 6


@pytest.mark.usefixtures("exhaustive")
def test_one_that_never_answers_is_given_up_after_its_time_of_being_listened_to(senders: list[TwilioSender]) -> None:
    with ScriptedServer(HANG) as server:
        sender = sender_to(server.url, senders)
        sender.submit([sms(1)])
        sender.collect(0.2)
        sleep(TIMEOUT * 2)
        again = monotonic()
        (result,) = answers_of(sender, 5)
        waited = monotonic() - again
    assert isinstance(result, Unknown)
    assert result.code == "OPERATION_TIMEDOUT"
    assert 0.4 <= waited <= TIMEOUT + 1


@pytest.mark.usefixtures("exhaustive")
def test_the_next_call_on_the_same_handle_has_the_usual_time(senders: list[TwilioSender]) -> None:
    with ScriptedServer(Reply(201, CREATED), HANG) as server:
        sender = sender_to(server.url, senders)
        sender.submit([sms(1)])
        sleep(TIMEOUT * 2)
        assert [type(result) for result in answers_of(sender, 5)] == [Accepted]
        sender.submit([sms(2)])
        begun = monotonic()
        (result,) = answers_of(sender, 5)
    assert isinstance(result, Unknown)
    assert monotonic() - begun <= TIMEOUT + 1


def timed_out(seconds: float) -> Sequence[Answer]:
    lost = Unknown("OPERATION_TIMEDOUT", "no answer in time")
    return [Answer(f"m{number}", lost, seconds) for number in range(FAILURES_TO_OPEN)]


@pytest.mark.parametrize(("channel", "limit"), [(Channel.EMAIL, 30.0), (Channel.SMS, 15.0)])
def test_calls_that_lasted_longer_than_any_can_do_not_open_the_breaker(
    database: Database, channel: Channel, limit: float
) -> None:
    breaker, now = Breaker(channel), NOON
    with database.transaction() as session:
        breaker.hear(session, timed_out(limit + 20), now)
        assert breaker.read(breakers.get(session, channel), now) is BreakerDecision.FREE
        breaker.hear(session, timed_out(limit), now)
        assert breaker.read(breakers.get(session, channel), now) is BreakerDecision.NONE


def test_while_the_database_is_busy_the_calls_go_on(runtime: Runtime) -> None:
    at_once, late = "+4915110000001", "+15005552901"  # the sandbox answers the second a tenth of a second later
    for number in (at_once, late):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=number)
    sender = build_senders(runtime.settings, [Channel.SMS], 10)[Channel.SMS]
    working = make_dispatcher(runtime, Channel.SMS, sender, "worker-1")
    assert working.turn(claiming=True, timeout=0) == 2
    under_way: list[int] = []

    def be_busy(_connection: object) -> None:
        deadline = monotonic() + 5
        while sender.in_flight and monotonic() < deadline:
            sleep(0.005)
        under_way.append(sender.in_flight)

    event.listen(runtime.database.engine, "commit", be_busy)
    working.turn(claiming=False, timeout=5)
    event.remove(runtime.database.engine, "commit", be_busy)
    assert under_way == [0]
    drain(working)
    sender.close()
    assert working.totals == {"SENT": 2}


def test_what_is_given_back_is_not_the_end_of_the_work(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, clock: TurnableClock
) -> None:
    """Held up between the claim and the call, and looked for by the turn that gives it back: it is not due yet."""
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    working = dispatcher()

    def be_held_up(_connection: object) -> None:
        clock.ahead += 2 * TOKEN_LIFE

    event.listen(runtime.database.engine, "commit", be_held_up)
    assert working.turn(claiming=True, timeout=0) == 1
    event.remove(runtime.database.engine, "commit", be_held_up)
    assert not sandbox.messages()
    assert working.turn(claiming=True, timeout=0) == 1
    drain(working)
    assert sandbox.accepted(Channel.EMAIL) == 1
    assert message(runtime, message_id).status == "SENT"
