"""A provider's answer to what it does not accept, by its code, in the provider's own words where they matter."""

from collections.abc import Sequence
from dataclasses import dataclass

from notifyctl.errors import InvalidInput
from notifyctl.models.message import FailureReason
from notifyctl.models.template import Channel
from notifyctl.providers.code_meaning import CodeMeaning
from notifyctl.providers.postmark_codes import POSTMARK_CODES
from notifyctl.providers.twilio_codes import TWILIO_CODES

CODES: dict[Channel, dict[int, CodeMeaning]] = {Channel.EMAIL: POSTMARK_CODES, Channel.SMS: TWILIO_CODES}
CLASSES = ("transient", "hard", *FailureReason)

# The HTTP status beside a code, where it is not the usual one.
_USUAL_STATUS = {Channel.EMAIL: 422, Channel.SMS: 400}
_STATUS = {
    Channel.EMAIL: {10: 401, 100: 503, 409: 415, 429: 429},
    Channel.SMS: {
        **{code: 401 for code in (20003,)},
        **{code: 403 for code in (403, 20005, 20006, 20008, 20010, 20403)},
        **{code: 404 for code in (404, 20404)},
        **{20004: 405, 20409: 409, 20410: 410, 20413: 413, 20426: 426, 20429: 429},
        **{20500: 500, 503: 503, 20503: 503, 21730: 503},
    },
}
_WORDS = {
    Channel.EMAIL: {
        10: "Request does not contain a valid Server token.",
        100: "The API is down for maintenance. Try again later.",
        300: "Invalid email request: a field of the message is not valid.",
        405: "Not allowed to send: this server has run out of credits.",
        412: "While your account is pending approval, all recipient addresses must share the same domain as the"
        " 'From' address.",
        429: "Too many requests. Slow down.",
    },
    Channel.SMS: {
        20003: "Authenticate",
        20429: "Too Many Requests",
        20503: "Service Unavailable",
        21211: "The 'To' number {to} is not a valid phone number.",
        21408: "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}.",
        21610: "Attempt to send to unsubscribed recipient",
        21612: "The 'To' phone number: {to}, is not currently reachable using the 'From' phone number via SMS.",
        21614: "'To' number is not a valid mobile number",
    },
}
_TOO_MANY = {Channel.EMAIL: 429, Channel.SMS: 20429}
_INACTIVE = 406


@dataclass(frozen=True, slots=True)
class Failure:
    http_status: int
    code: int
    message: str
    retry_after: int | None = None
    """Seconds; stands in a header, so an item of a batch cannot carry it."""


class Refused(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def codes_of(channel: Channel, wanted: int | str) -> tuple[int, ...]:
    """The codes of this channel's provider that a code or a class stands for. Raises InvalidInput if none does."""
    table = CODES[channel]
    found = tuple(code for code, meaning in table.items() if wanted in (code, *_classes_of(meaning)))
    if not found:
        raise InvalidInput(
            f"{wanted!r} is no code or class of {channel}'s provider; codes are in docs/provider-codes.md, "
            f"classes are {', '.join(CLASSES)}"
        )
    return found


def _classes_of(meaning: CodeMeaning) -> tuple[str, str]:
    return "transient" if meaning.transient else "hard", meaning.reason


def by_code(channel: Channel, code: int, recipients: Sequence[str]) -> Failure:
    """For any code, known or not."""
    if channel is Channel.EMAIL and code == _INACTIVE:
        return all_inactive(recipients)
    meaning = CODES[channel].get(code)
    words = _WORDS[channel].get(code) or (meaning.remark if meaning else "An error on purpose")
    status = _STATUS[channel].get(code, _USUAL_STATUS[channel])
    return Failure(status, code, words.format(to=recipients[0] if recipients else ""))


def too_many(channel: Channel, retry_after: int | None) -> Failure:
    code = _TOO_MANY[channel]
    return Failure(429, code, _WORDS[channel][code], retry_after)


def all_inactive(recipients: Sequence[str]) -> Failure:
    # Client libraries read the addresses out of this sentence, so its shape matters.
    return Failure(
        422,
        _INACTIVE,
        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
        f"{', '.join(recipients)}. Inactive recipients are ones that have generated a hard bounce, a spam "
        "complaint, or a manual suppression.",
    )
