"""The list of messages as the page asks for it: what was filled in, what it means, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.http.fields import MomentAsked
from notifyctl.models.message import BlockReason, FailureReason, MessageStatus
from notifyctl.models.template import Channel
from notifyctl.orchestrator.addresses import AddressError, normal_address
from notifyctl.orchestrator.masking import mask
from notifyctl.store import messages
from notifyctl.store.messages import Filter

FILTERS = ("status", "reason", "channel", "template_key", "client_id", "recipient", "since")
"""By the names that the API gives them."""
BEFORE = "before"
"""The id of the last message of the page before."""
PAGE = 25
MAX_LENGTH = 255
REASONS = {"Blocked": tuple(BlockReason), "Failed or bounced": tuple(FailureReason)}
_MOMENT = TypeAdapter(MomentAsked)


@dataclass(frozen=True, slots=True)
class Asked:
    given: Mapping[str, str]
    """Of FILTERS, those that were filled in."""
    before: str | None
    wanted: Filter
    faults: Mapping[str, str]
    """What is wrong with a filter, in words that follow its name."""

    def value(self, name: str) -> str:
        return self.given.get(name, "")

    def query(self, window_minutes: int, **changed: str) -> str:
        """For a link to the same list, with something changed."""
        return urlencode({"window_minutes": window_minutes, **self.given, **changed})


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Mapping[str, Any], ...]
    """Columns of message_log, with the recipient masked."""
    last_id: str | None
    """None when there is nothing older."""


def read(runtime: Runtime, query: Mapping[str, str]) -> Asked:
    given = {name: value for name in FILTERS if (value := query.get(name, "").strip())}
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name, text in given.items():
        try:
            values |= _meaning(runtime, name, text)
        except ValueError as error:
            faults[name] = str(error)
    return Asked(given, _id(query.get(BEFORE, "")), Filter(**values), faults)


def _meaning(runtime: Runtime, name: str, text: str) -> dict[str, Any]:
    """Raises ValueError with what is wrong, without what was given."""
    if len(text) > MAX_LENGTH or "\x00" in text:
        raise ValueError(f"has more than {MAX_LENGTH} characters, or one that it may not have")
    match name:
        case "status":
            return {name: _one_of(MessageStatus, text)}
        case "channel":
            return {name: _one_of(Channel, text)}
        case "recipient":
            return {"recipient_hashes": _hashes(runtime, text)}
        case "since":
            return {name: _moment(text)}
        case _:
            return {name: text}


def _one_of(kind: type[MessageStatus] | type[Channel], text: str) -> MessageStatus | Channel:
    try:
        return kind(text.upper())
    except ValueError:
        raise ValueError("is none that there is") from None


def _moment(text: str) -> Any:
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        raise ValueError("must be a time, as 2026-03-01T12:00") from None


def _hashes(runtime: Runtime, text: str) -> list[str]:
    channel = Channel.EMAIL if "@" in text else Channel.SMS
    try:
        normal = normal_address(channel, text, runtime.settings.otp_default_region)
    except AddressError as error:
        raise ValueError(f"cannot be looked for: the {error.fault}") from None
    return runtime.keys.recipient_hashes(channel, normal)


def _id(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def find(session: Session, asked: Asked) -> Listing:
    """Nothing is looked for while a filter is not understood: to leave it out would show too much."""
    if asked.faults:
        return Listing((), None)
    found = messages.find(session, asked.wanted, limit=PAGE + 1, before=asked.before)
    shown = tuple(_masked(found[:PAGE]))
    return Listing(shown, shown[-1]["id"] if len(found) > PAGE else None)


def _masked(rows: Any) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        yield {**row._mapping, "recipient": mask(row.recipient)}
