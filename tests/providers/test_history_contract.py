"""What holds for the bulk questions to every provider. What only one of them has is in its own file."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from notifyctl.errors import ProviderError
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import History, Sender
from notifyctl.providers.registry import build_histories
from notifyctl.sandbox import EMAIL_SEARCH, SMS_SEARCH, Fault, Faults, Sandbox
from tests.support import providers as made
from tests.support.clocks import NOON, StandingClock
from tests.support.sandboxes import at_rest
from tests.support.scripted_server import CUT_AFTER_READING, Reply, Script, ScriptedServer, closed_port
from tests.support.settings import make_settings

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Provider:
    channel: Channel
    searches: str
    make: Callable[..., History]
    sender: Callable[..., Sender]
    message: Callable[..., Any]
    page: int
    wrong_token: dict[str, str]
    told: str
    """Of the wrong token."""


PROVIDERS = {
    "postmark": Provider(
        Channel.EMAIL, EMAIL_SEARCH, made.postmark_history, made.postmark_sender, made.mail, 500,
        {"postmark_token": "right"},
        "Postmark refuses to say what it has: 10: Request does not contain a valid Server token.",
    ),
    "twilio": Provider(
        Channel.SMS, SMS_SEARCH, made.twilio_history, partial(made.twilio_sender, concurrency=200), made.sms, 1_000,
        {"twilio_token": "right"},
        "Twilio refuses to say what it has: 20003: Authenticate",
    ),
}  # fmt: skip

each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


def fill(provider: Provider, sandbox: Sandbox, clock: StandingClock, count: int) -> list[str]:
    """Their ids at the provider. The clock goes on by a second whenever the sender is full."""
    with closing(provider.sender(sandbox.url)) as sender:
        messages = [provider.message(str(number)) for number in range(count)]
        for start in range(0, count, sender.free):
            made.send(sender, *messages[start : start + sender.free])
            clock.turn(seconds=1)
    return [message.id for message in sandbox.messages()]


def ids(history: History) -> list[str]:
    return [record.provider_message_id for record in history.sent(NOON - HOUR, NOON + HOUR)]


def why_not(history: History) -> str:
    with closing(history), pytest.raises(ProviderError) as refused:
        ids(history)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@each_provider
class TestEveryHistory:
    def test_gives_each_message_once_over_several_pages(
        self, provider: Provider, sandbox: Sandbox, clock: StandingClock
    ) -> None:
        sent = fill(provider, sandbox, clock, 2 * provider.page + 1)
        with closing(provider.make(sandbox.url)) as history:
            assert sorted(ids(history)) == sorted(sent)

    def test_asks_for_a_page_when_it_is_needed(
        self, provider: Provider, sandbox: Sandbox, clock: StandingClock
    ) -> None:
        fill(provider, sandbox, clock, provider.page + 1)
        with closing(provider.make(sandbox.url)) as history:
            records = history.sent(NOON - HOUR, NOON + HOUR)
            assert history.calls == 0
            next(records)
            first = history.calls
            assert len(list(records)) == provider.page
            assert history.calls == first + 1

    def test_neither_loses_nor_doubles_what_others_push_from_page_to_page(
        self, provider: Provider, sandbox: Sandbox, clock: StandingClock
    ) -> None:
        before = fill(provider, sandbox, clock, provider.page + 10)
        with closing(provider.make(sandbox.url)) as history:
            records = history.sent(NOON - HOUR, NOON + HOUR)
            given = [next(records).provider_message_id]
            fill(provider, sandbox, clock, 20)
            given += [record.provider_message_id for record in records]
        assert len(set(given)) == len(given)
        assert set(before) <= set(given)

    def test_waits_as_told_in_the_middle_and_goes_on(
        self, provider: Provider, sandbox: Sandbox, clock: StandingClock
    ) -> None:
        sent = fill(provider, sandbox, clock, provider.page + 1)
        pauses: list[float] = []
        with closing(provider.make(sandbox.url, pause=pauses.append)) as history:
            records = history.sent(NOON - HOUR, NOON + HOUR)
            given = [next(records).provider_message_id]
            sandbox.set_faults(provider.searches, Faults((Fault("too-many", times=1, retry_after=7),)))
            given += [record.provider_message_id for record in records]
        assert pauses == [7.0]
        assert sorted(given) == sorted(sent)

    @pytest.mark.parametrize("fault", ["hang", "cut-before", "http", "garbage", "truncated"])
    def test_asks_again_where_the_answer_did_not_come(
        self, provider: Provider, sandbox: Sandbox, clock: StandingClock, fault: str
    ) -> None:
        [sent] = fill(provider, sandbox, clock, 1)
        sandbox.set_faults(provider.searches, Faults((Fault(fault, times=1),)))
        with closing(provider.make(sandbox.url, timeout_seconds=0.5)) as history:
            assert ids(history) == [sent]

    def test_gives_up_a_provider_that_stays_away(self, provider: Provider) -> None:
        pauses: list[float] = []
        told = why_not(provider.make(closed_port(), pause=pauses.append))
        assert "does not say what it has: COULDNT_CONNECT" in told
        assert pauses == [1.0, 2.0, 4.0]

    def test_gives_up_where_it_would_have_to_wait_long(self, provider: Provider, sandbox: Sandbox) -> None:
        sandbox.set_faults(provider.searches, Faults((Fault("too-many", retry_after=3_600),)))
        pauses: list[float] = []
        told = why_not(provider.make(sandbox.url, pause=pauses.append))
        assert told.endswith("it asks for 3600 s; ask again later")
        assert pauses == []

    def test_gives_up_at_once_where_it_is_refused(self, provider: Provider) -> None:
        with Sandbox(**provider.wrong_token) as sandbox:  # type: ignore[arg-type]
            told = why_not(provider.make(sandbox.url, pause=pytest.fail))
        assert told == provider.told

    @pytest.mark.parametrize(
        "script",
        [
            Reply(200, [1]), Reply(200, {"messages": [{}]}), Reply(200, {"Messages": [{}], "Bounces": [{}]}),
            Reply(200, "<html>"), Reply(404, ""), CUT_AFTER_READING,
        ],
        ids=str,
    )  # fmt: skip
    def test_is_sure_of_nothing_where_somebody_else_answers(self, provider: Provider, script: Script) -> None:
        with ScriptedServer(script) as server:
            assert why_not(provider.make(server.url)).startswith(f"{provider.make.__name__.partition('_')[0].title()} ")

    def test_is_made_from_the_settings(self, provider: Provider, sandbox: Sandbox) -> None:
        settings = make_settings(
            postmark_api_url=sandbox.url, twilio_api_url=sandbox.url, in_doubt_search_delay_seconds=7
        )
        with closing(build_histories(settings, [provider.channel])[provider.channel]) as history:
            assert ids(history) == list(history.suppressions(NOON)) == list(history.opt_outs(NOON)) == []
            assert history.search_delay == timedelta(seconds=7)
        nothing = make_settings(postmark_server_token=None, twilio_account_sid=None, twilio_auth_token=None)
        with pytest.raises(ProviderError, match=r"cannot be looked up: .* not set"):
            build_histories(nothing, [provider.channel])
