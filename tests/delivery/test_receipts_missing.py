"""Messages of which nothing was heard for over an hour: the provider is asked, and its answer counts as a receipt."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.dispatch import Dispatcher
from notifyctl.delivery.receipts.missing import MOST, TAKEN_AT_ONCE, TROUBLE_IN_A_ROW, InquiryReport, ask_missing
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import Lookup
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, WELCOME, actions, message, send
from tests.support.receipts import a_receipt, an_email, receive, rows, status_of, suppressed

OVER_AN_HOUR = timedelta(hours=1, seconds=10)
Ask = Callable[..., InquiryReport]


@pytest.fixture
def ask(runtime: Runtime) -> Iterator[Ask]:
    """One run of the job. Its way to the providers may have other settings than the worker's."""
    made: list[Lookup] = []

    def run(*, stopping: Callable[[], bool] = lambda: False, **values: Any) -> InquiryReport:
        lookups = build_lookups(runtime.settings.model_copy(update=values), list(Channel))
        made.extend(lookups.values())
        return ask_missing(runtime.database, runtime.clock, runtime.keys, lookups, stopping=stopping)

    yield run
    for lookup in made:
        lookup.close()


def sent_email(runtime: Runtime, dispatcher: MakeDispatcher, address: str, client_id: str = "acme") -> str:
    a_client(runtime, client_id, email=address)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME, client_id=client_id)
    return deliver(runtime, dispatcher(), decision.message_id)


def sent_sms(runtime: Runtime, dispatcher: MakeDispatcher, number: str) -> str:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient=number)
    return deliver(runtime, dispatcher(Channel.SMS), decision.message_id)


def deliver(runtime: Runtime, working: Dispatcher, message_id: str) -> str:
    """A worker that the machine holds up gives back what it has claimed."""
    while status_of(runtime, message_id) == "QUEUED":
        drain(working)
    return message_id


def let_it_arrive(sandbox: Sandbox, clock: TurnableClock, ahead: timedelta = OVER_AN_HOUR) -> None:
    """The sandbox goes by the same clock, and delivers after two seconds."""
    clock.ahead += ahead
    sandbox.clock = clock


