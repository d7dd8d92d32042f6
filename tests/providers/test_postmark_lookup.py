import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.contract import (
    POSTMARK_SEARCH_DELAY,
    Accepted,
    CannotTell,
    LookupHit,
    LookupMiss,
    OutboundMessage,
    Rejected,
    UncertainSend,
)
from notifyctl.providers.postmark.lookup import PostmarkLookup
from notifyctl.providers.postmark.sender import PostmarkSender
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Sandbox
from tests.support.clocks import StandingClock
from tests.support.providers import ADDRESS, TOKEN, nobody, postmark_lookup
from tests.support.providers import find_mail as find
from tests.support.providers import mail_row as row
from tests.support.providers import mail_rows as rows
from tests.support.sandboxes import at_rest
from tests.support.scripted_server import (
    CUT_AFTER_READING,
    HANG,
    Reply,
    Script,
    ScriptedServer,
)
from tests.support.settings import make_settings

Make = Callable[..., PostmarkLookup]


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


@pytest.fixture
def make() -> Iterator[Make]:
    lookups: list[PostmarkLookup] = []

    def make(api_url: str, **values: Any) -> PostmarkLookup:
        lookups.append(postmark_lookup(api_url, **values))
        return lookups[-1]

    yield make
    for lookup in lookups:
        lookup.close()


def send(sandbox: Sandbox, *message_ids: str, recipient: str = ADDRESS, stream: str = "outbound") -> list[str]:
    """Postmark's ids of what the real sender sends."""
    sender = PostmarkSender(TOKEN, sandbox.url, "hello@acme.example", None, stream)
    sender.submit([OutboundMessage(message_id, "T", recipient, "Hello", "Hello") for message_id in message_ids])
    answers = sender.collect(10)
    sender.close()
    return [answer.result.provider_message_id for answer in answers if isinstance(answer.result, Accepted)]


def details(*events: dict[str, Any]) -> Reply:
    return Reply(200, row(Status="Sent", MessageEvents=list(events)))


DELIVERED = {"Recipient": ADDRESS, "Type": "Delivered", "Details": {"DeliveryMessage": "smtp;250 OK"}}
BOUNCED = {
    "Recipient": ADDRESS,
    "Type": "Bounced",
    "Details": {"Summary": f"smtp;550 5.1.1 {ADDRESS} unknown", "BounceID": "42"},
}


