from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import parse_qs

import pytest
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from notifyctl.models.enums import FailureReason, SuppressionReason
from notifyctl.providers.contract import Accepted, Rejected, SendResult, Unavailable, Unknown
from notifyctl.providers.twilio.sender import TwilioSender
from notifyctl.sandbox import Sandbox, Sms
from tests.support.providers import ACCOUNT, NUMBER, TOKEN, send, sms, twilio_sender
from tests.support.providers import SMS_CREATED as CREATED
from tests.support.scripted_server import (
    CUT_AFTER_READING,
    CUT_BEFORE_READING,
    HANG,
    Bytes,
    Reply,
    Script,
    ScriptedServer,
)

Make = Callable[..., TwilioSender]


@pytest.fixture
def make() -> Iterator[Make]:
    senders: list[TwilioSender] = []

    def make(api_url: str, **values: object) -> TwilioSender:
        senders.append(twilio_sender(api_url, **values))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


def result_of(make: Make, script: Script | Sequence[Script], **values: object) -> SendResult:
    steps = script if isinstance(script, tuple) else (script,)
    with ScriptedServer(*steps) as server:
        return send(make(server.url, **values), sms())["m1"]


class TestAcceptedMessages:
    def test_the_sandbox_gets_the_message_and_answers_with_its_sid(self, make: Make) -> None:
        with Sandbox() as sandbox:
            result = send(make(sandbox.url), sms())["m1"]
            (arrived,) = sandbox.messages()
        assert isinstance(arrived, Sms)
        assert result == Accepted(arrived.id)
        assert (arrived.to, arrived.text, arrived.sender) == (NUMBER, "Your code is 123456", "+15005550006")

    def test_every_character_of_the_text_arrives_as_it_was(self, make: Make) -> None:
        text = "Ünïcode & = + % € 🚀\nnew line"
        with Sandbox() as sandbox:
            send(make(sandbox.url), sms(text=text))
            assert [arrived.text for arrived in sandbox.messages()] == [text]

    def test_the_messaging_service_is_preferred_to_the_number(self, make: Make) -> None:
        with ScriptedServer(Reply(201, CREATED)) as server:
            send(make(server.url, messaging_service_sid="MG1"), sms())
        form = parse_qs(server.requests[0].body.decode())
        assert form == {"To": [NUMBER], "Body": ["Your code is 123456"], "MessagingServiceSid": ["MG1"]}

    def test_the_status_callback_carries_the_message_id(self, make: Make) -> None:
        callback = "https://notify.example/api/webhooks/twilio/status"
        with ScriptedServer(Reply(201, CREATED)) as server:
            send(make(server.url, status_callback=callback), sms(message_id="019a/x"))
        form = parse_qs(server.requests[0].body.decode())
        assert form["StatusCallback"] == [f"{callback}?message_id=019a%2Fx"]

    def test_the_proxy_of_the_environment_is_used(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        with ScriptedServer(Reply(201, CREATED)) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert send(make("http://twilio.invalid"), sms()) == {"m1": Accepted("SM1")}
        assert proxy.requests[0].path.startswith("http://twilio.invalid/2010-04-01/")

    def test_messages_are_under_way_side_by_side_and_each_answer_finds_its_message(self, make: Make) -> None:
        with Sandbox() as sandbox:
            sender = make(sandbox.url, concurrency=50)
            results = send(sender, *(sms(f"m{n}", f"+1555867{n:04}") for n in range(50)))
            arrived = {message.recipients[0]: message.id for message in sandbox.messages()}
        assert results == {f"m{n}": Accepted(arrived[f"+1555867{n:04}"]) for n in range(50)}


TEXTS = ["Your code is 123456", "Ünïcode & = + % € 🚀\nnew line", "a;b/c?d#e [x] {y}~*'\"", " ", "x" * 1600]
TEXTS.append("".join(map(chr, range(128))))


class ToServer(TwilioHttpClient):
    """The SDK's own client, which calls `url` in the place of Twilio."""

    def __init__(self, url: str) -> None:
        super().__init__(pool_connections=False)
        self._url = url

    def request(self, method: str, url: str, *others: Any, **request: Any) -> Response:  # type: ignore[override]
        return super().request(method, self._url + url.removeprefix("https://api.twilio.com"), *others, **request)


@pytest.mark.parametrize("by_service", [False, True], ids=["number", "service"])
@pytest.mark.parametrize("callback", [None, "https://notify.example/api/webhooks/twilio/status?a=1&b=ü"])
def test_each_request_is_byte_for_byte_the_one_that_the_sdk_makes(
    make: Make, by_service: bool, callback: str | None
) -> None:
    number = {"from_number": None, "messaging_service_sid": "MG1"} if by_service else {"from_number": "+15005550006"}
    with ScriptedServer(Reply(201, CREATED)) as server:
        sender = make(server.url, status_callback=callback, **number)
        client = Client(ACCOUNT, TOKEN, http_client=ToServer(server.url))  # type: ignore[no-untyped-call]
        for text in TEXTS:
            send(sender, sms(text=text))
            by_sdk = {"messaging_service_sid": "MG1"} if by_service else {"from_": "+15005550006"}
            if callback is not None:
                by_sdk["status_callback"] = f"{callback}?message_id=m1"
            client.messages.create(to=NUMBER, body=text, **by_sdk)
        ours, theirs = server.requests[::2], server.requests[1::2]
    assert [request.body for request in ours] == [request.body for request in theirs]
    assert [request.path for request in ours] == [request.path for request in theirs]
    # What remains is the connection's, and requests' own.
    names = ("authorization", "content-type", "user-agent", "x-twilio-client", "accept", "accept-charset")
    for name in names:
        assert {request.headers[name] for request in ours} == {request.headers[name] for request in theirs}


class TestSlots:
    def test_free_and_in_flight_add_up_to_the_concurrency(self, make: Make) -> None:
        with ScriptedServer(HANG) as server:
            sender = make(server.url, concurrency=4)
            assert (sender.free, sender.in_flight) == (4, 0)
            sender.submit([sms("m1"), sms("m2"), sms("m3")])
            assert (sender.free, sender.in_flight) == (1, 3)

    def test_more_than_fits_is_refused_whole(self, make: Make) -> None:
        with ScriptedServer(Reply(201, CREATED)) as server:
            sender = make(server.url, concurrency=1)
            with pytest.raises(ValueError, match="2 messages submitted, 1 are taken now"):
                sender.submit([sms("m1"), sms("m2")])
            assert sender.in_flight == 0

    def test_collecting_waits_for_an_answer_and_no_longer_than_asked(self, make: Make) -> None:
        with ScriptedServer(HANG) as server:
            sender = make(server.url)
            sender.submit([sms()])
            started = monotonic()
            assert sender.collect(0.2) == []
            assert 0.15 < monotonic() - started < 1

    def test_a_text_that_cannot_be_encoded_fails_alone(self, make: Make) -> None:
        with ScriptedServer(Reply(201, CREATED)) as server:
            sender = make(server.url, concurrency=2)
            results = send(sender, sms("bad", text="\ud800"), sms("good"))
            assert isinstance(results["bad"], Rejected)
            assert results["bad"].reason is FailureReason.CONTENT_REJECTED
            assert results["good"] == Accepted("SM1")
            assert len(server.requests) == 1
            assert send(sender, sms("m1"), sms("m2")) == {"m1": Accepted("SM1"), "m2": Accepted("SM1")}


LATE = "+15005552901"
"""The sandbox answers a tenth of a second later."""


class TestSlotsAndLatency:
    def slots(self, sender: TwilioSender, times: int) -> int:
        """How many there are after so many calls, one after the other."""
        for number in range(times):
            send(sender, sms(f"m{number}", LATE))
        while free := sender.free:
            sender.submit([sms(f"{sender.in_flight}-{number}", LATE) for number in range(free)])
        return sender.in_flight

    def test_there_are_more_where_answers_take_their_time(self, make: Make) -> None:
        with ScriptedServer(Reply(201, CREATED)) as fast, Sandbox() as slow:
            assert self.slots(make(fast.url, concurrency=400), 20) < 200
            assert 220 < self.slots(make(slow.url, concurrency=400), 10) <= 400

    def test_never_more_than_the_concurrency_and_a_hundred_at_a_time(self, make: Make) -> None:
        with Sandbox() as slow:
            sender = make(slow.url, concurrency=120)
            assert (sender.free, self.slots(sender, 5)) == (100, 120)
            assert self.slots(make(slow.url, concurrency=3), 2) == 3

    def test_an_account_that_is_asked_too_much_has_a_hundred_again(self, make: Make) -> None:
        too_much = Reply(429, {"code": 20429, "message": "Too Many Requests"})
        with ScriptedServer(too_much) as server:
            sender = make(server.url, concurrency=400)
            sender._latency = 0.2  # as of slower answers before
            assert len(send(sender, sms())) == 1
            assert len(send(sender, *(sms(f"m{number}") for number in range(150)))) == 150  # claimed before
            assert self.slots(sender, 0) == 100


MAY_HAVE_GONE_OUT: dict[str, Script | tuple[Script, ...]] = {
    "201 with JSON of another shape": Reply(201, ["SM1"]),
    "201 without a SID": Reply(201, {"status": "queued"}),
    "502 with a code of something in between": Reply(502, {"message": "upstream", "code": 502}),
    "504 with a code of something in between": Reply(504, {"message": "upstream", "code": "20504"}),
}

DID_NOT_GO_OUT: dict[str, tuple[Reply, Unavailable]] = {
    "429 with Retry-After": (
        Reply(429, {"code": 20429, "message": "Too Many Requests"}, {"Retry-After": "7"}),
        Unavailable("20429", "Too Many Requests", timedelta(seconds=7)),
    ),
    "429 with a code that nobody knows": (
        Reply(429, {"code": 99999, "message": "New"}),
        Unavailable("99999", "New"),
    ),
    "503 with a hard code": (
        Reply(503, {"code": 21211, "message": "Odd"}),
        Unavailable("21211", "Odd"),
    ),
    "503 with a date in Retry-After": (
        Reply(
            503,
            {"code": 20503, "message": "Service Unavailable"},
            {"Retry-After": "Mon, 02 Mar 2026 12:01:30 GMT", "Date": "Mon, 02 Mar 2026 12:00:00 GMT"},
        ),
        Unavailable("20503", "Service Unavailable", timedelta(seconds=90)),
    ),
    "500 with Twilio's own error": (
        Reply(500, {"code": 20500, "message": "Internal Server Error", "status": 500}),
        Unavailable("20500", "Internal Server Error"),
    ),
    "502 with Twilio's own error": (
        Reply(502, {"code": 20500, "message": "upstream"}),
        Unavailable("20500", "upstream"),
    ),
    "4xx with a transient code": (
        Reply(400, {"code": 30001, "message": "Queue overflow"}),
        Unavailable("30001", "Queue overflow"),
    ),
    "created, but failed at once with a transient code": (
        Reply(201, {**CREATED, "status": "failed", "error_code": 30001, "error_message": "Queue overflow"}),
        Unavailable("30001", "Queue overflow"),
    ),
}

NEVER_WILL: dict[str, tuple[Reply, Rejected]] = {
    "the recipient said STOP": (
        Reply(400, {"code": 21610, "message": "Attempt to send to unsubscribed recipient"}),
        Rejected(
            FailureReason.RECIPIENT_OPTED_OUT,
            "21610",
            "Attempt to send to unsubscribed recipient",
            SuppressionReason.OPTED_OUT,
        ),
    ),
    "a code as text": (
        Reply(400, {"code": "21610", "message": "STOP"}),
        Rejected(FailureReason.RECIPIENT_OPTED_OUT, "21610", "STOP", SuppressionReason.OPTED_OUT),
    ),
    "not a number, and the number is not repeated": (
        Reply(400, {"code": 21211, "message": f"The 'To' number {NUMBER} is not a valid phone number."}),
        Rejected(FailureReason.RECIPIENT_INVALID, "21211", "The 'To' number [number] is not a valid phone number."),
    ),
    "the account's day is used up": (
        Reply(429, {"code": 63038, "message": "Daily limit"}, {"Retry-After": "60"}),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "63038", "Daily limit"),
    ),
    "a refusal beside a success": (
        Reply(200, {"code": 21211, "message": "Bad number"}),
        Rejected(FailureReason.RECIPIENT_INVALID, "21211", "Bad number"),
    ),
    "wrong token": (
        Reply(401, {"code": 20003, "message": "Authenticate"}),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "20003", "Authenticate"),
    ),
    "code that nobody knows": (
        Reply(400, {"code": 99999, "message": "New"}),
        Rejected(FailureReason.UNKNOWN, "99999", "New"),
    ),
    "code that nobody knows, without permission": (
        Reply(403, {"code": 99999, "message": "New"}),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "99999", "New"),
    ),
    "error in the form of RFC 9457": (
        Reply(400, {"type": "t", "title": "Invalid", "status": 400, "code": 20422, "detail": "Bad To"}),
        Rejected(FailureReason.CONTENT_REJECTED, "20422", "Bad To"),
    ),
    "created, but failed at once": (
        Reply(201, {**CREATED, "status": "failed", "error_code": 30005, "error_message": "Unknown handset"}),
        Rejected(FailureReason.RECIPIENT_INVALID, "30005", "Unknown handset"),
    ),
    "created, but undelivered at once without a code": (
        Reply(201, {**CREATED, "status": "undelivered"}),
        Rejected(FailureReason.UNKNOWN, "undelivered", "SM1 was undelivered at once"),
    ),
}


