"""What a breaker keeps of the provider's answers, for those who read why it is open."""

import pytest

from notifyctl.db.database import Database
from notifyctl.delivery.pace.breaker import FAILURES_TO_OPEN, Breaker
from notifyctl.models.enums import Channel
from notifyctl.operations import breakers, pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.providers.contract import Answer, Unavailable
from tests.support.clocks import NOON


@pytest.mark.parametrize(
    ("code", "detail", "words"),
    [
        ("HTTP_503", "HTTP 503 from http://a.example (a page)", "HTTP 503 from http://a.example (a page)"),
        ("20503", "Service unavailable", "20503 Service unavailable"),
        ("COULDNT_CONNECT", "", "COULDNT_CONNECT"),
    ],
)
def test_a_code_is_not_told_twice(database: Database, code: str, detail: str, words: str) -> None:
    breaker = Breaker(Channel.SMS)
    answers = [Answer(f"m{number}", Unavailable(code, detail), 0.1) for number in range(FAILURES_TO_OPEN)]
    with database.transaction() as session:
        breaker.read(breakers.get(session, Channel.SMS), NOON)
        breaker.hear(session, answers, NOON)
    with database.read() as session:
        assert breakers.not_closed(session) == {Channel.SMS: words}


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("channels", [[], [Channel.SMS], [None, Channel.EMAIL]])
def test_what_holds_a_channel_back_is_read_at_once(
    database: Database, channels: list[Channel | None], is_open: bool
) -> None:
    scopes = [PauseScope(channel=channel) for channel in channels]
    with database.transaction() as session:
        for scope in scopes:
            pauses.add(session, scope, reason="R", actor="A", now=NOON)
        if is_open:
            breakers.open_(session, Channel.SMS, reason="down", now=NOON, probe_at=NOON)
    with database.read() as session:
        for channel in Channel:
            held, breaker = pauses.with_breaker(session, channel)
            assert held == pauses.everything(session)
            assert list(map(pauses.scope_of, held)) == scopes
            assert breaker == breakers.get(session, channel)
            assert (breaker is not None) == (is_open and channel is Channel.SMS)
