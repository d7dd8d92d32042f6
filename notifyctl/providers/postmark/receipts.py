"""Postmark's webhooks in our words.

https://postmarkapp.com/developer/webhooks/webhooks-overview
"""

from collections.abc import Mapping

from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.providers.postmark.codes import POSTMARK_BOUNCE_TYPES
from notifyctl.providers.receipts import (
    Ignored,
    MalformedReceipt,
    Notice,
    Receipt,
    ReceiptEvent,
    Release,
    moment,
    our_id,
)
from notifyctl.providers.results import provider_id, read_json, without_recipients

PROVIDER = "postmark"
COMPLAINT = "SpamComplaint"

_SUPPRESSED_FOR = {
    "HardBounce": SuppressionReason.HARD_BOUNCE,
    COMPLAINT: SuppressionReason.COMPLAINT,
    "ManualSuppression": SuppressionReason.OPTED_OUT,
}


def read(body: bytes, *, stream: str) -> Notice:
    """`stream` is the message stream that we send by. Raises MalformedReceipt."""
    try:
        fields = read_json(body)
    except (ValueError, RecursionError):
        raise MalformedReceipt("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise MalformedReceipt("the body is not a JSON object")
    match fields.get("RecordType"):
        case "Delivery":
            return _delivery(fields)
        case "Bounce":
            return _bounce(fields, stream)
        case "SpamComplaint":
            return _refused(fields, stream, COMPLAINT, SuppressionReason.COMPLAINT)
        case "SubscriptionChange":
            return _subscription_change(fields, stream)
        case str(kind):
            return Ignored(PROVIDER, f"a record of type {provider_id(kind)}")
        case None if "OriginalRecipient" in fields:
            why = "an inbound email came to the webhook of receipts; take this URL out of the inbound stream"
            return Ignored(PROVIDER, why, is_misdirected=True)
    raise MalformedReceipt("RecordType is missing")


def _delivery(fields: Mapping[str, object]) -> Notice:
    postmark_id = provider_id(fields.get("MessageID"))
    return Receipt(
        PROVIDER,
        Channel.EMAIL,
        ReceiptEvent.DELIVERED,
        event_id=f"delivery {postmark_id}",
        message_id=metadata_id(fields),
        provider_message_id=postmark_id,
        happened_at=moment(fields.get("DeliveredAt")),
        detail=_words(fields, "Details"),
    )


def _bounce(fields: Mapping[str, object], stream: str) -> Notice:
    kind = provider_id(fields.get("Type")) or "Unknown"
    meaning = POSTMARK_BOUNCE_TYPES.get(kind, POSTMARK_BOUNCE_TYPES["Unknown"])
    if meaning.suppress and (meaning.transient or kind == COMPLAINT):
        return _refused(fields, stream, kind, meaning.suppress)
    if meaning.transient:
        return Ignored(PROVIDER, f"{kind}: {meaning.remark}", metadata_id(fields))
    return Receipt(
        PROVIDER,
        Channel.EMAIL,
        ReceiptEvent.BOUNCED,
        event_id=_bounce_id(fields, kind),
        message_id=metadata_id(fields),
        provider_message_id=provider_id(fields.get("MessageID")),
        happened_at=moment(fields.get("BouncedAt")),
        reason=meaning.reason,
        code=kind,
        detail=_words(fields, "Details", "Description") or meaning.remark,
        suppress=meaning.suppress,
        recipient=_recipient(fields, "Email", stream),
    )


def _refused(fields: Mapping[str, object], stream: str, kind: str, why: SuppressionReason) -> Notice:
    """It has arrived, and its recipient wants no more."""
    return Receipt(
        PROVIDER,
        Channel.EMAIL,
        ReceiptEvent.REFUSED,
        event_id=_bounce_id(fields, kind),
        message_id=metadata_id(fields),
        provider_message_id=provider_id(fields.get("MessageID")),
        happened_at=moment(fields.get("BouncedAt")),
        code=kind,
        suppress=why,
        recipient=_recipient(fields, "Email", stream),
    )


def _subscription_change(fields: Mapping[str, object], stream: str) -> Notice:
    changed_at = moment(fields.get("ChangedAt"))
    recipient = _recipient(fields, "Recipient", stream)
    suppressed = fields.get("SuppressSending")
    if not isinstance(suppressed, bool):
        raise MalformedReceipt("SuppressSending must be true or false")
    if recipient is None:
        return Ignored(PROVIDER, "a change of subscription to another message stream")
    event_id = f"{'suppressed' if suppressed else 'reactivated'} {provider_id(fields.get('ChangedAt'))}"
    if not suppressed:
        return Release(PROVIDER, Channel.EMAIL, event_id, recipient, happened_at=changed_at)
    return Receipt(
        PROVIDER,
        Channel.EMAIL,
        ReceiptEvent.REFUSED,
        event_id=event_id,
        message_id=metadata_id(fields),
        provider_message_id=provider_id(fields.get("MessageID")),
        happened_at=changed_at,
        suppress=suppression_reason(fields.get("SuppressionReason")),
        recipient=recipient,
    )


def suppression_reason(reason: object) -> SuppressionReason:
    """Of Postmark's SuppressionReason."""
    known = _SUPPRESSED_FOR.get(reason) if isinstance(reason, str) else None
    return known or SuppressionReason.INACTIVE


def metadata_id(fields: Mapping[str, object]) -> str | None:
    """The id of ours that went along with an email."""
    metadata = fields.get("Metadata")
    return our_id(metadata.get("message_id")) if isinstance(metadata, dict) else None


def _bounce_id(fields: Mapping[str, object], kind: str) -> str:
    number = fields.get("ID")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**63:
        return f"bounce {number}"
    return f"{kind} of {provider_id(fields.get('MessageID'))}"


def _recipient(fields: Mapping[str, object], name: str, stream: str) -> str | None:
    """Postmark suppresses by message stream: who leaves a newsletter's has not left ours."""
    text = fields.get(name)
    return text if isinstance(text, str) and (fields.get("MessageStream") or stream) == stream else None


def _words(fields: Mapping[str, object], *names: str) -> str:
    texts = (fields.get(name) for name in names)
    return next((without_recipients(text) for text in texts if isinstance(text, str) and text.strip()), "")
