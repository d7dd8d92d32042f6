"""The list of messages as the page asks for it: what was filled in, what it means, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.http.strict_json import QueryMoment
from notifyctl.models.enums import BlockReason, Channel, FailureReason, MessageStatus
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.text.addresses import AddressError, parse_address
from notifyctl.text.masking import mask

FILTERS = ("status", "reason", "channel", "template_key", "client_id", "recipient", "since")
"""By the names that the API gives them."""
BEFORE = "before"
"""The id of the last message of the page before."""
PAGE = 25
MAX_LENGTH = 255
REASONS = {"Blocked": tuple(BlockReason), "Failed or bounced": tuple(FailureReason)}

E = TypeVar("E", bound=StrEnum)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(QueryMoment)


@dataclass(frozen=True, slots=True)
class ListingQuery:
    filters: Mapping[str, str]
    """Of FILTERS, those that were filled in, as they were."""
    before: str | None
    filter: MessageFilter
    faults: Mapping[str, str]
    """What is wrong with a filter, in words that follow its name."""

    def value(self, name: str) -> str:
        return self.filters.get(name, "")

    def link(self, window_minutes: int, **changed: str) -> str:
        """The query of the same list, with something changed."""
        return urlencode({"window_minutes": window_minutes, **self.filters, **changed})


@dataclass(frozen=True, slots=True)
class ListedMessage:
    id: str
    created_at: datetime
    template_key: str
    recipient: str
    """Masked."""
    client_id: str | None
    status: MessageStatus
    attempts: int
    reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    messages: tuple[ListedMessage, ...]
    last_id: str | None
    """None when there is nothing older."""


def read_query(runtime: Runtime, query: Mapping[str, str]) -> ListingQuery:
    filters = {name: value for name in FILTERS if (value := query.get(name, "").strip())}
    criteria = MessageFilter()
    faults: dict[str, str] = {}
    for name, text in filters.items():
        try:
            criteria = _narrowed(criteria, runtime, name, text)
        except ValueError as error:
            faults[name] = str(error)
    return ListingQuery(filters, _id(query.get(BEFORE, "")), criteria, faults)


def _narrowed(criteria: MessageFilter, runtime: Runtime, name: str, text: str) -> MessageFilter:
    """Raises ValueError with what is wrong, without what was filled in."""
    if len(text) > MAX_LENGTH or "\x00" in text:
        raise ValueError(f"has more than {MAX_LENGTH} characters, or one that it may not have")
    match name:
        case "status":
            return replace(criteria, status=_one_of(MessageStatus, text))
        case "channel":
            return replace(criteria, channel=_one_of(Channel, text))
        case "recipient":
            return replace(criteria, recipient_hashes=_hashes(runtime, text))
        case "since":
            return replace(criteria, since=_moment(text))
        case "reason":
            return replace(criteria, reason=text)
        case "template_key":
            return replace(criteria, template_key=text)
        case _:
            return replace(criteria, client_id=text)


def _one_of(kind: type[E], text: str) -> E:
    try:
        return kind(text.upper())
    except ValueError:
        raise ValueError("is none that there is") from None


def _moment(text: str) -> datetime:
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        raise ValueError("must be a time, as 2026-03-01T12:00") from None


def _hashes(runtime: Runtime, text: str) -> list[str]:
    try:
        return runtime.keys.recipient_hashes(*parse_address(text, runtime.settings.otp_default_region))
    except AddressError as error:
        raise ValueError(f"cannot be looked for: the {error.fault}") from None


def _id(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def find_messages(session: Session, query: ListingQuery) -> Listing:
    """Nothing is looked for while a filter is not understood: to leave it out would show too much."""
    if query.faults:
        return Listing((), None)
    rows = message_store.find(session, query.filter, limit=PAGE + 1, before=query.before)
    shown = tuple(
        ListedMessage(
            id=row.id,
            created_at=row.created_at,
            template_key=row.template_key,
            recipient=mask(row.recipient),
            client_id=row.client_id,
            status=row.status,
            attempts=row.attempts,
            reason=row.reason,
            error=row.error,
        )
        for row in rows[:PAGE]
    )
    return Listing(shown, shown[-1].id if len(rows) > PAGE else None)
