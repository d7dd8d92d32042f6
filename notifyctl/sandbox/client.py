"""What a test asks a running sandbox, and what it may set."""

from collections import Counter
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

from notifyctl.clock import Clock
from notifyctl.models.enums import Channel
from notifyctl.sandbox.faults.faults import Fault, Faults
from notifyctl.sandbox.inbox_store import Email, InboxMessage
from notifyctl.sandbox.receipts.replies import reply
from notifyctl.sandbox.receipts.settings import ReceiptCounts, Receipts
from notifyctl.sandbox.state import SandboxState
from notifyctl.sandbox.stripe.ledger import StripeLedger


class SandboxClient:
    """Every method may be called from any thread, before the server runs and after."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def messages(self) -> list[InboxMessage]:
        """What was accepted, in the order in which it came."""
        return self._state.inbox.newest_first()[::-1]

    @property
    def calls(self) -> int:
        """Requests to either provider's API so far, whatever the answer was; a batch is one."""
        return self._state.inbox.calls

    def clear(self) -> None:
        """Empties the inbox and starts every count over, that of a busy recipient's attempts too.

        Faults and receipts stay set, and their dice start anew. Receipts that wait are dropped.
        """
        self._state.clear()

    def set_faults(self, api: str, faults: Faults) -> None:
        """Of a Channel's provider, or of STRIPE, in the place of those set before.

        Raises InvalidInput for a code that the API does not have.
        """
        self._state.faults.set_faults(api, faults)

    def clear_faults(self) -> None:
        self._state.faults.clear_faults()

    def struck(self, api: str) -> Counter[Fault]:
        """How often each fault that is set has struck so far."""
        schedule = self._state.faults.schedule(api)
        return Counter(schedule.struck) if schedule else Counter()

    @property
    def stripe(self) -> StripeLedger:
        """What Stripe has on its books."""
        return self._state.stripe

    @property
    def search_delay(self) -> timedelta:
        """How long after acceptance a message is found by Postmark's search and in Twilio's list."""
        return self._state.inbox.search_delay

    @search_delay.setter
    def search_delay(self, delay: timedelta) -> None:
        self._state.inbox.search_delay = delay

    @property
    def clock(self) -> Clock:
        """What tells when a message arrived, and so how far it has come."""
        return self._state.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._state.clock = clock

    def set_receipts(self, receipts: Receipts) -> None:
        """Receipts of what is accepted from now on are posted back."""
        self._state.receipts.set(receipts)

    def clear_receipts(self) -> None:
        """No more are posted, also of what was accepted before."""
        self._state.receipts.set(None)

    def reply(
        self, sender: str, text: str, *, url: str | None = None, opt_out_type: str | None = None, sid: str | None = None
    ) -> int:
        """Answers an SMS as the person at `sender`: posts it, signed, to the URL of inbound messages.

        That is beside the StatusCallback of the last SMS to them, unless `url` says it. The same `sid` is the same
        answer, posted once more. Returns the HTTP status that came back, 0 for none.
        """
        return reply(self._state, sender, text, url=url, opt_out_type=opt_out_type, sid=sid)

    def suppress(self, address: str, *, stream: str = "outbound") -> None:
        """As when its owner unsubscribes: it stands in Postmark's list of suppressions from now on.

        Emails to it are accepted all the same, so that a test sees who goes on writing to it.
        """
        self._state.suppress(address, stream, "Recipient")

    @property
    def receipt_counts(self) -> ReceiptCounts:
        return self._state.receipts.counts

    def receipts_settled(self, timeout: float = 10.0) -> bool:
        """Waits until every receipt is posted; False if that takes longer than `timeout` seconds."""
        return self._state.receipts.settled(timeout)

    def presented(self, channel: Channel) -> list[float]:
        """When the provider was called, one moment of time.monotonic() a message, of the last 200,000 calls.

        Each attempt counts, accepted or not; each item of a batch does; a lookup does not.
        """
        return self._state.meter.presented(channel)

    def peak_per_minute(self, channel: Channel) -> int:
        """The most messages that were presented within any 60 seconds."""
        return self._state.meter.peak_per_minute(channel)

    def accepted(self, channel: Channel) -> int:
        return self._state.inbox.counts[channel]

    def accepted_by_recipient(self, channel: Channel) -> Counter[str]:
        """How many messages each recipient would have got, of those that the inbox still holds."""
        return Counter(recipient for message in self._of(channel) for recipient in message.recipients)

    def accepted_by_message_id(self, channel: Channel) -> Counter[str]:
        """How often each of the caller's messages was accepted; none was doubled if no count is above 1.

        The id is the email's metadata field message_id, or that parameter of the SMS's StatusCallback; a message
        without one is left out.
        """
        ids = (_message_id(message) for message in self._of(channel))
        return Counter(message_id for message_id in ids if message_id)

    def _of(self, channel: Channel) -> list[InboxMessage]:
        return [message for message in self.messages() if message.channel is channel]


def _message_id(message: InboxMessage) -> str:
    if isinstance(message, Email):
        return message.metadata.get("message_id", "")
    return parse_qs(urlsplit(message.status_callback or "").query).get("message_id", [""])[0]
