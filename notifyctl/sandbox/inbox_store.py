"""What arrived at the sandbox: one bounded list in memory, with look-up by id, recipient and metadata."""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from enum import IntEnum
from itertools import chain
from typing import ClassVar
from zlib import crc32

from notifyctl.models.enums import Channel

KEEP = 200_000
SENT_AFTER = timedelta(milliseconds=200)
DELIVERED_AFTER = timedelta(seconds=2)


class Stage(IntEnum):
    """How far an accepted message has come; it advances by itself as time passes."""

    QUEUED = 0
    SENT = 1
    DELIVERED = 2


@dataclass(frozen=True, slots=True)
class Address:
    email: str
    name: str = ""

    def __str__(self) -> str:
        return f'"{self.name}" <{self.email}>' if self.name else self.email


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    channel: ClassVar = Channel.EMAIL

    id: str
    received_at: datetime
    sender: Address
    to: tuple[Address, ...]
    to_header: str = field(default="", compare=False)
    """The recipients as the client wrote them."""
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: str = ""
    subject: str = ""
    text: str = ""
    html: str = ""
    tag: str = ""
    stream: str = "outbound"
    metadata: dict[str, str]
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[str, ...] = ()
    bounce: str = ""
    """Postmark's type of the bounce that is to come, if one is."""

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(address.email for address in chain(self.to, self.cc, self.bcc))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sms:
    channel: ClassVar = Channel.SMS

    id: str
    received_at: datetime
    account_sid: str
    to: str
    sender: str | None
    messaging_service_sid: str | None
    text: str
    status_callback: str | None = None
    bounce: str = ""
    """Twilio's code of the failure that its delivery is to end with, if it is."""

    @property
    def recipients(self) -> tuple[str, ...]:
        return (self.to,)


InboxMessage = Email | Sms


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundSms:
    """What a person has written to a number of ours. Twilio lists it whether or not anybody took it."""

    id: str
    received_at: datetime
    account_sid: str
    to: str
    sender: str
    messaging_service_sid: str | None
    text: str


def bounce_id(email: Email, recipient: str) -> int:
    """The same for the same bounce, however often it is reported."""
    return crc32(f"{email.id}{recipient}{email.bounce}".encode())


def stage(message: InboxMessage, now: datetime) -> Stage:
    age = now - message.received_at
    if age >= DELIVERED_AFTER:
        return Stage.DELIVERED
    return Stage.SENT if age >= SENT_AFTER else Stage.QUEUED


def period_of(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """What a date or a date and time covers as a bound of a search: its whole day, or its whole second.

    In `zone` where it names none. Raises ValueError.
    """
    start = datetime.fromisoformat(text)
    start = start if start.tzinfo else start.replace(tzinfo=zone)
    return start, start + (timedelta(days=1) if len(text) == len("2026-01-31") else timedelta(seconds=1))


class InboxStore:
    """Written by the server's thread, read by any. Beyond `keep` the oldest goes; the counts go on."""

    def __init__(self, keep: int = KEEP, search_delay: timedelta = timedelta()) -> None:
        self._keep = keep
        self.search_delay = search_delay
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._all: deque[InboxMessage] = deque()
            self._by_id: dict[str, InboxMessage] = {}
            self._by_key: dict[tuple[str, ...], list[InboxMessage]] = {}
            self._inbound: deque[InboundSms] = deque(maxlen=self._keep)
            self._counts = dict.fromkeys(Channel, 0)
            self._calls = 0

    def add(self, message: InboxMessage) -> None:
        with self._lock:
            self._all.append(message)
            self._by_id[message.id] = message
            for key in _keys(message):
                self._by_key.setdefault(key, []).append(message)
            self._counts[message.channel] += 1
            if len(self._all) > self._keep:
                self._drop_oldest()

    def add_inbound(self, sms: InboundSms) -> None:
        """Once: the same id is the same message."""
        with self._lock:
            if all(known.id != sms.id for known in self._inbound):
                self._inbound.append(sms)

    def inbound(self, now: datetime) -> list[InboundSms]:
        """Newest first, what the list has caught up with."""
        with self._lock:
            newest_first = list(reversed(self._inbound))
        return [sms for sms in newest_first if now - sms.received_at >= self.search_delay]

    def _drop_oldest(self) -> None:
        oldest = self._all.popleft()
        del self._by_id[oldest.id]
        for key in _keys(oldest):
            # What is oldest of all is also the oldest under each of its keys.
            same_key = self._by_key[key]
            del same_key[0]
            if not same_key:
                del self._by_key[key]

    def count_call(self) -> None:
        with self._lock:
            self._calls += 1

    @property
    def calls(self) -> int:
        """Requests to either provider's API so far, whatever the answer was."""
        return self._calls

    @property
    def counts(self) -> dict[Channel, int]:
        """Messages accepted so far, dropped ones included."""
        with self._lock:
            return dict(self._counts)

    def get(self, message_id: str) -> InboxMessage | None:
        return self._by_id.get(message_id)

    def bounced(self, number: int) -> Email | None:
        """The email that this bounce is of."""
        with self._lock:
            emails = self._by_key.get(_bounce_key(number))
        return emails[0] if emails and isinstance(emails[0], Email) else None

    def searchable(
        self, now: datetime, *, to: str | None = None, metadata: tuple[str, str] | None = None
    ) -> list[InboxMessage]:
        """As `newest_first`, but only what the provider's search has caught up with."""
        messages = self.newest_first(to=to, metadata=metadata)
        if not self.search_delay:
            return messages
        return [message for message in messages if now - message.received_at >= self.search_delay]

    def newest_first(self, *, to: str | None = None, metadata: tuple[str, str] | None = None) -> list[InboxMessage]:
        """Everything, or what carries this metadata field, or else went to exactly this recipient."""
        with self._lock:
            messages: Iterable[InboxMessage] = self._all
            if metadata is not None:
                messages = self._by_key.get(_metadata_key(*metadata), ())
            elif to is not None:
                messages = self._by_key.get(_recipient_key(to), ())
            newest_first = list(messages)
        newest_first.reverse()
        return newest_first


def _keys(message: InboxMessage) -> set[tuple[str, ...]]:
    keys = {_recipient_key(recipient) for recipient in message.recipients}
    if isinstance(message, Email):
        keys.update(_metadata_key(name, value) for name, value in message.metadata.items())
        if message.bounce:
            keys.update(_bounce_key(bounce_id(message, recipient)) for recipient in message.recipients)
    return keys


def _recipient_key(recipient: str) -> tuple[str, ...]:
    return ("to", recipient.lower())


def _bounce_key(number: int) -> tuple[str, ...]:
    return ("bounce", str(number))


def _metadata_key(name: str, value: str) -> tuple[str, ...]:
    return ("metadata", name.lower(), value)
