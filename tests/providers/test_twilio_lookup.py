from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from notifyctl.errors import ProviderError
from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.contract import (
    TWILIO_SEARCH_DELAY,
    Accepted,
    CannotTell,
    LookupHit,
    LookupMiss,
    LookupResult,
    OutboundMessage,
    Rejected,
    Unavailable,
    UncertainSend,
)
from notifyctl.providers.registry import build_lookups
from notifyctl.providers.twilio.lookup import TwilioLookup
from notifyctl.providers.twilio.sender import TwilioSender
from notifyctl.sandbox import Sandbox
from tests.support.clocks import NOON, StandingClock
from tests.support.providers import ACCOUNT, GMT_NOON, NUMBER, TOKEN, holding, twilio_lookup
from tests.support.providers import REPORT_TEXT as TEXT
from tests.support.providers import find_sms as find
from tests.support.providers import sms_row as row
from tests.support.providers import sms_rows as rows
from tests.support.sandboxes import at_rest
from tests.support.scripted_server import Bytes, Reply, ScriptedServer
from tests.support.settings import make_settings

Make = Callable[..., TwilioLookup]


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


@pytest.fixture
def make() -> Iterator[Make]:
    lookups: list[TwilioLookup] = []

    def make(api_url: str, **values: Any) -> TwilioLookup:
        lookups.append(twilio_lookup(api_url, **values))
        return lookups[-1]

    yield make
    for lookup in lookups:
        lookup.close()


def send(sandbox: Sandbox, *texts: str, recipient: str = NUMBER) -> list[str]:
    """The SIDs of what the real sender sends, in this order."""
    sender = TwilioSender(ACCOUNT, TOKEN, sandbox.url, None, "+15005550006", None, concurrency=1)
    sids = []
    for text in texts:
        sender.submit([OutboundMessage("m1", "T", recipient, text)])
        (answer,) = sender.collect(10)
        assert isinstance(answer.result, Accepted)
        sids.append(answer.result.provider_message_id)
    sender.close()
    return sids


def finding_in(make: Make, *found: dict[str, Any], **values: Any) -> LookupResult:
    with ScriptedServer(rows(*found)) as server:
        return find(make(server.url), **values)


