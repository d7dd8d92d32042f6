"""Postmark's outbound search: its filters, and an Email in Postmark's words.

https://postmarkapp.com/developer/api/messages-api
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from zoneinfo import ZoneInfo

from notifyctl.sandbox.faults.errors import ApiRefusal
from notifyctl.sandbox.inbox_store import (
    DELIVERED_AFTER,
    Address,
    Email,
    InboxStore,
    Stage,
    bounce_id,
    period_of,
    stage,
)

MAX_COUNT = 500
MAX_REACH = 10_000
_LEFT = frozenset({Stage.SENT, Stage.DELIVERED})
_STATUS = {"any": frozenset(Stage), "queued": frozenset({Stage.QUEUED}), "sent": _LEFT, "processed": _LEFT}
# Postmark answers in Eastern time, and reads a search's dates as Eastern time too.
_EASTERN = ZoneInfo("America/New_York")


def eastern(moment: datetime) -> str:
    return moment.astimezone(_EASTERN).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSearch:
    count: int
    offset: int
    recipient: str | None
    sender: str | None
    tag: str | None
    subject: str
    stream: str
    stages: frozenset[Stage]
    not_before: datetime | None
    before: datetime | None
    metadata: tuple[str, str] | None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """From a query with lower-case names. Raises ApiRefusal with the answer that Postmark gives."""
        status = query.get("status", "any").lower()
        if status not in _STATUS:
            raise _refused(f"'status' is queued, sent or processed, not '{status}'.")
        count, offset = _whole_number(query, "count"), _whole_number(query, "offset")
        if not 1 <= count <= MAX_COUNT or count + offset > MAX_REACH:
            raise _refused(f"'count' is 1 to {MAX_COUNT}, and 'count' and 'offset' together at most {MAX_REACH}.")
        first, last = _period(query, "fromdate"), _period(query, "todate")
        return cls(
            count=count,
            offset=offset,
            recipient=query.get("recipient"),
            sender=query.get("fromemail"),
            tag=query.get("tag"),
            subject=query.get("subject", ""),
            stream=query.get("messagestream", "outbound"),
            stages=_STATUS[status],
            not_before=first[0] if first else None,
            before=last[1] if last else None,
            metadata=_metadata_field(query),
        )

    def answer(self, inbox: InboxStore, now: datetime) -> dict[str, object]:
        """Newest first."""
        candidates = inbox.searchable(now, to=self.recipient, metadata=self.metadata)
        matches = [email for email in candidates if isinstance(email, Email) and self._matches(email, now)]
        page = matches[self.offset : self.offset + self.count]
        return {"TotalCount": len(matches), "Messages": [email_json(email, now) for email in page]}

    def _matches(self, email: Email, now: datetime) -> bool:
        return (
            email.stream == self.stream
            and (self.recipient is None or self.recipient.lower() in map(str.lower, email.recipients))
            and (self.sender is None or self.sender.lower() == email.sender.email.lower())
            and (self.tag is None or self.tag == email.tag)
            and self.subject.lower() in email.subject.lower()
            and (self.not_before is None or self.not_before <= email.received_at)
            and (self.before is None or email.received_at < self.before)
            and stage(email, now) in self.stages
        )


def _whole_number(query: Mapping[str, str], name: str) -> int:
    value = query.get(name, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise _refused(f"Parameter '{name}' is required and must be a whole number.")
    return int(value)


def _period(query: Mapping[str, str], name: str) -> tuple[datetime, datetime] | None:
    value = query.get(name)
    try:
        return None if value is None else period_of(value, _EASTERN)
    except ValueError:
        raise _refused(f"'{name}' is a date or a date and time, not '{value}'.") from None


def _metadata_field(query: Mapping[str, str]) -> tuple[str, str] | None:
    fields = [(name.removeprefix("metadata_"), value) for name, value in query.items() if name.startswith("metadata_")]
    if len(fields) > 1:
        raise _refused("Search by one metadata field at a time.")
    return fields[0] if fields else None


def _refused(message: str) -> ApiRefusal:
    return ApiRefusal(422, 700, message)


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