PROVES: dict[str, Reply] = {
    "200": Reply(200, CREATED),
    "202": Reply(202, CREATED),
    "no status": Reply(201, {"sid": "SM1"}),
    "a status that nobody knows": Reply(201, {**CREATED, "status": "new"}),
    "a status that is no text": Reply(201, {**CREATED, "status": 5}),
    "partially delivered": Reply(201, {**CREATED, "status": "partially_delivered"}),
    "a date that the SDK cannot read": Reply(201, {**CREATED, "date_created": "Mon, 02 Mar 2026 12:00:99 +0000"}),
    "a date that is no text": Reply(201, {**CREATED, "date_updated": 5}),
    "a code that is no number": Reply(201, {**CREATED, "error_code": "0"}),
    "an error beside it that is none": Reply(201, {**CREATED, "code": 0}),
}


class TestWhatASidProves:
    @pytest.mark.parametrize("reply", PROVES.values(), ids=PROVES)
    def test_that_the_message_was_accepted(self, make: Make, reply: Reply) -> None:
        assert result_of(make, reply) == Accepted("SM1")

    @pytest.mark.parametrize("status", [302, 400, 429, 500, 502])
    def test_whatever_the_status_beside_it(self, make: Make, status: int) -> None:
        sid = "SM" + "0" * 32
        assert result_of(make, Reply(status, {**CREATED, "sid": sid})) == Accepted(sid)

    @pytest.mark.parametrize(("status", "code"), [(500, 20500), (503, 20503), (429, 20429), (400, 30001), (400, 99999)])
    def test_but_an_error_that_is_not_final_leaves_it_in_doubt(self, make: Make, status: int, code: int) -> None:
        reply = Reply(status, {**CREATED, "sid": "SM" + "0" * 32, "code": code, "message": "Later"})
        assert result_of(make, reply) == Unknown(str(code), "Later (but it has a SID)")

    def test_even_where_the_length_of_the_answer_is_wrong(self, make: Make) -> None:
        reply = Reply(201, CREATED, {"Content-Length": "5000"})
        assert result_of(make, Bytes(reply.encoded())) == Accepted("SM1")

    @pytest.mark.parametrize("status", [400, 500])
    def test_but_not_an_id_of_something_else(self, make: Make, status: int) -> None:
        assert not isinstance(result_of(make, Reply(status, {"sid": "session-1"})), Accepted)