class TestWhatWasAccepted:
    def test_is_found_by_its_number_and_text_among_others(self, sandbox: Sandbox, make: Make) -> None:
        _, wanted, _ = send(sandbox, "Something else", TEXT, "And more")
        assert find(make(sandbox.url)) == LookupHit(wanted)

    def test_is_found_before_it_has_a_date_of_sending(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (wanted,) = send(sandbox, TEXT)
        assert find(make(sandbox.url)) == LookupHit(wanted)
        clock.now += timedelta(seconds=1)
        assert find(make(sandbox.url)) == LookupHit(wanted)

    @pytest.mark.parametrize("age", [timedelta(), timedelta(minutes=3), timedelta(days=3)], ids=str)
    def test_is_found_by_how_long_ago_it_was(
        self, sandbox: Sandbox, make: Make, clock: StandingClock, age: timedelta
    ) -> None:
        (wanted,) = send(sandbox, TEXT)
        clock.now += age
        found = find(make(sandbox.url), age=age)
        assert isinstance(found, LookupHit)
        assert found.provider_message_id == wanted

    def test_is_delivered_once_twilio_says_so(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (wanted,) = send(sandbox, TEXT)
        clock.now += timedelta(minutes=1)
        assert find(make(sandbox.url)) == LookupHit(wanted, delivered=True)

    def test_bounces_once_twilio_calls_it_undelivered(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (wanted,) = send(sandbox, TEXT, recipient="+15005730005")
        clock.now += timedelta(minutes=1)
        found = find(make(sandbox.url), recipient="+15005730005")
        assert isinstance(found, LookupHit)
        assert found.bounce is not None
        assert (found.provider_message_id, found.delivered) == (wanted, False)
        assert (found.bounce.reason, found.bounce.code) == (FailureReason.RECIPIENT_INVALID, "30005")

    def test_is_found_beyond_the_first_pages(self, sandbox: Sandbox, make: Make) -> None:
        wanted, *_ = send(sandbox, TEXT, *(f"Newer {n}" for n in range(120)))
        before = sandbox.calls
        assert find(make(sandbox.url)) == LookupHit(wanted)
        assert sandbox.calls - before == 3

    def test_is_looked_for_no_further_back_than_the_attempt(
        self, sandbox: Sandbox, make: Make, clock: StandingClock
    ) -> None:
        clock.now = NOON - timedelta(days=2)
        send(sandbox, *(f"Older {n}" for n in range(60)))
        clock.now = NOON
        (wanted,) = send(sandbox, TEXT)
        before = sandbox.calls
        assert find(make(sandbox.url)) == LookupHit(wanted)
        assert sandbox.calls - before == 1


class TestWhatIsNotThere:
    def test_another_text_went_to_the_number(self, sandbox: Sandbox, make: Make) -> None:
        send(sandbox, "Your report is due on 10 March.")
        assert find(make(sandbox.url)) == LookupMiss()

    def test_the_text_went_to_another_number(self, sandbox: Sandbox, make: Make) -> None:
        send(sandbox, TEXT, recipient="+15558675311")
        assert find(make(sandbox.url)) == LookupMiss()

    def test_the_text_went_out_long_before_the_attempt(
        self, sandbox: Sandbox, make: Make, clock: StandingClock
    ) -> None:
        send(sandbox, TEXT)
        clock.now += timedelta(days=1, minutes=3)
        assert find(make(sandbox.url)) == LookupMiss()

    def test_the_list_has_not_caught_up_yet(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        sandbox.search_delay = timedelta(seconds=30)
        try:
            (wanted,) = send(sandbox, TEXT)
            clock.now += timedelta(seconds=29)
            assert find(make(sandbox.url)) == LookupMiss()
            clock.now += timedelta(seconds=1)
            assert find(make(sandbox.url)) == LookupHit(wanted, delivered=True)
        finally:
            sandbox.search_delay = timedelta()


class TestWhenTheTimesSayNothing:
    """Our clock was set in between, or the answer has no time of Twilio's own: a person is asked."""

    @pytest.mark.parametrize("stepped", [timedelta(minutes=5), timedelta(hours=14)], ids=str)
    def test_a_clock_of_ours_that_was_set_back_meanwhile(
        self, sandbox: Sandbox, make: Make, clock: StandingClock, stepped: timedelta
    ) -> None:
        (sent,) = send(sandbox, TEXT)
        clock.now += timedelta(minutes=3)
        lookup = make(sandbox.url)
        assert isinstance(find(lookup, age=timedelta(minutes=3) - stepped), CannotTell)
        assert find(lookup, age=timedelta(minutes=3) - stepped, held=[sent]) == LookupMiss()

    def test_a_clock_of_ours_that_was_set_forward_meanwhile(self, sandbox: Sandbox, make: Make) -> None:
        (wanted,) = send(sandbox, TEXT)
        assert find(make(sandbox.url), age=timedelta(hours=14)) == LookupHit(wanted)

    def test_an_answer_whose_date_is_only_a_proxys(self, make: Make) -> None:
        """As in the head that comes before the answer's own: of a tunnel, or a 103."""
        first = f"HTTP/1.1 103 Early Hints\r\nDate: {GMT_NOON}\r\n\r\n".encode()
        with ScriptedServer(Bytes(first + rows(row(), date=None).encoded())) as server:
            assert isinstance(find(make(server.url)), CannotTell)

    @pytest.mark.parametrize(
        "date",
        [None, "", "yesterday", "Mon, 02 Mar 2026 12:00:00", format_datetime(NOON - timedelta(hours=1), usegmt=True)],
        ids=["no Date", "empty", "no time", "no zone", "older than what it lists"],
    )
    def test_an_answer_without_a_time_of_twilios(self, make: Make, date: str | None) -> None:
        with ScriptedServer(rows(row(), date=date)) as server:
            lookup = make(server.url)
            assert isinstance(find(lookup), CannotTell)
            assert find(lookup, held=["SM1"]) == LookupMiss()
            assert find(lookup, text="Never sent") == LookupMiss()
        withheld = rows(row(body=None), date=date)
        with ScriptedServer(withheld) as server:
            assert isinstance(find(make(server.url)), CannotTell)


class TestMessagesAlike:
    def test_of_two_that_nobody_holds_it_is_one(self, sandbox: Sandbox, make: Make) -> None:
        both = send(sandbox, TEXT, TEXT)
        assert find(make(sandbox.url)) in [LookupHit(sid) for sid in both]

    def test_the_one_that_another_message_holds_is_not_this_one(self, sandbox: Sandbox, make: Make) -> None:
        first, second = send(sandbox, TEXT, TEXT)
        assert find(make(sandbox.url), held=[first]) == LookupHit(second)
        assert find(make(sandbox.url), held=[second]) == LookupHit(first)

    def test_of_two_doubts_about_one_sms_the_second_is_not_found(self, sandbox: Sandbox, make: Make) -> None:
        (only,) = send(sandbox, TEXT)
        assert find(make(sandbox.url)) == LookupHit(only)
        assert find(make(sandbox.url), held=[only]) == LookupMiss()

    def test_only_those_alike_are_asked_about_and_only_if_there_are_any(self, sandbox: Sandbox, make: Make) -> None:
        asked: list[list[str]] = []

        def held_elsewhere(sids: Collection[str]) -> set[str]:
            asked.append(list(sids))
            return set()

        _, alike = send(sandbox, "Something else", TEXT)
        for text in (TEXT, "Never sent"):
            make(sandbox.url).find(UncertainSend("m1", NUMBER, text, timedelta()), held_elsewhere=held_elsewhere)
        assert asked == [[alike]]

    def test_trouble_with_our_own_records_is_not_blamed_on_twilio(self, sandbox: Sandbox, make: Make) -> None:
        def held_elsewhere(_: Collection[str]) -> set[str]:
            raise OSError("database gone")

        send(sandbox, TEXT)
        with pytest.raises(OSError, match="database gone"):
            make(sandbox.url).find(UncertainSend("m1", NUMBER, TEXT, timedelta()), held_elsewhere=held_elsewhere)


class TestTheTextAsTwilioShowsIt:
    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            ("Due on 9 March.\n", "Due on 9 March."),
            ("Due\r\non 9 March.", "Due\non 9 March."),
            ("Anna’s “report” – due…", "Anna's \"report\" - due..."),
            ("Due\u00a0now,\u202fAnna\u200b", "Due  now, Anna"),
            ("Ｄｕｅ ½ • ÷ ‹x›", "Due 1/2 - / >x<"),
            ("a´b`c‘d", "a'b'c'd"),
            ("Cafe\u0303 é", "Cafe~ é"),
            ("Your code is 123456", "Sent from your Twilio trial account - Your code is 123456"),
            ("Code 🚀 👩‍💻", "Code 🚀 👩‍💻"),
            ("Ünïcode & = + % €", "Ünïcode & = + % €"),
        ],
        ids=["trailing newline", "line ends", "quotes, dash, dots", "blanks", "forms", "accents as quotes",
             "combining", "trial account", "emoji", "as it was"],
    )  # fmt: skip
    def test_may_be_replaced_in_part(self, make: Make, sent: str, shown: str) -> None:
        assert finding_in(make, row(body=shown), text=sent) == LookupHit("SM1")

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            ("Your code is 123456", "Your code is 123457"),
            ("Your code is 123456", "Your code is 12345"),
            ("Your report", "your report"),
            ("Zurich", "Zürich"),
            ("Due on 9.", "Due on 9,"),
            ("Anna", "Sent from your Twilio trial account - Bert"),
        ],
    )
    def test_differs_if_anything_else_does(self, make: Make, sent: str, shown: str) -> None:
        assert finding_in(make, row(body=shown), text=sent) == LookupMiss()

    @pytest.mark.parametrize("body", ["", None])
    def test_cannot_tell_when_it_is_withheld(self, make: Make, body: str | None) -> None:
        withheld = row("SM2", body=body)
        assert isinstance(finding_in(make, withheld), CannotTell)
        assert finding_in(make, withheld, held=["SM2"]) == LookupMiss()
        assert finding_in(make, withheld, row("SM1")) == LookupHit("SM1")


