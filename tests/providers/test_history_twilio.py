from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from notifyctl.models.enums import MessageStatus
from notifyctl.providers.contract import OptOutWord, SentRecord
from notifyctl.providers.twilio.history import TwilioHistory
from notifyctl.sandbox import Sandbox
from tests.support.clocks import NOON, StandingClock
from tests.support.providers import NUMBER, send, sms, sms_row, sms_rows, twilio_history, twilio_sender
from tests.support.sandboxes import at_rest
from tests.support.scripted_server import ScriptedServer

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
SERVICE = "MG" + "1" * 32
OURS = "+15005550006"
NOWHERE = "http://127.0.0.1:9/twilio/inbound"
"""Nobody takes what people answer."""

Send = Callable[..., None]


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


@pytest.fixture
def make(sandbox: Sandbox) -> Iterator[Callable[..., TwilioHistory]]:
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(closing(twilio_history(sandbox.url, **values)))


@pytest.fixture
def history(make: Callable[..., TwilioHistory]) -> TwilioHistory:
    return make()


@pytest.fixture
def deliver(sandbox: Sandbox) -> Send:
    def deliver(*texts: str, to: str = NUMBER, **values: Any) -> None:
        with closing(twilio_sender(sandbox.url, **{"concurrency": 200, **values})) as sender:
            for start in range(0, len(texts), 200):
                send(sender, *(sms(text, to, text) for text in texts[start : start + 200]))

    return deliver


def texts(history: TwilioHistory) -> list[str | None]:
    return [record.text for record in history.sent(NOON - HOUR, NOON + HOUR)]


def test_a_message_comes_with_what_twilio_has_of_it(sandbox: Sandbox, deliver: Send, history: TwilioHistory) -> None:
    deliver("Your code is 123456")
    [arrival] = sandbox.messages()
    assert list(history.sent(NOON, NOON + SECOND)) == [
        SentRecord(
            provider_message_id=arrival.id,
            message_id=None,
            recipient=NUMBER,
            accepted_at=NOON,
            status=MessageStatus.SENT,
            template_key=None,
            text="Your code is 123456",
            subject=None,
        )
    ]


def test_what_has_not_left_yet_is_there_and_so_is_what_became_of_the_others(
    deliver: Send, history: TwilioHistory, clock: StandingClock
) -> None:
    deliver("arrives")
    deliver("does not", to="+15005730003")
    clock.turn(seconds=60)
    deliver("waits")
    found = {record.text: record.status.value for record in history.sent(NOON, clock.now + SECOND)}
    assert found == {"arrives": "DELIVERED", "does not": "BOUNCED", "waits": "SENT"}


def test_a_second_is_all_that_twilio_tells_so_that_the_first_one_counts_whole(
    deliver: Send, history: TwilioHistory, clock: StandingClock
) -> None:
    for milliseconds in (0, 900, 1_000):
        clock.now = NOON + timedelta(milliseconds=milliseconds)
        deliver(str(milliseconds))
    found = history.sent(NOON + timedelta(milliseconds=800), NOON + SECOND)
    assert [record.text for record in found] == ["900", "0"]


def test_what_is_older_is_not_asked_for(deliver: Send, history: TwilioHistory, clock: StandingClock) -> None:
    deliver(*map(str, range(2_500)))
    clock.turn(hours=2)
    deliver("new")
    assert [record.text for record in history.sent(NOON + HOUR, clock.now + SECOND)] == ["new"]
    assert history.calls == 1


def test_only_our_own_number_or_service_counts(
    deliver: Send, make: Callable[..., TwilioHistory], clock: StandingClock
) -> None:
    deliver("by our number")
    deliver("by another", from_number="+15005550009")
    deliver("by our service", messaging_service_sid=SERVICE)
    deliver("by another service", messaging_service_sid="MG" + "2" * 32)
    clock.turn(seconds=1)
    assert "by another" not in texts(make())
    assert texts(make(messaging_service_sid=SERVICE, from_number=None)) == ["by our service"]


