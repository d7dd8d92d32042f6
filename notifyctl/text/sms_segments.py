"""How many SMS a text costs: the alphabet it needs (3GPP TS 23.038), the parts it is cut into (TS 23.040).

As Twilio's own calculator has it: https://github.com/TwilioDevEd/message-segment-calculator
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import lru_cache
from unicodedata import category


class _Kind(Enum):
    OTHER = auto()
    CONTROL = auto()
    PREPENDED = auto()
    ATTACHED = auto()
    """A mark on what stands before it."""
    JOINER = auto()
    REGIONAL = auto()
    """Half of a flag."""
    BASE = auto()
    """An emoji that a modifier gives a colour of skin."""
    GLUED = auto()
    """An emoji that a joiner binds to the one before."""
    GLUED_BASE = auto()
    MODIFIER = auto()
    L = auto()
    """Hangul: leading consonants, vowels, trailing consonants, and whole syllables."""
    V = auto()
    T = auto()
    LV = auto()
    LVT = auto()


_JOINED = frozenset(
    {
        (_Kind.L, _Kind.L), (_Kind.L, _Kind.V), (_Kind.L, _Kind.LV), (_Kind.L, _Kind.LVT),
        (_Kind.LV, _Kind.V), (_Kind.LV, _Kind.T), (_Kind.V, _Kind.V), (_Kind.V, _Kind.T),
        (_Kind.LVT, _Kind.T), (_Kind.T, _Kind.T),
        (_Kind.JOINER, _Kind.GLUED), (_Kind.JOINER, _Kind.GLUED_BASE),
    }
)  # fmt: skip
_BASES = frozenset({_Kind.BASE, _Kind.GLUED_BASE})
_MARKS = frozenset({_Kind.ATTACHED, _Kind.JOINER})


def graphemes(text: str) -> Iterator[str]:
    """The text in pieces that belong together. A carriage return and its line feed are two."""
    start, before = 0, _Kind.CONTROL
    base = before
    """The last that was no mark."""
    regionals = 0
    for at, character in enumerate(text):
        kind = _kind(character)
        if at and not _belongs(before, kind, base, regionals):
            yield text[start:at]
            start, regionals = at, 0
        regionals += kind is _Kind.REGIONAL
        before = kind
        base = base if kind in _MARKS else kind
    if text:
        yield text[start:]


def _belongs(before: _Kind, kind: _Kind, base: _Kind, regionals: int) -> bool:
    if _Kind.CONTROL in (before, kind):
        return False
    if kind in _MARKS or before is _Kind.PREPENDED or (before, kind) in _JOINED:
        return True
    if kind is _Kind.MODIFIER:
        return base in _BASES
    return before is _Kind.REGIONAL and kind is _Kind.REGIONAL and regionals % 2 == 1


def _spread(*ranges: tuple[int, int]) -> frozenset[int]:
    return frozenset(code for first, last in ranges for code in range(first, last + 1))


_PREPENDED = _spread(
    (0x0600, 0x0605), (0x06DD, 0x06DD), (0x070F, 0x070F), (0x08E2, 0x08E2), (0x0D4E, 0x0D4E), (0x110BD, 0x110BD),
    (0x111C2, 0x111C3), (0x11A3A, 0x11A3A), (0x11A86, 0x11A89), (0x11D46, 0x11D46),
)  # fmt: skip
_ATTACHED_TOO = _spread((0x0E33, 0x0E33), (0x0EB3, 0x0EB3), (0x200C, 0x200C), (0xFF9E, 0xFF9F), (0xE0020, 0xE007F))
# Marks that have a place of their own, mostly vowels of Burmese.
_NOT_ATTACHED = _spread(
    (0x102B, 0x102C), (0x1038, 0x1038), (0x1062, 0x1064), (0x1067, 0x106D), (0x1083, 0x1083), (0x1087, 0x108C),
    (0x108F, 0x108F), (0x109A, 0x109C), (0x1A61, 0x1A61), (0x1A63, 0x1A64), (0xAA7B, 0xAA7B), (0xAA7D, 0xAA7D),
)  # fmt: skip
_BASE = _spread(
    (0x261D, 0x261D), (0x26F9, 0x26F9), (0x270A, 0x270D), (0x1F385, 0x1F385), (0x1F3C2, 0x1F3C4), (0x1F3C7, 0x1F3C7),
    (0x1F3CA, 0x1F3CC), (0x1F442, 0x1F443), (0x1F446, 0x1F450), (0x1F46E, 0x1F46E), (0x1F470, 0x1F478),
    (0x1F47C, 0x1F47C), (0x1F481, 0x1F483), (0x1F485, 0x1F487), (0x1F4AA, 0x1F4AA), (0x1F574, 0x1F575),
    (0x1F57A, 0x1F57A), (0x1F590, 0x1F590), (0x1F595, 0x1F596), (0x1F645, 0x1F647), (0x1F64B, 0x1F64F),
    (0x1F6A3, 0x1F6A3), (0x1F6B4, 0x1F6B6), (0x1F6C0, 0x1F6C0), (0x1F6CC, 0x1F6CC), (0x1F918, 0x1F91C),
    (0x1F91E, 0x1F91F), (0x1F926, 0x1F926), (0x1F930, 0x1F939), (0x1F93D, 0x1F93E), (0x1F9D1, 0x1F9DD),
)  # fmt: skip
_GLUED = frozenset(map(ord, "♀♂⚕⚖✈❤🌈🌾🍳🎓🎤🎨🏫🏭💋💻💼🔧🔬🗨🚀🚒"))
_HANGUL = (
    (0x1100, 0x115F, _Kind.L), (0xA960, 0xA97C, _Kind.L), (0x1160, 0x11A7, _Kind.V), (0xD7B0, 0xD7C6, _Kind.V),
    (0x11A8, 0x11FF, _Kind.T), (0xD7CB, 0xD7FB, _Kind.T), (0xAC00, 0xD7A3, _Kind.LVT),
)  # fmt: skip
_JOINER = 0x200D
_TRAILING_CONSONANTS = 28
_LISTED = {
    **dict.fromkeys(_PREPENDED, _Kind.PREPENDED),
    **dict.fromkeys(_ATTACHED_TOO, _Kind.ATTACHED),
    **dict.fromkeys(_NOT_ATTACHED, _Kind.OTHER),
    **dict.fromkeys(_BASE, _Kind.BASE),
    **dict.fromkeys(_GLUED, _Kind.GLUED),
    **dict.fromkeys(range(0x1F466, 0x1F46A), _Kind.GLUED_BASE),
    **dict.fromkeys(range(0x1F3FB, 0x1F400), _Kind.MODIFIER),
    **dict.fromkeys(range(0x1F1E6, 0x1F200), _Kind.REGIONAL),
    _JOINER: _Kind.JOINER,
}


@lru_cache(maxsize=4096)
def _kind(character: str) -> _Kind:
    code = ord(character)
    listed = _LISTED.get(code)
    if listed is not None:
        return listed
    for first, last, kind in _HANGUL:
        if first <= code <= last:
            is_open = kind is _Kind.LVT and (code - first) % _TRAILING_CONSONANTS == 0
            return _Kind.LV if is_open else kind
    match category(character):
        case "Mn" | "Mc" | "Me":
            return _Kind.ATTACHED
        case "Cc" | "Cf" | "Cs" | "Zl" | "Zp":
            return _Kind.CONTROL
    return _Kind.OTHER


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


def beyond_gsm_7(text: str) -> list[str]:
    """What makes it UCS-2, each once: as it is, or as U+202F where it cannot be seen."""
    strange = dict.fromkeys(character for character in text if character not in _GSM_7)
    return [character if category(character)[0] in "LNPS" else f"U+{ord(character):04X}" for character in strange]


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
