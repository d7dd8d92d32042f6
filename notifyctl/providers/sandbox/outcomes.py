"""Decides how a call ends: the one place where the sandbox refuses or spoils what a provider would have taken.

Everything is accepted except what goes to a magic recipient (MAGIC_RECIPIENTS here, and those of magic.py),
and what the faults that are set strike. The numbers up to +15005550009 are Twilio's own test numbers. In a
batch a code stands in that message's own answer. Code 100 is Postmark's "maintenance", the one code of its
sending API that says: the same call may succeed later.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from notifyctl.models.template import Channel
from notifyctl.providers.sandbox import magic
from notifyctl.providers.sandbox.drill import Drill, Strike
from notifyctl.providers.sandbox.failures import Failure, all_inactive, by_code
from notifyctl.providers.sandbox.faults import Fault, Faults, Kind


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
_MAGIC_MAILBOXES = {"nocredits": 405, "pending": 412}
_REJECTED_MAILBOX = "reject"
_BUSY_MAILBOX = re.compile(r"busy-([0-9]{1,4})")
_BUSY_MAILBOX_CODE = 100
_MAGIC_NUMBERS = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
_BUSY_NUMBER = re.compile(r"\+15005551([01])([0-9]{2})")
_BUSY_NUMBER_CODES = {"0": 20503, "1": 20429}
_ATTEMPTS_KEPT = 100_000


class Outcomes:
    """Asked by the server's thread; faults may be set from any."""

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        self._drills: dict[Channel, Drill] = {}

    def clear(self) -> None:
        """Starts every count over; the faults stay set, and their dice start anew."""
        self._attempts = {}
        for drill in list(self._drills.values()):
            drill.start_over()

    def set_faults(self, channel: Channel, faults: Faults) -> None:
        """In the place of those that were set before. Raises InvalidInput for a code the provider does not have."""
        faults.check(channel)
        if faults.faults:
            self._drills[channel] = Drill(channel, faults)
        else:
            self._drills.pop(channel, None)

    def faults(self, channel: Channel) -> Faults | None:
        drill = self._drills.get(channel)
        return drill.faults if drill else None

    def struck(self, channel: Channel) -> Counter[Fault]:
        drill = self._drills.get(channel)
        return Counter(drill.struck) if drill else Counter()

    def of_call(self, channel: Channel, recipients: Sequence[str]) -> Strike | None:
        """What befalls the whole call; None: nothing."""
        own = self._magic_of_call(recipients)
        if own is not None and own.kind is Kind.LATENCY:
            return Strike(None, own.ms[0] / 1000 if own.ms else 0.0)
        if own is not None:
            return Strike(own)
        drill = self._drills.get(channel)
        return drill.of_call() if drill else None

    def of_email(self, recipients: Sequence[str]) -> Failure | None:
        """None: accepted. Postmark refuses a message with 406 only when all its recipients are inactive."""
        inactive = inactive_among(recipients)
        if len(inactive) == len(recipients):
            return all_inactive(inactive)
        failures = (self._of_mailbox(recipient) for recipient in recipients)
        failure = next((failure for failure in failures if failure is not None), None)
        return failure or self._of_drill(Channel.EMAIL, recipients)

    def of_sms(self, number: str) -> Failure | None:
        """None: accepted."""
        return self._of_number(number) or self._of_drill(Channel.SMS, (number,))

    def _of_drill(self, channel: Channel, recipients: Sequence[str]) -> Failure | None:
        drill = self._drills.get(channel)
        code = drill.of_message() if drill else None
        return None if code is None else by_code(channel, code, recipients)

    def _of_number(self, number: str) -> Failure | None:
        if not number.startswith("+1500"):
            return None
        busy = _BUSY_NUMBER.fullmatch(number)
        if busy:
            code = _BUSY_NUMBER_CODES[busy[1]]
            return by_code(Channel.SMS, code, (number,)) if self._is_within(number, int(busy[2])) else None
        return self._of_magic(Channel.SMS, number, _MAGIC_NUMBERS.get(number))

    def _of_mailbox(self, recipient: str) -> Failure | None:
        mailbox = magic.mailbox_of(recipient)
        busy = _BUSY_MAILBOX.fullmatch(mailbox)
        if busy:
            failing = self._is_within(recipient.lower(), int(busy[1]))
            return by_code(Channel.EMAIL, _BUSY_MAILBOX_CODE, (recipient,)) if failing else None
        if mailbox == _REJECTED_MAILBOX:
            return Failure(422, 300, f"Invalid 'To' address: '{recipient}'.")
        return self._of_magic(Channel.EMAIL, recipient, _MAGIC_MAILBOXES.get(mailbox))

    def _of_magic(self, channel: Channel, recipient: str, code: int | None) -> Failure | None:
        """By the fixed code of its name, or by the code that stands in it."""
        if code is None:
            own = magic.fault_of(recipient)
            if own is None or own.fault.kind is not Kind.ERROR or not self._still_strikes(recipient, own):
                return None
            code = int(own.fault.code or 0)
        return by_code(channel, code, (recipient,))

    def _magic_of_call(self, recipients: Sequence[str]) -> Fault | None:
        for recipient in recipients:
            own = magic.fault_of(recipient)
            if own is not None and own.fault.kind is not Kind.ERROR and self._still_strikes(recipient, own):
                return own.fault
        return None

    def _still_strikes(self, recipient: str, own: magic.MagicFault) -> bool:
        return own.times is None or self._is_within(recipient.lower(), own.times)

    def _is_within(self, recipient: str, failing_attempts: int) -> bool:
        attempt = self._attempts.get(recipient, 0) + 1
        self._attempts[recipient] = attempt
        if len(self._attempts) > _ATTEMPTS_KEPT:
            del self._attempts[next(iter(self._attempts))]
        return attempt <= failing_attempts


def inactive_among(recipients: Sequence[str]) -> list[str]:
    return [recipient for recipient in recipients if magic.mailbox_of(recipient) == _INACTIVE]
