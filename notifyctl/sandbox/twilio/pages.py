"""Twilio's message list: its filters and pages, and an Sms in Twilio's words.

https://www.twilio.com/docs/messaging/api/message-resource
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from heapq import merge
from itertools import dropwhile, islice
from typing import Self
from urllib.parse import urlencode

from notifyctl.sandbox.faults.errors import ApiRefusal
from notifyctl.sandbox.inbox_store import (
    DELIVERED_AFTER,
    SENT_AFTER,
    InboundSms,
    InboxStore,
    Sms,
    Stage,
    period_of,
    stage,
)
from notifyctl.text.sms_segments import measure

API_VERSION = "2010-04-01"
PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
# A messaging service picks its sender when the message leaves; the sandbox's has this one number.
SERVICE_NUMBER = "+15005550006"
_TOKEN_PREFIX = "PA"  # noqa: S105  a page, no secret
_Listed = Sms | InboundSms


def inbound_json(sms: InboundSms) -> dict[str, object]:
    uri = f"/{API_VERSION}/Accounts/{sms.account_sid}/Messages/{sms.id}"
    at = format_datetime(sms.received_at)
    return {
        "account_sid": sms.account_sid,
        "api_version": API_VERSION,
        "body": sms.text,
        "date_created": at,
        "date_sent": at,
        "date_updated": at,
        "direction": "inbound",
        "error_code": None,
        "error_message": None,
        "from": sms.sender,
        "messaging_service_sid": sms.messaging_service_sid,
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "price_unit": "USD",
        "sid": sms.id,
        "status": "received",
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": sms.to,
        "uri": f"{uri}.json",
    }


def sms_json(sms: Sms, now: datetime) -> dict[str, object]:
    reached = stage(sms, now)
    has_left = reached is not Stage.QUEUED
    failed = reached is Stage.DELIVERED and bool(sms.bounce)
    from_service = sms.messaging_service_sid is not None
    uri = f"/{API_VERSION}/Accounts/{sms.account_sid}/Messages/{sms.id}"
    created = format_datetime(sms.received_at)
    return {
        "account_sid": sms.account_sid,
        "api_version": API_VERSION,
        "body": sms.text,
        "date_created": created,
        "date_sent": format_datetime(sent_at(sms)) if has_left else None,
        "date_updated": format_datetime(_updated_at(sms, reached)) if has_left else created,
        "direction": "outbound-api",
        "error_code": int(sms.bounce) if failed else None,
        "error_message": None,
        "from": sms.sender or (SERVICE_NUMBER if has_left else None),
        "messaging_service_sid": sms.messaging_service_sid,
        "num_media": "0",
        # Without a sender Twilio has not cut the text into segments yet.
        "num_segments": str(measure(sms.text).segments) if has_left or not from_service else "0",
        "price": None,
        "price_unit": "USD",
        "sid": sms.id,
        "status": _status(reached, from_service=from_service, failed=failed),
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": sms.to,
        "uri": f"{uri}.json",
    }


def _status(reached: Stage, *, from_service: bool, failed: bool) -> str:
    if reached is Stage.QUEUED:
        return "accepted" if from_service else "queued"
    return "undelivered" if failed else reached.name.lower()


def sent_at(sms: _Listed) -> datetime:
    """An inbound one: when it was posted to us."""
    return sms.received_at + SENT_AFTER if isinstance(sms, Sms) else sms.received_at


def _updated_at(sms: Sms, reached: Stage) -> datetime:
    return sms.received_at + (DELIVERED_AFTER if reached is Stage.DELIVERED else SENT_AFTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsSearch:
    """A message that has not left yet has no date, so no search by date finds it."""

    query: Mapping[str, str]
    to: str | None
    sender: str | None
    not_before: datetime | None
    before: datetime | None
    page: int
    page_size: int
    after_sid: str | None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Raises ApiRefusal with the answer that Twilio gives."""
        day = _period(query, "DateSent")
        first, last = _period(query, "DateSent>"), _period(query, "DateSent<")
        token = query.get("PageToken", "")
        page_size = _whole_number(query, "PageSize", PAGE_SIZE)
        if page_size > MAX_PAGE_SIZE:
            raise ApiRefusal(400, 20007, f"Page size too large: {page_size}; the most is {MAX_PAGE_SIZE}.")
        return cls(
            query={name: value for name, value in query.items() if name not in ("Page", "PageSize", "PageToken")},
            to=query.get("To"),
            sender=query.get("From"),
            not_before=day[0] if day else first and first[0],
            before=day[1] if day else last and last[1],
            page=_whole_number(query, "Page", 0),
            page_size=max(1, page_size),
            after_sid=token.removeprefix(_TOKEN_PREFIX) or None,
        )

    def answer(self, inbox: InboxStore, account_sid: str, now: datetime) -> dict[str, object]:
        """Newest first."""
        listed: Iterable[_Listed] = _newest_first(inbox, now, self.to)
        if self.after_sid is not None:
            listed = islice(dropwhile(lambda sms: sms.id != self.after_sid, listed), 1, None)
        matches = (sms for sms in listed if sms.account_sid == account_sid and self._matches(sms, now))
        page = list(islice(matches, self.page_size + 1))
        more = len(page) > self.page_size
        del page[self.page_size :]
        start = self.page * self.page_size
        path = f"/{API_VERSION}/Accounts/{account_sid}/Messages.json"
        return {
            "messages": [sms_json(sms, now) if isinstance(sms, Sms) else inbound_json(sms) for sms in page],
            "page": self.page,
            "page_size": self.page_size,
            "start": start,
            "end": start + max(0, len(page) - 1),
            "uri": self._uri(path, self.page, self.after_sid),
            "first_page_uri": self._uri(path, 0, None),
            "next_page_uri": self._uri(path, self.page + 1, page[-1].id) if more else None,
            "previous_page_uri": None,
        }

    def _matches(self, sms: _Listed, now: datetime) -> bool:
        if self.sender is not None and self.sender != (sms.sender or SERVICE_NUMBER):
            return False
        if self.not_before is None and self.before is None:
            return True
        return (
            not (isinstance(sms, Sms) and stage(sms, now) is Stage.QUEUED)
            and (self.not_before is None or self.not_before <= sent_at(sms))
            and (self.before is None or sent_at(sms) < self.before)
        )

    def _uri(self, path: str, page: int, after_sid: str | None) -> str:
        token = {"PageToken": _TOKEN_PREFIX + after_sid} if after_sid else {}
        return f"{path}?{urlencode({**self.query, 'PageSize': self.page_size, 'Page': page, **token})}"


def _newest_first(inbox: InboxStore, now: datetime, to: str | None) -> Iterable[_Listed]:
    outbound = (sms for sms in inbox.searchable(now, to=to) if isinstance(sms, Sms))
    inbound = [sms for sms in inbox.inbound(now) if to in (None, sms.to)]
    return merge(outbound, inbound, key=lambda sms: sms.received_at, reverse=True) if inbound else outbound


def _period(query: Mapping[str, str], name: str) -> tuple[datetime, datetime] | None:
    value = query.get(name)
    try:
        return None if value is None else period_of(value, UTC)
    except ValueError:
        raise ApiRefusal(400, 20001, f"Invalid {name} value '{value}': use YYYY-MM-DD.") from None


def _whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name, "")
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise ApiRefusal(400, 20001, f"{name} must be a whole number, not '{value}'.")
    return int(value)
