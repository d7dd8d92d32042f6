"""All that the sandbox remembers: one object that its pages and all APIs share."""

from dataclasses import replace

from notifyctl.clock import Clock
from notifyctl.models.template import Channel
from notifyctl.providers.sandbox import magic
from notifyctl.providers.sandbox.arrivals import Arrival, Arrivals
from notifyctl.providers.sandbox.meter import Meter
from notifyctl.providers.sandbox.outcomes import Outcomes
from notifyctl.providers.sandbox.receipt_post import ReceiptPost
from notifyctl.providers.sandbox.stripe_ledger import StripeLedger


class State:
    def __init__(self, arrivals: Arrivals, clock: Clock) -> None:
        self.arrivals = arrivals
        self.outcomes = Outcomes()
        self.meter = Meter()
        self.receipts = ReceiptPost()
        self.stripe = StripeLedger()
        self.clock = clock
        self.twilio_tokens: dict[str, str] = {}
        """Account SID -> the auth token that it was last used with, to sign what comes back."""

    def accept(self, arrival: Arrival, auth_token: str = "") -> Arrival:
        """Keeps the message, with the fate that awaits it. `auth_token` signs what Twilio calls back with."""
        bounce = magic.bounce_of(arrival.recipients[0]) or self.receipts.fate(arrival)
        if bounce:
            arrival = replace(arrival, bounce=bounce)
        self.arrivals.add(arrival)
        self.receipts.schedule(arrival, auth_token)
        return arrival

    def clear(self) -> None:
        """Empties the inbox and starts every count and all dice over. What is set stays set, as do Stripe's books."""
        self.arrivals.clear()
        self.outcomes.clear()
        self.meter.clear()
        self.receipts.clear()
        self.twilio_tokens.clear()

    def meter_json(self) -> dict[str, dict[str, int]]:
        accepted = self.arrivals.counts
        return {
            channel: {
                "presented": self.meter.total(channel),
                "accepted": accepted[channel],
                "last_minute": self.meter.last_minute(channel),
                "peak_per_minute": self.meter.peak_per_minute(channel),
            }
            for channel in Channel
        }