class TestTheList:
    def test_is_asked_for_by_number_alone(self, make: Make) -> None:
        with ScriptedServer(rows()) as server:
            assert find(make(f"{server.url}/proxy")) == LookupMiss()
        (request,) = server.requests
        url = urlsplit(request.path)
        assert url.path == f"/proxy/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        assert parse_qs(url.query) == {"To": [NUMBER], "PageSize": ["50"]}
        assert request.headers["authorization"].startswith("Basic ")

    @pytest.mark.parametrize("direction", ["inbound", "outbound-reply", "outbound-call"])
    def test_holds_messages_of_other_kinds_too(self, make: Make, direction: str) -> None:
        assert finding_in(make, row(direction=direction)) == LookupMiss()

    def test_is_not_trusted_to_be_of_this_number_only(self, make: Make) -> None:
        assert finding_in(make, row(to="+15558675311")) == LookupMiss()

    @pytest.mark.parametrize("left_out", [{"direction": None}, {"to": None}, {"to": NUMBER[:-4] + "XXXX"}, {"to": ""}])
    def test_may_leave_out_or_hide_what_it_was_asked_for(self, make: Make, left_out: dict[str, Any]) -> None:
        assert finding_in(make, row(**left_out)) == LookupHit("SM1")

    def test_may_hide_the_end_of_another_number(self, make: Make) -> None:
        assert finding_in(make, row(to="+44770090XXXX")) == LookupMiss()

    def test_names_the_number_with_its_channel_where_that_is_not_sms(self, make: Make) -> None:
        assert finding_in(make, row(to=f"rcs:{NUMBER}")) == LookupHit("SM1")

    @pytest.mark.parametrize("sent", ["yesterday", "just now", "never"])
    def test_is_read_on_after_an_old_message_that_may_stand_before_newer_ones(self, make: Make, sent: str) -> None:
        old = format_datetime(NOON - timedelta(days=2))
        date_sent = {"yesterday": old, "just now": format_datetime(NOON), "never": None}[sent]
        older = row("SM2", body="x", date_created=old, date_sent=date_sent)
        expected = LookupMiss() if sent == "yesterday" else LookupHit("SM1")
        assert finding_in(make, older, row()) == expected

    def test_leads_to_its_next_page_but_never_to_another_host(self, make: Make) -> None:
        with ScriptedServer(rows()) as elsewhere:
            next_page = f"{elsewhere.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json?PageToken=PA1&To=x%2By"
            with ScriptedServer(rows(row("SM2", body="x"), next_page=next_page), rows(row())) as server:
                assert find(make(server.url)) == LookupHit("SM1")
        assert elsewhere.requests == []
        second = urlsplit(server.requests[1].path)
        assert parse_qs(second.query) == {"PageToken": ["PA1"], "To": ["x+y"]}

    def test_is_given_up_after_twenty_pages(self, make: Make) -> None:
        page = rows(*(row(f"SM{n}", body="x") for n in range(50)), next_page="/2010-04-01/more?Page=1")
        with ScriptedServer(page) as server:
            assert find(make(server.url)) == CannotTell("over 1,000 messages went to the number since the attempt")
        assert len(server.requests) == 20


