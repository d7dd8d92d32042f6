"""What providers say: nothing of it may stop the database, and nothing of it may name the recipient or the message."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifyctl.delivery import outcomes
from notifyctl.delivery.outcomes import Attempt, of_answer
from notifyctl.models.enums import Channel, FailureReason
from notifyctl.providers.contract import Accepted, Answer, Rejected, SendResult, Unavailable, Unknown
from notifyctl.providers.curl import HttpAnswer
from notifyctl.providers.postmark.client import postmark_error
from notifyctl.providers.results import json_object, own_error, provider_id, read_json, without_recipients
from notifyctl.providers.twilio.client import _response, twilio_error
from tests.support.clocks import NOON

NUMBER = "+4915112345678"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class TestReading:
    def test_what_no_database_can_keep_is_replaced_wherever_it_stands(self) -> None:
        body = (
            rb'{"a\u0000": ["x\u0000y", {"b": "half \ud83d pair"}], "whole": "\ud83d\ude00", "n": 1, "\\ud800": null}'
        )
        expected = {"a": ["xy", {"b": "half ? pair"}], "whole": "😀", "n": 1, "\\ud800": None}
        assert read_json(body) == expected
        assert json_object(body) == expected

    def test_half_a_pair_in_the_bytes_themselves_is_replaced(self) -> None:
        assert read_json(b'["\xed\xa0\x80"]') == ["?"]

    @given(JSON)
    def test_all_that_is_read_can_be_written_as_utf_8(self, value: Any) -> None:
        text = json.dumps(read_json(json.dumps(value).encode()), ensure_ascii=False)
        text.encode()
        assert "\0" not in text
        assert "\\u0000" not in text

    def test_the_body_that_the_twilio_sdk_reads_is_clean_too(self) -> None:
        body = rb'{"sid": "SM\u00001", "error_message": "half \ud83d pair", "path": "C:\\ud83d"}'
        assert json.loads(_response(HttpAnswer(201, (), body)).text) == {
            "sid": "SM1", "error_message": "half ? pair", "path": "C:\\ud83d",
        }  # fmt: skip

    @pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b'{"a": ' + b"1" * 5_000 + b"}", rb'"\u000'])
    def test_a_body_that_cannot_be_read_is_left_to_the_sdk(self, body: bytes) -> None:
        assert _response(HttpAnswer(502, (), body)).text == body.decode()
        assert json_object(body) == {}


class TestErrors:
    @pytest.mark.parametrize("code", [None, True, "300", 300.0, -1, 10**9, 10**4_000, [], {}])
    def test_a_code_that_no_provider_writes_is_no_error_of_its_own(self, code: object) -> None:
        assert own_error(code, "words") is None

    @pytest.mark.parametrize("message", [None, "", 5, ["x"], {"a": "x"}, 10**4_000])
    def test_words_that_are_none(self, message: object) -> None:
        error = own_error(300, message)
        assert error is not None
        assert error.message == "no message"

    def test_both_providers_errors_come_clean(self) -> None:
        postmark = postmark_error(HttpAnswer(422, (), rb'{"ErrorCode": 300, "Message": "bad \u0000 half \ud83d"}'))
        twilio = twilio_error(HttpAnswer(400, (), rb'{"code": 21211, "message": "bad \u0000 half \ud83d"}'))
        assert postmark is not None
        assert twilio is not None
        assert (postmark.message, twilio.message) == ("bad  half ?", "bad  half ?")


class TestIds:
    @pytest.mark.parametrize("value", [None, 5, 0, True, 1.5, "", " \n", "\0", ["pm-1"], {"id": "pm-1"}])
    def test_what_is_no_text_is_no_id(self, value: object) -> None:
        assert provider_id(value) is None

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("pm-1", "pm-1"), ("p\0m\ud800\n1\x1b", "pm? 1"), ("x" * 5_000, "x" * 100)],
        ids=["as it is", "cleaned", "cut"],
    )
    def test_an_id_is_one_short_line(self, value: str, expected: str) -> None:
        assert provider_id(value) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_words_are_one_printable_line_of_bounded_length(text: str) -> None:
    words = without_recipients(text)
    assert words == "" or words.isprintable()
    assert len(words) <= 500
    words.encode()


def test_endless_words_are_cut_before_they_are_searched() -> None:
    assert without_recipients("a" * 5_000_000) == "a" * 500


def attempt(*, sensitive: bool = False, recipient: str = NUMBER) -> Attempt:
    return Attempt(
        message_id="m1",
        channel=Channel.SMS,
        template_key="T",
        client_id=None,
        recipient=recipient,
        attempts=1,
        lease_generation=1,
        sensitive=sensitive,
        audit_sent=None,
    )


def written(detail: str, **about: Any) -> str:
    """What is on record of a refusal in these words, having passed both doors."""
    words = without_recipients(detail)
    results: list[SendResult] = [Rejected(FailureReason.UNKNOWN, "1", words), Unavailable("1", words)]
    results.append(Unknown("1", words))
    outcomes_of_each = [
        of_answer(attempt(**about), Answer("m1", result, 0.1), actor="w", now=NOON) for result in results
    ]
    for outcome in outcomes_of_each:
        assert outcome.log_fields["error"] == outcome.result.error
    (error,) = {str(outcome.result.error) for outcome in outcomes_of_each}
    return error


SPELLINGS = [
    "+4915112345678",
    "4915112345678",
    "004915112345678",
    "+49 1511 2345678",
    "+49-1511-2345678",
    "+49 (0) 1511 / 234-5678",
    "+49 (1511) 234.56.78",
    "+49\u00a01511\u00a02345678",
    "+49\u20111511\u20112345678",
    "%2B4915112345678",
    "%2b49%201511%202345678",
    "%2B49+1511+2345678",
    "%2B%34%39%31%35%31%31%32%33%34%35%36%37%38",
    "whatsapp:+4915112345678",
    "sip:4915112345678@carrier",
    "01511 2345678",
    "015112345678",
    "tel:+49-1511-2345678;ext=5",
    "4915112345678x",
    "To4915112345678",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_number_is_in_no_spelling_on_record(spelling: str) -> None:
    error = written(f"Invalid 'To' {spelling} for 30003 of account")
    assert "2345678" not in "".join(char for char in error if char.isdigit())
    assert "1511" not in error
    assert "30003" in error
    assert error.endswith("of account")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_recipient_alone_is_enough_to_find_the_number(spelling: str) -> None:
    left = outcomes._without_recipient(f"To {spelling} bad", NUMBER)
    assert "345678" not in "".join(char for char in left if char.isdigit())
    assert left.startswith("To")
    assert left.rstrip().endswith("bad")


@pytest.mark.parametrize(
    "spelling",
    [
        "anna.b+c@client.example",
        "Anna.B+C@CLIENT.example",
        "anna.b%2Bc%40client.example",
        "anna.b+c%40client.example",
    ],
)
def test_the_email_address_is_in_no_spelling_on_record(spelling: str) -> None:
    recipient = "anna.b+c@client.example"
    assert "client" not in written(f"Invalid 'To' {spelling}.", recipient=recipient)
    assert "client" not in outcomes._without_recipient(f"Invalid 'To' {spelling}.", recipient)


def test_a_number_at_the_cut_is_not_cut_in_two() -> None:
    left = outcomes._without_recipient("x" * 495 + NUMBER, NUMBER)
    assert left == "x" * 495 + "<reci"


@given(st.text("+0123456789 %()", max_size=40), st.sampled_from([NUMBER, "a@b.example", "", "+", "()", "[", "+12"]))
@example("", "")
def test_any_recipient_can_be_looked_for(detail: str, recipient: str) -> None:
    assert len(outcomes._without_recipient(detail, recipient)) <= 500


def test_words_without_the_recipient_stay_as_they_are() -> None:
    words = "Message SM0f1e2d3c4b5a6978 of 2026-03-02 failed: 30003, 30005 (error 21610) at 12:00:00"
    assert written(words) == words


@pytest.mark.parametrize(
    "words",
    [
        "Body '493027 is your code' was filtered",
        "Body '4930 27 is' was filtered",
        "Body '493-027' was filtered",
        "Body '4930' was filtered",
        "link https://cloud.example/reset/493027?a=b rejected",
        "link HTTPS://cloud.example/reset/t0k3n rejected",
        "link cloud.example/reset/t0k3n rejected",
        "link https%3A%2F%2Fcloud.example%2Freset%2Ft0k3n rejected",
        "link 'www.cloud.example?t=t0k3n' rejected",
        "link (https://cloud.example/reset/t0k3n), rejected",
        "493\u00a0027 rejected",
        "٤٩٣٠٢٧ rejected",
    ],
)
def test_a_refusal_of_a_sensitive_message_repeats_neither_digits_nor_links(words: str) -> None:
    error = written(words, sensitive=True)
    assert not any(part in error for part in ("4930", "493", "٤٩٣", "t0k3n", "027"))
    assert error.endswith(("filtered", "rejected"))


def test_a_refusal_of_a_sensitive_message_keeps_its_other_words() -> None:
    assert written("Handset off, try 3 times in 24 h", sensitive=True) == "Handset off, try 3 times in 24 h"
    assert written("Body '493027' was filtered") == "Body '493027' was filtered"


def test_an_accepted_message_has_no_words() -> None:
    outcome = of_answer(attempt(), Answer("m1", Accepted("SM1"), 0.1), actor="w", now=NOON)
    assert (outcome.result.error, outcome.result.provider_message_id) == (None, "SM1")
