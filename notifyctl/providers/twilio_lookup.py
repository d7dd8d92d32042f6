"""What became of an SMS, from the list of messages to its number: Twilio keeps no id of ours to search by.

https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
"""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from twilio.rest import Client

from notifyctl.providers.answers import NotAccepted, no_finding, provider_id
from notifyctl.providers.base import CannotTell, Doubt, Finding, Found, NotFound, Unavailable
from notifyctl.providers.receipts import ReceiptEvent
from notifyctl.providers.smart_encoding import may_be_the_same
from notifyctl.providers.timeouts import TWILIO_TIMEOUT
from notifyctl.providers.twilio_client import BlockingHttpClient, twilio_error
from notifyctl.providers.twilio_codes import TWILIO_CODES
from notifyctl.providers.twilio_receipts import EVENTS, rejection

SEARCH_DELAY = timedelta(seconds=30)
CLOCKS_MAY_DIFFER_BY = timedelta(minutes=2)
PAGE_SIZE = 50
MAX_PAGES = 20

Answer = TypeVar("Answer")
HeldElsewhere = Callable[[Collection[str]], set[str]]


class TwilioLookup:
    """Each call takes at most `timeout_seconds`, and there are MAX_PAGES of them at most."""

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        api_url: str,
        search_delay: timedelta = SEARCH_DELAY,
        timeout_seconds: float = TWILIO_TIMEOUT.total_seconds(),
    ) -> None:
        self.search_delay = search_delay
        self._http_client = BlockingHttpClient(api_url, timeout_seconds)
        client = Client(account_sid, auth_token, http_client=self._http_client)  # type: ignore[no-untyped-call]
        self._messages = client.messages

    def find(self, doubt: Doubt, *, held_elsewhere: HeldElsewhere) -> Finding:
        candidates = _asked(lambda: list(self._candidates(doubt)))
        return _choice(candidates, doubt.text, held_elsewhere) if isinstance(candidates, list) else candidates

    def fate(self, provider_message_id: str) -> Finding:
        return _asked(lambda: _found(self._messages(provider_message_id).fetch()))

    def _candidates(self, doubt: Doubt) -> Iterator[Any]:
        """What went out to this number since the attempt.

        Without a filter by date: that would be the date of sending, which a message still queued does not have.
        """
        since = doubt.attempted_at - CLOCKS_MAY_DIFFER_BY
        most = PAGE_SIZE * MAX_PAGES
        rows = self._messages.stream(to=doubt.recipient, page_size=PAGE_SIZE, limit=most)
        for number, row in enumerate(rows, 1):
            if _is_past(row, since):
                return
            if _is_candidate(row, doubt.recipient, since):
                yield row
            if number == most:
                raise _TooMany(f"over {most} messages went to the number since the attempt")

    def close(self) -> None:
        self._http_client.close()


class _TooMany(Exception):
    pass


def _asked(ask: Callable[[], Answer]) -> Answer | CannotTell | Unavailable:
    try:
        return ask()
    except NotAccepted as no:
        return no_finding(no.outcome, twilio_error, TWILIO_CODES)
    except _TooMany as too_many:
        return CannotTell(str(too_many))
    # Whatever the SDK stumbles over in an answer 200, the next one may be readable.
    except Exception as error:  # noqa: BLE001
        return Unavailable("UNREADABLE_ANSWER", type(error).__name__)


def _is_past(row: Any, since: datetime) -> bool:
    """Whether this row and all that follow are too old, be the list ordered by creation or by sending."""
    return bool(row.date_created < since and row.date_sent is not None and row.date_sent < since)


def _is_candidate(row: Any, recipient: str, since: datetime) -> bool:
    if row.sid is None or provider_id(row.sid) != row.sid or not isinstance(row.status, str):
        raise TypeError("a message without a SID or a status")
    # Other channels than SMS have a prefix, as rcs: has.
    is_ours = row.direction == "outbound-api" and str(row.to).endswith(recipient)
    return is_ours and row.date_created >= since


def _choice(candidates: list[Any], text: str, held_elsewhere: HeldElsewhere) -> Finding:
    same = [row for row in candidates if row.body and may_be_the_same(text, row.body)]
    # An account may be set to keep no texts.
    withheld = [row for row in candidates if not row.body]
    sids = [row.sid for row in same + withheld]
    held = held_elsewhere(sids) if sids else set()
    free = [row for row in same if row.sid not in held]
    if free:
        # Which of several with one text is this one makes no difference to who reads them: each is taken once.
        return _found(min(free, key=lambda row: row.date_created))
    if any(row.sid not in held for row in withheld):
        return CannotTell("Twilio does not show the text of a message that went to the number")
    return NotFound()


def _found(row: Any) -> Found:
    event = EVENTS.get(row.status)
    if event is ReceiptEvent.BOUNCED:
        code = row.error_code if isinstance(row.error_code, int) else None
        return Found(row.sid, bounce=rejection(row.sid, row.status, code, row.error_message))
    return Found(row.sid, delivered=event is ReceiptEvent.DELIVERED)