class TestItsFate:
    @pytest.mark.parametrize("status", ["accepted", "scheduled", "queued", "sending", "sent", "partially_delivered"])
    def test_that_is_still_open(self, make: Make, status: str) -> None:
        assert finding_in(make, row(status=status)) == LookupHit("SM1")

    @pytest.mark.parametrize("status", ["delivered", "read"])
    def test_that_is_good(self, make: Make, status: str) -> None:
        assert finding_in(make, row(status=status)) == LookupHit("SM1", delivered=True)

    @pytest.mark.parametrize("status", ["failed", "undelivered"])
    @pytest.mark.parametrize(
        ("code", "message", "expected"),
        [
            (
                30003,
                None,
                (FailureReason.RECIPIENT_UNREACHABLE, "30003", "Handset off, without signal or out of service"),
            ),
            (30005, "Unknown handset", (FailureReason.RECIPIENT_INVALID, "30005", "Unknown handset")),
            (30001, "Queue overflow", (FailureReason.PROVIDER_UNAVAILABLE, "30001", "Queue overflow")),
            (99999, f"New for {NUMBER}", (FailureReason.UNKNOWN, "99999", "New for [number]")),
        ],
        ids=["no words", "words", "transient", "unknown"],
    )
    def test_that_is_bad(
        self, make: Make, status: str, code: int, message: str | None, expected: tuple[FailureReason, str, str]
    ) -> None:
        finding = finding_in(make, row(status=status, error_code=code, error_message=message))
        assert finding == LookupHit("SM1", bounce=Rejected(*expected))

    def test_that_asks_for_no_more(self, make: Make) -> None:
        finding = finding_in(make, row(status="failed", error_code=21610, error_message="STOP"))
        stop = Rejected(FailureReason.RECIPIENT_OPTED_OUT, "21610", "STOP", SuppressionReason.OPTED_OUT)
        assert finding == LookupHit("SM1", bounce=stop)

    @pytest.mark.parametrize("status", ["failed", "undelivered", "canceled"])
    def test_that_is_bad_without_a_code(self, make: Make, status: str) -> None:
        bounce = Rejected(FailureReason.UNKNOWN, status, f"SM1 was {status}")
        assert finding_in(make, row(status=status)) == LookupHit("SM1", bounce=bounce)


