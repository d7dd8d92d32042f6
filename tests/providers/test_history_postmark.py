from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from postmarker.core import PostmarkClient

from notifyctl.errors import ProviderError
from notifyctl.models.enums import MessageStatus, SuppressionReason
from notifyctl.providers.contract import SentRecord, SuppressedAddress
from notifyctl.providers.postmark.history import PostmarkHistory
from notifyctl.sandbox import Sandbox
from tests.support.clocks import NOON, StandingClock
from tests.support.providers import mail_row, mail_rows, postmark_history
from tests.support.sandboxes import at_rest
from tests.support.scripted_server import Reply, ScriptedServer

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
OUR_ID = "0190a8f2-0000-7000-8000-000000000001"
NO_BOUNCES = Reply(200, {"TotalCount": 0, "Bounces": []})


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


@pytest.fixture
def history(sandbox: Sandbox) -> Iterator[PostmarkHistory]:
    with closing(postmark_history(sandbox.url)) as made:
        yield made


@pytest.fixture
def postmark(sandbox: Sandbox) -> Iterator[PostmarkClient]:
    client = PostmarkClient(server_token="any", root_api_url=sandbox.url)
    yield client
    client.session.close()


def an_email(to: str = "ada@a.test", **values: Any) -> dict[str, Any]:
    return {"From": "hello@example.com", "To": to, "Subject": "Welcome", "TextBody": "Hello", **values}


def recipients(records: Iterator[SentRecord]) -> list[str]:
    return [record.recipient for record in records]


def test_a_message_comes_with_what_postmark_has_of_it(postmark: PostmarkClient, history: PostmarkHistory) -> None:
    answer = postmark.emails.send(
        **an_email("Ada <ada@a.test>", Tag="WELCOME_EMAIL", Metadata={"message_id": OUR_ID}, HtmlBody="<p>Hello</p>")
    )
    assert list(history.sent(NOON, NOON + SECOND)) == [
        SentRecord(
            provider_message_id=answer["MessageID"],
            message_id=OUR_ID,
            recipient="ada@a.test",
            accepted_at=NOON,
            status=MessageStatus.SENT,
            template_key="WELCOME_EMAIL",
            text=None,
            subject="Welcome",
        )
    ]


def test_what_others_sent_by_the_same_server_has_no_id_of_ours(
    postmark: PostmarkClient, history: PostmarkHistory
) -> None:
    postmark.emails.send(**an_email())
    postmark.emails.send(**an_email(Metadata={"message_id": "campaign-7"}))
    found = list(history.sent(NOON, NOON + SECOND))
    assert [(record.message_id, record.template_key) for record in found] == [(None, None)] * 2


def test_only_our_own_message_stream_is_asked_for(postmark: PostmarkClient, sandbox: Sandbox) -> None:
    for stream in ("outbound", "alerts", "broadcast"):
        postmark.emails.send(**an_email(f"{stream}@a.test", MessageStream=stream))
    with closing(postmark_history(sandbox.url, message_stream="alerts")) as history:
        assert recipients(history.sent(NOON, NOON + SECOND)) == ["alerts@a.test"]


def test_what_bounced_or_was_not_wanted_is_told(
    postmark: PostmarkClient, history: PostmarkHistory, clock: StandingClock
) -> None:
    for name in ("ada", "bounce", "softbounce", "complaint"):
        postmark.emails.send(**an_email(f"{name}@a.test"))
    clock.turn(seconds=5)
    assert {record.recipient: record.status.value for record in history.sent(NOON, clock.now)} == {
        "ada@a.test": "SENT",
        "bounce@a.test": "BOUNCED",
        "softbounce@a.test": "BOUNCED",
        "complaint@a.test": "DELIVERED",
    }


