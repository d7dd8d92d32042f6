"""Postmark's error codes when sending, and its bounce types afterwards.

Sources: https://postmarkapp.com/developer/api/overview#error-codes and
https://postmarkapp.com/developer/api/bounce-api#bounce-types. Codes of the other APIs (servers, templates,
inbound rules, statistics) cannot be the answer to a send and are left out.
"""

from notifyctl.models.enums import FailureReason, SuppressionReason
from notifyctl.providers.results import CodeMeaning

_INVALID = FailureReason.RECIPIENT_INVALID
_UNREACHABLE = FailureReason.RECIPIENT_UNREACHABLE
_OPTED_OUT = FailureReason.RECIPIENT_OPTED_OUT
_BLOCKED = FailureReason.BLOCKED_BY_CARRIER
_ACCOUNT = FailureReason.ACCOUNT_PROBLEM
_CONTENT = FailureReason.CONTENT_REJECTED
_UNAVAILABLE = FailureReason.PROVIDER_UNAVAILABLE

POSTMARK_CODES: dict[int, CodeMeaning] = {
    10: CodeMeaning(_ACCOUNT, "Server token missing or wrong"),
    100: CodeMeaning(_UNAVAILABLE, "Postmark is down for maintenance", transient=True),
    300: CodeMeaning(_CONTENT, "A field is invalid. RECIPIENT_INVALID if the text names To, ACCOUNT_PROBLEM if From"),
    400: CodeMeaning(_ACCOUNT, "EMAIL_SENDER has no sender signature"),
    401: CodeMeaning(_ACCOUNT, "The sender signature of EMAIL_SENDER is not confirmed"),
    402: CodeMeaning(_CONTENT, "The JSON is malformed"),
    403: CodeMeaning(_CONTENT, "The JSON lacks fields that Postmark expects"),
    405: CodeMeaning(_ACCOUNT, "No credits left"),
    406: CodeMeaning(
        _OPTED_OUT,
        "Inactive recipient: an earlier hard bounce, complaint or suppression. The text rarely says which;"
        " RECIPIENT_INVALID if it names only a hard bounce",
        suppress=SuppressionReason.INACTIVE,
    ),
    409: CodeMeaning(_CONTENT, "Accept or Content-Type is not JSON"),
    410: CodeMeaning(_CONTENT, "More than 500 messages in a batch"),
    411: CodeMeaning(_CONTENT, "Forbidden attachment type"),
    412: CodeMeaning(_ACCOUNT, "Account pending: it may write only to the sender's own domain"),
    413: CodeMeaning(_ACCOUNT, "Account not approved for sending"),
    429: CodeMeaning(_UNAVAILABLE, "Too many requests", transient=True),
    1221: CodeMeaning(_ACCOUNT, "POSTMARK_MESSAGE_STREAM is of a type that does not fit"),
    1222: CodeMeaning(_ACCOUNT, "POSTMARK_MESSAGE_STREAM is not a valid stream id"),
    1226: CodeMeaning(_ACCOUNT, "POSTMARK_MESSAGE_STREAM was not found"),
    1235: CodeMeaning(_ACCOUNT, "POSTMARK_MESSAGE_STREAM does not exist on this server"),
    1236: CodeMeaning(_ACCOUNT, "POSTMARK_MESSAGE_STREAM is an inbound stream"),
}

# Transient here: no failure, or not yet one; Postmark goes on trying, or the message has arrived.
POSTMARK_BOUNCE_TYPES: dict[str, CodeMeaning] = {
    "HardBounce": CodeMeaning(_INVALID, "No such mailbox or domain", suppress=SuppressionReason.HARD_BOUNCE),
    "Transient": CodeMeaning(_UNREACHABLE, "Delayed; Postmark goes on trying", transient=True),
    # It has arrived, and whoever got it asks for no more: as binding as a complaint.
    "Unsubscribe": CodeMeaning(
        _OPTED_OUT, "The recipient asks to be unsubscribed", transient=True, suppress=SuppressionReason.OPTED_OUT
    ),
    "Subscribe": CodeMeaning(_UNREACHABLE, "An automatic subscribe request", transient=True),
    "AutoResponder": CodeMeaning(_UNREACHABLE, "Out of office and the like", transient=True),
    "AddressChange": CodeMeaning(_INVALID, "The recipient has another address now"),
    "DnsError": CodeMeaning(_UNREACHABLE, "The recipient's domain cannot be resolved now", transient=True),
    "SpamNotification": CodeMeaning(_BLOCKED, "The recipient's filter took it for spam"),
    "OpenRelayTest": CodeMeaning(_UNREACHABLE, "A test for open relays", transient=True),
    "Unknown": CodeMeaning(_UNREACHABLE, "A notice that Postmark cannot classify"),
    "SoftBounce": CodeMeaning(_UNREACHABLE, "Mailbox full, disabled or refusing for now"),
    "VirusNotification": CodeMeaning(_CONTENT, "The recipient's server took it for a virus"),
    "ChallengeVerification": CodeMeaning(_UNREACHABLE, "The recipient's filter asks who we are"),
    "BadEmailAddress": CodeMeaning(_INVALID, "The address is malformed", suppress=SuppressionReason.HARD_BOUNCE),
    "SpamComplaint": CodeMeaning(_OPTED_OUT, "The recipient called it spam", suppress=SuppressionReason.COMPLAINT),
    "ManuallyDeactivated": CodeMeaning(
        _OPTED_OUT, "Deactivated by hand at Postmark", suppress=SuppressionReason.OPTED_OUT
    ),
    "Unconfirmed": CodeMeaning(_UNREACHABLE, "A subscription that was never confirmed"),
    "Blocked": CodeMeaning(_BLOCKED, "The recipient's provider blocks content or sender"),
    "SMTPApiError": CodeMeaning(_CONTENT, "Postmark could not take the message in"),
    "InboundError": CodeMeaning(_UNAVAILABLE, "Postmark's inbound webhook failed"),
    "DMARCPolicy": CodeMeaning(_ACCOUNT, "The sender's DMARC policy refuses Postmark"),
    "TemplateRenderingFailed": CodeMeaning(_CONTENT, "A template at Postmark did not render"),
}
