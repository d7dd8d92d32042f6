"""Which SMS of a provider's list is which message of ours: by its number, its text and its time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import jinja2

from notifyctl.models.template import TemplateSource
from notifyctl.providers.contract import SentRecord
from notifyctl.providers.twilio.smart_encoding import may_be_the_same
from notifyctl.recovery.store import OpenMessage
from notifyctl.templates.render import PLAIN

ENOUGH = 0.6
"""Of the letters that a template always has, so many are found in its messages: parts of it may be left out."""


@dataclass(frozen=True, slots=True)
class SmsMatches:
    found: Sequence[tuple[OpenMessage, SentRecord]]
    doubtful: Sequence[OpenMessage]
    """The provider has something to that number that may be it, and does not show the text."""
    unknown: Sequence[SentRecord]
    """No open message is this one."""


def match(
    records: Iterable[SentRecord],
    waiting: Sequence[OpenMessage],
    *,
    text_of: Callable[[OpenMessage], str | None],
) -> SmsMatches:
    """All are to one number. Each record is taken by one message, the earliest first; `text_of` is None for what
    cannot be made again.
    """
    left = list(waiting)
    found: list[tuple[OpenMessage, SentRecord]] = []
    unknown: list[SentRecord] = []
    withheld = 0
    texts = {message.id: text_of(message) for message in waiting}
    for record in sorted(records, key=lambda record: record.accepted_at):
        if record.text is None:
            withheld += 1
            continue
        shown = record.text
        same = next(
            (each for each in left if (text := texts[each.id]) is not None and may_be_the_same(text, shown)), None
        )
        if same is None:
            unknown.append(record)
        else:
            left.remove(same)
            found.append((same, record))
    unreadable = [each for each in left if texts[each.id] is None] if unknown else []
    return SmsMatches(found, [*left[:withheld], *(each for each in unreadable if each not in left[:withheld])], unknown)


def template_of(text: str, sources: Iterable[TemplateSource]) -> TemplateSource | None:
    """The template that a text was made from, by the words that all its messages have."""
    best: tuple[float, TemplateSource] | None = None
    plain = _squeezed(text)
    for source in sources:
        score = _likeness(plain, source)
        if score >= ENOUGH and (best is None or score > best[0]):
            best = score, source
    return best[1] if best else None


def _likeness(plain: str, source: TemplateSource) -> float:
    try:
        tokens = list(PLAIN.lex(source.text_body))
    except jinja2.TemplateError:
        return 0.0
    words = [_squeezed(value) for _, kind, value in tokens if kind == "data"]
    at = found = 0
    for part in filter(None, words):
        place = plain.find(part, at)
        if place >= 0:
            found += len(part)
            at = place + len(part)
    total = sum(map(len, words))
    return found / total if total else 0.0


def _squeezed(text: str) -> str:
    return "".join(text.split())