def test_more_than_a_search_gives_out_is_asked_for_by_halves_of_time(
    postmark: PostmarkClient, history: PostmarkHistory, clock: StandingClock
) -> None:
    for batch in range(25):
        postmark.emails.send_batch(*(an_email(f"{batch}.{number}@a.test") for number in range(500)))
        clock.turn(minutes=1)
    found = recipients(history.sent(NOON - HOUR, clock.now))
    assert sorted(found) == sorted(f"{batch}.{number}@a.test" for batch in range(25) for number in range(500))
    assert history.calls < 40


def test_more_than_can_be_told_apart_by_time_is_an_error(postmark: PostmarkClient, history: PostmarkHistory) -> None:
    for _ in range(20):
        postmark.emails.send_batch(*(an_email() for _ in range(500)))
    with pytest.raises(ProviderError, match=r"has 10,000 rows at /messages/outbound from 2026-03-02T0.* at most"):
        list(history.sent(NOON - HOUR, NOON + HOUR))
    assert history.calls < 30


MOMENTS = {
    "winter": datetime(2026, 1, 15, 3, 30, tzinfo=UTC),
    "summer": datetime(2026, 7, 15, 3, 30, tzinfo=UTC),
    "before the hour that is left out": datetime(2026, 3, 8, 6, 59, 59, 999_000, tzinfo=UTC),
    "after the hour that is left out": datetime(2026, 3, 8, 7, 0, tzinfo=UTC),
    "before the hour that comes twice": datetime(2026, 11, 1, 4, 59, 59, 999_000, tzinfo=UTC),
    "the first time": datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
    "the second time": datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
    "after the hour that comes twice": datetime(2026, 11, 1, 7, 0, tzinfo=UTC),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_time_means_the_same_to_postmark_on_every_day_of_the_year(
    postmark: PostmarkClient, history: PostmarkHistory, clock: StandingClock, moment: datetime
) -> None:
    for name, hours in (("early", -1), ("meant", 0), ("late", 1)):
        clock.now = moment + timedelta(hours=hours)
        postmark.emails.send(**an_email(f"{name}@a.test"))
    [record] = history.sent(moment, moment + timedelta(milliseconds=1))
    assert (record.recipient, record.accepted_at) == ("meant@a.test", moment)
    assert recipients(history.sent(moment - HOUR, moment)) == ["early@a.test"]
    assert recipients(history.sent(moment + timedelta(microseconds=1), moment + 2 * HOUR)) == ["late@a.test"]


@pytest.mark.parametrize("minute", [0, 30, 59])
@pytest.mark.parametrize("hour", [5, 6], ids=["the first time", "the second time"])
def test_an_hour_that_comes_twice_is_never_named(hour: int, minute: int) -> None:
    """Which of both Postmark takes it for, nobody has written."""
    moment = datetime(2026, 11, 1, hour, minute, tzinfo=UTC)
    with ScriptedServer(NO_BOUNCES, mail_rows()) as server, closing(postmark_history(server.url)) as history:
        assert list(history.sent(moment, moment + SECOND)) == []
    query = parse_qs(urlsplit(server.requests[1].path).query)
    assert (query["fromdate"], query["todate"]) == (["2026-11-01T00:59:59"], ["2026-11-01T02:00:00"])


def test_what_has_slipped_to_a_page_already_read_is_found_in_another_pass() -> None:
    rows = [mail_row(f"pm-{number}", ReceivedAt=NOON.isoformat()) for number in range(501)]
    script = [
        NO_BOUNCES,
        mail_rows(*rows[:500], total=501),
        mail_rows(total=500),  # one of the first page has gone, and pm-500 has moved up
        mail_rows(*rows[1:], total=500),
    ]
    with ScriptedServer(*script) as server, closing(postmark_history(server.url)) as history:
        found = [record.provider_message_id for record in history.sent(NOON, NOON + SECOND)]
    assert found == [f"pm-{number}" for number in range(501)]


def test_more_than_a_search_gives_out_may_come_together_while_it_is_read() -> None:
    rows = [mail_row(f"pm-{number}", ReceivedAt=(NOON + number * SECOND).isoformat()) for number in range(4)]
    script = [
        NO_BOUNCES,
        mail_rows(rows[2], rows[1], total=501),
        mail_rows(rows[0], total=10_000),  # what came on top has pushed pm-0 here
        mail_rows(rows[3], total=10_000),
        mail_rows(rows[1], rows[0], total=2),
        mail_rows(rows[3], rows[2], total=2),
    ]
    with ScriptedServer(*script) as server, closing(postmark_history(server.url)) as history:
        found = [record.provider_message_id for record in history.sent(NOON, NOON + HOUR)]
        assert history.calls == len(script)
    assert found == ["pm-2", "pm-1", "pm-0", "pm-3"]


def test_what_comes_after_the_newest_was_seen_is_in_the_later_half() -> None:
    late = mail_row("late", ReceivedAt=(NOON + 1_800 * SECOND).isoformat())
    script = [NO_BOUNCES, mail_rows(mail_row(ReceivedAt=NOON.isoformat()), total=10_000), mail_rows(late)]
    with ScriptedServer(*script) as server, closing(postmark_history(server.url)) as history:
        found = [record.provider_message_id for record in history.sent(NOON - HOUR, NOON + HOUR)]
    assert found == ["late"]


def test_the_passes_come_to_an_end_where_the_total_is_never_right() -> None:
    script = [NO_BOUNCES, mail_rows(mail_row(ReceivedAt=NOON.isoformat()), total=7)]
    with ScriptedServer(*script) as server, closing(postmark_history(server.url)) as history:
        assert len(list(history.sent(NOON, NOON + SECOND))) == 1
        assert history.calls == 3


def test_suppressions_are_those_of_the_list_and_of_the_bounces_each_once(
    sandbox: Sandbox, postmark: PostmarkClient, history: PostmarkHistory, clock: StandingClock
) -> None:
    postmark.emails.send(**an_email("bounce+early@a.test"))
    sandbox.suppress("early@a.test")
    clock.turn(hours=30)
    for name in ("ada", "bounce", "softbounce", "complaint"):
        postmark.emails.send(**an_email(f"{name}@a.test"))
    sandbox.suppress("gone@a.test")
    sandbox.suppress("reader@a.test", stream="broadcast")
    clock.turn(seconds=5)
    bounced_at = clock.now - 3 * SECOND
    assert sorted(history.suppressions(NOON + HOUR), key=lambda address: address.recipient) == [
        SuppressedAddress("bounce@a.test", SuppressionReason.HARD_BOUNCE, bounced_at),
        SuppressedAddress("complaint@a.test", SuppressionReason.COMPLAINT, bounced_at),
        SuppressedAddress("gone@a.test", SuppressionReason.OPTED_OUT, clock.now - 5 * SECOND),
    ]
    assert history.calls == 2


def test_who_asked_for_no_more_by_mail_is_suppressed_though_the_list_has_nothing() -> None:
    at = "2026-03-02T12:00:00Z"
    rows = [
        {"ID": 1, "Type": "Unsubscribe", "Email": "ada@a.test", "MessageID": "pm-1", "BouncedAt": at},
        {"ID": 2, "Type": "AutoResponder", "Email": "grace@a.test", "MessageID": "pm-2", "BouncedAt": at},
        {"ID": 3, "Type": "NeverHeardOf", "Email": "joan@a.test", "MessageID": "pm-3", "BouncedAt": at},
    ]
    script = [Reply(200, {"Suppressions": []}), Reply(200, {"TotalCount": 3, "Bounces": rows})]
    with ScriptedServer(*script) as server, closing(postmark_history(server.url, message_stream="a/b")) as history:
        expected = [SuppressedAddress("ada@a.test", SuppressionReason.OPTED_OUT, NOON)]
        assert list(history.suppressions(NOON)) == expected
        assert list(history.opt_outs(NOON)) == []
    assert server.requests[0].path == "/message-streams/a%2Fb/suppressions/dump?fromdate=2026-03-02"
