"""What Postmark has, in bulk: its outbound search by time, its bounces, and the addresses that it suppresses.

https://postmarkapp.com/developer/api/messages-api
https://postmarkapp.com/developer/api/bounce-api
https://postmarkapp.com/developer/api/suppressions-api
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from time import sleep
from typing import Any, cast
from urllib.parse import quote
from zoneinfo import ZoneInfo

from notifyctl.errors import ProviderError
from notifyctl.models.enums import MessageStatus
from notifyctl.providers.certificates import Authorities
from notifyctl.providers.contract import (
    POSTMARK_SEARCH_DELAY,
    POSTMARK_TIMEOUT,
    HeldKey,
    OptOutWord,
    SentRecord,
    SuppressedAddress,
)
from notifyctl.providers.postmark.client import POSTMARK_ERRORS, CurlPostmarkClient
from notifyctl.providers.postmark.codes import POSTMARK_BOUNCE_TYPES
from notifyctl.providers.postmark.lookup import MAX_REACH, PAGE_SIZE, Row
from notifyctl.providers.postmark.receipts import COMPLAINT, metadata_id, suppression_reason
from notifyctl.providers.receipts import moment
from notifyctl.providers.results import Inquiry, provider_id
from notifyctl.text.durations import plural

_EASTERN = ZoneInfo("America/New_York")
"""Postmark reads the dates of a question in this zone, whatever its answers are in."""
_SECOND = timedelta(seconds=1)
MAX_PASSES = 3


@dataclass(frozen=True, slots=True)
class _List:
    path: str
    rows: str
    id: str
    time: str


_MESSAGES = _List("/messages/outbound", "Messages", "MessageID", "ReceivedAt")
_BOUNCES = _List("/bounces", "Bounces", "ID", "BouncedAt")


@dataclass(frozen=True, slots=True)
class _Span:
    start: datetime
    end: datetime | None = None
    """Not in it any more. None: there is no end."""

    def has(self, at: datetime) -> bool:
        return self.start <= at and (self.end is None or at < self.end)

    def halves(self, newest: datetime) -> tuple["_Span", "_Span"]:
        """Of the part that has something in it; what comes after belongs to the later one."""
        filled = max(newest, self.start) + _SECOND
        end = filled if self.end is None else min(self.end, filled)
        middle = (self.start + (end - self.start) / 2).replace(microsecond=0)
        return _Span(self.start, middle), _Span(middle, self.end)

    @property
    def dates(self) -> dict[str, str]:
        """What to ask for, a second wider than the span: whether Postmark counts the last one whole is not written.

        Once a year an hour of Eastern time comes twice, and which is meant cannot be said: both are asked for.
        """
        first = self.start.astimezone(_EASTERN)
        if _comes_twice(first):
            first = first.replace(hour=0, minute=59, second=59)
        if self.end is None:
            return {"fromdate": _written(first)}
        last = (self.end + _SECOND).astimezone(_EASTERN)
        if _comes_twice(last):
            last = last.replace(hour=2, minute=0, second=0)
        return {"fromdate": _written(first), "todate": _written(last)}


def _comes_twice(local: datetime) -> bool:
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def _written(local: datetime) -> str:
    return local.replace(tzinfo=None).isoformat(timespec="seconds")


class PostmarkHistory:
    """Asks for 500 rows at a time, each call within `timeout_seconds`."""

    def __init__(
        self,
        server_token: str,
        api_url: str,
        message_stream: str,
        search_delay: timedelta = POSTMARK_SEARCH_DELAY,
        timeout_seconds: float = POSTMARK_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self.search_delay = search_delay
        self._message_stream = message_stream
        self._client = CurlPostmarkClient(server_token, api_url, timeout_seconds, authorities)
        self._inquiry = Inquiry("Postmark", POSTMARK_ERRORS, pause)

    @property
    def calls(self) -> int:
        return self._inquiry.calls

    def sent(self, since: datetime, until: datetime) -> Iterator[SentRecord]:
        """The search itself does not tell what bounced; the list of bounces does, which is asked for first."""
        with self._inquiry.readable():
            fates = self._fates(since)
            for row in self._rows(_MESSAGES, _Span(since, until)):
                yield _sent_record(row, fates)

    def suppressions(self, since: datetime) -> Iterator[SuppressedAddress]:
        """From the list of those suppressed now, and from the bounces: not every wish for no more is in that list."""
        with self._inquiry.readable():
            told = set()
            for suppressed in chain(self._suppressed_now(since), self._suppressed_by_bounces(since)):
                key = (suppressed.recipient.casefold(), suppressed.reason)
                if key not in told:
                    told.add(key)
                    yield suppressed

    def opt_outs(self, since: datetime) -> Iterator[OptOutWord]:
        """None: nobody answers an email with STOP."""
        return iter(())

    def close(self) -> None:
        self._client.close()

    def _fates(self, since: datetime) -> dict[str, MessageStatus]:
        """By Postmark's id, of the messages that have bounced, or arrived and were not wanted."""
        fates: dict[str, MessageStatus] = {}
        for row in self._rows(_BOUNCES, _Span(since)):
            meaning = POSTMARK_BOUNCE_TYPES.get(row["Type"], POSTMARK_BOUNCE_TYPES["Unknown"])
            has_arrived = row["Type"] == COMPLAINT or (meaning.transient and meaning.suppress)
            if has_arrived:
                fates.setdefault(row["MessageID"], MessageStatus.DELIVERED)
            elif not meaning.transient:
                fates[row["MessageID"]] = MessageStatus.BOUNCED
        return fates

    def _suppressed_now(self, since: datetime) -> Iterator[SuppressedAddress]:
        stream = quote(self._message_stream, safe="")
        first_day = since.astimezone(_EASTERN).date().isoformat()
        answer = self._get(f"/message-streams/{stream}/suppressions/dump", {"fromdate": first_day})
        for row in answer["Suppressions"]:
            created_at = moment(row.get("CreatedAt"))
            if created_at is None or created_at >= since:
                yield SuppressedAddress(row["EmailAddress"], suppression_reason(row["SuppressionReason"]), created_at)

    def _suppressed_by_bounces(self, since: datetime) -> Iterator[SuppressedAddress]:
        for row in self._rows(_BOUNCES, _Span(since)):
            meaning = POSTMARK_BOUNCE_TYPES.get(row["Type"])
            if meaning and meaning.suppress:
                yield SuppressedAddress(row["Email"], meaning.suppress, _time(row, _BOUNCES))

    def _rows(self, what: _List, span: _Span, before: frozenset[str] = frozenset()) -> Iterator[Row]:
        """Postmark gives out no more than 10,000 rows of one search: a span with more is asked for by halves.

        `before`: the ids of rows that have been given already.
        """
        given: set[str] = set()
        found: set[str] = set()
        for number in range(MAX_PASSES):
            totals: set[int] = set()
            found_until_now = len(found)
            for page in self._pages(what, span):
                totals.add(page.total)
                if page.total >= MAX_REACH:  # where it has come to that meanwhile, the first page is another now
                    for part in self._halves(what, span, page) if page.is_first else (span,):
                        yield from self._rows(what, part, before | given)
                    return
                for row_id, row in page.rows.items():
                    found.add(row_id)
                    if row_id not in before and row_id not in given and span.has(_time(row, what)):
                        given.add(row_id)
                        yield row
            # Rows that came or went meanwhile have shifted others from page to page: those are looked for once more.
            if (len(totals) == 1 and len(found) >= max(totals)) or (number and len(found) == found_until_now):
                return

    def _pages(self, what: _List, span: _Span) -> "Iterator[_Page]":
        """Newest first."""
        for offset in range(0, MAX_REACH, PAGE_SIZE):
            where = {"messagestream": self._message_stream, **span.dates}
            answer = self._get(what.path, {"count": str(PAGE_SIZE), "offset": str(offset), **where})
            rows = {str(row[what.id]): row for row in answer[what.rows]}
            page = _Page(int(answer["TotalCount"]), rows, is_first=offset == 0)
            yield page
            if page.total <= offset + PAGE_SIZE:
                return

    def _halves(self, what: _List, span: _Span, page: "_Page") -> tuple[_Span, _Span]:
        """Raises ProviderError where nothing narrower can be asked for."""
        halves = span.halves(newest=max(_time(row, what) for row in page.rows.values()))
        if span.dates in (halves[0].dates, halves[1].dates):
            when = f"from {span.dates['fromdate']} to {span.dates.get('todate', 'now')} Eastern time"
            raise ProviderError(
                f"Postmark has {plural(page.total, 'row')} at {what.path} {when}, and gives out {MAX_REACH:,} at most;"
                " which others there are cannot be found out in bulk"
            )
        return halves

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        return cast(dict[str, Any], self._inquiry.ask(lambda: self._client.call("GET", path, **query)))


@dataclass(frozen=True, slots=True)
class _Page:
    total: int
    """Of the whole search."""
    rows: Mapping[str, Row]
    """By their ids."""
    is_first: bool


def _time(row: Row, what: _List) -> datetime:
    at = moment(row[what.time])
    if at is None:
        raise TypeError(f"a row of {what.path} without a time")
    return at


def _sent_record(row: Row, fates: Mapping[str, MessageStatus]) -> SentRecord:
    postmark_id = provider_id(row["MessageID"])
    if postmark_id is None:
        raise TypeError("a message without an id")
    return SentRecord(
        provider_message_id=postmark_id,
        message_id=metadata_id(row),
        recipient=row["Recipients"][0],
        accepted_at=_time(row, _MESSAGES),
        status=fates.get(row["MessageID"], MessageStatus.SENT),
        template_key=row.get("Tag") or None,
        text=None,
        subject=row.get("Subject"),
        held_key=_held_key(row.get("Metadata")),
    )


def _held_key(metadata: object) -> HeldKey | None:
    if not isinstance(metadata, dict):
        return None
    key, fingerprint = (metadata.get(name) for name in HeldKey._fields)
    return HeldKey(key, fingerprint) if isinstance(key, str) and isinstance(fingerprint, str) else None