class TestTrouble:
    def test_on_a_later_page_does_not_pass_for_the_end_of_the_list(self, make: Make) -> None:
        with ScriptedServer(rows(row("SM2", body="x"), next_page="/2010-04-01/more"), Reply(500, "")) as server:
            finding = find(make(server.url))
        assert isinstance(finding, Unavailable)


class TestOneMessage:
    """`fate`: what has become of a message whose SID is on record."""

    def test_is_told_by_the_real_message(self, sandbox: Sandbox, make: Make, clock: StandingClock) -> None:
        (good,) = send(sandbox, TEXT)
        (bad,) = send(sandbox, TEXT, recipient="+15005730005")
        lookup = make(sandbox.url)
        assert lookup.fate(good) == LookupHit(good)
        clock.now += timedelta(seconds=5)
        assert lookup.fate(good) == LookupHit(good, delivered=True)
        bounce = lookup.fate(bad)
        assert isinstance(bounce, LookupHit)
        assert bounce.bounce is not None
        assert (bounce.bounce.reason, bounce.bounce.code) == (FailureReason.RECIPIENT_INVALID, "30005")


class TestFromTheSettings:
    def test_twilio_is_asked_with_its_own_delay(self, sandbox: Sandbox) -> None:
        (wanted,) = send(sandbox, TEXT)
        lookup = build_lookups(make_settings(twilio_api_url=sandbox.url), [Channel.SMS])[Channel.SMS]
        assert lookup.search_delay == TWILIO_SEARCH_DELAY == timedelta(seconds=30)
        assert lookup.find(UncertainSend("m1", NUMBER, TEXT, timedelta()), held_elsewhere=holding()) == LookupHit(
            wanted
        )
        lookup.close()

    def test_only_what_a_look_up_needs_must_be_set(self) -> None:
        settings = make_settings(email_sender=None, twilio_from_number=None)
        for lookup in build_lookups(settings, Channel).values():
            lookup.close()

    def test_every_variable_that_is_not_set_is_named(self) -> None:
        nothing = make_settings(postmark_server_token=" ", twilio_account_sid=None, twilio_auth_token=None)
        with pytest.raises(ProviderError) as refused:
            build_lookups(nothing, Channel)
        for name in ("POSTMARK_SERVER_TOKEN", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
            assert name in str(refused.value)
