"""What a breaker keeps of the provider's answers, for those who read why it is open."""

import pytest

from notifyctl.db.database import Database
from notifyctl.delivery.pace.breaker import FAILURES_TO_OPEN, Breaker
from notifyctl.models.enums import Channel
from notifyctl.operations import breakers
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
        breaker.read(session, NOON)
        breaker.hear(session, answers, NOON)
    with database.read() as session:
        assert breakers.not_closed(session) == {Channel.SMS: words}
