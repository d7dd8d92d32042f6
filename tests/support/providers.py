"""The ways to the providers as tests make them, and what a scripted provider answers."""

from collections.abc import Callable, Collection
from datetime import timedelta
from email.utils import format_datetime
from time import monotonic
from typing import Any

from notifyctl.providers.contract import (
    Answer,
    Lookup,
    LookupResult,
    OutboundMessage,
    Sender,
    SendResult,
    UncertainSend,
)
from notifyctl.providers.postmark.history import PostmarkHistory
from notifyctl.providers.postmark.lookup import PostmarkLookup
from notifyctl.providers.postmark.sender import PostmarkSender
from notifyctl.providers.twilio.history import TwilioHistory
from notifyctl.providers.twilio.lookup import TwilioLookup
from notifyctl.providers.twilio.sender import TwilioSender
from tests.support.clocks import NOON
from tests.support.scripted_server import Reply

TOKEN = "a-token-nobody-must-read"
ACCOUNT = "AC" + "0" * 32
TWILIO_MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages"
ADDRESS = "anna@client.example"
NUMBER = "+15558675310"
REPORT_TEXT = "Your report is due on 9 March."
GMT_NOON = format_datetime(NOON, usegmt=True)


def postmark_lookup(api_url: str, **values: Any) -> PostmarkLookup:
    given = {"server_token": TOKEN, "message_stream": "outbound", "timeout_seconds": 5.0}
    return PostmarkLookup(**{"api_url": api_url, **given, **values})


def twilio_lookup(api_url: str, **values: Any) -> TwilioLookup:
    given = {"account_sid": ACCOUNT, "auth_token": TOKEN, "timeout_seconds": 5.0}
    return TwilioLookup(**{"api_url": api_url, **given, **values})


def postmark_history(api_url: str, **values: Any) -> PostmarkHistory:
    given = {"server_token": TOKEN, "message_stream": "outbound", "timeout_seconds": 5.0, "pause": no_pause}
    return PostmarkHistory(**{"api_url": api_url, **given, **values})


def twilio_history(api_url: str, **values: Any) -> TwilioHistory:
    given = {
        "account_sid": ACCOUNT, "auth_token": TOKEN, "messaging_service_sid": None, "from_number": "+15005550006",
        "timeout_seconds": 5.0, "pause": no_pause,
    }  # fmt: skip
    return TwilioHistory(**{"api_url": api_url, **given, **values})


def no_pause(_: float) -> None:
    """Asks again at once."""


def postmark_sender(api_url: str, **values: Any) -> PostmarkSender:
    given = {
        "server_token": TOKEN, "sender": "hello@acme.example", "reply_to": "support@acme.example",
        "message_stream": "outbound", "timeout_seconds": 5.0,
    }  # fmt: skip
    return PostmarkSender(**{"api_url": api_url, **given, **values})


def twilio_sender(api_url: str, **values: Any) -> TwilioSender:
    given = {
        "account_sid": ACCOUNT, "auth_token": TOKEN, "messaging_service_sid": None, "from_number": "+15005550006",
        "status_callback": None, "concurrency": 4, "timeout_seconds": 5.0,
    }  # fmt: skip
    return TwilioSender(**{"api_url": api_url, **given, **values})


def mail(message_id: str = "m1", recipient: str = ADDRESS, **values: Any) -> OutboundMessage:
    fields = {"text": "Reset it at https://acme.example/r/123456", "subject": "Your password", **values}
    return OutboundMessage(message_id, "PASSWORD_RESET", recipient, **fields)


def sms(message_id: str = "m1", recipient: str = NUMBER, text: str = "Your code is 123456") -> OutboundMessage:
    return OutboundMessage(message_id, "OTP_CODE_SMS", recipient, text)


def send(sender: Sender, *messages: OutboundMessage) -> dict[str, SendResult]:
    sender.submit(messages)
    return {answer.message_id: answer.result for answer in collect_all(sender)}


def collect_all(sender: Sender) -> list[Answer]:
    answers: list[Answer] = []
    deadline = monotonic() + 15
    while sender.in_flight and monotonic() < deadline:
        answers += sender.collect(1.0)
    return answers


def holding(*held: str) -> Callable[[Collection[str]], set[str]]:
    """Which of these other messages hold."""
    return lambda found: set(found) & set(held)


def nobody(_: Collection[str]) -> set[str]:
    raise AssertionError("no other message can have this one's id")


def find_mail(lookup: Lookup, message_id: str = "m1", recipient: str = ADDRESS) -> LookupResult:
    return lookup.find(UncertainSend(message_id, recipient, "Hello", timedelta()), held_elsewhere=nobody)


def find_sms(
    lookup: Lookup,
    text: str = REPORT_TEXT,
    recipient: str = NUMBER,
    *,
    held: Collection[str] = (),
    age: timedelta = timedelta(),
) -> LookupResult:
    return lookup.find(UncertainSend("m1", recipient, text, age), held_elsewhere=holding(*held))


def mail_row(postmark_id: str | None = "pm-1", **values: Any) -> dict[str, Any]:
    """Of Postmark's search."""
    return {
        "MessageID": postmark_id,
        "Metadata": {"message_id": "m1"},
        "Recipients": [ADDRESS],
        "ReceivedAt": "2026-03-02T07:00:00.1234567-05:00",
        "Status": "Queued",
        **values,
    }


def mail_rows(*found: dict[str, Any], total: int | None = None) -> Reply:
    return Reply(200, {"TotalCount": len(found) if total is None else total, "Messages": list(found)})


def sms_row(sid: str | None = "SM1", **values: Any) -> dict[str, Any]:
    """Of Twilio's list."""
    return {
        "sid": sid,
        "to": NUMBER,
        "body": REPORT_TEXT,
        "direction": "outbound-api",
        "status": "queued",
        "error_code": None,
        "error_message": None,
        "date_created": format_datetime(NOON),
        "date_sent": None,
        **values,
    }


def sms_rows(*found: dict[str, Any], next_page: str | None = None, date: str | None = GMT_NOON) -> Reply:
    body = {"messages": list(found), "page": 0, "page_size": 50, "next_page_uri": next_page}
    return Reply(200, body, {} if date is None else {"Date": date})


def mails_accepted(*postmark_ids: str) -> Reply:
    return Reply(200, [mail_item(postmark_id) for postmark_id in postmark_ids])


def mail_item(postmark_id: str = "pm-1", code: int = 0, message: str = "OK") -> dict[str, object]:
    """Of the answer to a batch."""
    return {"To": ADDRESS, "MessageID": postmark_id, "ErrorCode": code, "Message": message}


SMS_CREATED = {"sid": "SM1", "status": "queued", "error_code": None, "error_message": None}
