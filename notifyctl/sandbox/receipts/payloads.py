"""One receipt as the provider posts it.

https://postmarkapp.com/developer/webhooks/webhooks-overview
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
https://www.twilio.com/docs/usage/security#validating-requests
"""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from notifyctl.providers.codes_page import POSTMARK_BOUNCE_TYPES
from notifyctl.providers.curl import Outcome, Transfer
from notifyctl.sandbox.inbox_store import Email, Sms, bounce_id
from notifyctl.sandbox.receipts.settings import Receipts
from notifyctl.sandbox.twilio.pages import API_VERSION, SERVICE_NUMBER

SERVER_ID = 1
COMPLAINT = "SpamComplaint"
DELIVERY = "Delivery"
# Postmark's overview gives a complaint 100001; its webhook carries 512.
_TYPE_CODES = {"HardBounce": 1, "SoftBounce": 4096, "Blocked": 100006, COMPLAINT: 512}
_NAMES = {"HardBounce": "Hard bounce", "SoftBounce": "Soft bounce", "Blocked": "ISP block", COMPLAINT: "Spam complaint"}
DEACTIVATING = frozenset({"HardBounce", COMPLAINT})


@dataclass(frozen=True, slots=True)
class EmailReceipt:
    """`event` is Delivery, or a type of bounce."""

    email: Email
    recipient: str
    event: str
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class SmsReceipt:
    sms: Sms
    status: str
    auth_token: str


Receipt = EmailReceipt | SmsReceipt


@dataclass(frozen=True, slots=True)
class WebhookPost:
    url: str
    headers: tuple[str, ...]
    body: bytes

    def send(self, timeout_seconds: float) -> Outcome:
        """Once, on a connection of its own. Raises UnicodeEncodeError for a URL that is not ASCII."""
        transfer = Transfer(timeout_seconds)
        try:
            transfer.prepare(self.url, self.headers, self.body)
            return transfer.perform(timeout_seconds)
        finally:
            transfer.close()


def receipt_post(receipt: Receipt, receipts: Receipts) -> WebhookPost | None:
    """None: there is nowhere to post it to."""
    if isinstance(receipt, SmsReceipt):
        url = receipt.sms.status_callback
        return twilio_post(url, _status_form(receipt), receipt.auth_token) if url else None
    return _postmark_post(receipt, receipts.url, receipts.token) if receipts.url else None


def _postmark_post(receipt: EmailReceipt, url: str, token: str | None) -> WebhookPost:
    body = _delivery(receipt) if receipt.event == DELIVERY else _bounce(receipt)
    headers = ["Content-Type: application/json", "Accept: application/json", "User-Agent: Postmark"]
    if token is not None:
        headers.append(f"X-Postmark-Token: {token}")
    return WebhookPost(url, tuple(headers), json.dumps(body).encode())


def _delivery(receipt: EmailReceipt) -> dict[str, object]:
    email = receipt.email
    return {
        "RecordType": "Delivery",
        "MessageStream": email.stream,
        "ServerID": SERVER_ID,
        "MessageID": email.id,
        "Tag": email.tag,
        "Metadata": email.metadata,
        "Recipient": receipt.recipient,
        "DeliveredAt": _seven_digits(receipt.happened_at),
        "Details": "smtp;250 2.0.0 OK: kept by the sandbox",
    }


def _bounce(receipt: EmailReceipt) -> dict[str, object]:
    bounce = bounce_json(receipt.email, receipt.recipient, receipt.happened_at)
    kind = COMPLAINT if receipt.event == COMPLAINT else "Bounce"
    return {"RecordType": kind, **bounce, "Metadata": receipt.email.metadata}


def bounce_json(email: Email, recipient: str, at: datetime) -> dict[str, object]:
    """The bounce that an email ends with, as webhooks and look-ups both have it."""
    kind = email.bounce
    return {
        "ID": bounce_id(email, recipient),
        "Type": kind,
        "TypeCode": _TYPE_CODES[kind],
        "Name": _NAMES[kind],
        "Tag": email.tag,
        "MessageID": email.id,
        "ServerID": SERVER_ID,
        "MessageStream": email.stream,
        "Description": POSTMARK_BOUNCE_TYPES[kind].remark,
        "Details": "On purpose, by the sandbox",
        "Email": recipient,
        "From": email.sender.email,
        "BouncedAt": _seven_digits(at),
        "DumpAvailable": False,
        "Inactive": kind in DEACTIVATING,
        "CanActivate": kind != COMPLAINT,
        "Subject": email.subject,
        "Content": "",
    }


def _seven_digits(moment: datetime) -> str:
    """Postmark's times have a digit more than Python's."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def _status_form(receipt: SmsReceipt) -> dict[str, str]:
    sms = receipt.sms
    form = {
        "SmsSid": sms.id,
        "SmsStatus": receipt.status,
        "MessageSid": sms.id,
        "MessageStatus": receipt.status,
        "To": sms.to,
        "From": sms.sender or SERVICE_NUMBER,
        "AccountSid": sms.account_sid,
        "ApiVersion": API_VERSION,
    }
    if sms.messaging_service_sid:
        form["MessagingServiceSid"] = sms.messaging_service_sid
    if receipt.status == "undelivered":
        form["ErrorCode"] = sms.bounce
    return form


def twilio_post(url: str, form: Mapping[str, str], auth_token: str) -> WebhookPost:
    headers = (
        "Content-Type: application/x-www-form-urlencoded; charset=utf-8",
        "Accept: */*",
        "User-Agent: TwilioProxy/1.1",
        f"X-Twilio-Signature: {twilio_signature(auth_token, url, form)}",
    )
    return WebhookPost(url, headers, urlencode(form).encode())


def twilio_signature(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    signed = url + "".join(name + form[name] for name in sorted(form))
    # Twilio's scheme is HMAC-SHA1, for which SHA-1's collisions do not matter.
    return b64encode(hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()).decode()
