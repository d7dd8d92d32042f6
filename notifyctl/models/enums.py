"""Every enum of the tables, and what is true of a channel. Importing them costs nothing: SQLAlchemy stays out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Channel(StrEnum):
    EMAIL = "EMAIL"
    SMS = "SMS"


class Audience(StrEnum):
    CLIENT = "CLIENT"
    ADMIN = "ADMIN"


class Lane(StrEnum):
    """How urgently a message leaves. The order of the members is the order of service."""

    URGENT = "URGENT"
    TRANSACTIONAL = "TRANSACTIONAL"
    BULK = "BULK"


class OnDoubt(StrEnum):
    """What to do with a message that may have gone out when the provider cannot tell."""

    RESEND = "RESEND"
    HOLD = "HOLD"


class VariableType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    DATE = "date"
    """A calendar day, ISO 8601."""
    URL = "url"
    """http or https."""


class MessageStatus(StrEnum):
    QUEUED = "QUEUED"
    """Accepted, waiting for a worker."""
    DEFERRED_THROTTLED = "DEFERRED_THROTTLED"
    """Its channel's minute is full; next_attempt_at forecasts its turn."""
    SENDING = "SENDING"
    """Claimed by a worker under a lease."""
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    """A transient failure; waits for its backoff."""
    IN_DOUBT = "IN_DOUBT"
    """The call may have gone out and no answer is known."""
    SENT = "SENT"
    """The provider accepted it."""
    DELIVERED = "DELIVERED"
    """The provider's receipt says it arrived."""
    BOUNCED = "BOUNCED"
    """The provider's receipt says it did not arrive."""
    FAILED = "FAILED"
    """A hard error, or retries used up, or held in doubt. An operator may queue it again."""
    BLOCKED = "BLOCKED"
    """A gate refused. Final."""
    EXPIRED = "EXPIRED"
    """Its send-by time passed. Final."""
    CANCELED = "CANCELED"
    """Withdrawn before it was sent. Final."""


class BlockReason(StrEnum):
    """Why a gate refused, in the order of the gates; with each, the question that the gate asks."""

    TEMPLATE_DISABLED = "TEMPLATE_DISABLED"
    """Is the template switched on?"""
    BILLING_ONLY_FROM_STRIPE = "BILLING_ONLY_FROM_STRIPE"
    """A billing template: is its source a verified Stripe event?"""
    CLIENT_UNKNOWN = "CLIENT_UNKNOWN"
    """Is there such a client? A template with client rules takes no bare address."""
    CONTEXT_INVALID = "CONTEXT_INVALID"
    """Do the values fit the template: none missing, unknown or of a wrong type?"""
    RECIPIENT_MISSING = "RECIPIENT_MISSING"
    """Does the client have an address for this channel?"""
    RECIPIENT_INVALID = "RECIPIENT_INVALID"
    """Is it a possible address or number?"""
    COUNTRY_NOT_ALLOWED = "COUNTRY_NOT_ALLOWED"
    """A one-time code: is the number's country in OTP_ALLOWED_COUNTRIES?"""
    SMS_DISABLED = "SMS_DISABLED"
    """An SMS: is SMS_ENABLED true, and has the client consented?"""
    PROVISIONING_INCOMPLETE = "PROVISIONING_INCOMPLETE"
    """An access mail: is the client's provisioning COMPLETED?"""
    SUBSCRIPTION_INACTIVE = "SUBSCRIPTION_INACTIVE"
    """If asked for: is the subscription active, trialing or past_due?"""
    PLAN_FEATURE_MISSING = "PLAN_FEATURE_MISSING"
    """Does the plan have the feature that the template asks for?"""
    SUPPRESSED = "SUPPRESSED"
    """Is the address free of a suppression?"""
    RATE_LIMITED = "RATE_LIMITED"
    """Has this client (or address) had fewer of these than the rate allows?"""


