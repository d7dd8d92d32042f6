"""What the rest of notifyctl says to a provider, the four answers it can get, and how long each may take."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from notifyctl.models.enums import FailureReason, MessageStatus, SuppressionReason


class HeldKey(NamedTuple):
    """An idempotency key, and the keyed hash of the request that holds it."""

    idempotency_key: str
    fingerprint: str


class OutboundMessage(NamedTuple):
    """One rendered message, ready for one call. `subject` and `html` are None for SMS."""

    message_id: str
    template_key: str
    recipient: str
    text: str
    subject: str | None = None
    html: str | None = None
    held_key: HeldKey | None = None
    """Goes along where the provider carries it, so that a database that has forgotten the message gets it back."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has it and will try to deliver it. Without an id: it said so, but not under which."""

    provider_message_id: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """It did not go out and never will: trying again cannot help."""

    reason: FailureReason
    code: str
    detail: str
    suppress: SuppressionReason | None = None
    is_ours: bool = field(default=False, compare=False)
    """The detail is in our own words: nothing of the message can be in it."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It did not go out, and may if tried later. `retry_after` is the provider's own wish."""

    code: str
    detail: str
    retry_after: timedelta | None = None
    is_ours: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have gone out: the answer was lost or cannot be read."""

    code: str
    detail: str
    is_ours: bool = field(default=False, compare=False)


SendResult = Accepted | Rejected | Unavailable | Unknown


class Answer(NamedTuple):
    """The result of one attempt, and how long the provider took for it."""

    message_id: str
    result: SendResult
    seconds: float


class Sender(Protocol):
    """One channel's way out. Used by one thread."""

    provider: str

    @property
    def free(self) -> int:
        """How many messages `submit` takes now."""

    @property
    def in_flight(self) -> int:
        """How many were submitted and not collected yet."""

    def submit(self, messages: Sequence[OutboundMessage], *, send_by: float | None = None) -> None:
        """Starts sending. Never raises for what a provider or the network does.

        What is not written by `send_by` (time.monotonic) is given up, and answered as not sent.
        """

    def collect(self, timeout: float) -> list[Answer]:
        """The answers that have come. While any is in flight, waits up to `timeout` seconds for the first."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class UncertainSend:
    """A message that may have gone out, as it would have gone out."""

    message_id: str
    recipient: str
    text: str
    age: timedelta
    """Since the attempt. A span and no moment: our clock and the provider's may be hours apart."""


@dataclass(frozen=True, slots=True)
class LookupHit:
    """It did go out. `bounce` is set when the provider already knows that it did not arrive.

    `bounced_at` is when, by the provider's clock; None where it does not say.
    """

    provider_message_id: str
    delivered: bool = False
    bounce: Rejected | None = None
    bounced_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LookupMiss:
    """The provider does not have it, or not yet: its search lags behind its intake."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The provider cannot answer for this message, and asking again will not help."""

    detail: str


LookupResult = LookupHit | LookupMiss | CannotTell | Unavailable


class Lookup(Protocol):
    """Asks a provider what became of a message. Blocks for one call at a time; used by one thread."""

    search_delay: timedelta
    """After this long an accepted message is found; LookupMiss counts only then."""

    def find(self, send: UncertainSend, *, held_elsewhere: Callable[[Collection[str]], set[str]]) -> LookupResult:
        """`held_elsewhere` tells which of these provider message ids other messages already have."""

    def fate(self, provider_message_id: str) -> LookupResult:
        """What has become of a message that the provider accepted under this id."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SentRecord:
    """What a provider has of one message that it accepted."""

    provider_message_id: str
    message_id: str | None
    """Ours, where the provider carries it; None also for what others sent by the same account."""
    recipient: str = field(repr=False)
    """As the provider spells it. An account may be set to hide a number's last digits."""
    accepted_at: datetime
    """By the provider's clock, in UTC. Twilio's has whole seconds."""
    status: MessageStatus
    """SENT, DELIVERED or BOUNCED, as far as the list tells."""
    template_key: str | None
    text: str | None = field(repr=False)
    """Of an SMS, where the account keeps texts: what it is recognised by."""
    subject: str | None = field(repr=False)
    held_key: HeldKey | None = None


@dataclass(frozen=True, slots=True)
class SuppressedAddress:
    """One that the provider delivers nothing to any more, or that asked for no more."""

    recipient: str = field(repr=False)
    reason: SuppressionReason
    since: datetime | None


@dataclass(frozen=True, slots=True)
class OptOutWord:
    """An inbound STOP or START."""

    sender: str = field(repr=False)
    """E.164."""
    is_stop: bool
    received_at: datetime


class History(Protocol):
    """Asks a provider in bulk what it has, for a store that has forgotten. Used by one thread.

    Pages are fetched as they are needed, and nothing comes twice; the order is the provider's. Every question raises
    ProviderError with one line when it gets no answer; what has come until then is right, but not all.
    """

    search_delay: timedelta
    """Until this long after it was accepted, a message may be missing."""

    def sent(self, since: datetime, until: datetime) -> Iterator[SentRecord]:
        """What was accepted from `since` on and before `until`."""

    def suppressions(self, since: datetime) -> Iterator[SuppressedAddress]:
        """Those suppressed from `since` on, where the provider keeps a list; else none."""

    def opt_outs(self, since: datetime) -> Iterator[OptOutWord]:
        """What people asked for from `since` on, where they ask by the channel itself; else nothing."""

    @property
    def calls(self) -> int:
        """How many requests were made so far."""

    def close(self) -> None: ...


CONNECT_TIMEOUT = timedelta(seconds=5)

POSTMARK_TIMEOUT = timedelta(seconds=30)
"""From `submit` to the last answer of the batch, also when it has to be sent in parts."""

TWILIO_TIMEOUT = timedelta(seconds=15)
"""From `submit` to the answer of one message."""

POSTMARK_SEARCH_DELAY, TWILIO_SEARCH_DELAY = timedelta(minutes=2), timedelta(seconds=30)
"""For `search_delay`, where no setting says another."""
