"""Twilio's webhooks in our words: what became of an SMS, and what people answer.

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
https://www.twilio.com/docs/messaging/guides/webhook-request
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlsplit

from twilio.request_validator import RequestValidator, add_port, remove_port

from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.contract import Rejected
from notifyctl.providers.receipts import Ignored, MalformedReceipt, Notice, Receipt, ReceiptEvent, Release, our_id
from notifyctl.providers.results import own_error, provider_id, read_json, undelivered
from notifyctl.providers.twilio.codes import TWILIO_CODES
from notifyctl.providers.twilio.opt_out_words import Wish, wish_of

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
MAX_FIELDS = 200
BODY_HASH = "bodySHA256"


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
        raise MalformedReceipt("the field From is missing")
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
    keyword = fields.get("OptOutType", "").strip().upper()
    if keyword in Wish.__members__:
        return Wish(keyword)
    return None if keyword == "HELP" else wish_of(fields.get("Body", ""))


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


@dataclass(frozen=True, slots=True)
class Call:
    """`url` is the one that Twilio called, which the signature covers: ours as seen from outside, query included."""

    url: str
    content_type: str
    body: bytes
    signature: str


class _Parameters(dict[str, list[str]]):
    """As RequestValidator wants them where a name may come more than once."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


def read_signed(call: Call, auth_token: str) -> dict[str, str] | None:
    """The parameters, of a repeated one the first value. None when the signature is not Twilio's.

    Raises MalformedReceipt for a body that cannot be read.
    """
    if call.content_type.partition(";")[0].strip().lower() == "application/json":
        return _of_json(call.body) if _has_signed_body(call) and _is_signed(call, {}, auth_token) else None
    parameters = _of_form(call.body)
    if not _is_signed(call, parameters, auth_token):
        return None
    return {name: values[0] for name, values in parameters.items()}


def _is_signed(call: Call, parameters: dict[str, list[str]], auth_token: str) -> bool:
    """Twilio signs some URLs with their port and some without, so both count. Compares bytes, in constant time."""
    validator = RequestValidator(auth_token)  # type: ignore[no-untyped-call]
    parts = urlsplit(call.url)
    spellings = {call.url, add_port(parts), remove_port(parts)}  # type: ignore[no-untyped-call]
    signed = call.signature.encode("latin-1", "replace")
    expected = [validator.compute_signature(url, parameters) for url in spellings]  # type: ignore[no-untyped-call]
    return any([hmac.compare_digest(signature.encode(), signed) for signature in expected])


def _has_signed_body(call: Call) -> bool:
    """Of JSON the signature covers only the URL, which has the hash of the body in it."""
    digest = parse_qs(urlsplit(call.url).query).get(BODY_HASH, [""])[0].lower()
    return hmac.compare_digest(hashlib.sha256(call.body).hexdigest().encode(), digest.encode("utf-8", "replace"))


def _of_form(body: bytes) -> _Parameters:
    parameters = _Parameters()
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise MalformedReceipt(f"the form has over {MAX_FIELDS} fields") from None
    for name, value in pairs:
        parameters.setdefault(name, []).append(value)
    return parameters


def _of_json(body: bytes) -> dict[str, str]:
    try:
        fields = read_json(body)
    except (ValueError, RecursionError):
        raise MalformedReceipt("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise MalformedReceipt("the body is not a JSON object")
    return {name: str(value) for name, value in fields.items() if isinstance(value, str | int)}
