"""Colours as #RRGGBB: how well one is read on another (WCAG 2), and what becomes of a company's colour in the dark."""

import re
from collections.abc import Callable

READABLE = 4.5
"""Contrast that text needs (WCAG 2, level AA)."""
EASY = 7.0
"""Contrast of a link in dark mode, where thin letters blur."""
VISIBLE = 3.0
"""Contrast that the outline of a button needs."""
WHITE = "#ffffff"
DARK_CARD = "#181c24"
"""What the mails' layout writes on in dark mode."""
_HEX = re.compile(r"#?([0-9a-f]{3}|[0-9a-f]{6})", re.IGNORECASE)
_STEPS = 128


def parse(text: str) -> str | None:
    """In six small digits, whether # is written or not; None for what is no colour in hexadecimal digits."""
    match = _HEX.fullmatch(text)
    if match is None:
        return None
    digits = match[1].lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def darkened(color: str, on: str = WHITE) -> str:
    """The nearest shade of it that can be read on a light colour."""
    return _until(color, "#000000", lambda shade: contrast(shade, on) >= READABLE)


def link_on_dark(color: str) -> str:
    return _until(color, WHITE, lambda shade: contrast(shade, DARK_CARD) >= EASY)


def button_on_dark(color: str) -> str:
    """Seen on the card, with white to be read on it."""
    return _until(color, WHITE, lambda shade: contrast(shade, DARK_CARD) >= VISIBLE)


def _until(color: str, towards: str, is_enough: Callable[[str], bool]) -> str:
    shades = (_mixed(color, towards, step / _STEPS) for step in range(_STEPS + 1))
    return next((shade for shade in shades if is_enough(shade)), towards)


def _mixed(color: str, other: str, share: float) -> str:
    mixed = (round(a + (b - a) * share) for a, b in zip(_channels(color), _channels(other), strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _luminance(color: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in _channels(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    linear: float = channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4
    return linear
