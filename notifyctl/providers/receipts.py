"""What a provider reports of a message later on, in our words: one vocabulary for every provider and every way in."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel, FailureReason, SuppressionReason

POSTMARK_PATH = "/api/webhooks/postmark"
TWILIO_STATUS_PATH = "/api/webhooks/twilio/status"
TWILIO_INBOUND_PATH = "/api/webhooks/twilio/inbound"
"""Where they are posted."""
_OUR_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


class MalformedReceipt(InvalidInput):
    """Not what the provider sends. Says what is wrong without quoting it."""


class ReceiptEvent(StrEnum):
    SENT = "SENT"
    """It went out: the provider has it, or has handed it on."""
    DELIVERED = "DELIVERED"
    """It arrived."""
    BOUNCED = "BOUNCED"
    """It did not arrive, and nobody tries any more."""
    REFUSED = "REFUSED"
    """Its recipient is to get no more. What became of the message itself stays as it is."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """`event_id` is the same each time that the provider tells of this event."""

    provider: str
    channel: Channel
    event: ReceiptEvent
    event_id: str
    message_id: str | None = None
    """Our own id, which went out with the message."""
    provider_message_id: str | None = None
    happened_at: datetime | None = None
    reason: FailureReason | None = None
    code: str | None = None
    detail: str = ""
    """The provider's words, one line."""
    suppress: SuppressionReason | None = None
    recipient: str | None = field(default=None, repr=False)
    """As the provider spells it; for a message that we do not know, or whose client was erased."""


@dataclass(frozen=True, slots=True)
class Release:
    """An address may be written to again. Without a `reason`: whatever this provider had it suppressed for."""

    provider: str
    channel: Channel
    event_id: str
    recipient: str = field(repr=False)
    reason: SuppressionReason | None = None
    happened_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """Well-formed, and nothing to us. `is_misdirected`: the provider was given a wrong URL."""

    provider: str
    why: str
    message_id: str | None = None
    is_misdirected: bool = False


Notice = Receipt | Release | Ignored


def to_json(receipt: Receipt) -> dict[str, Any]:
    """Without the recipient: what is kept of a receipt has no address in it."""
    kept = asdict(receipt)
    del kept["recipient"]
    return kept | {"happened_at": receipt.happened_at.isoformat() if receipt.happened_at else None}


def from_json(kept: Mapping[str, Any]) -> Receipt:
    """Raises TypeError or ValueError for what another version of this program kept."""
    named = {"channel": Channel, "event": ReceiptEvent, "reason": FailureReason, "suppress": SuppressionReason}
    read = {name: kind(kept[name]) for name, kind in named.items() if kept.get(name) is not None}
    return Receipt(**{**kept, **read, "happened_at": moment(kept.get("happened_at"))})


def our_id(value: object) -> str | None:
    """The id of one of our messages; None for what cannot be one."""
    return value.lower() if isinstance(value, str) and _OUR_ID.fullmatch(value) else None


def moment(value: object) -> datetime | None:
    """In UTC; None for what is no time, or one without a zone."""
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) else None
        return read.astimezone(UTC) if read and read.tzinfo else None
    except (ValueError, OverflowError):
        return None
