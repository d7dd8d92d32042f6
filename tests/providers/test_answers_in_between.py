"""Answers to a sender that are not the provider's own: what they prove, the same for both, and said in words."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from notifyctl.models.enums import Channel, FailureReason
from notifyctl.providers.contract import OutboundMessage, Rejected, SendResult, Unavailable, Unknown
from notifyctl.providers.registry import build_senders
from tests.support.scripted_server import Reply, ScriptedServer, Step
from tests.support.settings import make_settings

PAGE = "<html><head><title>Sign in to Acme Wi-Fi 123456</title></head><body>https://x.example</body></html>"
SETTING = {Channel.EMAIL: "POSTMARK_API_URL", Channel.SMS: "TWILIO_API_URL"}

A_CALL = {Channel.EMAIL: ["m1", "m2"], Channel.SMS: ["m1"]}
"""Ids of messages that are one call."""

Ask = Callable[..., tuple[SendResult, ScriptedServer]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    with ExitStack() as stack:

        def ask(
            channel: Channel, reply: Reply | Step, ids: Sequence[str] = ("m1",)
        ) -> tuple[SendResult, ScriptedServer]:
            """What is told of every message."""
            server = stack.enter_context(ScriptedServer(reply))
            sender = build_senders(_settings(server.url), [channel], 1)[channel]
            stack.callback(sender.close)
            to = _recipient(channel)
            sender.submit([OutboundMessage(message_id, "T", to, "Hello 123456", "Hello") for message_id in ids])
            answers = sender.collect(10)
            assert sorted(answer.message_id for answer in answers) == list(ids)
            (result,) = {answer.result for answer in answers}
            assert len(server.requests) == 1
            return result, server

        yield ask


def _settings(url: str) -> Any:
    return make_settings(postmark_api_url=url, twilio_api_url=url)


def _recipient(channel: Channel) -> str:
    return "anna@client.example" if channel is Channel.EMAIL else "+15558675310"


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_not_followed_and_nothing_was_accepted(ask: Ask, channel: Channel, status: int) -> None:
    location = "https://user:pw@elsewhere.example:8443/login?to=anna@client.example"
    result, server = ask(channel, Reply(status, PAGE, {"Location": location}))
    assert isinstance(result, Rejected)
    assert (result.reason, result.code) == (FailureReason.ACCOUNT_PROBLEM, f"HTTP_{status}")
    assert result.detail == (
        f"{server.url} redirects to https://elsewhere.example:8443/login (HTTP {status}): nothing was accepted;"
        f" set {SETTING[channel]} to the provider's own URL"
    )


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize(
    ("headers", "where"),
    [({}, "to nowhere"), ({"Location": "/login"}, "to {}/login"), ({"Location": "http://["}, "to another place")],
    ids=["none", "relative", "nonsense"],
)
def test_a_redirect_may_say_where_to_in_any_way(
    ask: Ask, channel: Channel, headers: dict[str, str], where: str
) -> None:
    result, server = ask(channel, Reply(302, "", headers))
    assert isinstance(result, Rejected)
    assert where.format(server.url) in result.detail


REFUSED = {
    400: FailureReason.CONTENT_REJECTED,
    401: FailureReason.ACCOUNT_PROBLEM,
    403: FailureReason.ACCOUNT_PROBLEM,
    404: FailureReason.ACCOUNT_PROBLEM,
    405: FailureReason.ACCOUNT_PROBLEM,
    407: FailureReason.ACCOUNT_PROBLEM,
    413: FailureReason.CONTENT_REJECTED,
    418: FailureReason.UNKNOWN,
    451: FailureReason.ACCOUNT_PROBLEM,
}


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize(("status", "reason"), REFUSED.items())
def test_a_4xx_was_not_accepted(ask: Ask, channel: Channel, status: int, reason: FailureReason) -> None:
    result, server = ask(channel, Reply(status, PAGE))
    assert isinstance(result, Rejected)
    assert (result.reason, result.code) == (reason, f"HTTP_{status}")
    said = f"HTTP {status} from {server.url} without an error of the provider's own (a page titled 'Sign in to Acme"
    assert result.detail.startswith(said)
    assert "nothing was accepted" in result.detail
    assert SETTING[channel] in result.detail


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("status", [429, 503, 511])
def test_what_says_later_was_not_accepted_either(ask: Ask, channel: Channel, status: int) -> None:
    result, server = ask(channel, Reply(status, PAGE, {"Retry-After": "7"}))
    assert isinstance(result, Unavailable)
    assert (result.code, result.retry_after and result.retry_after.seconds) == (f"HTTP_{status}", 7)
    assert server.url in result.detail
    assert "nothing was accepted" in result.detail


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("body", [PAGE, "", "OK", "{", '"OK"', "null", "true", "5", "[]", "{}", '{"status": "ok"}'])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_success_that_says_nothing_of_the_message_leaves_it_in_doubt(
    ask: Ask, channel: Channel, status: int, body: str
) -> None:
    result, _ = ask(channel, Reply(status, body), A_CALL[channel])
    assert isinstance(result, Unknown)
    assert (result.code, bool(result.detail)) == ("UNREADABLE_ANSWER", True)
    assert "Error" not in result.detail.replace("ErrorCode", "")


@pytest.mark.parametrize("channel", Channel)
def test_a_login_page_beside_200_is_named_as_what_it_is(ask: Ask, channel: Channel) -> None:
    result, server = ask(channel, Reply(200, PAGE))
    assert isinstance(result, Unknown)
    assert result.detail == (
        f"HTTP 200 from {server.url} with nothing that can be read (a page titled 'Sign in to Acme Wi Fi'):"
        f" the provider may have got it or not; check {SETTING[channel]}, and any proxy on the way"
    )


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("status", [500, 502, 504, 520])
def test_a_5xx_leaves_it_in_doubt(ask: Ask, channel: Channel, status: int) -> None:
    result, server = ask(channel, Reply(status, PAGE), A_CALL[channel])
    assert isinstance(result, Unknown)
    assert result.code == f"HTTP_{status}"
    assert server.url in result.detail
    assert "may have got it or not" in result.detail


@pytest.mark.parametrize("channel", Channel)
def test_neither_the_page_nor_the_urls_bring_a_secret_into_the_words(ask: Ask, channel: Channel) -> None:
    page = "<title>Blocked: Your code is 123456 https://x.example/r/tokentokentokentokentoken anna@client.example"
    result, _ = ask(channel, Reply(403, page))
    assert isinstance(result, Rejected)
    for secret in ("123456", "tokentoken", "anna@"):
        assert secret not in result.detail


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("status", [302, 403, 407, 502, 503])
def test_a_proxy_that_lets_nobody_through_is_named_and_nothing_was_accepted(
    channel: Channel, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Reply(status, PAGE, {"Location": "https://login.example"})) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        sender = build_senders(_settings("https://api.example"), [channel], 1)[channel]
        sender.submit([OutboundMessage("m1", "T", _recipient(channel), "Hello 123456", "Hello")])
        (answer,) = sender.collect(10)
        sender.close()
    assert isinstance(answer.result, Unavailable)
    assert answer.result.detail == (
        f"CONNECT tunnel failed, response {status}, from the proxy that HTTPS_PROXY or ALL_PROXY names;"
        " check its login and what it lets out"
    )
