"""Recipients that fail on purpose: an email's local part, or a range of numbers, and the fault that it brings.

For an email, what follows a plus sign is no part of the name: hang+anna@… hangs too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from notifyctl.errors import InvalidInput
from notifyctl.sandbox.faults.faults import Fault, read_fault


@dataclass(frozen=True, slots=True)
class MagicRecipient:
    """V stands for the digits of a value, N for how many attempts fail. What is in brackets may be left out."""

    email: str
    sms: str
    fault: str
    """As a line of --fault."""
    meaning: str
    bounce: str = ""
    """What its receipt brings, in place of a fault."""


MAGIC_RECIPIENTS = (
    MagicRecipient("inactive@…", "", "error,code=406", "suppressed after a hard bounce or complaint"),
    MagicRecipient("reject@…", "", "error,code=300", "not an address"),
    MagicRecipient("nocredits@…", "", "error,code=405", "the server may not send"),
    MagicRecipient("pending@…", "", "error,code=412", "the account is not approved yet"),
    MagicRecipient("busy-N@…", "", "error,code=100,times=N", "Postmark is down for maintenance (HTTP 503)"),
    MagicRecipient("", "+15005550001", "error,code=21211", "not a phone number"),
    MagicRecipient("", "+15005550002", "error,code=21612", "no route to it"),
    MagicRecipient("", "+15005550003", "error,code=21408", "its region is not enabled"),
    MagicRecipient("", "+15005550004", "error,code=21610", "unsubscribed"),
    MagicRecipient("", "+15005550009", "error,code=21614", "not a mobile number"),
    MagicRecipient("", "+1500555 10NN", "error,code=20503[,times=N]", "Twilio is away (HTTP 503)"),
    MagicRecipient("", "+1500555 11NN", "error,code=20429[,times=N]", "too many requests (HTTP 429)"),
    MagicRecipient("hang[-N]@…", "+1500555 20NN", "hang[,times=N]", "no answer; not accepted"),
    MagicRecipient("accept-then-hang[-N]@…", "+1500555 21NN", "accept-then-hang[,times=N]", "accepted, but no answer"),
    MagicRecipient(
        "cut-before[-N]@…", "+1500555 22NN", "cut-before[,times=N]", "the connection is closed; not accepted"
    ),
    MagicRecipient(
        "accept-then-cut[-N]@…", "+1500555 23NN", "accept-then-cut[,times=N]", "accepted, then the connection is closed"
    ),
    MagicRecipient("garbage[-N]@…", "+1500555 24NN", "garbage[,times=N]", "accepted, with an answer that is not JSON"),
    MagicRecipient("truncated[-N]@…", "+1500555 25NN", "truncated[,times=N]", "accepted, with half an answer"),
    MagicRecipient(
        "http-500[-N]@…", "+1500555 26NN", "http,status=500[,times=N]", "HTTP 500 from something in between"
    ),
    MagicRecipient("http-502[-N]@…", "+1500555 27NN", "http,status=502[,times=N]", "HTTP 502 likewise"),
    MagicRecipient("http-503[-N]@…", "", "http,status=503[,times=N]", "HTTP 503 likewise"),
    MagicRecipient("http-504[-N]@…", "+1500555 28NN", "http,status=504[,times=N]", "HTTP 504 likewise"),
    MagicRecipient("latency-V[-N]@…", "", "latency,ms=V[,times=N]", "accepted, V milliseconds late"),
    MagicRecipient("", "+1500555 29VV", "latency,ms=V00", "accepted, VV tenths of a second late"),
    MagicRecipient(
        "too-many-V[-N]@…", "+1500555 3VVV", "too-many,retry_after=V[,times=N]", "HTTP 429 with Retry-After: V"
    ),
    MagicRecipient(
        "error-V[-N]@…", "+150056 VVVVV", "error,code=V[,times=N]", "refused with code V, any of the provider"
    ),
    MagicRecipient("bounce@…", "", "", "accepted, then a HardBounce", bounce="HardBounce"),
    MagicRecipient("softbounce@…", "", "", "accepted, then a SoftBounce", bounce="SoftBounce"),
    MagicRecipient("complaint@…", "", "", "accepted and delivered, then a SpamComplaint", bounce="SpamComplaint"),
    MagicRecipient("", "+150057 VVVVV", "", "accepted, then undelivered with code V", bounce="V"),
)


@dataclass(frozen=True, slots=True)
class Magic:
    """What one recipient brings: a fault, or a bounce after it was accepted."""

    fault: Fault | None
    bounce: str


@lru_cache(maxsize=2048)  # one message asks several times
def magic_of(recipient: str) -> Magic | None:
    name = recipient if recipient.startswith("+") else mailbox_of(recipient)
    if not _LOOKS_MAGIC.fullmatch(name):
        return None
    row, match = next((row, match) for pattern, row in _PATTERNS if (match := pattern.fullmatch(name)))
    groups = match.groupdict()
    value, times = groups.get("value", ""), int(groups.get("times") or 0)
    if row.bounce:
        return Magic(None, row.bounce.replace("V", value.lstrip("0")))
    line = row.fault.replace("V", value)
    line = re.sub(r"[][]", "", line).replace("N", str(times)) if times else re.sub(r"\[.*\]", "", line)
    try:
        return Magic(read_fault(line), "")
    except InvalidInput:
        return None


def mailbox_of(recipient: str) -> str:
    return recipient.partition("@")[0].partition("+")[0].lower()


def _patterns_of(row: MagicRecipient) -> Iterator[str]:
    """Of the mailbox and of the number; a number has as many digits as letters stand for them."""
    if row.email:
        mailbox = re.escape(row.email.removesuffix("@…")).replace(r"\[", "(?:").replace(r"\]", ")?")
        yield mailbox.replace("V", "(?P<value>[0-9]{1,5})").replace("N", "(?P<times>[1-9][0-9]{0,3})")
    if row.sms:
        number = re.escape(row.sms.replace(" ", "")).replace("NN", "(?P<times>[0-9]{2})")
        yield re.sub("V+", lambda digits: f"(?P<value>[0-9]{{{len(digits[0])}}})", number)


_PATTERNS = [(re.compile(pattern), row) for row in MAGIC_RECIPIENTS for pattern in _patterns_of(row)]
_LOOKS_MAGIC = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", pattern.pattern) for pattern, _ in _PATTERNS))
"""One look at what is mostly somebody's ordinary address."""
