"""All that the sandbox remembers: one object that its pages and all APIs share."""

import threading
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import TypeVar

from notifyctl.clock import Clock
from notifyctl.models.enums import Channel
from notifyctl.sandbox.faults.magic import magic_of
from notifyctl.sandbox.faults.schedule import FaultInjector
from notifyctl.sandbox.inbox_store import Email, InboxStore, Sms
from notifyctl.sandbox.receipts.poster import ReceiptPoster
from notifyctl.sandbox.stripe.ledger import StripeLedger

AnyMessage = TypeVar("AnyMessage", Email, Sms)

WINDOW_SECONDS = 60.0
CALLS_KEPT = 200_000


@dataclass(frozen=True, slots=True)
class Suppressed:
    """By hand: Postmark calls that a ManualSuppression."""

    address: str
    since: datetime
    origin: str
    """Recipient: they unsubscribed. Customer: we asked for it."""


class SandboxState:
    def __init__(self, inbox: InboxStore, clock: Clock) -> None:
        self.inbox = inbox
        self.faults = FaultInjector()
        self.meter = Meter()
        self.receipts = ReceiptPoster()
        self.stripe = StripeLedger()
        self.clock = clock
        self.twilio_tokens: dict[str, str] = {}
        """Account SID -> the auth token that it was last used with, to sign what comes back."""
        self.suppressed: dict[tuple[str, str], Suppressed] = {}
        """Message stream and address -> since when, and who asked for it; without those who bounced or complained."""

    def accept(self, message: AnyMessage, auth_token: str = "") -> AnyMessage:
        """Keeps the message as received now, with the bounce that awaits it. `auth_token` signs Twilio's callbacks."""
        magic = magic_of(message.recipients[0])
        bounce = magic.bounce if magic and magic.bounce else self.receipts.draw_bounce(message.channel)
        message = replace(message, received_at=self.clock(), bounce=bounce)
        self.inbox.add(message)
        self.receipts.schedule(message, auth_token)
        return message

    def suppress(self, address: str, stream: str, origin: str) -> None:
        self.suppressed.setdefault((stream, address.lower()), Suppressed(address, self.clock(), origin))

    def clear(self) -> None:
        """Empties the inbox and starts every count and all dice over. What is set stays set; Stripe's ledger stays."""
        self.inbox.clear()
        self.faults.clear()
        self.meter.clear()
        self.receipts.clear()
        self.twilio_tokens.clear()
        self.suppressed.clear()

    def meter_json(self) -> dict[str, dict[str, int]]:
        accepted = self.inbox.counts
        return {
            channel: {
                "presented": self.meter.total(channel),
                "accepted": accepted[channel],
                "last_minute": self.meter.last_minute(channel),
                "peak_per_minute": self.meter.peak_per_minute(channel),
            }
            for channel in Channel
        }


class Meter:
    """When the providers were called: the exact moments, and the most messages within any minute.

    Written by the server's thread, read by any. Each attempt counts, whatever the answer; a lookup does not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._lanes = {channel: _Lane() for channel in Channel}

    def present(self, channel: Channel, messages: int, at: float) -> None:
        """`at` is monotonic, and never before that of an earlier call."""
        with self._lock:
            self._lanes[channel].present(messages, at)

    def presented(self, channel: Channel) -> list[float]:
        """One moment a message, of the last CALLS_KEPT calls."""
        with self._lock:
            calls = list(self._lanes[channel].calls)
        return [at for at, messages in calls for _ in range(messages)]

    def total(self, channel: Channel) -> int:
        with self._lock:
            return self._lanes[channel].total

    def peak_per_minute(self, channel: Channel) -> int:
        """Over all calls since the start, also those whose moments are kept no more."""
        with self._lock:
            return self._lanes[channel].peak

    def last_minute(self, channel: Channel) -> int:
        with self._lock:
            return self._lanes[channel].since(monotonic() - WINDOW_SECONDS)


class _Lane:
    def __init__(self) -> None:
        self.calls: deque[tuple[float, int]] = deque(maxlen=CALLS_KEPT)
        self.total = 0
        self.peak = 0
        # The window that ends with the last call: the fullest of all windows ends with some call.
        self._window: deque[tuple[float, int]] = deque()
        self._in_window = 0

    def present(self, messages: int, at: float) -> None:
        self.calls.append((at, messages))
        self._window.append((at, messages))
        self.total += messages
        self._in_window += messages
        # What is exactly a minute apart is in no window together.
        while at - self._window[0][0] >= WINDOW_SECONDS:
            self._in_window -= self._window.popleft()[1]
        self.peak = max(self.peak, self._in_window)

    def since(self, moment: float) -> int:
        return sum(messages for at, messages in self._window if at > moment)
