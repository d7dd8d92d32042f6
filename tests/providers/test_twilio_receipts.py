"""Twilio's documented webhooks, whole, and what is made of each."""

import json
from pathlib import Path
from typing import Any

import pytest

from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.receipts import Ignored, MalformedReceipt, Receipt, ReceiptEvent, Release
from notifyctl.providers.twilio.opt_out_words import START_WORDS, STOP_WORDS
from notifyctl.providers.twilio.receipts import read_inbound, read_status

PAYLOADS = Path(__file__).resolve().parents[1] / "support" / "payloads"
MESSAGE_ID = "019cae51-7b2a-7d31-9c53-2b6f0c1d7a55"
SID = "SM5f3b1d2c4a6e4f10a1b2c3d4e5f60718"
REPLY_SID = "SMa0b1c2d3e4f5061728394a5b6c7d8e9f"
NUMBER = "+4915112345678"


def payload(name: str, **changed: Any) -> dict[str, str]:
    fields = json.loads((PAYLOADS / f"twilio_{name}.json").read_text()) | changed
    return {field: value for field, value in fields.items() if value is not None}


def status(**changed: Any) -> Any:
    return read_status(payload("status_delivered", **changed), message_id=MESSAGE_ID)


def inbound(**changed: Any) -> Any:
    return read_inbound(payload("inbound_stop", **changed))


def test_a_delivery() -> None:
    assert status() == Receipt(
        provider="twilio",
        channel=Channel.SMS,
        event=ReceiptEvent.DELIVERED,
        event_id=f"{SID} DELIVERED",
        message_id=MESSAGE_ID,
        provider_message_id=SID,
        recipient=NUMBER,
    )


def test_an_undelivered_message() -> None:
    assert read_status(payload("status_undelivered"), message_id=MESSAGE_ID) == Receipt(
        provider="twilio",
        channel=Channel.SMS,
        event=ReceiptEvent.BOUNCED,
        event_id=f"{SID} BOUNCED",
        message_id=MESSAGE_ID,
        provider_message_id=SID,
        reason=FailureReason.RECIPIENT_INVALID,
        code="30005",
        detail="The number is unknown or no longer in service",
        recipient=NUMBER,
    )


EVENTS = {
    "accepted": ReceiptEvent.SENT, "queued": ReceiptEvent.SENT, "sending": ReceiptEvent.SENT,
    "scheduled": ReceiptEvent.SENT, "partially_delivered": ReceiptEvent.SENT,
    "sent": ReceiptEvent.SENT, "delivered": ReceiptEvent.DELIVERED, "read": ReceiptEvent.DELIVERED,
    "undelivered": ReceiptEvent.BOUNCED, "failed": ReceiptEvent.BOUNCED, "canceled": ReceiptEvent.BOUNCED,
}  # fmt: skip


@pytest.mark.parametrize(("word", "event"), EVENTS.items())
def test_each_status_of_twilio_has_its_meaning(word: str, event: ReceiptEvent) -> None:
    assert status(MessageStatus=word, SmsStatus=word).event is event
    assert status(MessageStatus=None, SmsStatus=word).event is event


@pytest.mark.parametrize("word", ["receiving", "new\nline"])
def test_a_status_that_tells_nothing_is_ignored(word: str) -> None:
    found = status(MessageStatus=word)
    assert isinstance(found, Ignored)
    assert "\n" not in found.why


@pytest.mark.parametrize(
    ("code", "reason", "kept", "suppress"),
    [
        ("21610", FailureReason.RECIPIENT_OPTED_OUT, "21610", SuppressionReason.OPTED_OUT),
        ("30007", FailureReason.BLOCKED_BY_CARRIER, "30007", None),
        ("99999", FailureReason.UNKNOWN, "99999", None),
        ("", FailureReason.UNKNOWN, "undelivered", None),
        ("0", FailureReason.UNKNOWN, "undelivered", None),
        ("thirty", FailureReason.UNKNOWN, "undelivered", None),
        ("9" * 40, FailureReason.UNKNOWN, "undelivered", None),
        (None, FailureReason.UNKNOWN, "undelivered", None),
    ],
)
def test_the_code_says_why_it_did_not_arrive(
    code: str | None, reason: FailureReason, kept: str, suppress: SuppressionReason | None
) -> None:
    found = status(MessageStatus="undelivered", ErrorCode=code)
    assert (found.reason, found.code, found.suppress) == (reason, kept, suppress)


def test_a_code_beside_a_message_that_arrived_is_no_bounce() -> None:
    found = status(ErrorCode="21610")
    assert (found.event, found.code, found.suppress) == (ReceiptEvent.DELIVERED, None, None)


