"""The list of messages as the page asks for it: what was filled in, what it means, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.http.pages.span import in_utc
from notifyctl.models.enums import MessageStatus
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.filters import FILTERS, MessageFilters
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.text.masking import mask

BEFORE = "before"
"""The id of the last message of the page before."""
PAGE = 25


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

    def link(self, span: Mapping[str, str], **changed: str) -> str:
        """The query of the same list beside this span, with something changed."""
        return urlencode({**span, **self.filters, **changed})

    def zoomed(self, span: Mapping[str, str]) -> str:
        """The same of a span that brings its own beginning and end of the list."""
        return urlencode({**self.filters, **span})


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
class MessageList:
    messages: tuple[ListedMessage, ...]
    last_id: str | None
    """None when there is nothing older."""


def read_query(runtime: Runtime, query: Mapping[str, str], zone: ZoneInfo) -> ListingQuery:
    written = {name: value for name in FILTERS if (value := query.get(name, "").strip())}
    written |= {name: in_utc(written[name], zone) for name in ("since", "until") if name in written}
    reader = MessageFilters(runtime.keys, runtime.settings.otp_default_region, runtime.clock())
    criteria, faults = reader.read(written)
    return ListingQuery(written, _id(query.get(BEFORE, "")), criteria, faults)


def _id(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def find_messages(session: Session, query: ListingQuery) -> MessageList:
    """Nothing is looked for while a filter is not understood: to leave it out would show too much."""
    if query.faults:
        return MessageList((), None)
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
    return MessageList(shown, shown[-1].id if len(rows) > PAGE else None)
