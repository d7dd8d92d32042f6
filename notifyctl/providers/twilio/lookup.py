"""What became of an SMS, from the list of messages to its number: Twilio keeps no id of ours to search by.

https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, cast

from twilio.rest import Client

from notifyctl.providers.certificates import Authorities
from notifyctl.providers.contract import (
    TWILIO_SEARCH_DELAY,
    TWILIO_TIMEOUT,
    CannotTell,
    LookupHit,
    LookupMiss,
    LookupResult,
    Unavailable,
    UncertainSend,
)
from notifyctl.providers.receipts import ReceiptEvent
from notifyctl.providers.results import NotAccepted, no_result, provider_id
from notifyctl.providers.twilio.client import TWILIO_ERRORS, BlockingHttpClient
from notifyctl.providers.twilio.receipts import EVENTS, rejection
from notifyctl.providers.twilio.smart_encoding import may_be_the_same
from notifyctl.text.durations import plural

LEEWAY = timedelta(minutes=2)
"""For the times of the calls, and for servers of Twilio's that differ."""
CLOCK_MAY_HAVE_STEPPED_BY = timedelta(days=1)
"""Our own, between the attempt and the question. As a time zone taken for another makes it."""
PAGE_SIZE = 50
MAX_PAGES = 20
Answer = TypeVar("Answer")


class SmsRow(Protocol):
    """A message as the SDK reads it, once it has been checked."""

    sid: str
    status: str
    date_created: datetime
    date_sent: datetime | None
    to: str | None
    from_: str | None
    direction: str | None
    messaging_service_sid: str | None
    body: str | None
    error_code: int | None
    error_message: str | None


HeldElsewhere = Callable[[Collection[str]], set[str]]


class TwilioLookup:
    """Each call takes at most `timeout_seconds`, and there are MAX_PAGES of them at most."""

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        api_url: str,
        search_delay: timedelta = TWILIO_SEARCH_DELAY,
        timeout_seconds: float = TWILIO_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
    ) -> None:
        self.search_delay = search_delay
        self._http_client = BlockingHttpClient(api_url, timeout_seconds, authorities)
        client = Client(account_sid, auth_token, http_client=self._http_client)  # type: ignore[no-untyped-call]
        self._messages = client.messages

    def find(self, send: UncertainSend, *, held_elsewhere: HeldElsewhere) -> LookupResult:
        listed = _answered(lambda: self._listed(send))
        return _choice(listed, send.text, held_elsewhere) if isinstance(listed, _Listed) else listed

    def fate(self, provider_message_id: str) -> LookupResult:
        return _answered(lambda: _hit(cast(SmsRow, self._messages(provider_message_id).fetch())))

    def _listed(self, send: UncertainSend) -> "_Listed":
        """What went out to this number since the attempt, and for a day before.

        Without a filter by date: that would be the date of sending, which a message still queued does not have.
        """
        most = PAGE_SIZE * MAX_PAGES
        since: datetime | None = None
        candidates: list[SmsRow] = []
        rows = cast(Iterator[SmsRow], self._messages.stream(to=send.recipient, page_size=PAGE_SIZE, limit=most))
        for number, row in enumerate(rows, 1):
            check_row(row)
            if number == 1:
                since = _since(self._http_client.answered_at, send.age, row)
            if since and is_past(row, since - CLOCK_MAY_HAVE_STEPPED_BY):
                break
            if _may_be_to(row, send.recipient):
                candidates.append(row)
            if number == most:
                raise _TooMany(f"over {plural(most, 'message')} went to the number since the attempt")
        return _Listed(candidates, since)

    def close(self) -> None:
        self._http_client.close()


@dataclass(frozen=True, slots=True)
class _Listed:
    candidates: list[SmsRow]
    since: datetime | None
    """When the attempt was, by Twilio's clock, less some leeway; None where that cannot be told."""

    def is_since_the_attempt(self, row: SmsRow) -> bool:
        return self.since is not None and row.date_created >= self.since


class _TooMany(Exception):
    pass


def _answered(ask: Callable[[], Answer]) -> Answer | CannotTell | Unavailable:
    try:
        return ask()
    except NotAccepted as no:
        return no_result(no.outcome, TWILIO_ERRORS)
    except _TooMany as too_many:
        return CannotTell(str(too_many))
    except Exception as error:  # noqa: BLE001  whatever the SDK stumbles over, the next answer may be readable
        return Unavailable("UNREADABLE_ANSWER", type(error).__name__)


def _since(answered_at: datetime | None, age: timedelta, newest: SmsRow) -> datetime | None:
    """No answer that is older than what it lists has the time from Twilio: a cache or a proxy wrote it."""
    if answered_at is None or answered_at < newest.date_created - LEEWAY:
        return None
    return answered_at - max(age, timedelta()) - LEEWAY


def check_row(row: Any) -> None:
    """Raises TypeError for what cannot be one."""
    if row.sid is None or provider_id(row.sid) != row.sid or not isinstance(row.status, str):
        raise TypeError("a message without a SID or a status")
    if not isinstance(row.date_created, datetime):
        raise TypeError("a message without a date")


def is_past(row: SmsRow, since: datetime) -> bool:
    """Whether this row and all that follow are too old, be the list ordered by creation or by sending."""
    return row.date_created < since and row.date_sent is not None and row.date_sent < since


def _may_be_to(row: SmsRow, recipient: str) -> bool:
    """What a row leaves out says nothing against it: it stands in the list of what went to this number.

    Other channels than SMS have a prefix, as rcs: has. An account may be set to hide a number's last digits.
    """
    to = str(row.to or recipient).rpartition(":")[2]
    is_sent_by_us = row.direction in (None, "", "outbound-api")
    return is_sent_by_us and len(to) == len(recipient) and recipient.startswith(to.rstrip("X*"))


def _choice(listed: _Listed, text: str, held_elsewhere: HeldElsewhere) -> LookupResult:
    same = [row for row in listed.candidates if row.body and may_be_the_same(text, row.body)]
    # An account may be set to keep no texts.
    withheld = [row for row in listed.candidates if not row.body]
    sids = [row.sid for row in same + withheld]
    held = held_elsewhere(sids) if sids else set()
    free = [row for row in same if row.sid not in held]
    certain = [row for row in free if listed.is_since_the_attempt(row)]
    if certain:
        # Which of several with one text is this one makes no difference to who reads them: each is taken once.
        return _hit(min(certain, key=lambda row: row.date_created))
    if free:
        return CannotTell("a message with this text went to the number, but perhaps before the attempt")
    if any(row.sid not in held and (listed.since is None or listed.is_since_the_attempt(row)) for row in withheld):
        return CannotTell("Twilio does not show the text of a message that went to the number")
    return LookupMiss()


def _hit(row: SmsRow) -> LookupHit:
    event = EVENTS.get(row.status)
    if event is ReceiptEvent.BOUNCED:
        code = row.error_code if isinstance(row.error_code, int) else None
        return LookupHit(row.sid, bounce=rejection(row.sid, row.status, code, row.error_message))
    return LookupHit(row.sid, delivered=event is ReceiptEvent.DELIVERED)