class TestWhatWasAccepted:
    def test_is_found_by_its_id_among_others(self, sandbox: Sandbox, make: Make) -> None:
        _, wanted, _ = send(sandbox, "m0", "m1", "m2")
        assert find(make(sandbox.url)) == LookupHit(wanted)

    def test_is_found_whatever_the_case_of_its_address(self, sandbox: Sandbox, make: Make) -> None:
        (wanted,) = send(sandbox, "m1", recipient="Anna@Client.example")
        assert find(make(sandbox.url)) == LookupHit(wanted)

    def test_is_found_under_an_address_that_a_query_must_escape(self, sandbox: Sandbox, make: Make) -> None:
        (wanted,) = send(sandbox, "m1", recipient="anna+b&c@client.example")
        assert find(make(sandbox.url), recipient="anna+b&c@client.example") == LookupHit(wanted)

    def test_is_found_in_its_own_stream_only(self, sandbox: Sandbox, make: Make) -> None:
        (wanted,) = send(sandbox, "m1", stream="receipts")
        assert find(make(sandbox.url, message_stream="receipts")) == LookupHit(wanted)
        assert find(make(sandbox.url)) == LookupMiss()

    def test_is_found_in_winter_and_summer_though_postmark_lives_in_eastern_time(
        self, sandbox: Sandbox, make: Make, clock: StandingClock
    ) -> None:
        clock.now = datetime(2026, 7, 1, 3, 30, tzinfo=UTC)
        (wanted,) = send(sandbox, "m1")
        assert find(make(sandbox.url)) == LookupHit(wanted)

    def test_is_delivered_once_postmark_says_so(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (wanted,) = send(sandbox, "m1")
        clock.now += timedelta(minutes=1)
        assert find(make(sandbox.url)) == LookupHit(wanted, delivered=True)

    def test_bounces_once_postmark_says_so(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (wanted,) = send(sandbox, "m1", recipient="bounce@client.example")
        clock.now += timedelta(minutes=1)
        found = find(make(sandbox.url), recipient="bounce@client.example")
        assert isinstance(found, LookupHit)
        assert (found.provider_message_id, found.delivered) == (wanted, False)
        assert found.bounce is not None

    def test_counts_once_if_it_went_out_twice_and_the_earliest_does(
        self, sandbox: Sandbox, make: Make, clock: StandingClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        (first,) = send(sandbox, "m1")
        clock.now += timedelta(milliseconds=100)
        send(sandbox, "m1")
        assert find(make(sandbox.url)) == LookupHit(first)
        assert "sent 2 times" in caplog.text
        assert ADDRESS not in caplog.text


class TestWhatIsNotThere:
    def test_another_message_went_to_the_address(self, sandbox: Sandbox, make: Make) -> None:
        send(sandbox, "m2")
        assert find(make(sandbox.url)) == LookupMiss()

    def test_the_id_went_to_another_address(self, sandbox: Sandbox, make: Make) -> None:
        send(sandbox, "m1", recipient="bert@client.example")
        assert find(make(sandbox.url)) == LookupMiss()

    def test_the_search_has_not_caught_up_yet(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        sandbox.search_delay = timedelta(seconds=30)
        try:
            (wanted,) = send(sandbox, "m1")
            clock.now += timedelta(seconds=29)
            assert find(make(sandbox.url)) == LookupMiss()
            clock.now += timedelta(seconds=1)
            assert find(make(sandbox.url)) == LookupHit(wanted, delivered=True)
        finally:
            sandbox.search_delay = timedelta()


class TestTheSearch:
    def test_names_one_metadata_field_the_recipient_and_the_stream_and_no_date(self, make: Make) -> None:
        with ScriptedServer(rows()) as server:
            assert find(make(f"{server.url}/proxy", message_stream="receipts")) == LookupMiss()
        (request,) = server.requests
        url = urlsplit(request.path)
        assert (url.path, request.headers["x-postmark-server-token"]) == ("/proxy/messages/outbound", TOKEN)
        assert parse_qs(url.query) == {
            "count": ["500"],
            "offset": ["0"],
            "recipient": [ADDRESS],
            "messagestream": ["receipts"],
            "metadata_message_id": ["m1"],
        }

    @pytest.mark.parametrize(
        "other",
        [
            row(Metadata={"message_id": "m10"}),
            row(Metadata={}),
            row(Metadata=None),
            row(Metadata={"other": "m1"}),
            row(Recipients=["hanna@client.example"]),
            row(Recipients=[]),
        ],
        ids=["longer id", "no metadata", "null metadata", "another field", "longer address", "no recipient"],
    )
    def test_is_not_trusted_to_be_exact(self, make: Make, other: dict[str, Any]) -> None:
        with ScriptedServer(rows(other)) as server:
            assert find(make(server.url)) == LookupMiss()
        with ScriptedServer(rows(other, row("pm-2"))) as server:
            assert find(make(server.url)) == LookupHit("pm-2")

    def test_is_read_to_its_last_page(self, make: Make) -> None:
        others = [row(f"pm-{n}", Metadata={"message_id": f"m{n}"}) for n in range(2, 502)]
        with ScriptedServer(rows(*others, total=501), rows(row(), total=501)) as server:
            assert find(make(server.url)) == LookupHit("pm-1")
        pages = [parse_qs(urlsplit(request.path).query) for request in server.requests]
        assert [(page["count"], page["offset"]) for page in pages] == [(["500"], ["0"]), (["500"], ["500"])]

    def test_cannot_tell_when_there_is_more_than_postmark_gives_out(self, make: Make) -> None:
        with ScriptedServer(rows(total=10_001)) as server:
            assert find(make(server.url)) == CannotTell("the search gives over 10000 messages")
        assert len(server.requests) == 20

    def test_puts_the_earliest_first_across_the_end_of_summer_time(self, make: Make) -> None:
        earlier = row("pm-1", ReceivedAt="2026-11-01T01:59:00.0000000-04:00")
        later = row("pm-2", ReceivedAt="2026-11-01T01:01:00.0000000-05:00")
        with ScriptedServer(rows(later, earlier)) as server:
            assert find(make(server.url)) == LookupHit("pm-1")


BOUNCE_WITHOUT_TYPE: dict[str, Script] = {
    "404": Reply(404, "no"),
    "refused": Reply(422, {"ErrorCode": 407, "Message": "No"}),
    "hang": HANG,
    "no JSON": Reply(200, "?"),
    "JSON of another shape": Reply(200, [1]),
    "no type": Reply(200, {"ID": 42}),
}


def fate(make: Make, *script: Script) -> LookupHit:
    with ScriptedServer(rows(row(Status="Sent")), *script) as server:
        found = find(make(server.url, timeout_seconds=0.5))
    assert isinstance(found, LookupHit)
    assert found.provider_message_id == "pm-1"
    return found


class TestItsFate:
    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("HardBounce", (FailureReason.RECIPIENT_INVALID, SuppressionReason.HARD_BOUNCE)),
            ("SoftBounce", (FailureReason.RECIPIENT_UNREACHABLE, None)),
            ("NeverHeardOf", (FailureReason.RECIPIENT_UNREACHABLE, None)),
        ],
    )
    def test_a_bounce_has_the_type_that_the_bounce_api_tells(
        self, make: Make, kind: str, expected: tuple[FailureReason, SuppressionReason | None]
    ) -> None:
        found = fate(make, details(DELIVERED, BOUNCED), Reply(200, {"ID": 42, "Type": kind}))
        reason, suppress = expected
        assert found == LookupHit("pm-1", bounce=Rejected(reason, kind, "smtp;550 5.1.1 [address] unknown", suppress))

    def test_the_details_and_the_bounce_are_asked_for_by_their_ids(self, make: Make) -> None:
        script = (rows(row(Status="Sent")), details(BOUNCED), Reply(200, {"Type": "HardBounce"}))
        with ScriptedServer(*script) as server:
            find(make(server.url))
        assert [request.path for request in server.requests[1:]] == ["/messages/outbound/pm-1/details", "/bounces/42"]

    def test_a_bounce_that_postmark_calls_transient_is_none(self, make: Make) -> None:
        found = fate(make, details(BOUNCED, DELIVERED), Reply(200, {"Type": "Transient"}))
        assert found == LookupHit("pm-1", delivered=True)

    @pytest.mark.parametrize("answer", BOUNCE_WITHOUT_TYPE.values(), ids=BOUNCE_WITHOUT_TYPE)
    def test_a_bounce_without_a_type_is_one_nevertheless(self, make: Make, answer: Script) -> None:
        bounce = fate(make, details(BOUNCED), answer).bounce
        assert bounce == Rejected(FailureReason.RECIPIENT_UNREACHABLE, "Unknown", "smtp;550 5.1.1 [address] unknown")

    def test_nor_does_it_need_an_id(self, make: Make) -> None:
        bounce = fate(make, details({"Type": "Bounced", "Details": {"Summary": "smtp;550"}})).bounce
        assert bounce == Rejected(FailureReason.RECIPIENT_UNREACHABLE, "Unknown", "smtp;550")

    @pytest.mark.parametrize("events", [[], [{"Type": "Opened"}], [{"Type": "Transient", "Details": {}}]])
    def test_without_a_last_event_it_is_only_sent(self, make: Make, events: list[dict[str, Any]]) -> None:
        assert fate(make, details(*events)) == LookupHit("pm-1")

    @pytest.mark.parametrize(
        "answer",
        [HANG, CUT_AFTER_READING, Reply(500, ""), Reply(422, {"ErrorCode": 701, "Message": "Not found"}),
         Reply(200, "?"), Reply(200, {}), Reply(200, {"MessageEvents": [{}]})],
        ids=["hang", "cut", "500", "not found", "no JSON", "no events", "an event without a type"],
    )  # fmt: skip
    def test_trouble_with_the_details_does_not_hide_that_it_went_out(self, make: Make, answer: Script) -> None:
        assert fate(make, answer) == LookupHit("pm-1")


@pytest.mark.parametrize("missing", ["Recipients", "ReceivedAt", "Status"])
@pytest.mark.parametrize("total", [1, None])
def test_a_row_with_our_id_and_postmarks_proves_it_whatever_else_is_missing(
    make: Make, missing: str, total: int | None
) -> None:
    one = row()
    del one[missing]
    answer = {"Messages": [one]} | ({} if total is None else {"TotalCount": total})
    with ScriptedServer(Reply(200, answer), Reply(500, "")) as server:
        assert find(make(server.url)) == LookupHit("pm-1")


class TestOneMessage:
    """`fate`: what has become of a message whose id of Postmark's is on record."""

    def test_is_told_by_the_real_details(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (good,) = send(sandbox, "m1")
        (bad,) = send(sandbox, "m2", recipient="softbounce@client.example")
        (angry,) = send(sandbox, "m3", recipient="complaint@client.example")
        lookup = make(sandbox.url)
        assert lookup.fate(good) == LookupHit(good)
        clock.now += timedelta(seconds=5)
        assert lookup.fate(good) == LookupHit(good, delivered=True)
        assert lookup.fate(angry) == LookupHit(angry, delivered=True)
        bounce = lookup.fate(bad)
        assert isinstance(bounce, LookupHit)
        assert bounce.bounce is not None
        assert (bounce.bounce.reason, bounce.bounce.code) == (FailureReason.RECIPIENT_UNREACHABLE, "SoftBounce")


class TestFromTheSettings:
    def test_postmark_is_asked_with_its_own_delay(self, sandbox: Sandbox) -> None:
        (wanted,) = send(sandbox, "m1")
        lookup = build_lookups(make_settings(postmark_api_url=sandbox.url), [Channel.EMAIL])[Channel.EMAIL]
        assert lookup.search_delay == POSTMARK_SEARCH_DELAY == timedelta(minutes=2)
        assert lookup.find(UncertainSend("m1", ADDRESS, "", timedelta()), held_elsewhere=nobody) == LookupHit(wanted)
        lookup.close()
