"""Recipients that bring their own fault: an email's local part, or a range of numbers.

For an email, what follows a plus sign is no part of the name: hang+anna@… hangs too.
"""

import re
from dataclasses import dataclass

from notifyctl.providers.sandbox.faults import Fault, Kind

_MAILBOX = re.compile(
    r"(?:(?P<plain>hang|accept-then-hang|cut-before|accept-then-cut|garbage|truncated)"
    r"|http-(?P<status>500|502|503|504)|latency-(?P<ms>[0-9]{1,5})|too-many-(?P<seconds>[0-9]{1,5})"
    r"|error-(?P<code>[0-9]{1,5}))(?:-(?P<times>[0-9]{1,4}))?"
)
_FAULTY_NUMBER = re.compile(r"\+15005552([0-9])([0-9]{2})")
_SLOW_DOWN_NUMBER = re.compile(r"\+15005553([0-9]{3})")
_REFUSED_NUMBER = re.compile(r"\+150056([0-9]{5})")
_UNDELIVERED_NUMBER = re.compile(r"\+150057([0-9]{5})")
_FAULT_OF_DIGIT = {
    "0": Fault(Kind.HANG),
    "1": Fault(Kind.ACCEPT_THEN_HANG),
    "2": Fault(Kind.CUT_BEFORE),
    "3": Fault(Kind.ACCEPT_THEN_CUT),
    "4": Fault(Kind.GARBAGE),
    "5": Fault(Kind.TRUNCATED),
    "6": Fault(Kind.HTTP, status=500),
    "7": Fault(Kind.HTTP, status=502),
    "8": Fault(Kind.HTTP, status=504),
}
_HTTP_FAULT = {
    "500": _FAULT_OF_DIGIT["6"],
    "502": _FAULT_OF_DIGIT["7"],
    "503": Fault(Kind.HTTP, status=503),
    "504": _FAULT_OF_DIGIT["8"],
}
_LATENCY_DIGIT = "9"
_BOUNCES = {"bounce": "HardBounce", "softbounce": "SoftBounce", "complaint": "SpamComplaint"}
_ALL_MAGIC_NUMBERS = "+1500"


@dataclass(frozen=True, slots=True)
class MagicFault:
    """`times`: it strikes the first so many attempts; None: every one."""

    fault: Fault
    times: int | None


@dataclass(frozen=True, slots=True)
class MagicHelp:
    email: str
    sms: str
    meaning: str


HELP = (
    MagicHelp("hang@…", "+1500555 20NN", "no answer until the client gives up; not accepted"),
    MagicHelp("accept-then-hang@…", "+1500555 21NN", "accepted, but no answer"),
    MagicHelp("cut-before@…", "+1500555 22NN", "the connection is closed; not accepted"),
    MagicHelp("accept-then-cut@…", "+1500555 23NN", "accepted, then the connection is closed"),
    MagicHelp("garbage@…", "+1500555 24NN", "accepted, with an answer that is not JSON"),
    MagicHelp("truncated@…", "+1500555 25NN", "accepted, with half an answer"),
    MagicHelp("http-500@…", "+1500555 26NN", "HTTP 500 from something in between; not accepted"),
    MagicHelp("http-502@…", "+1500555 27NN", "HTTP 502 likewise (by email also 503)"),
    MagicHelp("http-504@…", "+1500555 28NN", "HTTP 504 likewise"),
    MagicHelp("latency-800@…", "+1500555 29NN", "800 ms (SMS: NN tenths of a second) late; accepted"),
    MagicHelp("too-many-30@…", "+1500555 3030", "HTTP 429 with Retry-After: 30 (SMS: 3000 to 3999)"),
    MagicHelp("error-405@…", "+1500562 1610", "refused with this code, here 405 and 21610"),
    MagicHelp("bounce@…", "+1500573 0003", "accepted, bounces later (SMS: undelivered, here 30003)"),
    MagicHelp("softbounce@…", "", "accepted, then a SoftBounce"),
    MagicHelp("complaint@…", "", "accepted and delivered, then a SpamComplaint"),
)
HELP_ON_TIMES = (
    "hang-2@… hangs the first two attempts only, and so with every name but the last three. For an SMS, NN is that "
    "number, and 00 is every attempt."
)


def fault_of(recipient: str) -> MagicFault | None:
    return _fault_of_number(recipient) if recipient.startswith("+") else _fault_of_mailbox(mailbox_of(recipient))


def mailbox_of(recipient: str) -> str:
    return recipient.partition("@")[0].partition("+")[0].lower()


def bounce_of(recipient: str) -> str:
    """The bounce type or error code that its receipt brings; empty: it is delivered."""
    if not recipient.startswith("+"):
        return _BOUNCES.get(mailbox_of(recipient), "")
    undelivered = _UNDELIVERED_NUMBER.fullmatch(recipient)
    return str(int(undelivered[1])) if undelivered else ""


def _fault_of_mailbox(mailbox: str) -> MagicFault | None:
    found = _MAILBOX.fullmatch(mailbox)
    if found is None:
        return None
    times = int(found["times"]) if found["times"] else None
    if found["status"]:
        return MagicFault(_HTTP_FAULT[found["status"]], times)
    if found["ms"]:
        milliseconds = float(found["ms"])
        return MagicFault(Fault(Kind.LATENCY, ms=(milliseconds, milliseconds)), times)
    if found["seconds"]:
        return MagicFault(Fault(Kind.TOO_MANY, retry_after=int(found["seconds"])), times)
    if found["code"]:
        return MagicFault(Fault(Kind.ERROR, code=int(found["code"])), times)
    return MagicFault(Fault(Kind(found["plain"])), times)


def _fault_of_number(number: str) -> MagicFault | None:
    if not number.startswith(_ALL_MAGIC_NUMBERS):
        return None
    faulty = _FAULTY_NUMBER.fullmatch(number)
    if faulty and faulty[1] == _LATENCY_DIGIT:
        milliseconds = int(faulty[2]) * 100.0
        return MagicFault(Fault(Kind.LATENCY, ms=(milliseconds, milliseconds)), None)
    if faulty:
        return MagicFault(_FAULT_OF_DIGIT[faulty[1]], int(faulty[2]) or None)
    slow_down = _SLOW_DOWN_NUMBER.fullmatch(number)
    if slow_down:
        return MagicFault(Fault(Kind.TOO_MANY, retry_after=int(slow_down[1])), None)
    refused = _REFUSED_NUMBER.fullmatch(number)
    return MagicFault(Fault(Kind.ERROR, code=int(refused[1])), None) if refused else None
