"""Which messages somebody asks for, by filters or by their ids: on the command line, over HTTP and on the page."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from sqlmodel import Session

from notifyctl.errors import InvalidInput, NotFound
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import BlockReason, Channel, FailureReason, Lane, MessageStatus
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.message_store import MessageFilter, MessageRow
from notifyctl.text.addresses import AddressError, parse_address
from notifyctl.text.choices import chosen, is_none_of
from notifyctl.text.durations import parse_moment

FILTERS = ("status", "reason", "channel", "template_key", "client_id", "lane", "recipient", "since", "until")
"""By the names that the API gives them."""
REASONS = {"Blocked": tuple(BlockReason), "Failed or bounced": tuple(FailureReason)}
EVERY_REASON = tuple(dict.fromkeys(reason.value for group in REASONS.values() for reason in group))
MAX_LENGTH = 255
Faults: TypeAlias = dict[str, str]
"""What is wrong with a filter, in words that follow its name and do not repeat what was written."""


class MessageFilters:
    """Reads what was written. `region` is that of numbers without a +."""

    def __init__(self, keys: KeyRing, region: str | None, now: datetime) -> None:
        self._keys = keys
        self._region = region
        self._now = now

    def read(self, written: Mapping[str, str]) -> tuple[MessageFilter, Faults]:
        """By the names of FILTERS. What is at fault is not in the filter: nobody may go on with it as if it were."""
        readers: Mapping[str, Callable[[str], object]] = {
            "status": lambda text: _one_of(MessageStatus, text),
            "reason": _reason,
            "channel": lambda text: _one_of(Channel, text),
            "template_key": str.upper,
            "lane": lambda text: _one_of(Lane, text),
            "recipient": self.hashes,
            "since": self._moment,
            "until": self._moment,
        }
        values: dict[str, object] = {}
        faults: Faults = {}
        for name, text in written.items():
            try:
                values[_FIELDS.get(name, name)] = readers.get(name, str)(_plain(text))
            except ValueError as error:
                faults[name] = str(error)
        return MessageFilter(**values), faults  # type: ignore[arg-type]

    def hashes(self, address: str) -> list[str]:
        """What a recipient is found by. Raises ValueError."""
        try:
            return self._keys.recipient_hashes(*parse_address(address, self._region))
        except AddressError as error:
            raise ValueError(f"cannot be looked for: the {error.fault}") from None

    def _moment(self, text: str) -> datetime:
        try:
            return parse_moment(text, self._now)
        except InvalidInput as error:
            raise ValueError(str(error).removeprefix(f"{text!r} ")) from None


_FIELDS = {"recipient": "recipient_hashes"}


def _plain(text: str) -> str:
    if len(text) > MAX_LENGTH or "\x00" in text:
        raise ValueError(f"has more than {MAX_LENGTH} characters, or one that it may not have")
    return text


def _one_of(kind: type[StrEnum], text: str) -> StrEnum:
    member = chosen(text, kind)
    if member is None:
        raise ValueError(is_none_of(text, kind))
    return member


def _reason(text: str) -> str:
    reason = chosen(text, EVERY_REASON)
    if reason is None:
        raise ValueError(is_none_of(text, EVERY_REASON))
    return reason


LAST = "last"
"""Stands for the id of the newest message."""
LEAST_DIGITS = 6
_MOST_NAMED = 3
NEWEST = 250_000
"""Among so many ids an end is looked for first: a third of a second on PostgreSQL, where a million take one."""
_PART_OF_ID = re.compile(rf"(?:[0-9a-f]-?){{{LEAST_DIGITS},32}}")


def find_message(session: Session, text: str) -> MessageRow:
    """By its whole id, an unambiguous beginning or end of it, or `last`. Raises InvalidInput or NotFound."""
    if text == LAST:
        newest = message_store.find(session, MessageFilter(), limit=1)
        if not newest:
            raise NotFound("there is no message yet; `notifyctl send` makes one")
        return newest[0]
    if not _PART_OF_ID.fullmatch(text.lower()):
        raise InvalidInput(
            f"{text!r} is not a message id: a UUID such as 0198c7b2-…, its beginning or end of {LEAST_DIGITS}"
            f" digits or more, or {LAST}"
        )
    digits = text.lower().replace("-", "")
    ids = message_store.ids_like(session, digits, _MOST_NAMED + 1, newest=NEWEST)
    if len(ids) > 1:
        named = ", ".join(ids[:_MOST_NAMED])
        more = " and more" if len(ids) > _MOST_NAMED else ""
        raise InvalidInput(f"{text!r} is the beginning or end of several messages, {named}{more}; give more of the id")
    message = message_store.get(session, ids[0]) if ids else None
    if message is None:
        raise NotFound(f"there is no message {text}; `notifyctl messages list` shows the newest")
    return message
