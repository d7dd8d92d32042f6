"""What Postmark's answer to a batch proves of each of its messages."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from notifyctl.models.enums import FailureReason, SuppressionReason
from notifyctl.providers.answers import OwnError, as_number, by_code, own_error, provider_id
from notifyctl.providers.base import Accepted, Rejected, SendResult, Unavailable, Unknown
from notifyctl.providers.in_between import UNREADABLE
from notifyctl.providers.postmark_codes import POSTMARK_CODES

INVALID_REQUEST = 300
INACTIVE_RECIPIENT = 406
NO_ID = "00000000-0000-0000-0000-000000000000"


def results(answer: object, recipients: Sequence[str]) -> list[SendResult]:
    """One result for each recipient of the batch, in its order. Never raises, whatever `answer` is."""
    items = [answer] if isinstance(answer, dict) else answer
    if not isinstance(items, list):
        return [Unknown(UNREADABLE, "Not a list of answers")] * len(recipients)
    return [
        Unknown(UNREADABLE, f"Not a list of {len(recipients)} answers") if item is None else result_of_item(item)
        for item in _in_order(items, recipients)
    ]


def _in_order(items: list[object], recipients: Sequence[str]) -> list[object]:
    """The item of each recipient; None where it cannot be told which is.

    Postmark answers in the order of the request. An answer that is in another, or is not whole, is read by the
    recipients that it names.
    """
    named = [_recipient(item) for item in items]
    wanted = [recipient.casefold() for recipient in recipients]
    if len(items) == len(wanted) and not any(
        name != recipient and name in wanted for name, recipient in zip(named, wanted, strict=True)
    ):
        return items
    times, times_wanted = Counter(named), Counter(wanted)
    by_recipient = {name: item for name, item in zip(named, items, strict=True) if name and times[name] == 1}
    return [by_recipient.get(recipient) if times_wanted[recipient] == 1 else None for recipient in wanted]


def _recipient(item: object) -> str | None:
    to = item.get("To") if isinstance(item, dict) else None
    return to.casefold() if isinstance(to, str) else None


def result_of_item(item: object) -> SendResult:
    """An id proves that it was accepted: when deliveries are delayed, Postmark leaves the ErrorCode out."""
    fields = item if isinstance(item, dict) else {}
    error = own_error(as_number(fields.get("ErrorCode")), fields.get("Message"))
    message_id = provider_id(fields.get("MessageID"))
    if message_id == NO_ID:
        message_id = None
    if error is None:
        return Accepted(message_id) if message_id else Unknown(UNREADABLE, "Neither an ErrorCode nor a MessageID")
    if error.code == 0:
        return Accepted(message_id)
    result = by_code(error, POSTMARK_CODES)
    # A code that nobody knows may be a warning only.
    if message_id and (isinstance(result, Unavailable) or error.code not in POSTMARK_CODES):
        return Unknown(result.code, f"{result.detail} (but it has a MessageID)")
    return by_its_words(result, error)


def by_its_words(result: SendResult, error: OwnError | None) -> SendResult:
    """Two of Postmark's codes stand for several things, and only the text beside them says which."""
    if not isinstance(result, Rejected) or error is None:
        return result
    if error.code == INACTIVE_RECIPIENT:
        return _inactive(result, error.message)
    if error.code == INVALID_REQUEST and "'To'" in error.message:
        return replace(result, reason=FailureReason.RECIPIENT_INVALID)
    if error.code == INVALID_REQUEST and "'From'" in error.message:
        return replace(result, reason=FailureReason.ACCOUNT_PROBLEM)
    return result


def _inactive(result: Rejected, text: str) -> Rejected:
    """Postmark's standard text names every cause there is; only one that names a single cause tells it."""
    causes = re.findall(r"hard bounce|spam complaint|manual suppression", text, re.IGNORECASE)
    match list({cause.lower() for cause in causes}):
        case ["hard bounce"]:
            return replace(result, reason=FailureReason.RECIPIENT_INVALID, suppress=SuppressionReason.HARD_BOUNCE)
        case ["spam complaint"]:
            return replace(result, suppress=SuppressionReason.COMPLAINT)
        case ["manual suppression"]:
            return replace(result, suppress=SuppressionReason.OPTED_OUT)
        case _:
            return result
