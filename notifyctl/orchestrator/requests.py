"""What a caller asks of the orchestrator, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from notifyctl.errors import InvalidInput
from notifyctl.models.message import BlockReason, MessageStatus
from notifyctl.orchestrator.gates import Verdict

MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """One message to one recipient: a client by its id, or an address.

    `source` names the caller (cli, http, api, stripe, job); `source_ref` what it acted on, as a Stripe event's id.
    """

    template_key: str
    client_id: str | None = None
    recipient: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    source: str = "api"
    source_ref: str | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.client_id is None) == (self.recipient is None):
            raise InvalidInput(f"{self.template_key}: give either client_id or recipient, one of the two")
        if self.idempotency_key is not None and not 0 < len(self.idempotency_key) <= MAX_KEY_LENGTH:
            raise InvalidInput(
                f"idempotency key of {len(self.idempotency_key)} characters: it must have 1 to {MAX_KEY_LENGTH}"
            )
        for name in ("template_key", "client_id", "idempotency_key", "source", "source_ref"):
            if not _is_storable(getattr(self, name)):
                raise InvalidInput(f"{name} {getattr(self, name)!r} has a NUL or half a character pair; leave it out")


def _is_storable(text: str | None) -> bool:
    """PostgreSQL keeps neither NUL nor lone surrogates."""
    return text is None or not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


@dataclass(frozen=True, slots=True)
class Queued:
    """Accepted and written; a worker will send it."""

    message_id: str
    verdicts: tuple[Verdict, ...] = field(repr=False)
    status: Literal[MessageStatus.QUEUED] = MessageStatus.QUEUED


@dataclass(frozen=True, slots=True)
class Blocked:
    """Refused by a gate, and written down as such."""

    message_id: str
    reason: BlockReason
    detail: str
    verdicts: tuple[Verdict, ...] = field(repr=False)
    status: Literal[MessageStatus.BLOCKED] = MessageStatus.BLOCKED


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The idempotency key belongs to an earlier message: this is it."""

    message_id: str
    status: MessageStatus


Decision = Queued | Blocked | Duplicate
