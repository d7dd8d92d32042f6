"""A message as the API shows it: its row without lease and fingerprint, and never what its template was filled with."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from notifyctl.http.auth import Caller
from notifyctl.http.errors import ApiError
from notifyctl.http.fields import Moment
from notifyctl.models.enums import Audience, Channel, Lane, MessageStatus
from notifyctl.orchestrator.masking import mask
from notifyctl.store import messages
from notifyctl.store.messages import MessageRow


class MessageView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str = Field(json_schema_extra={"format": "uuid"})
    status: MessageStatus
    reason: str | None = Field(description="Why it was blocked, failed or bounced.")
    channel: Channel
    audience: Audience
    template_key: str
    template_version: int
    client_id: str | None
    recipient: str | None = Field(description="Masked, unless the key has the scope admin.")
    subject: str | None = Field(description="Of an email that was sent; only with the scope admin.")
    source: str
    source_ref: str | None
    idempotency_key: str | None
    lane: Lane
    attempts: int
    error_code: str | None
    error: str | None
    provider: str | None
    provider_message_id: str | None
    created_at: Moment
    next_attempt_at: Moment | None
    expires_at: Moment | None
    throttled_at: Moment | None
    last_attempt_at: Moment | None
    sent_at: Moment | None
    delivered_at: Moment | None
    finished_at: Moment | None
    metadata: dict[str, object] | None


def require_message(session: Session, message_id: UUID) -> MessageRow:
    message = messages.get(session, str(message_id))
    if message is None:
        raise ApiError(404, "not_found", "There is no such message.")
    return message


def view(message: MessageRow, caller: Caller) -> MessageView:
    """Of a row of message_log."""
    seen = MessageView.model_validate(message)
    if not caller.is_admin:
        seen.recipient = mask(seen.recipient) or None
        seen.subject = None
    return seen
