"""What holds for the look-up of every provider. What only one of them has is in its own file."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from notifyctl.models.enums import Channel
from notifyctl.providers.contract import CannotTell, Lookup, LookupHit, LookupMiss, LookupResult, Unavailable
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Sandbox
from tests.support import providers as made
from tests.support.scripted_server import (
    CUT_AFTER_READING,
    HANG,
    RESET_AFTER_READING,
    Bytes,
    Reply,
    Script,
    ScriptedServer,
    closed_port,
)
from tests.support.settings import make_settings

UNREADABLE = "UNREADABLE_ANSWER"
COMMON_TROUBLE: dict[str, tuple[Script, str]] = {
    "no answer in time": (HANG, "OPERATION_TIMEDOUT"),
    "connection cut": (CUT_AFTER_READING, "GOT_NOTHING"),
    "connection reset": (RESET_AFTER_READING, "RECV_ERROR"),
    "answer cut short": (Bytes(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"mes'), "PARTIAL_FILE"),
    "429 from something in between": (Reply(429, "slow down"), "HTTP_429"),
    "redirect without a page": (Reply(302, "", {"Location": "/elsewhere"}), "HTTP_302"),
    "JSON of another shape": (Reply(200, [1]), UNREADABLE),
    "no list": (Reply(200, {"TotalCount": 1, "page": 0}), UNREADABLE),
    "nested too deeply": (Reply(200, "[" * 100_000), UNREADABLE),
    "an empty list of something else": (Reply(200, {"errors": []}), UNREADABLE),
    "an empty text": (Reply(200, {"detail": ""}), UNREADABLE),
}
STRANGER = "<html><head><title>Sign in to Acme Wi-Fi</title></head></html>"


@dataclass(frozen=True, slots=True)
class Provider:
    channel: Channel
    make: Callable[..., Lookup]
    find: Callable[[Lookup], LookupResult]
    rows: Callable[..., Reply]
    row: Callable[..., dict[str, Any]]
    id: str
    """Of the message in `row`."""
    trouble: Mapping[str, tuple[Script, str]]
    """Its own, with the code that is told of it."""
    refusals: Mapping[str, tuple[int, dict[str, Any], str]]
    """Status and body of its refusals, and what is told of them."""
    wrong_token: tuple[dict[str, str], str]
    """A sandbox that knows another token, and what is told of its refusal."""
    unknown: str
    """What is told of the id SMnowhere, which it does not know."""
    unreadable: Sequence[Script]
    """Answers about one message for which it is asked again later."""
    secrets: Sequence[str]
    logged: Sequence[Reply]
    """Answers after which nothing of `secrets` may be found anywhere."""


def postmark_error(code: int, message: str) -> dict[str, Any]:
    return {"ErrorCode": code, "Message": message}


def twilio_error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


PROVIDERS = {
    "postmark": Provider(
        channel=Channel.EMAIL,
        make=made.postmark_lookup,
        find=made.find_mail,
        rows=made.mail_rows,
        row=made.mail_row,
        id="pm-1",
        trouble={
            "429": (Reply(429, postmark_error(429, "Slow down")), "429"),
            "500 with its own error": (Reply(500, postmark_error(300, "x")), "300"),
            "maintenance": (Reply(422, postmark_error(100, "Maintenance")), "100"),
            "a row without metadata": (made.mail_rows({"MessageID": "pm-1"}), UNREADABLE),
            "a row without an id": (made.mail_rows(made.mail_row(None)), UNREADABLE),
        },
        refusals={
            "wrong token": (
                401, postmark_error(10, "Request does not contain a valid Server token."),
                "10: Request does not contain a valid Server token.",
            ),
            "search refused": (
                422, postmark_error(700, f"No search for {made.ADDRESS} and +15558675310."),
                "700: No search for [address] and [number].",
            ),
            "unknown code": (403, postmark_error(99999, "Never heard of"), "99999: Never heard of"),
        },
        wrong_token=({"postmark_token": "right"}, "10: Request does not contain a valid Server token."),
        unknown="701: This message was not found.",
        unreadable=[
            Reply(200, {}), Reply(200, {"MessageEvents": None}), Reply(200, {"MessageEvents": [{}]}),
            Reply(200, {"MessageEvents": [None]}), Reply(503, postmark_error(100, "Down")),
        ],
        secrets=[made.ADDRESS, made.TOKEN],
        logged=[
            made.mail_rows(made.mail_row(), made.mail_row("pm-2")), made.mail_rows(made.mail_row(Status="Sent")),
            Reply(200, {}), Reply(200, "?"),
        ],
    ),
    "twilio": Provider(
        channel=Channel.SMS,
        make=made.twilio_lookup,
        find=made.find_sms,
        rows=made.sms_rows,
        row=made.sms_row,
        id="SM1",
        trouble={
            "429": (Reply(429, twilio_error(20429, "Too Many Requests")), "20429"),
            "429 with a hard code": (Reply(429, twilio_error(63038, "Daily limit")), "63038"),
            "500 with its own error": (Reply(500, twilio_error(20500, "x")), "20500"),
            "a message without a SID": (made.sms_rows(made.sms_row(None)), UNREADABLE),
            "a message without a date": (made.sms_rows(made.sms_row(date_created=None)), UNREADABLE),
        },
        refusals={
            "forbidden": (403, twilio_error(20403, "Forbidden"), "20403: Forbidden"),
            "no such account": (
                404, twilio_error(20404, "The requested resource was not found"),
                "20404: The requested resource was not found",
            ),
            "search refused": (
                400, twilio_error(20001, f"Invalid To {made.NUMBER}"), "20001: Invalid To [number]",
            ),
            "unknown code": (400, twilio_error(99999, "Never heard of"), "99999: Never heard of"),
        },
        wrong_token=({"twilio_token": "right"}, "20003: Authenticate"),
        unknown=f"20404: The requested resource {made.TWILIO_MESSAGES}/SMnowhere.json was not found",
        unreadable=[
            Reply(200, {"sid": "SM1", "status": ["sent"]}), Reply(503, twilio_error(20503, "Down")),
        ],
        secrets=[made.NUMBER, made.NUMBER[1:], made.REPORT_TEXT, made.TOKEN],
        logged=[made.sms_rows(made.sms_row()), Reply(400, twilio_error(21211, made.NUMBER)), Reply(200, "?")],
    ),
}  # fmt: skip

each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def of_each(name: str) -> Any:
    """A case for each entry of the table of that name of each provider."""
    cases = [
        pytest.param(provider, case, id=f"{key}: {what}")
        for key, provider in PROVIDERS.items()
        for what, case in getattr(provider, name).items()
    ]
    return pytest.mark.parametrize(("provider", "case"), cases)


Look = Callable[..., LookupResult]


@pytest.fixture
def opened(provider: Provider) -> Iterator[Callable[..., Lookup]]:
    lookups: list[Lookup] = []

    def make(api_url: str, **values: Any) -> Lookup:
        lookups.append(provider.make(api_url, **values))
        return lookups[-1]

    yield make
    for lookup in lookups:
        lookup.close()


@pytest.fixture
def look(provider: Provider, opened: Callable[..., Lookup]) -> Look:
    return lambda api_url, **values: provider.find(opened(api_url, **values))


@each_provider
class TestEveryLookup:
    def test_does_not_find_what_was_not_sent(self, sandbox: Sandbox, look: Look) -> None:
        assert look(sandbox.url) == LookupMiss()

    def test_uses_its_connection_again(self, provider: Provider, opened: Callable[..., Lookup]) -> None:
        with ScriptedServer(provider.rows()) as server:
            lookup = opened(server.url)
            assert [provider.find(lookup) for _ in range(3)] == [LookupMiss()] * 3
        assert (server.connections, len(server.requests)) == (1, 3)

    @pytest.mark.parametrize(("script", "code"), COMMON_TROUBLE.values(), ids=COMMON_TROUBLE)
    def test_cannot_be_had_while_there_is_trouble_that_passes(self, look: Look, script: Script, code: str) -> None:
        with ScriptedServer(script) as server:
            finding = look(server.url, timeout_seconds=0.5)
        assert isinstance(finding, Unavailable)
        assert (finding.code, bool(finding.detail)) == (code, True)

    @pytest.mark.parametrize("status", [200, 301, 403, 404, 500, 502, 503])
    def test_cannot_be_had_where_somebody_else_answers(self, look: Look, status: int) -> None:
        headers = {"Location": "/login"} if status == 301 else {}
        with ScriptedServer(Reply(status, STRANGER, headers)) as server:
            finding = look(server.url)
        assert isinstance(finding, Unavailable)
        assert finding.code == (UNREADABLE if status == 200 else f"HTTP_{status}")
        assert server.url in finding.detail
        assert len(server.requests) == 1

    def test_cannot_be_had_where_nobody_listens(self, look: Look) -> None:
        finding = look(closed_port())
        assert isinstance(finding, Unavailable)
        assert finding.code == "COULDNT_CONNECT"

    @pytest.mark.parametrize("status", [429, 502, 503])
    def test_passes_on_the_wish_for_a_later_time(self, look: Look, status: int) -> None:
        with ScriptedServer(Reply(status, "", {"Retry-After": "7"})) as server:
            finding = look(server.url)
        assert getattr(finding, "retry_after", None) == timedelta(seconds=7)

    def test_tells_of_a_wrong_token_by_the_real_refusal(self, provider: Provider, look: Look) -> None:
        values, told = provider.wrong_token
        with Sandbox(**values) as sandbox:
            assert look(sandbox.url) == CannotTell(told)

    def test_works_again_after_trouble(self, provider: Provider, opened: Callable[..., Lookup]) -> None:
        with ScriptedServer(CUT_AFTER_READING, Reply(502, ""), provider.rows(provider.row())) as server:
            lookup = opened(server.url)
            # libcurl asks once more by itself only on a connection that it had used before.
            kinds = [type(provider.find(lookup)) for _ in range(3)]
        assert kinds == [Unavailable, Unavailable, LookupHit]

    def test_takes_no_longer_than_the_time_out(self, look: Look) -> None:
        with ScriptedServer(HANG) as server:
            started = monotonic()
            look(server.url, timeout_seconds=0.3)
        assert 0.25 < monotonic() - started < 2

    def test_cannot_tell_the_fate_of_an_id_that_the_provider_does_not_know(
        self, provider: Provider, opened: Callable[..., Lookup], sandbox: Sandbox
    ) -> None:
        assert opened(sandbox.url).fate("SMnowhere") == CannotTell(provider.unknown)

    @pytest.mark.parametrize("answer", [Reply(200, "?"), Reply(200, []), Reply(502, ""), CUT_AFTER_READING], ids=str)
    def test_is_asked_again_for_a_fate_that_cannot_be_read(
        self, provider: Provider, opened: Callable[..., Lookup], answer: Script
    ) -> None:
        with ScriptedServer(answer) as server:
            assert isinstance(opened(server.url).fate(provider.id), Unavailable)

    def test_logs_no_recipient_text_or_token(
        self,
        provider: Provider,
        opened: Callable[..., Lookup],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with ScriptedServer(*provider.logged) as server:
            lookup = opened(server.url)
            for _ in range(3):
                provider.find(lookup)
        printed = capfd.readouterr()
        for secret in provider.secrets:
            assert secret not in caplog.text + printed.out + printed.err

    @pytest.mark.parametrize("seconds", [0, 7])
    def test_has_the_delay_of_the_settings_also_when_that_is_nothing(self, provider: Provider, seconds: int) -> None:
        settings = make_settings(in_doubt_search_delay_seconds=seconds)
        with closing(build_lookups(settings, [provider.channel])[provider.channel]) as lookup:
            assert lookup.search_delay == timedelta(seconds=seconds)


@of_each("trouble")
def test_trouble_of_its_own_that_passes(look: Look, case: tuple[Script, str]) -> None:
    script, code = case
    with ScriptedServer(script) as server:
        finding = look(server.url, timeout_seconds=0.5)
    assert isinstance(finding, Unavailable)
    assert (finding.code, bool(finding.detail)) == (code, True)


@of_each("refusals")
def test_what_the_provider_itself_refuses_is_not_asked_again(look: Look, case: tuple[int, Any, str]) -> None:
    status, body, told = case
    with ScriptedServer(Reply(status, body)) as server:
        assert look(server.url) == CannotTell(told)


@each_provider
def test_an_answer_of_its_own_that_cannot_be_read_is_for_later(
    provider: Provider, opened: Callable[..., Lookup]
) -> None:
    for answer in provider.unreadable:
        with ScriptedServer(answer) as server:
            assert isinstance(opened(server.url).fate(provider.id), Unavailable), answer
