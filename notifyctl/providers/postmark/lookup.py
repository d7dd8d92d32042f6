"""What became of an email, by the id of ours that went with it as metadata.

https://postmarkapp.com/developer/api/messages-api
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from notifyctl.providers.certificates import Authorities
from notifyctl.providers.contract import (
    POSTMARK_SEARCH_DELAY,
    POSTMARK_TIMEOUT,
    CannotTell,
    LookupHit,
    LookupMiss,
    LookupResult,
    Rejected,
    Unavailable,
    UncertainSend,
)
from notifyctl.providers.postmark.client import POSTMARK_ERRORS, CurlPostmarkClient
from notifyctl.providers.postmark.codes import POSTMARK_BOUNCE_TYPES
from notifyctl.providers.postmark.receipts import COMPLAINT
from notifyctl.providers.receipts import moment
from notifyctl.providers.results import NotAccepted, no_result, provider_id, without_recipients

Row = Mapping[str, Any]
"""A message in the JSON of the search: what is not as documented is unreadable, and caught as that."""
PAGE_SIZE = 500
MAX_REACH = 10_000
"""Postmark's own limit: a search gives out no more."""

_log = logging.getLogger("notifyctl.postmark")


class PostmarkLookup:
    """Each call takes at most `timeout_seconds`: the search, mostly of one page, then up to two for the fate."""

    def __init__(
        self,
        server_token: str,
        api_url: str,
        message_stream: str,
        search_delay: timedelta = POSTMARK_SEARCH_DELAY,
        timeout_seconds: float = POSTMARK_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
    ) -> None:
        self.search_delay = search_delay
        self._message_stream = message_stream
        self._client = CurlPostmarkClient(server_token, api_url, timeout_seconds, authorities)

    def find(self, send: UncertainSend, *, held_elsewhere: Callable[[Collection[str]], set[str]]) -> LookupResult:
        """Needs no `held_elsewhere`: no other message has this one's id."""
        return _answered(lambda: self._find(send))

    def fate(self, provider_message_id: str) -> LookupResult:
        return _answered(lambda: self._read_from_events(provider_message_id))

    def _find(self, send: UncertainSend) -> LookupResult:
        rows, is_complete = self._search(send)
        if not rows:
            return LookupMiss() if is_complete else CannotTell(f"the search gives over {MAX_REACH} messages")
        if len(rows) > 1:
            extra = {"message_id": send.message_id, "provider": "postmark"}
            _log.debug("sent %d times, the earliest counts", len(rows), extra=extra)
        earliest = min(rows, key=_received_at)
        postmark_id = provider_id(earliest["MessageID"])
        if postmark_id is None:
            return Unavailable("UNREADABLE_ANSWER", "A message without a MessageID")
        return self._fate_of_hit(postmark_id, earliest.get("Status"), send.message_id)

    def _search(self, send: UncertainSend) -> tuple[list[Row], bool]:
        """What carries the id, and whether that is all there can be.

        Without dates, which Postmark takes for Eastern time. Without the stream, it would search `outbound` only.
        """
        rows: list[Row] = []
        for offset in range(0, MAX_REACH, PAGE_SIZE):
            page = self._client.messages.outbound.call(  # type: ignore[attr-defined]
                "GET",
                "/messages/outbound",
                count=PAGE_SIZE,
                offset=offset,
                recipient=send.recipient,
                messagestream=self._message_stream,
                metadata_message_id=send.message_id,
            )
            rows += [row for row in page["Messages"] if _is_it(row, send)]
            if rows and "TotalCount" not in page:
                return rows, True
            if page["TotalCount"] <= offset + PAGE_SIZE:
                return rows, True
        return rows, False

    def _fate_of_hit(self, postmark_id: str, status: object, message_id: str) -> LookupHit:
        """Trouble on the way only means that its receipt is not known yet: that it went out is."""
        if status == "Queued":
            return LookupHit(postmark_id)
        try:
            return self._read_from_events(postmark_id)
        except Exception as error:  # noqa: BLE001  that the search has it is what counts
            extra = {"message_id": message_id, "provider": "postmark"}
            _log.debug("the search found it, but no details: %s", type(error).__name__, extra=extra)
            return LookupHit(postmark_id)

    def _read_from_events(self, postmark_id: str) -> LookupHit:
        events = self._client.messages.outbound.get(postmark_id).MessageEvents  # type: ignore[attr-defined]
        bounced = [event for event in events if event["Type"] == "Bounced"]
        bounce = self._bounce(bounced[-1]["Details"]) if bounced else None
        if bounce is not None:
            return LookupHit(postmark_id, bounce=bounce, bounced_at=moment(bounced[-1].get("ReceivedAt")))
        return LookupHit(postmark_id, any(event["Type"] == "Delivered" for event in events))

    def _bounce(self, details: dict[str, str]) -> Rejected | None:
        """The event says why in a mail server's words; only the bounce itself has Postmark's type."""
        try:
            kind = provider_id(self._client.bounces.get(details["BounceID"]).Type) or "Unknown"  # type: ignore[attr-defined]
        except (NotAccepted, KeyError, ValueError, TypeError, AttributeError):
            kind = "Unknown"
        meaning = POSTMARK_BOUNCE_TYPES.get(kind, POSTMARK_BOUNCE_TYPES["Unknown"])
        if meaning.transient or kind == COMPLAINT:  # who calls a message spam has got it
            return None
        return Rejected(meaning.reason, kind, without_recipients(details.get("Summary", "")), meaning.suppress)

    def close(self) -> None:
        self._client.close()


def _answered(ask: Callable[[], LookupResult]) -> LookupResult:
    try:
        return ask()
    except NotAccepted as no:
        return no_result(no.outcome, POSTMARK_ERRORS)
    except Exception as error:  # noqa: BLE001  whatever is wrong with an answer 200, the next may be readable
        return Unavailable("UNREADABLE_ANSWER", type(error).__name__)


def _is_it(row: Row, send: UncertainSend) -> bool:
    """The search is documented as a filter, not as an exact one."""
    metadata = row["Metadata"] or {}
    if metadata.get("message_id") != send.message_id:
        return False
    return "Recipients" not in row or send.recipient.lower() in [recipient.lower() for recipient in row["Recipients"]]


def _received_at(row: Row) -> datetime:
    return moment(row.get("ReceivedAt")) or datetime.max.replace(tzinfo=UTC)
