"""Postmark's outbound search: its filters, and a Mail in Postmark's words.

https://postmarkapp.com/developer/api/messages-api
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

from notifyctl.providers.sandbox.arrivals import DELIVERED_AFTER, Address, Arrivals, Mail, Stage, bounce_id, stage
from notifyctl.providers.sandbox.failures import Failure, Refused

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
        """From a query with lower-case names. Raises Refused with the answer that Postmark gives."""
        status = query.get("status", "any").lower()
        if status not in _STATUS:
            raise _refused(f"'status' is queued, sent or processed, not '{status}'.")
        count, offset = _whole_number(query, "count"), _whole_number(query, "offset")
        if not 1 <= count <= MAX_COUNT or count + offset > MAX_REACH:
            raise _refused(f"'count' is 1 to {MAX_COUNT}, and 'count' and 'offset' together at most {MAX_REACH}.")
        return cls(
            count=count,
            offset=offset,
            recipient=query.get("recipient"),
            sender=query.get("fromemail"),
            tag=query.get("tag"),
            subject=query.get("subject", ""),
            stream=query.get("messagestream", "outbound"),
            stages=_STATUS[status],
            not_before=_moment(query, "fromdate"),
            before=_end(query, "todate"),
            metadata=_metadata_field(query),
        )

    def answer(self, arrivals: Arrivals, now: datetime) -> dict[str, Any]:
        """Newest first."""
        candidates = arrivals.searchable(now, to=self.recipient, metadata=self.metadata)
        found = [arrival for arrival in candidates if isinstance(arrival, Mail) and self._matches(arrival, now)]
        page = found[self.offset : self.offset + self.count]
        return {"TotalCount": len(found), "Messages": [in_postmarks_words(mail, now) for mail in page]}

    def _matches(self, mail: Mail, now: datetime) -> bool:
        return (
            mail.stream == self.stream
            and (self.recipient is None or self.recipient.lower() in map(str.lower, mail.recipients))
            and (self.sender is None or self.sender.lower() == mail.sender.email.lower())
            and (self.tag is None or self.tag == mail.tag)
            and self.subject.lower() in mail.subject.lower()
            and (self.not_before is None or self.not_before <= mail.received_at)
            and (self.before is None or mail.received_at < self.before)
            and stage(mail, now) in self.stages
        )


def _whole_number(query: Mapping[str, str], name: str) -> int:
    value = query.get(name, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise _refused(f"Parameter '{name}' is required and must be a whole number.")
    return int(value)


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    value = query.get(name)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _refused(f"'{name}' is a date or a date and time, not '{value}'.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=_EASTERN)


def _end(query: Mapping[str, str], name: str) -> datetime | None:
    """Both ends of a search are inclusive: a date takes its whole day, a time its whole second."""
    moment = _moment(query, name)
    is_date = len(query.get(name, "")) == len("2026-01-31")
    return moment and moment + (timedelta(days=1) if is_date else timedelta(seconds=1))


def _metadata_field(query: Mapping[str, str]) -> tuple[str, str] | None:
    fields = [(name.removeprefix("metadata_"), value) for name, value in query.items() if name.startswith("metadata_")]
    if len(fields) > 1:
        raise _refused("Search by one metadata field at a time.")
    return fields[0] if fields else None


def _refused(message: str) -> Refused:
    return Refused(Failure(422, 700, message))


def in_postmarks_words(mail: Mail, now: datetime) -> dict[str, Any]:
    return {
        "Tag": mail.tag,
        "MessageID": mail.id,
        "MessageStream": mail.stream,
        "To": _listed(mail.to),
        "Cc": _listed(mail.cc),
        "Bcc": _listed(mail.bcc),
        "Recipients": list(mail.recipients),
        "ReceivedAt": eastern(mail.received_at),
        "From": str(mail.sender),
        "Subject": mail.subject,
        "Attachments": list(mail.attachments),
        "Status": "Queued" if stage(mail, now) is Stage.QUEUED else "Sent",
        "TrackOpens": False,
        "TrackLinks": "None",
        "Metadata": mail.metadata,
        "Sandboxed": True,
    }


def details(mail: Mail, now: datetime) -> dict[str, Any]:
    return {
        "TextBody": mail.text,
        "HtmlBody": mail.html,
        "Body": "",
        **in_postmarks_words(mail, now),
        "MessageEvents": _events(mail) if stage(mail, now) is Stage.DELIVERED else [],
    }


def _events(mail: Mail) -> list[dict[str, Any]]:
    at = eastern(mail.received_at + DELIVERED_AFTER)
    if mail.bounce and mail.bounce != "SpamComplaint":
        summary = f"{mail.bounce}: bounced on purpose by the sandbox"
        return [
            {
                "Recipient": recipient,
                "Type": "Bounced",
                "ReceivedAt": at,
                "Details": {"Summary": summary, "BounceID": str(bounce_id(mail, recipient))},
            }
            for recipient in mail.recipients
        ]
    delivered = {
        "DeliveryMessage": "smtp;250 2.0.0 OK: kept by the sandbox",
        "DestinationServer": "sandbox.invalid (127.0.0.1)",
        "DestinationIP": "127.0.0.1",
    }
    return [
        {"Recipient": recipient, "Type": "Delivered", "ReceivedAt": at, "Details": delivered}
        for recipient in mail.recipients
    ]


def _listed(addresses: tuple[Address, ...]) -> list[dict[str, str | None]]:
    return [{"Email": address.email, "Name": address.name or None} for address in addresses]
