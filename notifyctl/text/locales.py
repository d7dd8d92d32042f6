"""Locales as they are written, the language that is chosen by one, and dates, numbers and money in it."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal

from notifyctl.errors import InvalidInput

# Behind language, script and region may stand variants and extensions; behind a dot the encoding of a POSIX system.
_TAG = re.compile(
    r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|[0-9]{3}))?(?:[-_][a-z0-9]{1,8})*(?:[.@].*)?", re.IGNORECASE
)
_AMOUNT = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,6})?) ([A-Z]{3})")
_LETTER_AT_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_NARROW = str.maketrans({"\u202f": " ", "\u00a0": " "})
_WORLD_ENGLISH = "en_001"
"""13 April 2026: no reader takes the day for the month."""


def normal_locale(text: str) -> str:
    """`de_at.UTF-8` -> `de-AT`. Raises InvalidInput for what names no language that is known."""
    match = _TAG.fullmatch(text.strip())
    language, script, region = match.groups(default="") if match else ("", "", "")
    known = _known()
    if language.lower() not in known.languages or (region and region.upper() not in known.territories):
        raise InvalidInput(f"{text[:40]!r} is no language that is known; write it as de, de-AT or zh-Hant-TW")
    return "-".join(filter(None, (language.lower(), script.title(), region.upper())))


@lru_cache(maxsize=1)
def _known() -> Locale:
    """Names every language and region that there is."""
    return Locale("en")


def fallbacks(tag: str) -> tuple[str, ...]:
    """`zh-Hant-TW` -> itself, `zh-Hant`, `zh`."""
    parts = tag.split("-")
    return tuple("-".join(parts[:count]) for count in range(len(parts), 0, -1))


@lru_cache(maxsize=1_024)
def choose(locale: str | None, languages: tuple[str, ...]) -> tuple[str, str]:
    """The language of a text, of which the first is the default, and the locale for what is formatted in it.

    Both for any `locale`, also one that nobody has checked.
    """
    try:
        tag = normal_locale(locale) if locale else languages[0]
    except InvalidInput:
        tag = languages[0]
    language = next((candidate for candidate in fallbacks(tag) if candidate in languages), languages[0])
    return language, tag if tag.split("-")[0] == language.split("-")[0] else language


def is_right_to_left(tag: str) -> bool:
    return _formats(tag).text_direction == "rtl"


# The same day and the same price stand in a thousand mails, and each takes longer than the rest of a page.
@lru_cache(maxsize=4_096)
def long_date(value: str, tag: str) -> str:
    """`2026-03-09` -> `9 March 2026`, `9. März 2026`."""
    day, locale = date.fromisoformat(value), _formats(tag)
    written = format_date(day, "long", locale=locale)
    # What the library does not know: the first of a month is counted, and the other days are numbered.
    return written.replace("1 ", "1er ", 1) if locale.language == "fr" and day.day == 1 else written


@lru_cache(maxsize=4_096)
def number(value: float, tag: str) -> str:
    """`12345` -> `12,345`, `12.345`."""
    return format_decimal(value, locale=_formats(tag))


@lru_cache(maxsize=4_096)
def money(text: str, tag: str) -> str:
    """`49.00 USD` -> `US$49.00`, `49,00 $`; never rounded. What is written otherwise stays as it is."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return text
    written = format_currency(Decimal(match[1]), match[2], locale=_formats(tag), decimal_quantization=False)
    return _LETTER_AT_DIGIT.sub("\u00a0", written)


def plural(count: float, forms: Mapping[str, str], tag: str) -> str:
    """The form for `count` among `one`, `few`, `other` and so on, as that language has them. Raises KeyError."""
    form = _formats(tag).plural_form(count)
    return forms[form] if form in forms else forms["other"]


def plain_blanks(text: str) -> str:
    """Without blanks that no line breaks at: one of them would make an SMS twice as long."""
    return text.translate(_NARROW)


@lru_cache(maxsize=256)
def _formats(tag: str) -> Locale:
    for candidate in fallbacks(tag):
        try:
            return Locale.parse(_WORLD_ENGLISH if candidate == "en" == tag else candidate.replace("-", "_"))
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse(_WORLD_ENGLISH)


def is_known(text: str) -> bool:
    try:
        normal_locale(text)
    except InvalidInput:
        return False
    return True


def is_normal(text: str) -> bool:
    """Written as `normal_locale` writes it."""
    try:
        return normal_locale(text) == text
    except InvalidInput:
        return False
