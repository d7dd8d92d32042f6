"""What our own senders see of each fault, and whether the message was accepted behind it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from time import monotonic, sleep

import pytest
import requests

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel, FailureReason
from notifyctl.providers.codes_page import POSTMARK_CODES, TWILIO_CODES
from notifyctl.providers.contract import Accepted, OutboundMessage, Rejected, Sender, SendResult, Unavailable
from notifyctl.providers.postmark.sender import PostmarkSender
from notifyctl.providers.twilio.sender import TwilioSender
from notifyctl.sandbox import Fault, Faults, Sandbox

EMAIL, SMS = Channel.EMAIL, Channel.SMS
ACCOUNT = "AC" + "0" * 32
TIMEOUT = 5.0
SHORT = 0.3
"""Long enough for a sandbox on this machine, where the client is to give up."""
MANY_TRIES = 400

Send = Callable[..., list[SendResult]]


@pytest.fixture
def send(sandbox: Sandbox) -> Iterator[Send]:
    """Sends to each of the recipients in one go, and gives the results in their order."""
    senders: list[Sender] = []

    def send(*recipients: str, timeout: float = TIMEOUT) -> list[SendResult]:
        sender = sender_for(sandbox.url, recipients[0], timeout)
        senders.append(sender)
        messages = [OutboundMessage(str(n), "T", to, "Hello", "Subject") for n, to in enumerate(recipients)]
        sender.submit(messages)
        results: dict[str, SendResult] = {}
        while sender.in_flight:
            results |= {answer.message_id: answer.result for answer in sender.collect(TIMEOUT)}
        return [results[message.message_id] for message in messages]

    yield send
    for sender in senders:
        sender.close()


def sender_for(url: str, recipient: str, timeout: float) -> Sender:
    if "@" in recipient:
        return PostmarkSender("any", url, "hello@acme.example", None, "outbound", timeout)
    return TwilioSender(ACCOUNT, "any", url, None, "+15005550006", None, concurrency=50, timeout_seconds=timeout)


def in_words(result: SendResult) -> str:
    """`Unknown HTTP_502` and the like: what the worker decides by."""
    if isinstance(result, Accepted):
        return "Accepted"
    # libcurl has two names for it, one of them from its days of FTP.
    return f"{type(result).__name__} {result.code.removeprefix('FTP_')}"


RECIPIENTS = {EMAIL: "ada@client.example", SMS: "+14155550123"}
CONNECTION_LEVEL = [
    ("hang", "Unknown OPERATION_TIMEDOUT", 0),
    ("accept-then-hang", "Unknown OPERATION_TIMEDOUT", 1),
    ("cut-before", "Unknown GOT_NOTHING", 0),
    ("accept-then-cut", "Unknown GOT_NOTHING", 1),
    ("garbage", "Unknown UNREADABLE_ANSWER", 1),
    ("truncated", "Unknown PARTIAL_FILE", 1),
]


@pytest.mark.parametrize("channel", [EMAIL, SMS])
@pytest.mark.parametrize(("kind", "seen", "accepted"), CONNECTION_LEVEL, ids=[row[0] for row in CONNECTION_LEVEL])
def test_a_spoiled_connection_leaves_the_client_in_doubt_whether_or_not_the_message_was_accepted(
    sandbox: Sandbox,
    send: Send,
    channel: Channel,
    kind: str,
    seen: str,
    accepted: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.set_faults(channel, Faults([Fault(kind)]))

    (result,) = send(RECIPIENTS[channel], timeout=SHORT if "hang" in kind else TIMEOUT)

    assert in_words(result) == seen
    assert sandbox.accepted(channel) == accepted == len(sandbox.messages())
    assert len(sandbox.presented(channel)) == 1
    assert caplog.messages == []


@pytest.mark.parametrize("channel", [EMAIL, SMS])
@pytest.mark.parametrize("body", ["html", "empty"])
@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_error_of_something_in_between_leaves_the_client_in_doubt_though_nothing_was_accepted(
    sandbox: Sandbox, send: Send, channel: Channel, status: int, body: str
) -> None:
    sandbox.set_faults(channel, Faults([Fault("http", status=status, body=body)]))

    assert [in_words(result) for result in send(RECIPIENTS[channel])] == [f"Unknown HTTP_{status}"]
    assert sandbox.accepted(channel) == 0


@pytest.mark.parametrize(("channel", "code"), [(EMAIL, "429"), (SMS, "20429")])
def test_too_many_requests_bring_the_seconds_to_wait(sandbox: Sandbox, send: Send, channel: Channel, code: str) -> None:
    sandbox.set_faults(channel, Faults([Fault("too-many", retry_after=7)]))

    (result,) = send(RECIPIENTS[channel])

    assert isinstance(result, Unavailable)
    assert (result.code, result.retry_after) == (code, timedelta(seconds=7))
    assert sandbox.accepted(channel) == 0


@pytest.mark.parametrize(
    ("channel", "code"), [(EMAIL, code) for code in POSTMARK_CODES] + [(SMS, code) for code in TWILIO_CODES]
)
def test_any_code_of_the_providers_tables_can_be_the_answer_and_is_understood(
    sandbox: Sandbox, send: Send, channel: Channel, code: int
) -> None:
    meaning = {EMAIL: POSTMARK_CODES, SMS: TWILIO_CODES}[channel][code]
    sandbox.set_faults(channel, Faults([Fault("error", code=code)]))

    (result,) = send(RECIPIENTS[channel])

    assert isinstance(result, Unavailable if meaning.transient else Rejected)
    assert result.code == str(code)
    assert not isinstance(result, Rejected) or (result.reason, result.suppress is None) == (
        meaning.reason,
        meaning.suppress is None,
    )
    assert sandbox.accepted(channel) == 0


@pytest.mark.parametrize("channel", [EMAIL, SMS])
def test_an_error_can_be_drawn_from_a_class(sandbox: Sandbox, send: Send, channel: Channel) -> None:
    results = {}
    for wanted in ("transient", "hard", FailureReason.ACCOUNT_PROBLEM):
        sandbox.set_faults(channel, Faults([Fault("error", code=wanted)]))
        results[wanted] = send(*[RECIPIENTS[channel]] * 40)

    assert {type(result) for result in results["transient"]} == {Unavailable}
    assert {type(result) for result in results["hard"]} == {Rejected}
    drawn = results[FailureReason.ACCOUNT_PROBLEM]
    assert {result.reason for result in drawn if isinstance(result, Rejected)} == {FailureReason.ACCOUNT_PROBLEM}
    assert len({result.code for result in drawn if isinstance(result, Rejected)}) > 1


@pytest.mark.parametrize("channel", [EMAIL, SMS])
def test_a_code_that_the_provider_does_not_have_is_refused(sandbox: Sandbox, channel: Channel) -> None:
    with pytest.raises(InvalidInput, match="99999 is no code or class"):
        sandbox.set_faults(channel, Faults([Fault("error", code=99999)]))


def test_in_a_batch_an_error_strikes_each_message_for_itself(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(EMAIL, Faults([Fault("error", rate=0.5, code=406)], seed=1))

    results = send(*(f"u{n}@client.example" for n in range(200)))

    refused = sum(in_words(result) == "Rejected 406" for result in results)
    assert 70 < refused < 130
    assert refused + sandbox.accepted(EMAIL) == 200
    assert sandbox.calls == 1
    assert sandbox.struck(EMAIL).total() == refused


def test_in_a_batch_a_spoiled_connection_strikes_all_messages(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(EMAIL, Faults([Fault("accept-then-cut")]))

    results = send(*(f"u{n}@client.example" for n in range(3)))

    assert [in_words(result) for result in results] == ["Unknown GOT_NOTHING"] * 3
    assert sandbox.accepted(EMAIL) == 3
    assert sandbox.peak_per_minute(EMAIL) == 3


def test_a_message_that_is_delayed_is_accepted_late_though_the_client_has_gone(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(SMS, Faults([Fault("latency", ms=SHORT * 1000 + 200)]))

    (result,) = send(RECIPIENTS[SMS], timeout=SHORT)

    assert (in_words(result), sandbox.accepted(SMS)) == ("Unknown OPERATION_TIMEDOUT", 0)
    deadline = monotonic() + 5
    while not sandbox.accepted(SMS) and monotonic() < deadline:
        sleep(0.01)
    assert sandbox.accepted(SMS) == 1


@pytest.mark.parametrize("channel", [EMAIL, SMS])
def test_a_delay_within_the_clients_patience_delays_and_no_more(sandbox: Sandbox, send: Send, channel: Channel) -> None:
    sandbox.set_faults(channel, Faults([Fault("latency", ms=(50, 60))]))
    started = monotonic()

    (result,) = send(RECIPIENTS[channel])

    assert in_words(result) == "Accepted"
    assert monotonic() - started >= 0.05
    assert sandbox.accepted(channel) == 1


def test_a_latency_and_another_fault_meet_in_one_call(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(SMS, Faults([Fault("latency", ms=50), Fault("http")]))
    started = monotonic()

    assert [in_words(result) for result in send(RECIPIENTS[SMS])] == ["Unknown HTTP_502"]
    assert monotonic() - started >= 0.05


def test_faults_with_a_number_of_times_come_one_after_the_other_and_then_stop(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(SMS, Faults([Fault("cut-before", times=1), Fault("http", status=504, times=2)]))

    seen = [in_words(send(RECIPIENTS[SMS])[0]) for _ in range(4)]

    assert seen == ["Unknown GOT_NOTHING", "Unknown HTTP_504", "Unknown HTTP_504", "Accepted"]


def test_the_same_seed_draws_the_same_faults_again(sandbox: Sandbox, send: Send) -> None:
    def drill(seed: int) -> list[str]:
        faults = [Fault("http", rate=0.3), Fault("too-many", rate=0.2), Fault("error", rate=0.5, code="hard")]
        sandbox.set_faults(SMS, Faults(faults, seed=seed))
        return [in_words(send(RECIPIENTS[SMS])[0]) for _ in range(20)]

    first = drill(7)
    assert drill(7) == first
    assert drill(8) != first
    sandbox.set_faults(SMS, Faults([Fault("http", rate=0.3)], seed=7))
    sandbox.clear()
    assert [in_words(send(RECIPIENTS[SMS])[0]) for _ in range(20)].count("Unknown HTTP_502") == first.count(
        "Unknown HTTP_502"
    )


def test_the_rates_are_shares_of_all_calls(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(SMS, Faults([Fault("http", rate=0.25), Fault("too-many", rate=0.5)], seed=3))

    seen = [in_words(result) for _ in range(MANY_TRIES // 50) for result in send(*[RECIPIENTS[SMS]] * 50)]

    assert MANY_TRIES * 0.17 < seen.count("Unknown HTTP_502") < MANY_TRIES * 0.33
    assert MANY_TRIES * 0.42 < seen.count("Unavailable 20429") < MANY_TRIES * 0.58
    assert seen.count("Accepted") == sandbox.accepted(SMS) > MANY_TRIES * 0.17


def test_a_channel_without_faults_is_left_alone_and_so_is_one_whose_faults_were_cleared(
    sandbox: Sandbox, send: Send
) -> None:
    sandbox.set_faults(SMS, Faults([Fault("http")]))
    assert [in_words(result) for result in send(RECIPIENTS[EMAIL])] == ["Accepted"]

    sandbox.clear_faults()
    assert [in_words(result) for result in send(RECIPIENTS[SMS])] == ["Accepted"]


def test_a_lookup_is_spared(sandbox: Sandbox) -> None:
    sandbox.set_faults(EMAIL, Faults([Fault("http")]))
    headers = {"X-Postmark-Server-Token": "any"}

    answer = requests.get(
        f"{sandbox.url}/messages/outbound", params={"count": 1, "offset": 0}, headers=headers, timeout=5
    )

    assert answer.status_code == 200
    assert sandbox.presented(EMAIL) == []


@pytest.mark.parametrize(
    ("recipient", "seen", "accepted"),
    [
        ("hang@a.test", "Unknown OPERATION_TIMEDOUT", 0),
        ("Hang+ada@a.test", "Unknown OPERATION_TIMEDOUT", 0),
        ("accept-then-hang@a.test", "Unknown OPERATION_TIMEDOUT", 1),
        ("cut-before@a.test", "Unknown GOT_NOTHING", 0),
        ("accept-then-cut@a.test", "Unknown GOT_NOTHING", 1),
        ("garbage@a.test", "Unknown UNREADABLE_ANSWER", 1),
        ("truncated@a.test", "Unknown PARTIAL_FILE", 1),
        ("http-502@a.test", "Unknown HTTP_502", 0),
        ("http-503@a.test", "Unavailable HTTP_503", 0),
        ("too-many-9@a.test", "Unavailable 429", 0),
        ("error-405@a.test", "Rejected 405", 0),
        ("latency-1@a.test", "Accepted", 1),
        ("bounce@a.test", "Accepted", 1),
        ("+15005552000", "Unknown OPERATION_TIMEDOUT", 0),
        ("+15005552100", "Unknown OPERATION_TIMEDOUT", 1),
        ("+15005552200", "Unknown GOT_NOTHING", 0),
        ("+15005552300", "Unknown GOT_NOTHING", 1),
        ("+15005552400", "Unknown UNREADABLE_ANSWER", 1),
        ("+15005552500", "Unknown PARTIAL_FILE", 1),
        ("+15005552600", "Unknown HTTP_500", 0),
        ("+15005552700", "Unknown HTTP_502", 0),
        ("+15005552800", "Unknown HTTP_504", 0),
        ("+15005552901", "Accepted", 1),
        ("+15005553009", "Unavailable 20429", 0),
        ("+15005621610", "Rejected 21610", 0),
        ("+15005621611", "Unavailable 21611", 0),
        ("+15005730003", "Accepted", 1),
    ],
)
def test_a_magic_recipient_brings_its_own_fault(
    sandbox: Sandbox, send: Send, recipient: str, seen: str, accepted: int
) -> None:
    (result,) = send(recipient, timeout=SHORT if "TIMEDOUT" in seen else TIMEOUT)

    assert in_words(result) == seen
    assert len(sandbox.messages()) == accepted


@pytest.mark.parametrize(
    "recipient", ["http-502-2@a.test", "cut-before-2@a.test", "error-100-2@a.test", "+15005552702", "+15005552202"]
)
def test_a_magic_recipient_may_strike_only_so_many_times(sandbox: Sandbox, send: Send, recipient: str) -> None:
    seen = [in_words(send(recipient)[0]) for _ in range(4)]

    assert seen[0] == seen[1] != "Accepted"
    assert seen[2:] == ["Accepted", "Accepted"]
    assert len(sandbox.messages()) == 2


def test_one_magic_recipient_spoils_the_connection_of_its_whole_batch(sandbox: Sandbox, send: Send) -> None:
    results = send("ada@a.test", "accept-then-cut@a.test", "error-406@a.test")

    assert [in_words(result) for result in results] == ["Unknown GOT_NOTHING"] * 3
    assert sandbox.accepted(EMAIL) == 2


def test_a_client_that_waits_in_vain_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox() as sandbox:
        sandbox.set_faults(SMS, Faults([Fault("hang")]))
        sandbox.set_faults(EMAIL, Faults([Fault("latency", ms=60_000)]))
        sms = sender_for(sandbox.url, RECIPIENTS[SMS], 60)
        email = sender_for(sandbox.url, RECIPIENTS[EMAIL], 60)
        for sender, channel in ((sms, SMS), (email, EMAIL)):
            sender.submit([OutboundMessage("m", "T", RECIPIENTS[channel], "Hello", "Subject")])
        deadline = monotonic() + 5
        while not (sandbox.presented(SMS) and sandbox.presented(EMAIL)) and monotonic() < deadline:
            sms.collect(0.01)

    (hung,) = sms.collect(5)
    (late,) = email.collect(5)
    assert in_words(hung.result) == "Unknown GOT_NOTHING"
    assert in_words(late.result) == "Accepted"
    assert caplog.messages == []
    for sender in (sms, email):
        sender.close()


def test_the_moments_of_the_calls_are_metered_in_order(sandbox: Sandbox, send: Send) -> None:
    sandbox.set_faults(SMS, Faults([Fault("http", times=1), Fault("cut-before", times=1)]))
    started = monotonic()

    for _ in range(3):
        send(RECIPIENTS[SMS])

    moments = sandbox.presented(SMS)
    assert len(moments) == sandbox.peak_per_minute(SMS) == 3
    assert started < moments[0]
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert moments[-1] < monotonic()


def test_refused_calls_are_metered_too_and_a_batch_by_its_items(sandbox: Sandbox, send: Send) -> None:
    send("ada@a.test", "inactive@a.test", "error-300@a.test")
    requests.post(f"{sandbox.url}/email", data="no JSON", timeout=5)
    requests.post(f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json", data={}, timeout=5)

    assert (len(sandbox.presented(EMAIL)), len(sandbox.presented(SMS))) == (4, 1)
    meter = requests.get(f"{sandbox.url}/meter.json", timeout=5).json()
    assert meter["EMAIL"] == {"presented": 4, "accepted": 1, "last_minute": 4, "peak_per_minute": 4}
    assert meter["SMS"] == {"presented": 1, "accepted": 0, "last_minute": 1, "peak_per_minute": 1}

    sandbox.clear()
    assert (sandbox.presented(EMAIL), sandbox.peak_per_minute(EMAIL)) == ([], 0)


def test_what_was_accepted_twice_can_be_told_by_recipient_and_by_the_callers_own_id(sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    for message_id in ("m1", "m2", "m2"):
        email = {"From": "a@b.test", "To": "Ada@a.test", "TextBody": "x", "Metadata": {"message_id": message_id}}
        requests.post(f"{sandbox.url}/email", json=email, headers={"X-Postmark-Server-Token": "any"}, timeout=5)
        sms = {"To": "+14155550123", "From": "+15005550006", "Body": "x"}
        callback = {"StatusCallback": f"https://us.example/status?message_id={message_id}"}
        requests.post(url, data=sms | callback, auth=(ACCOUNT, "any"), timeout=5)

    assert sandbox.accepted_by_message_id(EMAIL) == sandbox.accepted_by_message_id(SMS) == {"m1": 1, "m2": 2}
    assert sandbox.accepted_by_recipient(EMAIL) == {"Ada@a.test": 3}
    assert sandbox.accepted_by_recipient(SMS) == {"+14155550123": 3}
