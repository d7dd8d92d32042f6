"""Postmark's documented webhooks, whole, and what is made of each."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.codes_page import POSTMARK_BOUNCE_TYPES
from notifyctl.providers.postmark.receipts import read
from notifyctl.providers.receipts import (
    Ignored,
    MalformedReceipt,
    Notice,
    Receipt,
    ReceiptEvent,
    Release,
    from_json,
    to_json,
)

PAYLOADS = Path(__file__).resolve().parents[1] / "support" / "payloads"
MESSAGE_ID = "019cae51-7b2a-7d31-9c53-2b6f0c1d7a55"
POSTMARK_ID = "883953f4-6105-42a2-a16a-77a8eac79483"
RECIPIENT = "acme@client.example"


def payload(name: str, **changed: Any) -> dict[str, Any]:
    return json.loads((PAYLOADS / f"postmark_{name}.json").read_text()) | changed


def read_payload(name: str, **changed: Any) -> Notice:
    return read(json.dumps(payload(name, **changed)).encode(), stream="outbound")


def test_a_delivery() -> None:
    assert read_payload("delivery") == Receipt(
        provider="postmark",
        channel=Channel.EMAIL,
        event=ReceiptEvent.DELIVERED,
        event_id=f"delivery {POSTMARK_ID}",
        message_id=MESSAGE_ID,
        provider_message_id=POSTMARK_ID,
        happened_at=datetime(2026, 3, 2, 11, 59, 58, 412031, tzinfo=UTC),
        detail="smtp;250 2.0.0 OK <[address]> queued as 4Rk2",
    )


def test_a_hard_bounce() -> None:
    assert read_payload("bounce") == Receipt(
        provider="postmark",
        channel=Channel.EMAIL,
        event=ReceiptEvent.BOUNCED,
        event_id="bounce 4323372036854775807",
        message_id=MESSAGE_ID,
        provider_message_id=POSTMARK_ID,
        happened_at=datetime(2026, 3, 2, 11, 59, 58, 412031, tzinfo=UTC),
        reason=FailureReason.RECIPIENT_INVALID,
        code="HardBounce",
        detail="smtp;550 5.1.1 The email account [address] does not exist",
        suppress=SuppressionReason.HARD_BOUNCE,
        recipient=RECIPIENT,
    )


def test_a_spam_complaint_says_nothing_about_the_message() -> None:
    assert read_payload("spam_complaint") == Receipt(
        provider="postmark",
        channel=Channel.EMAIL,
        event=ReceiptEvent.REFUSED,
        event_id="bounce 42",
        message_id=MESSAGE_ID,
        provider_message_id=POSTMARK_ID,
        happened_at=datetime(2026, 3, 2, 12, 30, tzinfo=UTC),
        code="SpamComplaint",
        suppress=SuppressionReason.COMPLAINT,
        recipient=RECIPIENT,
    )


@pytest.mark.parametrize(
    ("reason", "meant"),
    [
        ("HardBounce", SuppressionReason.HARD_BOUNCE),
        ("SpamComplaint", SuppressionReason.COMPLAINT),
        ("ManualSuppression", SuppressionReason.OPTED_OUT),
        ("SomethingNew", SuppressionReason.INACTIVE),
        (None, SuppressionReason.INACTIVE),
        (["HardBounce"], SuppressionReason.INACTIVE),
    ],
)
def test_a_subscription_change_suppresses_for_its_reason(reason: object, meant: SuppressionReason) -> None:
    assert read_payload("subscription_change", SuppressionReason=reason) == Receipt(
        provider="postmark",
        channel=Channel.EMAIL,
        event=ReceiptEvent.REFUSED,
        event_id="suppressed 2026-03-02T12:30:01.416071Z",
        message_id=MESSAGE_ID,
        provider_message_id=POSTMARK_ID,
        happened_at=datetime(2026, 3, 2, 12, 30, 1, 416071, tzinfo=UTC),
        suppress=meant,
        recipient=RECIPIENT,
    )


def test_a_reactivation_frees_the_address() -> None:
    assert read_payload("reactivation") == Release(
        provider="postmark",
        channel=Channel.EMAIL,
        event_id="reactivated 2026-03-03T08:00:00.000001Z",
        recipient=RECIPIENT,
        happened_at=datetime(2026, 3, 3, 8, 0, 0, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("name", ["subscription_change", "reactivation"])
def test_who_leaves_another_message_stream_has_not_left_ours(name: str) -> None:
    assert isinstance(read_payload(name, MessageStream="newsletter"), Ignored)


def test_an_address_of_another_message_stream_is_not_taken_from_its_bounce() -> None:
    found = read_payload("bounce", MessageStream="newsletter")
    assert isinstance(found, Receipt)
    assert found.recipient is None


@pytest.mark.parametrize("name", ["open", "inbound"])
def test_what_is_no_receipt_is_ignored(name: str) -> None:
    assert isinstance(read_payload(name), Ignored)


def test_an_inbound_email_is_told_that_it_knocks_at_the_wrong_door() -> None:
    found = read_payload("inbound")
    assert isinstance(found, Ignored)
    assert found.is_misdirected
    assert "inbound stream" in found.why


@pytest.mark.parametrize("kind", POSTMARK_BOUNCE_TYPES)
def test_a_type_of_bounce_means_what_the_table_says(kind: str) -> None:
    meaning = POSTMARK_BOUNCE_TYPES[kind]
    found = read_payload("bounce", Type=kind)
    if kind in ("SpamComplaint", "Unsubscribe"):
        assert isinstance(found, Receipt)
        assert (found.event, found.code, found.suppress) == (ReceiptEvent.REFUSED, kind, meaning.suppress)
        assert found.recipient == RECIPIENT
    elif meaning.transient:
        assert found == Ignored("postmark", f"{kind}: {meaning.remark}", MESSAGE_ID)
    else:
        assert isinstance(found, Receipt)
        assert (found.event, found.code) == (ReceiptEvent.BOUNCED, kind)
        assert (found.reason, found.suppress) == (meaning.reason, meaning.suppress)


@pytest.mark.parametrize("kind", ["FutureBounce", None, 7, ""])
def test_an_unknown_type_of_bounce_is_a_bounce_that_suppresses_nobody(kind: object) -> None:
    found = read_payload("bounce", Type=kind)
    assert isinstance(found, Receipt)
    assert (found.event, found.suppress) == (ReceiptEvent.BOUNCED, None)
    assert found.reason is FailureReason.RECIPIENT_UNREACHABLE


STRANGE: dict[str, dict[str, Any]] = {
    "no metadata": {"Metadata": None},
    "metadata that is a list": {"Metadata": ["message_id"]},
    "an id that is none of ours": {"Metadata": {"message_id": "42"}},
    "an id with a newline": {"Metadata": {"message_id": MESSAGE_ID[:-1] + "\n"}},
    "an id in braces": {"Metadata": {"message_id": "{" + MESSAGE_ID[:34] + "}"}},
    "an id that is a number": {"Metadata": {"message_id": 42}},
}


@pytest.mark.parametrize("changed", STRANGE.values(), ids=STRANGE.keys())
def test_without_an_id_of_ours_postmarks_is_left(changed: dict[str, Any]) -> None:
    found = read_payload("delivery", **changed)
    assert isinstance(found, Receipt)
    assert (found.message_id, found.provider_message_id) == (None, POSTMARK_ID)


@pytest.mark.parametrize("at", [None, 5, "yesterday", "2026-03-02T12:00:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_cannot_be_read_is_left_out(at: object) -> None:
    found = read_payload("delivery", DeliveredAt=at)
    assert isinstance(found, Receipt)
    assert found.happened_at is None


def test_what_a_database_cannot_keep_is_taken_out() -> None:
    found = read_payload("bounce", Details="no\0such\ud800 mailbox", MessageID="a\0b", Type="Odd\0")
    assert isinstance(found, Receipt)
    assert (found.detail, found.provider_message_id, found.code) == ("nosuch? mailbox", "ab", "Odd")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"Delivery"', b"\xff\xfe", b"{}", b'{"RecordType": null}', b'{"RecordType": 7}',
        b'{"RecordType": "SubscriptionChange", "Recipient": "a@b.example", "SuppressSending": "no"}',
        b'{"RecordType": "SubscriptionChange"}', b"[" * 100_000, b'{"RecordType": ' + b"9" * 10_000 + b"}",
    ],
    ids=range(13),
)  # fmt: skip
def test_what_postmark_never_sends_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReceipt) as refused:
        read(body, stream="outbound")
    assert "b.example" not in str(refused.value)


@pytest.mark.parametrize("name", ["delivery", "bounce", "spam_complaint", "subscription_change"])
def test_a_receipt_is_kept_as_it_is_but_for_the_address(name: str) -> None:
    receipt = read_payload(name)
    assert isinstance(receipt, Receipt)
    kept = json.dumps(to_json(receipt))
    assert "client.example" not in kept
    again = from_json(json.loads(kept))
    assert again.recipient is None
    assert to_json(again) == to_json(receipt)
    assert again.event is receipt.event
    assert again.happened_at == receipt.happened_at


def test_neither_a_receipt_nor_a_release_shows_the_address() -> None:
    for name in ("bounce", "reactivation"):
        assert RECIPIENT not in repr(read_payload(name))
