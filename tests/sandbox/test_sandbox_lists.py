"""What a store that has forgotten asks the providers in bulk: bounces, suppressions, inbound messages, their faults."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from postmarker.core import PostmarkClient

from notifyctl.models.enums import Channel
from notifyctl.sandbox import EMAIL_SEARCH, SMS_SEARCH, Fault, Faults, Sandbox, faults_from_lines
from tests.support.clocks import StandingClock
from tests.support.sandboxes import at_rest

# Four in the afternoon in New York, where Postmark's clock stands.
NOON = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
ACCOUNT = "AC" + "0" * 32
ADA = "+14155550111"
OURS = "+15005550006"
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
DUMP = "/message-streams/outbound/suppressions/dump"
PAGE = {"count": 500, "offset": 0}
NOWHERE = "http://127.0.0.1:9/"

Answered = tuple[int, Any]


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(NOON)


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


def postmark(sandbox: Sandbox, path: str, body: Any = None, **query: Any) -> Answered:
    answer = requests.request(
        "GET" if body is None else "POST",
        sandbox.url + path,
        params=query,
        json=body,
        headers={"X-Postmark-Server-Token": "any"},
        timeout=5,
    )
    return answer.status_code, answer.json()


def mail(sandbox: Sandbox, *addresses: str, **fields: str) -> None:
    common = {"From": "hello@example.com", "Subject": "Welcome", "TextBody": "Hello", **fields}
    status, _ = postmark(sandbox, "/email/batch", [{**common, "To": address} for address in addresses])
    assert status == 200


def twilio(sandbox: Sandbox, **query: Any) -> Answered:
    answer = requests.get(sandbox.url + MESSAGES, params=query, auth=(ACCOUNT, "any"), timeout=5)
    return answer.status_code, answer.json()


def text(sandbox: Sandbox, to: str = ADA) -> None:
    form = {"To": to, "From": OURS, "Body": "hello"}
    assert requests.post(sandbox.url + MESSAGES, data=form, auth=(ACCOUNT, "any"), timeout=5).status_code == 201


class TestBounces:
    def test_are_listed_when_they_have_happened_newest_first(self, sandbox: Sandbox, clock: StandingClock) -> None:
        mail(sandbox, "bounce@a.test", "ada@a.test", "complaint@a.test")
        assert postmark(sandbox, "/bounces", **PAGE) == (200, {"TotalCount": 0, "Bounces": []})
        clock.turn(seconds=2)
        _, answer = postmark(sandbox, "/bounces", **PAGE)
        told = [(row["Type"], row["Email"], row["BouncedAt"], row["Inactive"]) for row in answer["Bounces"]]
        assert told == [
            ("SpamComplaint", "complaint@a.test", "2026-03-02T21:00:02.0000000Z", True),
            ("HardBounce", "bounce@a.test", "2026-03-02T21:00:02.0000000Z", True),
        ]
        assert postmark(sandbox, f"/bounces/{answer['Bounces'][0]['ID']}") == (200, answer["Bounces"][0])

    @pytest.mark.parametrize(
        ("query", "emails"),
        [
            ({"type": "HardBounce"}, ["bounce@a.test"]),
            ({"inactive": "false"}, ["softbounce@a.test"]),
            ({"emailFilter": "softb"}, ["softbounce@a.test"]),
            ({"tag": "NONE"}, []),
            ({"messageID": "nowhere"}, []),
            ({"messagestream": "broadcast"}, ["bounce+news@a.test"]),
            ({"fromdate": "2026-03-02T16:00:03"}, []),
            ({"todate": "2026-03-02T16:00:01"}, []),
            ({"fromdate": "2026-03-02T16:00:02", "todate": "2026-03-02T16:00:02", "count": 1}, ["softbounce@a.test"]),
        ],
        ids=str,
    )
    def test_are_filtered(
        self, sandbox: Sandbox, clock: StandingClock, query: dict[str, Any], emails: list[str]
    ) -> None:
        mail(sandbox, "bounce@a.test", "softbounce@a.test")
        mail(sandbox, "bounce+news@a.test", MessageStream="broadcast")
        clock.turn(seconds=2)
        _, answer = postmark(sandbox, "/bounces", **{**PAGE, **query})
        assert [row["Email"] for row in answer["Bounces"]] == emails

    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"count": 501, "offset": 0},
            {**PAGE, "offset": 9_501},
            {**PAGE, "inactive": "x"},
            {**PAGE, "todate": "x"},
        ],
        ids=str,
    )
    def test_out_of_bounds_are_refused(self, sandbox: Sandbox, query: dict[str, Any]) -> None:
        status, answer = postmark(sandbox, "/bounces", **query)
        assert (status, answer["ErrorCode"]) == (422, 408)

    def test_are_read_by_the_sdk(self, sandbox: Sandbox, clock: StandingClock) -> None:
        mail(sandbox, "bounce@a.test", "softbounce@a.test")
        clock.turn(seconds=2)
        client = PostmarkClient(server_token="any", root_api_url=sandbox.url)
        with closing(client.session):
            assert [bounce.Type for bounce in client.bounces.all(count=1)] == ["SoftBounce"]


class TestSuppressions:
    def test_are_who_bounced_or_complained_and_whom_somebody_put_there(
        self, sandbox: Sandbox, clock: StandingClock
    ) -> None:
        mail(sandbox, "bounce@a.test", "softbounce@a.test", "complaint@a.test")
        clock.turn(seconds=5)
        sandbox.suppress("Gone@a.test")
        body = {"Suppressions": [{"EmailAddress": "asked@a.test"}, {"EmailAddress": "nobody"}]}
        status, answer = postmark(sandbox, "/message-streams/outbound/suppressions", body)
        assert (status, [row["Status"] for row in answer["Suppressions"]]) == (200, ["Suppressed", "Failed"])
        _, answer = postmark(sandbox, DUMP)
        told = {row["EmailAddress"]: (row["SuppressionReason"], row["Origin"]) for row in answer["Suppressions"]}
        assert told == {
            "bounce@a.test": ("HardBounce", "Recipient"),
            "complaint@a.test": ("SpamComplaint", "Recipient"),
            "Gone@a.test": ("ManualSuppression", "Recipient"),
            "asked@a.test": ("ManualSuppression", "Customer"),
        }
        assert answer["Suppressions"][0]["CreatedAt"] == "2026-03-02T16:00:02-05:00"
        assert postmark(sandbox, DUMP.replace("outbound", "broadcast")) == (200, {"Suppressions": []})

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ({"fromdate": "2026-03-02"}, 2),
            ({"fromdate": "2026-03-03"}, 0),
            ({"todate": "2026-03-01"}, 0),
            ({"SuppressionReason": "HardBounce"}, 1),
            ({"origin": "customer"}, 0),
            ({"EmailAddress": "gone@a.test"}, 1),
        ],
        ids=str,
    )
    def test_are_filtered(self, sandbox: Sandbox, clock: StandingClock, query: dict[str, str], count: int) -> None:
        mail(sandbox, "bounce@a.test")
        sandbox.suppress("gone@a.test")
        clock.turn(hours=7)  # the next day in London
        _, answer = postmark(sandbox, DUMP, **query)
        assert len(answer["Suppressions"]) == count

    @pytest.mark.parametrize("date", ["2026-03-02T16:00:00", "yesterday", "2026-13-01"])
    def test_by_anything_but_a_date_are_refused(self, sandbox: Sandbox, date: str) -> None:
        status, answer = postmark(sandbox, DUMP, fromdate=date)
        assert (status, answer["ErrorCode"]) == (422, 403)

    @pytest.mark.parametrize("body", [[], {}, {"Suppressions": []}, {"Suppressions": [{}] * 51}], ids=repr)
    def test_of_a_shape_that_postmark_does_not_take_are_refused(self, sandbox: Sandbox, body: Any) -> None:
        status, answer = postmark(sandbox, "/message-streams/outbound/suppressions", body)
        assert (status, answer["ErrorCode"]) == (422, 403)

    def test_are_forgotten_with_the_inbox(self, sandbox: Sandbox) -> None:
        sandbox.suppress("gone@a.test")
        sandbox.clear()
        assert postmark(sandbox, DUMP) == (200, {"Suppressions": []})


class TestInboundMessages:
    def test_stand_among_the_others_whoever_took_them(self, sandbox: Sandbox, clock: StandingClock) -> None:
        text(sandbox)
        clock.turn(minutes=1)
        assert sandbox.reply(ADA, "STOP", url=NOWHERE, sid="SM1") == 0
        assert sandbox.reply(ADA, "STOP", url=NOWHERE, sid="SM1") == 0
        clock.turn(minutes=1)
        text(sandbox)
        _, answer = twilio(sandbox)
        assert [row["direction"] for row in answer["messages"]] == ["outbound-api", "inbound", "outbound-api"]
        row = answer["messages"][1]
        assert (row["sid"], row["from"], row["to"], row["body"]) == ("SM1", ADA, OURS, "STOP")
        assert row["date_sent"] == row["date_created"] == "Mon, 02 Mar 2026 21:01:00 +0000"
        assert row["status"] == "received"

    def test_are_found_by_who_wrote_them_to_whom_and_when(self, sandbox: Sandbox, clock: StandingClock) -> None:
        text(sandbox)
        clock.turn(minutes=1)
        sandbox.reply(ADA, "STOP", url=NOWHERE)

        def directions(**query: str) -> list[str]:
            return [row["direction"] for row in twilio(sandbox, **query)[1]["messages"]]

        assert directions(To=OURS) == directions(From=ADA) == ["inbound"]
        assert directions(To=ADA) == directions(From=OURS) == ["outbound-api"]
        assert directions(**{"DateSent>": "2026-03-02T21:00:30Z"}) == ["inbound"]

    def test_page_together_with_the_others(self, sandbox: Sandbox, clock: StandingClock) -> None:
        text(sandbox)
        for number in range(4):
            clock.turn(seconds=1)
            sandbox.reply(ADA, str(number), url=NOWHERE)
        path, bodies = f"{MESSAGES}?PageSize=2", []
        while path:
            answer = requests.get(sandbox.url + path, auth=(ACCOUNT, "any"), timeout=5).json()
            bodies += [row["body"] for row in answer["messages"]]
            path = answer["next_page_uri"]
        assert bodies == ["3", "2", "1", "0", "hello"]

    def test_turn_up_with_the_delay_of_the_list(self, sandbox: Sandbox, clock: StandingClock) -> None:
        sandbox.search_delay = timedelta(seconds=30)
        text(sandbox)
        sandbox.reply(ADA, "STOP", url=NOWHERE)
        assert twilio(sandbox)[1]["messages"] == []
        clock.turn(seconds=30)
        assert len(twilio(sandbox)[1]["messages"]) == 2

    def test_more_than_a_thousand_to_a_page_are_refused(self, sandbox: Sandbox) -> None:
        assert twilio(sandbox, PageSize=1_000)[0] == 200
        status, answer = twilio(sandbox, PageSize=1_001)
        assert (status, answer["code"]) == (400, 20007)


class TestFaultsOfLists:
    def test_strike_lists_alone(self, sandbox: Sandbox) -> None:
        for api in (EMAIL_SEARCH, SMS_SEARCH):
            sandbox.set_faults(api, Faults((Fault("too-many", retry_after=3),)))
        mail(sandbox, "ada@a.test")
        text(sandbox)
        assert sandbox.accepted(Channel.EMAIL) == sandbox.accepted(Channel.SMS) == 1
        for path in ("/messages/outbound", "/bounces", DUMP):
            status, answer = postmark(sandbox, path, **PAGE)
            assert (status, answer["ErrorCode"]) == (429, 429)
        status, answer = twilio(sandbox)
        assert (status, answer["code"]) == (429, 20429)
        assert sandbox.struck(EMAIL_SEARCH).total() == 3

    def test_spare_lists_where_they_are_set_for_what_is_sent(self, sandbox: Sandbox) -> None:
        for channel in Channel:
            sandbox.set_faults(channel, Faults((Fault("http", status=503),)))
        assert postmark(sandbox, "/bounces", **PAGE)[0] == twilio(sandbox)[0] == 200

    def test_are_said_as_all_others(self, sandbox: Sandbox) -> None:
        for api, faults in faults_from_lines(["email-search:error,code=100", "sms-search:error,code=20503"]).items():
            sandbox.set_faults(api, faults)
        status, answer = postmark(sandbox, "/bounces", **PAGE)
        assert (status, answer["ErrorCode"]) == (503, 100)
        status, answer = twilio(sandbox)
        assert (status, answer["code"]) == (503, 20503)