class FailureReason(StrEnum):
    """Why a message failed or bounced, whatever the provider called it."""

    RECIPIENT_INVALID = "RECIPIENT_INVALID"
    """There is no such address or number."""
    RECIPIENT_UNREACHABLE = "RECIPIENT_UNREACHABLE"
    """It exists, but nothing can be delivered to it now or from here."""
    RECIPIENT_OPTED_OUT = "RECIPIENT_OPTED_OUT"
    """The person said stop, or the provider suppresses the address."""
    BLOCKED_BY_CARRIER = "BLOCKED_BY_CARRIER"
    """A carrier or mailbox filter refused it."""
    ACCOUNT_PROBLEM = "ACCOUNT_PROBLEM"
    """Our account, key, sender or balance is not in order."""
    CONTENT_REJECTED = "CONTENT_REJECTED"
    """The provider refused what the message says or how it is built."""
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    """Transient failures until the retries were used up."""
    RENDER_ERROR = "RENDER_ERROR"
    """The template could not be rendered with this context."""
    IN_DOUBT_HELD = "IN_DOUBT_HELD"
    """It may have gone out, the provider cannot tell, and the template says hold."""
    UNKNOWN = "UNKNOWN"
    """The provider's code is not in our table."""


class ProvisioningStatus(StrEnum):
    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class SubscriptionStatus(StrEnum):
    """Stripe's words for a subscription, and `none` for a client that has none."""

    NONE = "none"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    UNPAID = "unpaid"
    INCOMPLETE = "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired"
    PAUSED = "paused"


class SuppressionReason(StrEnum):
    HARD_BOUNCE = "HARD_BOUNCE"
    """There is no such mailbox."""
    COMPLAINT = "COMPLAINT"
    """The person called a message spam."""
    OPTED_OUT = "OPTED_OUT"
    """The person said stop."""
    INACTIVE = "INACTIVE"
    """The provider no longer delivers to it: hard bounce, complaint or manual suppression, it does not say which."""
    MANUAL = "MANUAL"
    """An operator said so."""


class AuditAction(StrEnum):
    OTP_SEND_REQUESTED = "OTP_SEND_REQUESTED"
    OTP_SENT = "OTP_SENT"
    OTP_VERIFY_SUCCESS = "OTP_VERIFY_SUCCESS"
    OTP_VERIFY_FAILED = "OTP_VERIFY_FAILED"
    OTP_RATE_LIMITED = "OTP_RATE_LIMITED"
    OTP_LOCKED_OUT = "OTP_LOCKED_OUT"
    OTP_UNLOCKED = "OTP_UNLOCKED"
    NOTIFICATION_QUEUED = "NOTIFICATION_QUEUED"
    NOTIFICATION_BLOCKED = "NOTIFICATION_BLOCKED"
    NOTIFICATION_DUPLICATE = "NOTIFICATION_DUPLICATE"
    NOTIFICATION_THROTTLED = "NOTIFICATION_THROTTLED"
    NOTIFICATION_SENT = "NOTIFICATION_SENT"
    NOTIFICATION_RETRY_SCHEDULED = "NOTIFICATION_RETRY_SCHEDULED"
    NOTIFICATION_IN_DOUBT = "NOTIFICATION_IN_DOUBT"
    NOTIFICATION_FAILED = "NOTIFICATION_FAILED"
    NOTIFICATION_EXPIRED = "NOTIFICATION_EXPIRED"
    NOTIFICATION_CANCELED = "NOTIFICATION_CANCELED"
    NOTIFICATION_DELIVERED = "NOTIFICATION_DELIVERED"
    NOTIFICATION_BOUNCED = "NOTIFICATION_BOUNCED"
    STRIPE_EVENT_RECEIVED = "STRIPE_EVENT_RECEIVED"
    STRIPE_EVENT_PROCESSED = "STRIPE_EVENT_PROCESSED"
    STRIPE_EVENT_FAILED = "STRIPE_EVENT_FAILED"
    STRIPE_EVENT_REPLAYED = "STRIPE_EVENT_REPLAYED"
    TEMPLATE_SEEDED = "TEMPLATE_SEEDED"
    CLIENT_UPDATED = "CLIENT_UPDATED"
    CLIENT_ERASED = "CLIENT_ERASED"
    SUPPRESSION_ADDED = "SUPPRESSION_ADDED"
    SUPPRESSION_REMOVED = "SUPPRESSION_REMOVED"
    SPIKE_RAISED = "SPIKE_RAISED"
    SPIKE_ESCALATED = "SPIKE_ESCALATED"
    SPIKE_CLEARED = "SPIKE_CLEARED"
    API_KEY_CREATED = "API_KEY_CREATED"
    API_KEY_REVOKED = "API_KEY_REVOKED"
    LIMIT_CHANGED = "LIMIT_CHANGED"
    PAUSED = "PAUSED"
    RESUMED = "RESUMED"
    OPERATOR_ACTION = "OPERATOR_ACTION"


