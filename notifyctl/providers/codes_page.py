"""The providers' error codes: one table for sending, for receipts and for the documentation."""

from collections.abc import Mapping

from notifyctl.providers.postmark.codes import POSTMARK_BOUNCE_TYPES, POSTMARK_CODES
from notifyctl.providers.results import CodeMeaning
from notifyctl.providers.twilio.codes import TWILIO_CODES

__all__ = ["POSTMARK_BOUNCE_TYPES", "POSTMARK_CODES", "TWILIO_CODES", "CodeMeaning", "codes_markdown"]

_INTRODUCTION = """# Provider codes

What notifyctl makes of the providers' codes. *Class* is the `reason` of a FAILED or BOUNCED message.
*Transient*: a send that is refused with this code is tried again; a bounce of this type is not the end of the
message. *Suppresses*: the address or number is written to no more until `notifyctl suppressions remove`.
A code that is not listed fails the message with the class UNKNOWN.
"""


def codes_markdown() -> str:
    sections = (
        _section("Postmark: answers to a send", "ErrorCode", POSTMARK_CODES),
        _section("Postmark: bounces reported later", "Type", POSTMARK_BOUNCE_TYPES),
        _section("Twilio: answers to a send, and receipts", "Code", TWILIO_CODES),
    )
    return "\n".join((_INTRODUCTION, *sections))


def _section(title: str, key: str, codes: Mapping[int, CodeMeaning] | Mapping[str, CodeMeaning]) -> str:
    head = f"## {title}\n\n| {key} | Meaning | Class | Transient | Suppresses |\n|---|---|---|---|---|\n"
    return head + "".join(_row(code, meaning) for code, meaning in codes.items())


def _row(code: int | str, meaning: CodeMeaning) -> str:
    transient = "yes" if meaning.transient else ""
    return f"| {code} | {meaning.remark} | {meaning.reason} | {transient} | {meaning.suppress or ''} |\n"
