"""What holds for the sender of every provider. What only one of them has is in its own file.

Redirects and pages of something in between are in test_answers_in_between.py.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from notifyctl.providers.contract import Accepted, OutboundMessage, Sender, Unavailable, Unknown
from notifyctl.sandbox import Sandbox
from tests.support import providers as made
from tests.support.providers import collect_all, send
from tests.support.scripted_server import (
    CUT_AFTER_READING,
    CUT_BEFORE_READING,
    HANG,
    RESET_AFTER_READING,
    Bytes,
    Reply,
    Script,
    ScriptedServer,
    closed_port,
    deaf_port,
    self_signed_context,
)

MAY_HAVE_GONE_OUT: dict[str, Callable[["Provider"], Script]] = {
    "no answer in time after the request was read": lambda _: HANG,
    "connection closed after the request was read": lambda _: CUT_AFTER_READING,
    "connection reset after the request was read": lambda _: RESET_AFTER_READING,
    "connection closed before the request was read": lambda _: CUT_BEFORE_READING,
    "answer cut short": lambda provider: Bytes(
        f"HTTP/1.1 {provider.good} Good\r\nContent-Length: 500\r\n\r\n{provider.half}".encode()
    ),
    "answer cut in its head": lambda provider: Bytes(f"HTTP/1.1 {provider.good} Go".encode()),
    "answer that is not HTTP": lambda _: Bytes(b"hello, this is no web server\r\n\r\n"),
    "good, with half of its JSON": lambda provider: Reply(provider.good, provider.half),
    "good, nested too deeply to be read": lambda provider: Reply(provider.good, "[" * 100_000),
    "504 with nothing": lambda _: Reply(504, ""),
    "502 with JSON of something in between": lambda _: Reply(502, {"error": "upstream"}),
    "502 with an error of something in between": lambda _: Reply(502, {"message": "upstream", "code": "E_UPSTREAM"}),
}


@dataclass(frozen=True, slots=True)
class Provider:
    make: Callable[..., Sender]
    message: Callable[..., OutboundMessage]
    a_call: Sequence[OutboundMessage]
    """Messages that are one call."""
    path: str
    good: int
    """The status of an answer that is one."""
    half: str
    """Of the body of such an answer."""
    accepted: Reply
    id: str
    """In `accepted`."""
    header: tuple[str, str]
    """By which it is known: its name, and how it begins."""
    refusal: Reply
    """One that quotes the recipient, where the provider does."""
    secrets: Sequence[str]


PROVIDERS = {
    "postmark": Provider(
        make=made.postmark_sender,
        message=made.mail,
        a_call=[made.mail("m1"), made.mail("m2")],
        path="/email/batch",
        good=200,
        half='[{"ErrorCode": 0, "Mess',
        accepted=made.mails_accepted("pm-1"),
        id="pm-1",
        header=("x-postmark-server-token", made.TOKEN),
        refusal=Reply(422, {"ErrorCode": 402, "Message": "Malformed"}),
        secrets=[made.ADDRESS, "123456", made.TOKEN],
    ),
    "twilio": Provider(
        make=made.twilio_sender,
        message=made.sms,
        a_call=[made.sms("m1")],
        path=f"{made.TWILIO_MESSAGES}.json",
        good=201,
        half='{"sid": "SM1", "sta',
        accepted=Reply(201, made.SMS_CREATED),
        id="SM1",
        header=("authorization", "Basic "),
        refusal=Reply(400, {"code": 21211, "message": made.NUMBER}),
        secrets=[made.NUMBER, made.NUMBER[1:], "123456", made.TOKEN],
    ),
}

pytestmark = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)

Open = Callable[..., Sender]


@pytest.fixture
def opened(provider: Provider) -> Iterator[Open]:
    senders: list[Sender] = []

    def make(api_url: str, **values: Any) -> Sender:
        senders.append(provider.make(api_url, **values))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


class TestWhatIsAccepted:
    def test_goes_to_the_path_of_the_base_url(self, provider: Provider, opened: Open) -> None:
        with ScriptedServer(provider.accepted) as server:
            send(opened(f"{server.url}/proxy"), provider.message())
        (request,) = server.requests
        name, value = provider.header
        assert (request.path, request.headers[name][: len(value)]) == (f"/proxy{provider.path}", value)

    def test_goes_over_the_same_connection_again(self, provider: Provider, opened: Open) -> None:
        with ScriptedServer(provider.accepted) as server:
            sender = opened(server.url)
            for number in range(5):
                assert send(sender, provider.message(f"m{number}")) == {f"m{number}": Accepted(provider.id)}
        assert (server.connections, len(server.requests)) == (1, 5)


class TestWhatMayHaveGoneOut:
    @pytest.mark.parametrize("script", MAY_HAVE_GONE_OUT.values(), ids=MAY_HAVE_GONE_OUT)
    def test_is_unknown_for_every_message(
        self, provider: Provider, opened: Open, script: Callable[[Provider], Script]
    ) -> None:
        with ScriptedServer(script(provider)) as server:
            results = send(opened(server.url, timeout_seconds=0.5), *provider.a_call)
        assert len(results) == len(provider.a_call)
        for result in results.values():
            assert isinstance(result, Unknown)
            assert result.code
            assert result.detail
        assert len(server.requests) <= 1

    def test_is_not_sent_again_when_a_kept_connection_ends_without_an_answer(
        self, provider: Provider, opened: Open
    ) -> None:
        with ScriptedServer(provider.accepted, CUT_AFTER_READING, provider.accepted) as server:
            sender = opened(server.url)
            assert send(sender, provider.message("m1")) == {"m1": Accepted(provider.id)}
            assert isinstance(send(sender, provider.message("m2"))["m2"], Unknown)
        assert (server.connections, len(server.requests)) == (1, 2)


class TestWhatDidNotGoOut:
    @pytest.fixture
    def told(self, provider: Provider, opened: Open) -> Callable[..., str]:
        """The code that is told of every message."""

        def told(api_url: str, **values: Any) -> str:
            results = send(opened(api_url, **values), *provider.a_call)
            assert [type(result) for result in results.values()] == [Unavailable] * len(provider.a_call)
            (code,) = {result.code for result in results.values() if isinstance(result, Unavailable)}
            return code

        return told

    def test_for_a_refused_connection(self, told: Callable[..., str]) -> None:
        assert told(closed_port()) == "COULDNT_CONNECT"

    def test_for_a_name_that_does_not_resolve(self, told: Callable[..., str]) -> None:
        assert told("http://nowhere.invalid") == "COULDNT_RESOLVE_HOST"

    def test_for_a_connection_that_is_never_accepted(self, told: Callable[..., str]) -> None:
        with deaf_port() as url:
            assert told(url, timeout_seconds=0.3) == "OPERATION_TIMEDOUT"

    def test_for_a_certificate_that_nobody_vouches_for(
        self, provider: Provider, told: Callable[..., str], tmp_path: Path
    ) -> None:
        with ScriptedServer(provider.accepted, tls=self_signed_context(tmp_path)) as server:
            assert told(server.url)
        assert server.requests == []

    def test_for_lack_of_time_to_write_it_and_never_arrives(
        self, provider: Provider, opened: Open, sandbox: Sandbox
    ) -> None:
        """As by a process that was frozen with its call in the hand."""
        sender = opened(sandbox.url)
        sender.submit([provider.message("m1")], send_by=monotonic() - 0.001)
        (late,) = collect_all(sender)
        sender.submit([provider.message("m2")], send_by=monotonic() + 60)
        (in_time,) = collect_all(sender)
        assert len(sandbox.messages()) == 1
        assert isinstance(late.result, Unavailable)
        assert isinstance(in_time.result, Accepted)


def test_collecting_nothing_returns_at_once(opened: Open) -> None:
    sender = opened(closed_port())
    free, started = sender.free, monotonic()
    sender.submit([])
    assert sender.collect(5) == []
    assert monotonic() - started < 1
    assert (sender.free, sender.in_flight) == (free, 0)


def test_no_recipient_text_or_token_reaches_the_log(
    provider: Provider, opened: Open, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(provider.accepted, provider.refusal) as server:
        sender = opened(server.url)
        send(sender, provider.message("m1"))
        send(sender, provider.message("m2"))
    printed = capfd.readouterr()
    for secret in provider.secrets:
        assert secret not in caplog.text + printed.out + printed.err
