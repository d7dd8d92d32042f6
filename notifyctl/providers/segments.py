"""How many SMS a text costs: the alphabet it needs (3GPP TS 23.038), the parts it is cut into (TS 23.040).

As Twilio's own calculator has it: https://github.com/TwilioDevEd/message-segment-calculator
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from notifyctl.providers.graphemes import graphemes

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM_7 = _BASIC | _EXTENSION


class SmsEncoding(StrEnum):
    GSM_7 = "GSM-7"
    UCS_2 = "UCS-2"


_ALONE = {SmsEncoding.GSM_7: 160, SmsEncoding.UCS_2: 70}
# A part of a longer message gives up six bytes to the header that puts the parts together again.
_IN_PARTS = {SmsEncoding.GSM_7: 153, SmsEncoding.UCS_2: 67}


@dataclass(frozen=True, slots=True)
class SmsSize:
    """Characters are counted as networks do: € and [ are two in GSM-7, an emoji is two in UCS-2."""

    encoding: SmsEncoding
    characters: int
    segments: int


def measure(text: str) -> SmsSize:
    """The size of a text as SMS; an empty text has no segments."""
    if _BASIC.issuperset(text):
        return _size(SmsEncoding.GSM_7, len(text), (1 for _ in text))
    if _GSM_7.issuperset(text):
        widths = [2 if character in _EXTENSION else 1 for character in text]
        return _size(SmsEncoding.GSM_7, sum(widths), widths)
    return _size(SmsEncoding.UCS_2, _units(text), (_units(grapheme) for grapheme in graphemes(text)))


def _units(text: str) -> int:
    """Of UTF-16, in which a character beyond U+FFFF takes two."""
    return len(text) + sum(character > "\uffff" for character in text)


def _size(encoding: SmsEncoding, total: int, widths: Iterable[int]) -> SmsSize:
    if total <= _ALONE[encoding]:
        return SmsSize(encoding, total, 1 if total else 0)
    return SmsSize(encoding, total, _parts(widths, _IN_PARTS[encoding]))


def _parts(widths: Iterable[int], room: int) -> int:
    """Parts needed when nothing that belongs together straddles two of them."""
    parts, used = 1, 0
    for width in widths:
        if used + width > room:
            parts, used = parts + 1, 0
        used += width
    return parts
