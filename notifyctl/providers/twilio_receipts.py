"""Twilio's webhooks in our words: what became of an SMS, and what people answer.

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
https://www.twilio.com/docs/messaging/guides/webhook-request
"""

import re
from collections.abc import Mapping

from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.answers import own_error, provider_id, undelivered
from notifyctl.providers.base import Rejected
from notifyctl.providers.receipts import Ignored, MalformedReceipt, Notice, Receipt, ReceiptEvent, Release, our_id
from notifyctl.providers.twilio_codes import TWILIO_CODES
from notifyctl.providers.wishes import Wish, wish_of

PROVIDER = "twilio"

EVENTS = {
    "accepted": ReceiptEvent.SENT,
    "scheduled": ReceiptEvent.SENT,
    "queued": ReceiptEvent.SENT,
    "sending": ReceiptEvent.SENT,
    "sent": ReceiptEvent.SENT,
    # A part has arrived. Whether the rest does, a later status says: it is neither a delivery nor a bounce yet.
    "partially_delivered": ReceiptEvent.SENT,
    "delivered": ReceiptEvent.DELIVERED,
    "read": ReceiptEvent.DELIVERED,
    "undelivered": ReceiptEvent.BOUNCED,
    "failed": ReceiptEvent.BOUNCED,
    "canceled": ReceiptEvent.BOUNCED,
}
"""Twilio's status of a message -> ours."""

_SMS_PREFIXES = frozenset({"", "sms", "rcs"})


def read_status(fields: Mapping[str, str], *, message_id: str | None) -> Notice:
    """`message_id` as it stands in the URL that was called back. Raises MalformedReceipt."""
    sid = _sid(fields)
    status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
    if not status:
        raise MalformedReceipt("MessageStatus is missing")
    if status == "received":
        why = "an inbound message came to the URL of status callbacks; inbound messages have a URL of their own"
        return Ignored(PROVIDER, why, is_misdirected=True)
    event = EVENTS.get(status.lower())
    if event is None:
        return Ignored(PROVIDER, f"status {provider_id(status)}", our_id(message_id))
    refusal = rejection(sid, status.lower(), _error_code(fields), fields.get("ErrorMessage"))
    bounced = event is ReceiptEvent.BOUNCED
    return Receipt(
        PROVIDER,
        Channel.SMS,
        event,
        event_id=f"{sid} {event}",
        message_id=our_id(message_id),
        provider_message_id=sid,
        reason=refusal.reason if bounced else None,
        code=refusal.code if bounced else None,
        detail=refusal.detail if bounced else "",
        suppress=refusal.suppress if bounced else None,
        recipient=_number(fields.get("To", "")),
    )


def read_inbound(fields: Mapping[str, str]) -> Notice:
    """What a person wrote to our number. Raises MalformedReceipt."""
    if "MessageStatus" in fields and "Body" not in fields:
        why = "a status callback came to the URL of inbound messages; status callbacks have a URL of their own"
        return Ignored(PROVIDER, why, is_misdirected=True)
    sid, sender = _sid(fields), fields.get("From")
    if not sender:
        raise MalformedReceipt("From is missing")
    wish = _wish(fields)
    if wish is None:
        return Ignored(PROVIDER, "an inbound message that asks for nothing")
    number = _number(sender)
    if number is None:
        return Ignored(PROVIDER, "an inbound message that is no SMS")
    if wish is Wish.START:
        return Release(PROVIDER, Channel.SMS, sid, number, reason=SuppressionReason.OPTED_OUT)
    reason = SuppressionReason.OPTED_OUT
    return Receipt(PROVIDER, Channel.SMS, ReceiptEvent.REFUSED, sid, suppress=reason, recipient=number)


def rejection(sid: str, status: str, code: int | None, words: str | None) -> Rejected:
    """Why a message did not arrive; `status` is all there is where Twilio gives no code."""
    meaning = TWILIO_CODES.get(code) if code is not None else None
    error = own_error(code, words or (meaning.remark if meaning else status))
    if error is None:
        return Rejected(FailureReason.UNKNOWN, status, f"{sid} was {status}")
    return undelivered(error, TWILIO_CODES)


def _wish(fields: Mapping[str, str]) -> Wish | None:
    """A messaging service with keywords of its own says itself what a message means, in a word that may be new."""
    said = fields.get("OptOutType", "").strip().upper()
    if said in Wish.__members__:
        return Wish(said)
    return None if said == "HELP" else wish_of(fields.get("Body", ""))


def _sid(fields: Mapping[str, str]) -> str:
    sid = provider_id(fields.get("MessageSid") or fields.get("SmsSid"))
    if sid is None:
        raise MalformedReceipt("MessageSid is missing")
    return sid


def _error_code(fields: Mapping[str, str]) -> int | None:
    text = fields.get("ErrorCode", "").strip()
    return int(text) or None if re.fullmatch(r"[0-9]{1,9}", text) else None


def _number(address: str) -> str | None:
    """The number of an SMS or RCS user; None on another channel, where a wish does not concern SMS.

    A + that stood in a form unescaped has come as a blank, or not at all.
    """
    prefix, _, number = address.strip().rpartition(":")
    if prefix.lower() not in _SMS_PREFIXES:
        return None
    return f"+{number}" if re.fullmatch(r"[0-9]{8,15}", number) else number
