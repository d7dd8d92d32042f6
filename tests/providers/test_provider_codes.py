from datetime import timedelta

import pytest

from notifyctl.errors import InvalidInput, ProviderError
from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.codes_page import (
    POSTMARK_BOUNCE_TYPES,
    POSTMARK_CODES,
    TWILIO_CODES,
    CodeMeaning,
    codes_markdown,
)
from notifyctl.providers.contract import CONNECT_TIMEOUT, POSTMARK_TIMEOUT, TWILIO_TIMEOUT
from notifyctl.providers.curl import HttpAnswer
from notifyctl.providers.registry import build_senders
from notifyctl.providers.results import MAX_RETRY_AFTER, retry_after, without_recipients
from notifyctl.settings import Settings

EVERY_TABLE = {"Postmark": POSTMARK_CODES, "Postmark bounces": POSTMARK_BOUNCE_TYPES, "Twilio": TWILIO_CODES}
SECRET = "0f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"


BEYOND_ANY_DATE = [
    "Mon, 02 Mar 2026 12:00:00 +99999999999999",
    "Mon, 02 Mar 99999999999999999999 12:00:00 GMT",
    "Mon, 99999999999999999999 Mar 2026 12:00:00 GMT",
    "Mon, 30 Feb 2026 25:61:00 GMT",
]


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, notification_secret_key=SECRET, otp_pepper=SECRET, **values)


class TestTables:
    @pytest.mark.parametrize("table", EVERY_TABLE.values(), ids=EVERY_TABLE)
    def test_every_code_has_a_remark_and_stands_in_order(self, table: dict[int | str, CodeMeaning]) -> None:
        assert all(meaning.remark for meaning in table.values())
        numbers = [code for code in table if isinstance(code, int)]
        assert numbers == sorted(numbers)

    @pytest.mark.parametrize("table", [POSTMARK_CODES, TWILIO_CODES], ids=["Postmark", "Twilio"])
    def test_a_code_is_transient_only_where_the_provider_is_at_fault(self, table: dict[int, CodeMeaning]) -> None:
        reasons = {meaning.reason for meaning in table.values() if meaning.transient}
        assert reasons == {FailureReason.PROVIDER_UNAVAILABLE}

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (20003, FailureReason.ACCOUNT_PROBLEM),
            (21211, FailureReason.RECIPIENT_INVALID),
            (21408, FailureReason.ACCOUNT_PROBLEM),
            (21610, FailureReason.RECIPIENT_OPTED_OUT),
            (21612, FailureReason.RECIPIENT_UNREACHABLE),
            (21614, FailureReason.RECIPIENT_INVALID),
            (21617, FailureReason.CONTENT_REJECTED),
            (30003, FailureReason.RECIPIENT_UNREACHABLE),
            (30005, FailureReason.RECIPIENT_INVALID),
            (30006, FailureReason.RECIPIENT_UNREACHABLE),
            (30007, FailureReason.BLOCKED_BY_CARRIER),
            (30034, FailureReason.ACCOUNT_PROBLEM),
        ],
    )
    def test_the_classes_of_the_common_twilio_codes(self, code: int, reason: FailureReason) -> None:
        assert TWILIO_CODES[code].reason is reason
        assert not TWILIO_CODES[code].transient

    @pytest.mark.parametrize("code", [14107, 20429, 20500, 20503, 21611, 30001, 30500, 60005])
    def test_twilio_codes_that_are_worth_another_try(self, code: int) -> None:
        assert TWILIO_CODES[code].transient

    def test_a_carrier_time_out_is_not_tried_again_since_it_may_have_been_delivered(self) -> None:
        assert not TWILIO_CODES[30410].transient

    def test_only_what_the_person_or_the_mailbox_said_suppresses(self) -> None:
        suppressing = {
            code: meaning.suppress
            for table in EVERY_TABLE.values()
            for code, meaning in table.items()
            if meaning.suppress
        }
        assert suppressing == {
            406: SuppressionReason.INACTIVE,
            21610: SuppressionReason.OPTED_OUT,
            "HardBounce": SuppressionReason.HARD_BOUNCE,
            "BadEmailAddress": SuppressionReason.HARD_BOUNCE,
            "SpamComplaint": SuppressionReason.COMPLAINT,
            "Unsubscribe": SuppressionReason.OPTED_OUT,
            "ManuallyDeactivated": SuppressionReason.OPTED_OUT,
        }


