"""Messages that were sent long ago, and of which nothing was heard since: the provider is asked."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifyctl import errors
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.delivery.receipts import store
from notifyctl.delivery.receipts.apply import Result, apply
from notifyctl.delivery.receipts.store import UnconfirmedMessage
from notifyctl.errors import DatabaseError
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import CannotTell, Lookup, LookupHit, LookupResult, Unavailable
from notifyctl.providers.receipts import Receipt, ReceiptEvent
from notifyctl.text.durations import plural

OVERDUE_AFTER = timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(days=4)
"""A provider tries for two days or three; what it says later than that is of no use."""
TAKEN_AT_ONCE = 200
MOST = 2_000
"""Of a channel, in one run: some minutes of asking."""
TROUBLE_IN_A_ROW = 5
"""After so many calls that came to nothing, the trouble is not with one message: the others wait for the next run."""

log = logging.getLogger("notifyctl.delivery")


@dataclass(frozen=True, slots=True)
class InquiryReport:
    """What a run has found out."""

    asked: int
    settled: int
    on_the_way: int
    unanswered: int

    def __str__(self) -> str:
        return (
            f"{plural(self.asked, 'message')} without a receipt asked about: {self.settled} settled,"
            f" {self.on_the_way} still on the way, {self.unanswered} unanswered"
        )


def ask_missing(
    database: Database,
    clock: Clock,
    keys: KeyRing,
    lookups: Mapping[Channel, Lookup],
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> InquiryReport:
    """Asks about each message an hour after it was sent, and then again when it is twice as old as the last time.

    Trouble with one message or one provider is logged and counted. Raises DatabaseError.
    """
    counts: Counter[str] = Counter()
    for channel, lookup in lookups.items():
        inquiry = _Inquiry(database, clock, keys, channel, lookup)
        while inquiry.asked < MOST and not stopping():
            if not inquiry.ask_some(stopping):
                break
        counts += inquiry.counts
    return InquiryReport(counts.total(), counts["settled"], counts["on_the_way"], counts["unanswered"])


class _Inquiry:
    """One channel in one run."""

    def __init__(self, database: Database, clock: Clock, keys: KeyRing, channel: Channel, lookup: Lookup) -> None:
        self.counts: Counter[str] = Counter()
        self._database = database
        self._clock = clock
        self._keys = keys
        self._channel = channel
        self._lookup = lookup
        self._trouble = 0

    @property
    def asked(self) -> int:
        return self.counts.total()

    def ask_some(self, stopping: Callable[[], bool]) -> bool:
        """Whether there may be more to ask about."""
        messages = self._take(self._clock())
        for number, message in enumerate(messages):
            if stopping() or self._trouble >= TROUBLE_IN_A_ROW:
                self._give_back(messages[number:])
                return False
            self.counts[self._ask(message)] += 1
        return len(messages) == TAKEN_AT_ONCE

    def _ask(self, message: UnconfirmedMessage) -> str:
        """What came of it. Over one message that nobody can deal with, the others are not forgotten."""
        try:
            finding = self._lookup.fate(message.provider_message_id)
            self._trouble = 0 if isinstance(finding, LookupHit) else self._trouble + 1
            return self._record(message, finding)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  it is about this message alone
            errors.report(log, "receipt cannot be asked about", error, message_id=message.id)
            return "unanswered"

    def _take(self, now: datetime) -> Sequence[UnconfirmedMessage]:
        """Others leave them alone for as long as is set down here, before the first call."""
        with self._database.transaction() as session:
            store.forget_inquiries(session, now - GIVEN_UP_AFTER)
            overdue = store.without_receipt(
                session,
                self._channel,
                sent_before=now - OVERDUE_AFTER,
                sent_since=now - GIVEN_UP_AFTER,
                now=now,
                most=TAKEN_AT_ONCE,
            )
            store.ask_again_at(session, {message.id: now + (now - message.sent_at) for message in overdue})
        return overdue

    def _give_back(self, messages: Sequence[UnconfirmedMessage]) -> None:
        with self._database.transaction() as session:
            store.ask_again_at(session, dict.fromkeys((message.id for message in messages), self._clock()))

    def _record(self, message: UnconfirmedMessage, finding: LookupResult) -> str:
        if not isinstance(finding, LookupHit):
            log_fields = {"message_id": message.id, "provider": message.provider, "answer": _words(finding)}
            log.warning("provider gives no answer about a receipt", extra=log_fields)
            return "unanswered"
        receipt = _as_receipt(message, self._channel, finding)
        if receipt is None:
            return "on_the_way"
        with self._database.transaction() as session:
            result = apply(session, self._keys, receipt, now=self._clock())
        # "Nothing new": its receipt has come in the meantime.
        return "settled" if result in (Result.APPLIED, Result.NOTHING_NEW) else "unanswered"


def _as_receipt(message: UnconfirmedMessage, channel: Channel, hit: LookupHit) -> Receipt | None:
    """None while it is on its way."""
    event = ReceiptEvent.BOUNCED if hit.bounce else ReceiptEvent.DELIVERED if hit.delivered else None
    if event is None:
        return None
    bounce = hit.bounce
    return Receipt(
        message.provider,
        channel,
        event,
        event_id=f"asked about {hit.provider_message_id}",
        message_id=message.id,
        provider_message_id=message.provider_message_id,
        happened_at=hit.bounced_at,
        reason=bounce.reason if bounce else None,
        code=bounce.code if bounce else None,
        detail=bounce.detail if bounce else "the provider was asked",
        suppress=bounce.suppress if bounce else None,
    )


def _words(finding: LookupResult) -> str:
    match finding:
        case Unavailable():
            return f"{finding.code}: {finding.detail}"
        case CannotTell():
            return finding.detail
    return "not found"