def test_what_arrived_is_delivered_and_what_did_not_is_bounced(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    good = sent_email(runtime, dispatcher, "ann@client.example", "ann")
    bad = sent_email(runtime, dispatcher, "bounce@client.example", "bob")
    good_sms = sent_sms(runtime, dispatcher, "+4915112345678")
    bad_sms = sent_sms(runtime, dispatcher, "+15005730005")
    let_it_arrive(sandbox, clock)

    assert ask() == InquiryReport(asked=4, settled=4, on_the_way=0, unanswered=0)

    assert [status_of(runtime, found) for found in (good, bad, good_sms, bad_sms)] == [
        "DELIVERED", "BOUNCED", "DELIVERED", "BOUNCED",
    ]  # fmt: skip
    row = message(runtime, bad)
    assert (row.reason, row.error_code) == ("RECIPIENT_INVALID", "HardBounce")
    assert (message(runtime, bad_sms).reason, message(runtime, bad_sms).error_code) == ("RECIPIENT_INVALID", "30005")
    assert suppressed(runtime) == {"bounce@client.example": "HARD_BOUNCE"}
    assert actions(runtime, good)[-1] == "NOTIFICATION_DELIVERED"
    assert ask() == InquiryReport(0, 0, 0, 0)


def test_a_soft_bounce_is_told_from_a_hard_one(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    message_id = sent_email(runtime, dispatcher, "softbounce@client.example")
    let_it_arrive(sandbox, clock)
    ask()
    row = message(runtime, message_id)
    assert (row.status, row.reason, row.error_code) == ("BOUNCED", "RECIPIENT_UNREACHABLE", "SoftBounce")
    assert suppressed(runtime) == {}


def test_who_complained_has_got_the_message(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    message_id = sent_email(runtime, dispatcher, "complaint@client.example")
    let_it_arrive(sandbox, clock)
    ask()
    assert status_of(runtime, message_id) == "DELIVERED"


def test_nobody_asks_within_the_first_hour_nor_after_some_days(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, ask: Ask
) -> None:
    now = runtime.clock()
    for number, hours in enumerate((0.1, 0.9, 97, 400)):
        an_email(runtime, client_id=f"c{number}", sent_at=moment(now - timedelta(hours=hours)))
    assert ask().asked == 0
    assert sandbox.calls == 0


def moment(at: Any) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f") + "+00:00"


def test_what_is_still_on_its_way_is_asked_about_less_and_less_often(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    message_id = sent_email(runtime, dispatcher, "ann@client.example")
    sandbox.clock = lambda: sandbox.messages()[0].received_at
    asked_after = []
    for minutes in range(5, 96 * 60, 30):
        clock.ahead = timedelta(minutes=minutes)
        if ask().on_the_way:
            asked_after.append(minutes)
    assert asked_after[0] == 65
    assert all(2 * one <= other <= 2 * one + 60 for one, other in pairwise(asked_after))
    assert status_of(runtime, message_id) == "SENT"


def test_a_receipt_that_came_in_time_is_not_asked_for(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    message_id = sent_email(runtime, dispatcher, "ann@client.example")
    receive(runtime, a_receipt(message_id, provider_message_id=sandbox.messages()[0].id))
    let_it_arrive(sandbox, clock)
    assert ask().asked == 0


def test_a_provider_that_is_down_is_left_alone_after_some_tries_and_asked_the_next_time(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    count = TROUBLE_IN_A_ROW + 4
    ids = [sent_email(runtime, dispatcher, f"u{number}@client.example", f"c{number}") for number in range(count)]
    code = sent_sms(runtime, dispatcher, "+4915112345678")
    let_it_arrive(sandbox, clock)

    found = ask(postmark_api_url="http://127.0.0.1:9")

    assert found == InquiryReport(asked=TROUBLE_IN_A_ROW + 1, settled=1, on_the_way=0, unanswered=TROUBLE_IN_A_ROW)
    assert status_of(runtime, code) == "DELIVERED"
    assert ask().settled == 4
    clock.ahead += 2 * OVER_AN_HOUR
    assert ask().settled == TROUBLE_IN_A_ROW
    assert {status_of(runtime, message_id) for message_id in ids} == {"DELIVERED"}


def test_one_message_that_the_provider_does_not_know_holds_up_no_other(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    lost = an_email(runtime, client_id="lost")
    found = sent_email(runtime, dispatcher, "ann@client.example", "ann")
    let_it_arrive(sandbox, clock)
    assert ask() == InquiryReport(asked=2, settled=1, on_the_way=0, unanswered=1)
    assert (status_of(runtime, lost), status_of(runtime, found)) == ("SENT", "DELIVERED")
    assert ask().asked == 0


def test_a_revoked_key_costs_a_few_calls_and_settles_nothing(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    for number in range(20):
        sent_email(runtime, dispatcher, f"u{number}@client.example", f"c{number}")
    let_it_arrive(sandbox, clock)
    before = sandbox.calls
    assert ask(postmark_server_token=SecretStr("revoked")).unanswered == TROUBLE_IN_A_ROW
    assert sandbox.calls == before + TROUBLE_IN_A_ROW


def test_it_stops_between_two_calls_and_gives_back_what_it_has_not_asked_about(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    for number in range(5):
        sent_email(runtime, dispatcher, f"u{number}@client.example", f"c{number}")
    let_it_arrive(sandbox, clock)
    asked = iter([False, False, False])
    assert ask(stopping=lambda: next(asked, True)).settled == 2
    assert ask().settled == 3


@pytest.mark.usefixtures("exhaustive")
def test_more_than_one_batch_is_asked_about_in_one_run(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    count = TAKEN_AT_ONCE + 5
    assert count < MOST
    for number in range(count):
        a_client(runtime, f"c{number}")
        send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}")
    while any(row.status == "QUEUED" for row in rows(runtime, "message_log")):
        drain(dispatcher())
    let_it_arrive(sandbox, clock)
    assert ask().settled == count
    statuses = Counter(row.status for row in rows(runtime, "message_log"))
    assert statuses == {"DELIVERED": count}


def test_old_inquiries_are_forgotten(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    sent_email(runtime, dispatcher, "ann@client.example")
    let_it_arrive(sandbox, clock)
    ask()
    assert len(rows(runtime, "receipt_inquiry")) == 1
    clock.ahead += timedelta(days=5)
    ask()
    assert rows(runtime, "receipt_inquiry") == []


def test_what_it_says_is_one_line() -> None:
    assert str(InquiryReport(4, 2, 1, 1)) == (
        "4 messages without a receipt asked about: 2 settled, 1 still on the way, 1 unanswered"
    )


def test_it_says_in_the_timeline_that_the_provider_was_asked(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher, ask: Ask
) -> None:
    message_id = sent_email(runtime, dispatcher, "ann@client.example")
    let_it_arrive(sandbox, clock)
    ask()
    with runtime.database.read() as session:
        statement = text("SELECT metadata FROM audit_log WHERE action = 'NOTIFICATION_DELIVERED'")
        assert "the provider was asked" in str(session.execute(statement).scalar_one())
    assert message(runtime, message_id).status == "DELIVERED"