@pytest.mark.parametrize("missing", [("MessageSid", "SmsSid"), ("MessageStatus", "SmsStatus")])
def test_a_status_callback_without_what_it_must_have_is_malformed(missing: tuple[str, str]) -> None:
    with pytest.raises(MalformedReceipt, match=missing[0]):
        status(**dict.fromkeys(missing))


@pytest.mark.parametrize("message_id", [None, "", "42", MESSAGE_ID + "x"])
def test_an_id_in_the_url_that_is_none_of_ours_counts_for_none(message_id: str | None) -> None:
    found = read_status(payload("status_delivered"), message_id=message_id)
    assert isinstance(found, Receipt)
    assert found.message_id is None


def test_stop_suppresses_the_sender() -> None:
    assert inbound() == Receipt(
        provider="twilio",
        channel=Channel.SMS,
        event=ReceiptEvent.REFUSED,
        event_id=REPLY_SID,
        suppress=SuppressionReason.OPTED_OUT,
        recipient=NUMBER,
    )


def test_start_lifts_what_stop_did() -> None:
    assert inbound(Body="START") == Release(
        provider="twilio",
        channel=Channel.SMS,
        event_id=REPLY_SID,
        recipient=NUMBER,
        reason=SuppressionReason.OPTED_OUT,
    )


def test_no_word_for_stop_is_missing() -> None:
    known = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
    assert known <= STOP_WORDS


@pytest.mark.parametrize("word", sorted(STOP_WORDS))
@pytest.mark.parametrize("form", ["{}", " {}\r\n", "{}.", "“{}!”"])
def test_every_word_for_stop_is_understood_however_it_is_written(word: str, form: str) -> None:
    assert isinstance(inbound(Body=form.format(word.lower())), Receipt)


@pytest.mark.parametrize("word", sorted(START_WORDS))
def test_every_word_for_start_is_understood(word: str) -> None:
    assert isinstance(inbound(Body=f" {word.title()} "), Release)


@pytest.mark.parametrize("body", ["I cannot stop", "", " ", "HELP", "s top", "S" * 2_000, None])
def test_other_words_ask_for_nothing(body: str | None) -> None:
    assert isinstance(inbound(Body=body, OptOutType=None), Ignored)


@pytest.mark.parametrize(
    ("said", "body", "kind"),
    [("STOP", "arrêt", Receipt), ("START", "oui", Release), ("HELP", "STOP", Ignored), ("stop", "basta", Receipt)],
)
def test_what_twilio_itself_makes_of_a_message_goes_before_its_words(said: str, body: str, kind: type) -> None:
    assert isinstance(inbound(OptOutType=said, Body=body), kind)


@pytest.mark.parametrize(("body", "kind"), [("STOP", Receipt), ("START", Release), ("hello", Ignored)])
def test_a_word_of_twilios_that_is_new_leaves_it_to_the_persons_own(body: str, kind: type) -> None:
    assert isinstance(inbound(OptOutType="OPTOUT", Body=body), kind)


@pytest.mark.parametrize("sender", [NUMBER[1:], f" {NUMBER[1:]}", f"{NUMBER} ", f"rcs:{NUMBER[1:]}"])
def test_a_number_that_has_lost_its_plus_on_the_way_is_the_same(sender: str) -> None:
    found = inbound(From=sender)
    assert isinstance(found, Receipt)
    assert found.recipient == NUMBER


@pytest.mark.parametrize("sender", ["12345", "Acme", "2" * 16, "+"])
def test_a_short_code_or_a_name_is_no_such_number(sender: str) -> None:
    found = inbound(From=sender)
    assert isinstance(found, Receipt)
    assert found.recipient == sender


@pytest.mark.parametrize(("sender", "kind"), [(f"rcs:{NUMBER}", Receipt), (f"whatsapp:{NUMBER}", Ignored)])
def test_a_wish_on_another_channel_does_not_concern_sms(sender: str, kind: type) -> None:
    found = inbound(From=sender)
    assert isinstance(found, kind)
    if isinstance(found, Receipt):
        assert found.recipient == NUMBER


@pytest.mark.parametrize("missing", [("From",), ("MessageSid", "SmsSid")])
def test_an_inbound_message_without_what_it_must_have_is_malformed(missing: tuple[str, ...]) -> None:
    with pytest.raises(MalformedReceipt, match=missing[0]):
        inbound(**dict.fromkeys(missing))


def test_each_url_says_so_when_the_other_ones_call_comes() -> None:
    at_status = read_status(payload("inbound_stop"), message_id=None)
    at_inbound = read_inbound(payload("status_delivered"))
    assert isinstance(at_status, Ignored)
    assert isinstance(at_inbound, Ignored)
    assert at_status.is_misdirected
    assert at_inbound.is_misdirected
