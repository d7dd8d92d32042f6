"""What Twilio has, in bulk: the account's list of messages, in and out, newest first.

https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any, cast

from twilio.base import values
from twilio.http.response import Response
from twilio.rest import Client

from notifyctl.models.enums import MessageStatus
from notifyctl.providers.certificates import Authorities
from notifyctl.providers.contract import TWILIO_SEARCH_DELAY, TWILIO_TIMEOUT, OptOutWord, SentRecord, SuppressedAddress
from notifyctl.providers.receipts import Receipt, ReceiptEvent, Release
from notifyctl.providers.results import Inquiry
from notifyctl.providers.twilio.client import TWILIO_ERRORS, BlockingHttpClient
from notifyctl.providers.twilio.lookup import LEEWAY, SmsRow, check_row, is_past
from notifyctl.providers.twilio.receipts import EVENTS, read_inbound

PAGE_SIZE = 1_000
"""Twilio's own limit."""
_INBOUND = "inbound"
_STATUS = {
    ReceiptEvent.DELIVERED: MessageStatus.DELIVERED,
    ReceiptEvent.BOUNCED: MessageStatus.BOUNCED,
}


class TwilioHistory:
    """Asks for 1,000 messages at a time, each call within `timeout_seconds`.

    Without a filter by date: that would be the date of sending, which a message still queued does not have.
    """

    def __init__(  # noqa: PLR0913  an account, and how to reach it
        self,
        account_sid: str,
        auth_token: str,
        api_url: str,
        messaging_service_sid: str | None,
        from_number: str | None,
        search_delay: timedelta = TWILIO_SEARCH_DELAY,
        timeout_seconds: float = TWILIO_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self.search_delay = search_delay
        self._service = messaging_service_sid
        self._only_number: str | object = from_number if from_number and not messaging_service_sid else values.unset
        """What to filter by. A service may send by many numbers, and the list cannot be filtered by service."""
        self._number = from_number
        self._inquiry = Inquiry("Twilio", TWILIO_ERRORS, pause)
        self._http_client = _PatientHttpClient(self._inquiry, api_url, timeout_seconds, authorities)
        client = Client(account_sid, auth_token, http_client=self._http_client)  # type: ignore[no-untyped-call]
        self._messages = client.messages

    @property
    def calls(self) -> int:
        return self._inquiry.calls

    def sent(self, since: datetime, until: datetime) -> Iterator[SentRecord]:
        """What went out by our number or messaging service. To the second, which is all that Twilio tells."""
        with self._inquiry.readable():
            for row in self._rows(since, from_=self._only_number):
                if row.direction in (None, "", "outbound-api") and self._is_ours(row) and row.date_created < until:
                    yield _sent_record(row)

    def suppressions(self, since: datetime) -> Iterator[SuppressedAddress]:
        """None: Twilio has no list of them. Who said STOP is among the inbound messages."""
        return iter(())

    def opt_outs(self, since: datetime) -> Iterator[OptOutWord]:
        with self._inquiry.readable():
            for row in self._rows(since, to=self._only_number):
                if row.direction == _INBOUND and row.messaging_service_sid in (None, "", self._service):
                    yield from _opt_out_word(row)

    def close(self) -> None:
        self._http_client.close()

    def _rows(
        self, since: datetime, *, to: str | object = values.unset, from_: str | object = values.unset
    ) -> Iterator[SmsRow]:
        first = since.astimezone(UTC).replace(microsecond=0)
        seen: set[str] = set()
        for row in cast(Iterator[SmsRow], self._messages.stream(to=to, from_=from_, page_size=PAGE_SIZE)):
            check_row(row)
            if is_past(row, first - LEEWAY) or (row.direction == _INBOUND and row.date_created < first - LEEWAY):
                return
            if row.date_created >= first and row.sid not in seen:
                seen.add(row.sid)
                yield row

    def _is_ours(self, row: SmsRow) -> bool:
        """A messaging service picks the number, so that only its own id tells."""
        by_service = self._service is not None and row.messaging_service_sid == self._service
        return by_service or (self._number is not None and row.from_ == self._number)


class _PatientHttpClient(BlockingHttpClient):
    """Asks again for the page that did not come: the SDK could only begin with the first."""

    def __init__(self, inquiry: Inquiry, api_url: str, timeout_seconds: float, authorities: Authorities | None) -> None:
        super().__init__(api_url, timeout_seconds, authorities)
        self._inquiry = inquiry

    def request(self, method: str, uri: str, **request: Any) -> Response:  # type: ignore[override]
        ask = super().request
        return self._inquiry.ask(lambda: ask(method, uri, **request))


def _sent_record(row: SmsRow) -> SentRecord:
    event = EVENTS.get(row.status)
    return SentRecord(
        provider_message_id=row.sid,
        message_id=None,
        recipient=str(row.to or "").rpartition(":")[2],
        accepted_at=row.date_created,
        status=_STATUS.get(event, MessageStatus.SENT) if event else MessageStatus.SENT,
        template_key=None,
        text=row.body or None,
        subject=None,
    )


def _opt_out_word(row: SmsRow) -> Iterator[OptOutWord]:
    """By the same rules as when it is posted to us; nothing for a message that asks for neither."""
    match read_inbound({"MessageSid": row.sid, "From": row.from_ or "", "Body": row.body or ""}):
        case Receipt(recipient=str(sender)):
            yield OptOutWord(sender, is_stop=True, received_at=row.date_created)
        case Release(recipient=sender):
            yield OptOutWord(sender, is_stop=False, received_at=row.date_created)