class TestMarkdown:
    def test_every_code_is_a_row(self) -> None:
        page = codes_markdown()
        for table in EVERY_TABLE.values():
            for code, meaning in table.items():
                assert f"| {code} | {meaning.remark} | {meaning.reason} |" in page

    def test_a_row_says_whether_it_is_transient_and_suppresses(self) -> None:
        page = codes_markdown()
        assert "| 21610 | The person answered STOP; lasts until START | RECIPIENT_OPTED_OUT |  | OPTED_OUT |" in page
        assert "| 20429 | Too many requests | PROVIDER_UNAVAILABLE | yes |  |" in page

    def test_no_remark_breaks_the_table(self) -> None:
        remarks = [meaning.remark for table in EVERY_TABLE.values() for meaning in table.values()]
        assert not [remark for remark in remarks if "|" in remark or "\n" in remark]


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ([], None),
            (["Retry-After: 120"], timedelta(seconds=120)),
            (["retry-after:0"], timedelta()),
            (["Retry-After: 999999999"], MAX_RETRY_AFTER),
            (["Retry-After: " + "9" * 400], MAX_RETRY_AFTER),
            (["Retry-After: 1.5"], timedelta(seconds=2)),
            (["Retry-After: -1"], None),
            (["Retry-After: ١٢"], None),
            (["Retry-After: in a while"], None),
            (["Retry-After: Mon, 02 Mar 2026 12:05:00 GMT"], None),
            (
                ["Date: Mon, 02 Mar 2026 12:00:00 GMT", "Retry-After: Mon, 02 Mar 2026 12:05:00 GMT"],
                timedelta(minutes=5),
            ),
            (
                ["Date: Mon, 02 Mar 2026 12:00:00 GMT", "Retry-After: Mon, 02 Mar 2026 11:00:00 GMT"],
                timedelta(),
            ),
        ],
        ids=[
            "no header",
            "seconds",
            "zero, in small letters",
            "a century is cut to a day",
            "and so is what no number can hold",
            "a fraction",
            "negative",
            "digits of another script",
            "words",
            "a date without the server's own",
            "a date",
            "a date in the past",
        ],
    )
    def test_it_is_read_as_written(self, lines: list[str], expected: timedelta | None) -> None:
        answer = HttpAnswer(429, tuple(line.encode() + b"\r\n" for line in lines), b"")
        assert retry_after(answer) == expected

    @pytest.mark.parametrize("name", ["Retry-After", "Date"])
    @pytest.mark.parametrize("date", BEYOND_ANY_DATE)
    def test_a_date_beyond_any_is_none(self, name: str, date: str) -> None:
        lines = {"Retry-After": "Mon, 02 Mar 2026 12:05:00 GMT", "Date": "Mon, 02 Mar 2026 12:00:00 GMT", name: date}
        answer = HttpAnswer(503, tuple(f"{header}: {value}\r\n".encode() for header, value in lines.items()), b"")
        assert retry_after(answer) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The 'To' number +15558675310 is not valid", "The 'To' number [number] is not valid"),
        ("Invalid 'To' address: 'anna.b+c@client.example'.", "Invalid 'To' address: '[address]'."),
        ("Found: a@x.example, b@y.example. Inactive", "Found: [address], [address]. Inactive"),
        ("Message SM0123456789abcdef of 2026", "Message SM0123456789abcdef of 2026"),
        ("two\r\nlines", "two lines"),
        ("x" * 600, "x" * 500),
    ],
    ids=[
        "a number",
        "an address",
        "two addresses",
        "a SID and a year stay",
        "one line",
        "at most 500 characters",
    ],
)
def test_the_providers_words_are_kept_without_the_recipient(text: str, expected: str) -> None:
    assert without_recipients(text) == expected


class TestBuildingSenders:
    def test_every_missing_variable_is_named_in_one_line(self) -> None:
        with pytest.raises(ProviderError) as raised:
            build_senders(settings(), list(Channel), concurrency=1)
        assert str(raised.value) == (
            "EMAIL and SMS cannot be sent: POSTMARK_SERVER_TOKEN, EMAIL_SENDER, TWILIO_ACCOUNT_SID, "
            "TWILIO_AUTH_TOKEN, TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM_NUMBER not set; "
            "set them in the environment or in .env (`notifyctl sandbox` stands in for both providers)"
        )

    def test_a_blank_value_is_missing(self) -> None:
        blank = settings(postmark_server_token="  ", email_sender="hello@acme.example")
        with pytest.raises(ProviderError, match="EMAIL cannot be sent: POSTMARK_SERVER_TOKEN not set"):
            build_senders(blank, [Channel.EMAIL], concurrency=1)

    def test_a_channel_that_is_not_wanted_needs_no_settings(self) -> None:
        only_email = settings(postmark_server_token="token", email_sender="hello@acme.example")
        senders = build_senders(only_email, [Channel.EMAIL], concurrency=1)
        assert {channel: sender.provider for channel, sender in senders.items()} == {Channel.EMAIL: "postmark"}
        senders[Channel.EMAIL].close()

    def test_the_concurrency_is_how_many_sms_are_free(self) -> None:
        only_sms = settings(twilio_account_sid="AC1", twilio_auth_token="t", twilio_from_number="+15005550006")
        sender = build_senders(only_sms, [Channel.SMS], concurrency=7)[Channel.SMS]
        assert (sender.provider, sender.free) == ("twilio", 7)
        sender.close()

    @pytest.mark.parametrize("concurrency", [0, -3])
    def test_a_concurrency_below_one_is_refused(self, concurrency: int) -> None:
        with pytest.raises(InvalidInput, match=f"--concurrency must be at least 1, got {concurrency}"):
            build_senders(settings(), [], concurrency)


def test_connecting_takes_only_a_part_of_a_call() -> None:
    assert min(POSTMARK_TIMEOUT, TWILIO_TIMEOUT) > CONNECT_TIMEOUT