def test_a_message_that_waited_long_does_not_end_the_list() -> None:
    """Whether it is in the order of making or of sending."""
    rows = [
        sms_row("SM1", date_created=format_datetime(NOON - 9 * HOUR), date_sent=format_datetime(NOON), from_=OURS),
        sms_row("SM2", date_created=format_datetime(NOON - 9 * HOUR)),
        sms_row("SM3"),
        sms_row("SM4", date_created=format_datetime(NOON - HOUR), date_sent=format_datetime(NOON - HOUR)),
        sms_row("SM5"),
    ]
    script = sms_rows(*({**row, "from": OURS} for row in rows))
    with ScriptedServer(script) as server, closing(twilio_history(server.url)) as history:
        found = [record.provider_message_id for record in history.sent(NOON, NOON + SECOND)]
    assert found == ["SM3"]


def test_what_came_in_or_went_out_by_another_way_was_not_sent_by_us() -> None:
    ways = ["outbound-api", "outbound-reply", "outbound-call", "inbound"]
    rows = [{**sms_row(f"SM{number}", direction=way), "from": OURS} for number, way in enumerate(ways)]
    with ScriptedServer(sms_rows(*rows)) as server, closing(twilio_history(server.url)) as history:
        assert [record.provider_message_id for record in history.sent(NOON, NOON + SECOND)] == ["SM0"]


def test_a_row_that_comes_on_two_pages_is_given_once() -> None:
    row = {**sms_row(), "from": OURS}
    script = [sms_rows(row, next_page="/2010-04-01/Accounts/AC/Messages.json?Page=1"), sms_rows(row)]
    with ScriptedServer(*script) as server, closing(twilio_history(server.url)) as history:
        assert len(list(history.sent(NOON, NOON + SECOND))) == 1
        assert history.calls == 2


def test_a_text_that_the_account_does_not_keep_is_none() -> None:
    row = {**sms_row(body="", to="rcs:" + NUMBER), "from": OURS}
    with ScriptedServer(sms_rows(row)) as server, closing(twilio_history(server.url)) as history:
        [record] = history.sent(NOON, NOON + SECOND)
    assert (record.text, record.recipient) == (None, NUMBER)


def test_who_said_stop_or_start_is_told_by_the_words_that_count_elsewhere(
    sandbox: Sandbox, deliver: Send, history: TwilioHistory, clock: StandingClock
) -> None:
    deliver("hello")
    for text in ("Stop please!", "Thanks, I will stop by", "START"):
        clock.turn(seconds=10)
        assert sandbox.reply(NUMBER, text, url=NOWHERE) == 0
    assert list(history.opt_outs(NOON)) == [
        OptOutWord(NUMBER, is_stop=False, received_at=NOON + 30 * SECOND),
        OptOutWord(NUMBER, is_stop=True, received_at=NOON + 10 * SECOND),
    ]
    assert list(history.opt_outs(NOON + 15 * SECOND)) == [OptOutWord(NUMBER, False, NOON + 30 * SECOND)]
    assert texts(history) == ["hello"]
    assert list(history.suppressions(NOON)) == []


def test_a_stop_to_another_service_is_not_ours(
    sandbox: Sandbox, deliver: Send, make: Callable[..., TwilioHistory]
) -> None:
    deliver("hello", messaging_service_sid="MG" + "2" * 32)
    sandbox.reply(NUMBER, "STOP", url=NOWHERE)
    deliver("hello", to="+4915112345678", messaging_service_sid=SERVICE)
    sandbox.reply("+4915112345678", "STOP", url=NOWHERE)
    history = make(messaging_service_sid=SERVICE, from_number=None)
    assert [word.sender for word in history.opt_outs(NOON)] == ["+4915112345678"]


def test_inbound_messages_that_were_posted_nowhere_have_no_date_of_sending_and_end_the_list_all_the_same() -> None:
    old = sms_row("SM1", date_created=format_datetime(NOON - HOUR), direction="inbound", body="STOP")
    script = sms_rows(old, next_page="/2010-04-01/Accounts/AC/Messages.json?Page=1")
    with ScriptedServer(script) as server, closing(twilio_history(server.url)) as history:
        assert list(history.opt_outs(NOON)) == []
        assert history.calls == 1
