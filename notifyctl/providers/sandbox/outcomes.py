"""Decides how a call ends: the one place where the sandbox refuses what a provider would have taken.

Everything is accepted except what goes to a MAGIC_RECIPIENTS entry. The numbers up to +15005550009 are
Twilio's own test numbers. For an email, what follows a plus sign is no part of the name (inactive+anna@… is
inactive too), and in a batch the code stands in that message's own answer. Code 100 is Postmark's
"maintenance", the one code of its sending API that says: the same call may succeed later.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider's answer to what it does not accept."""

    http_status: int
    code: int
    message: str


class Refused(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class MagicRecipient:
    recipient: str
    code: str
    meaning: str


MAGIC_RECIPIENTS = (
    MagicRecipient("inactive@…", "406", "suppressed after a hard bounce or complaint"),
    MagicRecipient("reject@…", "300", "not an address"),
    MagicRecipient("nocredits@…", "405", "the server may not send"),
    MagicRecipient("pending@…", "412", "the account is not approved yet"),
    MagicRecipient("busy-3@…", "100", "fails three times (HTTP 503), then is accepted; any number works"),
    MagicRecipient("+15005550001", "21211", "not a phone number"),
    MagicRecipient("+15005550002", "21612", "no route to it"),
    MagicRecipient("+15005550003", "21408", "its region is not enabled"),
    MagicRecipient("+15005550004", "21610", "unsubscribed"),
    MagicRecipient("+15005550009", "21614", "not a mobile number"),
    MagicRecipient("+15005551003", "20503", "fails three times (HTTP 503), then is accepted; 00 to 99 work"),
    MagicRecipient("+15005551103", "20429", "fails three times (HTTP 429), then is accepted; 00 to 99 work"),
)

_INACTIVE = "inactive"
_EMAIL_FAILURES = {
    "reject": Failure(422, 300, "Invalid 'To' address: '{to}'."),
    "nocredits": Failure(422, 405, "Not allowed to send: this server has run out of credits."),
    "pending": Failure(
        422,
        412,
        "While your account is pending approval, all recipient addresses must share the same domain as the"
        " 'From' address.",
    ),
}
_EMAIL_BUSY = Failure(503, 100, "The API is down for maintenance. Try again later.")
_BUSY_MAILBOX = re.compile(r"busy-([0-9]{1,4})")

_SMS_FAILURES = {
    "+15005550001": Failure(400, 21211, "The 'To' number {to} is not a valid phone number."),
    "+15005550002": Failure(
        400,
        21612,
        "The 'To' phone number: {to}, is not currently reachable using the 'From' phone number via SMS.",
    ),
    "+15005550003": Failure(
        400,
        21408,
        "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}.",
    ),
    "+15005550004": Failure(400, 21610, "Attempt to send to unsubscribed recipient"),
    "+15005550009": Failure(400, 21614, "'To' number is not a valid mobile number"),
}
_SMS_BUSY = {
    "0": Failure(503, 20503, "Service Unavailable"),
    "1": Failure(429, 20429, "Too Many Requests"),
}
_BUSY_NUMBER = re.compile(r"\+15005551([01])([0-9]{2})")
_ATTEMPTS_KEPT = 100_000


class Outcomes:
    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}

    def clear(self) -> None:
        self._attempts = {}

    def of_email(self, recipients: Sequence[str]) -> Failure | None:
        """None: accepted. Postmark refuses a message with 406 only when all its recipients are inactive."""
        inactive = inactive_among(recipients)
        if len(inactive) == len(recipients):
            return _all_inactive(inactive)
        failures = (self._of_mailbox(recipient) for recipient in recipients)
        return next((failure for failure in failures if failure is not None), None)

    def of_sms(self, number: str) -> Failure | None:
        """None: accepted."""
        if not number.startswith("+1500555"):
            return None
        busy = _BUSY_NUMBER.fullmatch(number)
        if busy:
            return _SMS_BUSY[busy[1]] if self._is_within(number, int(busy[2])) else None
        failure = _SMS_FAILURES.get(number)
        return failure and _about(failure, number)

    def _of_mailbox(self, recipient: str) -> Failure | None:
        mailbox = _mailbox(recipient)
        busy = _BUSY_MAILBOX.fullmatch(mailbox)
        if busy:
            return _EMAIL_BUSY if self._is_within(recipient.lower(), int(busy[1])) else None
        failure = _EMAIL_FAILURES.get(mailbox)
        return failure and _about(failure, recipient)

    def _is_within(self, recipient: str, failing_attempts: int) -> bool:
        attempt = self._attempts.get(recipient, 0) + 1
        self._attempts[recipient] = attempt
        if len(self._attempts) > _ATTEMPTS_KEPT:
            del self._attempts[next(iter(self._attempts))]
        return attempt <= failing_attempts


def inactive_among(recipients: Sequence[str]) -> list[str]:
    return [recipient for recipient in recipients if _mailbox(recipient) == _INACTIVE]


def _mailbox(recipient: str) -> str:
    return recipient.partition("@")[0].partition("+")[0].lower()


def _about(failure: Failure, recipient: str) -> Failure:
    return Failure(failure.http_status, failure.code, failure.message.format(to=recipient))


def _all_inactive(recipients: Sequence[str]) -> Failure:
    # Client libraries read the addresses out of this sentence, so its shape matters.
    return Failure(
        422,
        406,
        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
        f"{', '.join(recipients)}. Inactive recipients are ones that have generated a hard bounce, a spam "
        "complaint, or a manual suppression.",
    )