class TestAnswersThatAreNone:
    @pytest.mark.parametrize("script", MAY_HAVE_GONE_OUT.values(), ids=MAY_HAVE_GONE_OUT)
    def test_what_may_have_gone_out_is_unknown(self, make: Make, script: Script) -> None:
        result = result_of(make, script, timeout_seconds=0.5)
        assert isinstance(result, Unknown)
        assert result.code
        assert result.detail

    def test_after_any_failure_the_slot_is_free_again(self, make: Make) -> None:
        script = (CUT_AFTER_READING, Reply(502, ""), Bytes(b"?"), Reply(201, CREATED))
        with ScriptedServer(*script) as server:
            sender = make(server.url, concurrency=1)
            results = [send(sender, sms("m1"))["m1"] for _ in script]
            assert sender.free == 1
        assert [type(result) for result in results] == [Unknown, Unknown, Unknown, Accepted]


class TestMessagesThatDidNotGoOut:
    @pytest.mark.parametrize("step", [CUT_BEFORE_READING, Bytes(b"plain text\r\n")])
    def test_a_failed_tls_handshake(self, make: Make, step: Script) -> None:
        with ScriptedServer(step) as server:
            result = send(make(server.url.replace("http", "https"), timeout_seconds=1.0), sms())["m1"]
        assert isinstance(result, Unavailable)

    @pytest.mark.parametrize(("reply", "expected"), DID_NOT_GO_OUT.values(), ids=DID_NOT_GO_OUT)
    def test_an_answer_that_invites_to_try_again(self, make: Make, reply: Reply, expected: Unavailable) -> None:
        assert result_of(make, reply) == expected

    def test_a_wait_that_was_asked_for_once_is_not_remembered(self, make: Make) -> None:
        with ScriptedServer(Reply(429, "", {"Retry-After": "7"}), Reply(503, "")) as server:
            sender = make(server.url, concurrency=1)
            waits = [getattr(send(sender, sms())["m1"], "retry_after", None) for _ in range(2)]
        assert waits == [timedelta(seconds=7), None]


class TestMessagesThatNeverWill:
    @pytest.mark.parametrize(("reply", "expected"), NEVER_WILL.values(), ids=NEVER_WILL)
    def test_a_hard_answer(self, make: Make, reply: Reply, expected: Rejected) -> None:
        assert result_of(make, reply) == expected