class OtpAction(StrEnum):
    PHONE_VERIFY = "PHONE_VERIFY"
    SENSITIVE_ACTION = "SENSITIVE_ACTION"


class OtpState(StrEnum):
    LIVE = "LIVE"
    """Waits for its code."""
    USED = "USED"
    """The right code came."""
    SUPERSEDED = "SUPERSEDED"
    """A newer code took its place."""
    LOCKED = "LOCKED"
    """The phone was locked while it waited."""
    EXPIRED = "EXPIRED"
    """A guess came after its time. One that nobody tried stays LIVE, and is worth nothing."""


class StripeEventStatus(StrEnum):
    RECEIVED = "RECEIVED"
    """Stored, not understood yet."""
    PROCESSED = "PROCESSED"
    """Its state, mails and audit are committed."""
    IGNORED = "IGNORED"
    """Nothing follows from it; `reason` says why."""
    UNMATCHED = "UNMATCHED"
    """It is about a client we do not know. Runs again once the client is known."""
    FAILED = "FAILED"
    """It could not be processed; `error` says why. Runs again on a redelivery, by the retry job, or by a replay."""


class Origin(StrEnum):
    """How an event came to us."""

    WEBHOOK = "webhook"
    API = "api"
    FILE = "file"


class Alert(StrEnum):
    """How the admins were told that an event failed."""

    OWN = "own"
    """By a mail of its own."""
    STORM = "storm"
    """By a mail that sums up many."""
    COVERED = "covered"
    """By such a mail about others, sent not long before."""


class BreakerState(StrEnum):
    CLOSED = "CLOSED"
    """Calls go through."""
    OPEN = "OPEN"
    """The provider is down: no calls until probe_at, and then one."""
    PROBING = "PROBING"
    """One worker has one call on the way to find out; if it is not heard of by probe_at, another may."""


class JobOutcome(StrEnum):
    RUNNING = "RUNNING"
    """Somebody is at it, or has died over it: see lease_until."""
    DONE = "DONE"
    FAILED = "FAILED"
    """It raised, was interrupted, or its worker died (the summary then begins with `lost`)."""


class SpikeLevel(StrEnum):
    """The order of the members is that of their gravity."""

    OK = "OK"
    WARN = "WARN"
    CRITICAL = "CRITICAL"

    @property
    def gravity(self) -> int:
        return list(SpikeLevel).index(self)


class Scope(StrEnum):
    """What the holder of a key may ask for."""

    OTP = "otp"
    """Send and verify one-time codes."""
    SEND = "send"
    """Send notifications."""
    CLIENTS = "clients"
    """Write clients: their addresses, and the facts that the gates go by."""
    READ = "read"
    """Look at messages and health, with recipients masked."""
    ADMIN = "admin"
    """All of that, with recipients in full, and messages to the admins."""


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    label: str
    """On a page."""
    address: str
    """What a recipient's address is called."""
    client_field: str
    """Where a client has it."""
    limit_setting: str
    """How many messages a minute, until an operator sets another limit."""
    backoff: tuple[timedelta, ...]
    """The wait after the first, second, … failed attempt. When it is used up, the message has failed."""
    has_subject: bool
    """Its templates have a subject and may have HTML: a folder of files each. The others are one file."""
    switch: str | None = None
    """The setting that turns it off."""


CHANNELS: Mapping[Channel, ChannelSpec] = {
    Channel.EMAIL: ChannelSpec(
        label="Email",
        address="email address",
        client_field="email",
        limit_setting="notification_email_per_minute_limit",
        backoff=(timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10)),
        has_subject=True,
    ),
    Channel.SMS: ChannelSpec(
        label="SMS",
        address="phone number",
        client_field="phone_e164",
        limit_setting="notification_sms_per_minute_limit",
        backoff=(timedelta(minutes=1), timedelta(minutes=1)),
        has_subject=False,
        switch="sms_enabled",
    ),
}
