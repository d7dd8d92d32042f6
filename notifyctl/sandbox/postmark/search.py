"""Postmark's lists: its outbound search, the bounces and the suppressions, and an Email in Postmark's words.

https://postmarkapp.com/developer/api/messages-api
https://postmarkapp.com/developer/api/bounce-api
https://postmarkapp.com/developer/api/suppressions-api
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from zoneinfo import ZoneInfo

from notifyctl.sandbox.faults.errors import ApiRefusal
from notifyctl.sandbox.inbox_store import (
    DELIVERED_AFTER,
    Address,
    Email,
    InboxMessage,
    InboxStore,
    Stage,
    bounce_id,
    period_of,
    stage,
)
from notifyctl.sandbox.receipts.payloads import COMPLAINT, DEACTIVATING, bounce_json
from notifyctl.sandbox.state import Suppressed

MAX_COUNT = 500
MAX_REACH = 10_000
_BAD_SEARCH, _BAD_BOUNCE_SEARCH, _BAD_FIELD = 700, 408, 403
_LEFT = frozenset({Stage.SENT, Stage.DELIVERED})
_STATUS = {"any": frozenset(Stage), "queued": frozenset({Stage.QUEUED}), "sent": _LEFT, "processed": _LEFT}
# Postmark answers in Eastern time, and reads a search's dates as Eastern time too.
_EASTERN = ZoneInfo("America/New_York")


def eastern(moment: datetime) -> str:
    return moment.astimezone(_EASTERN).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSearch:
    page: "_PageBounds"
    period: "_Period"
    recipient: str | None
    sender: str | None
    tag: str | None
    subject: str
    stream: str
    stages: frozenset[Stage]
    metadata: tuple[str, str] | None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """From a query with lower-case names. Raises ApiRefusal with the answer that Postmark gives."""
        status = query.get("status", "any").lower()
        if status not in _STATUS:
            raise _refused(f"'status' is queued, sent or processed, not '{status}'.")
        page, period = _PageBounds.read(query, _BAD_SEARCH), _Period.read(query, _BAD_SEARCH)
        return cls(
            page=page,
            period=period,
            recipient=query.get("recipient"),
            sender=query.get("fromemail"),
            tag=query.get("tag"),
            subject=query.get("subject", ""),
            stream=query.get("messagestream", "outbound"),
            stages=_STATUS[status],
            metadata=_metadata_field(query),
        )

    def answer(self, inbox: InboxStore, now: datetime) -> dict[str, object]:
        """Newest first."""
        candidates = self.period.part_of(inbox.searchable(now, to=self.recipient, metadata=self.metadata))
        matches = [email for email in candidates if isinstance(email, Email) and self._matches(email, now)]
        page = matches[self.page.rows]
        return {"TotalCount": len(matches), "Messages": [email_json(email, now) for email in page]}

    def _matches(self, email: Email, now: datetime) -> bool:
        return (
            email.stream == self.stream
            and (self.recipient is None or self.recipient.lower() in map(str.lower, email.recipients))
            and (self.sender is None or self.sender.lower() == email.sender.email.lower())
            and (self.tag is None or self.tag == email.tag)
            and (not self.subject or self.subject.lower() in email.subject.lower())
            and stage(email, now) in self.stages
        )


@dataclass(frozen=True, slots=True)
class _PageBounds:
    count: int
    offset: int

    @classmethod
    def read(cls, query: Mapping[str, str], code: int) -> Self:
        page = cls(_whole_number(query, "count", code), _whole_number(query, "offset", code))
        if not 1 <= page.count <= MAX_COUNT or page.count + page.offset > MAX_REACH:
            words = f"'count' is 1 to {MAX_COUNT}, and 'count' and 'offset' together at most {MAX_REACH}."
            raise ApiRefusal(422, code, words)
        return page

    @property
    def rows(self) -> slice:
        return slice(self.offset, self.offset + self.count)


@dataclass(frozen=True, slots=True)
class _Period:
    """What `fromdate` and `todate` cover, both of them whole."""

    not_before: datetime
    before: datetime

    @classmethod
    def read(cls, query: Mapping[str, str], code: int) -> Self:
        """In UTC, as the times of messages are: comparing two of another zone takes ten times as long."""
        first, last = _covered(query, "fromdate", code), _covered(query, "todate", code)
        return cls(
            first[0].astimezone(UTC) if first else datetime.min.replace(tzinfo=UTC),
            last[1].astimezone(UTC) if last else datetime.max.replace(tzinfo=UTC),
        )

    def has(self, at: datetime) -> bool:
        return self.not_before <= at < self.before

    def part_of(self, messages: Iterable[InboxMessage]) -> list[InboxMessage]:
        first, last = self.not_before, self.before
        return [message for message in messages if first <= message.received_at < last]


def _whole_number(query: Mapping[str, str], name: str, code: int) -> int:
    value = query.get(name, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise ApiRefusal(422, code, f"Parameter '{name}' is required and must be a whole number.")
    return int(value)


def _covered(query: Mapping[str, str], name: str, code: int) -> tuple[datetime, datetime] | None:
    value = query.get(name)
    try:
        return None if value is None else period_of(value, _EASTERN)
    except ValueError:
        raise ApiRefusal(422, code, f"'{name}' is a date or a date and time, not '{value}'.") from None


def _metadata_field(query: Mapping[str, str]) -> tuple[str, str] | None:
    fields = [(name.removeprefix("metadata_"), value) for name, value in query.items() if name.startswith("metadata_")]
    if len(fields) > 1:
        raise _refused("Search by one metadata field at a time.")
    return fields[0] if fields else None


def _refused(message: str) -> ApiRefusal:
    return ApiRefusal(422, _BAD_SEARCH, message)


def bounces_json(query: Mapping[str, str], inbox: InboxStore, now: datetime) -> dict[str, object]:
    """The bounces so far, newest first. `query` with lower-case names. Raises ApiRefusal."""
    page, period = _PageBounds.read(query, _BAD_BOUNCE_SEARCH), _Period.read(query, _BAD_BOUNCE_SEARCH)
    inactive = query.get("inactive", "").lower()
    if inactive not in ("", "true", "false"):
        raise ApiRefusal(422, _BAD_BOUNCE_SEARCH, f"'inactive' is true or false, not '{inactive}'.")
    stream = query.get("messagestream", "outbound")
    rows = [
        (email, recipient)
        for email in _bounced(inbox, now, stream)
        if period.has(email.received_at + DELIVERED_AFTER)
        and query.get("type", email.bounce).lower() == email.bounce.lower()
        and (not inactive or (email.bounce in DEACTIVATING) is (inactive == "true"))
        and query.get("tag", email.tag) == email.tag
        and query.get("messageid", email.id) == email.id
        for recipient in email.recipients
        if query.get("emailfilter", "").lower() in recipient.lower()
    ]
    shown = [bounce_json(email, recipient, email.received_at + DELIVERED_AFTER) for email, recipient in rows[page.rows]]
    return {"TotalCount": len(rows), "Bounces": shown}


def _bounced(inbox: InboxStore, now: datetime, stream: str) -> Iterator[Email]:
    for email in inbox.newest_first():
        if (
            isinstance(email, Email)
            and email.bounce
            and email.stream == stream
            and stage(email, now) is Stage.DELIVERED
        ):
            yield email


def suppressions_json(
    query: Mapping[str, str],
    inbox: InboxStore,
    by_hand: Mapping[tuple[str, str], Suppressed],
    stream: str,
    now: datetime,
) -> dict[str, object]:
    """Everyone that Postmark delivers nothing to any more. `query` with lower-case names. Raises ApiRefusal."""
    for name in ("fromdate", "todate"):
        if name in query and not re.fullmatch(r"\d{4}-\d\d-\d\d", query[name], re.ASCII):
            raise ApiRefusal(422, _BAD_FIELD, f"Invalid request field(s): '{name}' is a date, as 2020-02-01.")
    period = _Period.read(query, _BAD_FIELD)
    rows: dict[str, dict[str, object]] = {}
    for email in _bounced(inbox, now, stream):
        if email.bounce in DEACTIVATING and period.has(at := email.received_at + DELIVERED_AFTER):
            reason = COMPLAINT if email.bounce == COMPLAINT else "HardBounce"
            rows |= {to.lower(): _suppression(to, reason, "Recipient", at) for to in email.recipients}
    for (of_stream, address), suppressed in by_hand.items():
        if of_stream == stream and period.has(suppressed.since):
            row = _suppression(suppressed.address, "ManualSuppression", suppressed.origin, suppressed.since)
            rows.setdefault(address, row)
    wanted = {"suppressionreason": "SuppressionReason", "origin": "Origin", "emailaddress": "EmailAddress"}
    return {
        "Suppressions": [
            row
            for row in rows.values()
            if all(
                query.get(name, str(row[field])).lower() == str(row[field]).lower() for name, field in wanted.items()
            )
        ]
    }


def _suppression(address: str, reason: str, origin: str, at: datetime) -> dict[str, object]:
    return {
        "EmailAddress": address,
        "SuppressionReason": reason,
        "Origin": origin,
        "CreatedAt": at.astimezone(_EASTERN).isoformat(timespec="seconds"),
    }


def email_json(email: Email, now: datetime) -> dict[str, object]:
    return {
        "Tag": email.tag,
        "MessageID": email.id,
        "MessageStream": email.stream,
        "To": _listed(email.to),
        "Cc": _listed(email.cc),
        "Bcc": _listed(email.bcc),
        "Recipients": list(email.recipients),
        "ReceivedAt": eastern(email.received_at),
        "From": str(email.sender),
        "Subject": email.subject,
        "Attachments": list(email.attachments),
        "Status": "Queued" if stage(email, now) is Stage.QUEUED else "Sent",
        "TrackOpens": False,
        "TrackLinks": "None",
        "Metadata": email.metadata,
        "Sandboxed": True,
    }


def details_json(email: Email, now: datetime) -> dict[str, object]:
    return {
        "TextBody": email.text,
        "HtmlBody": email.html,
        "Body": "",
        **email_json(email, now),
        "MessageEvents": _events(email) if stage(email, now) is Stage.DELIVERED else [],
    }


def _events(email: Email) -> list[dict[str, object]]:
    at = eastern(email.received_at + DELIVERED_AFTER)
    if email.bounce and email.bounce != "SpamComplaint":
        summary = f"{email.bounce}: bounced on purpose by the sandbox"
        return [
            {
                "Recipient": recipient,
                "Type": "Bounced",
                "ReceivedAt": at,
                "Details": {"Summary": summary, "BounceID": str(bounce_id(email, recipient))},
            }
            for recipient in email.recipients
        ]
    delivered = {
        "DeliveryMessage": "smtp;250 2.0.0 OK: kept by the sandbox",
        "DestinationServer": "sandbox.invalid (127.0.0.1)",
        "DestinationIP": "127.0.0.1",
    }
    return [
        {"Recipient": recipient, "Type": "Delivered", "ReceivedAt": at, "Details": delivered}
        for recipient in email.recipients
    ]


def _listed(addresses: tuple[Address, ...]) -> list[dict[str, str | None]]:
    return [{"Email": address.email, "Name": address.name or None} for address in addresses]
