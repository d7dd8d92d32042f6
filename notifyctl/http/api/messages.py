"""The message log for operators: filtered, page by page, and one message with its audit trail."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.http.auth import Caller, RuntimeDep, require
from notifyctl.http.errors import ApiError, Once, documented
from notifyctl.http.strict_json import Moment, QueryMoment, Text64, Text128, Text255, Text1000
from notifyctl.models.enums import Audience, AuditAction, Channel, Lane, MessageStatus, Scope
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.filters import FILTERS, MessageFilters
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.text.masking import mask

MAX_PAGE = 200
router = APIRouter(prefix="/api/admin/message-logs", tags=["message logs"])
Reader = Annotated[Caller, Depends(require(Scope.READ))]


class MessageView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str = Field(json_schema_extra={"format": "uuid"})
    status: MessageStatus
    reason: str | None = Field(description="Why it was blocked, failed or bounced.")
    channel: Channel
    audience: Audience
    template_key: str
    template_version: int
    language: str | None = Field(description="Of its words.")
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
    message = message_store.get(session, str(message_id))
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


class LogQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: MessageStatus | None = None
    reason: Text64 | None = Field(None, description="As RATE_LIMITED or RECIPIENT_INVALID.")
    channel: Channel | None = None
    template_key: Text128 | None = None
    client_id: Text255 | None = None
    recipient: Text1000 | None = Field(None, description="An email address or phone number, in any spelling.")
    since: QueryMoment | None = Field(None, description="Accepted then or later.")
    until: QueryMoment | None = Field(None, description="Accepted before.")
    lane: Lane | None = None
    limit: int = Field(50, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, pattern="^[A-Za-z0-9_-]{22}$", description="`next_cursor` of the page before.")


class LogPage(BaseModel):
    items: list[MessageView]
    next_cursor: str | None = Field(description="For the next, older page; null on the last one.")


class AuditEntry(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    action: AuditAction
    actor: str
    created_at: Moment
    metadata: dict[str, object] | None


class LogEntry(MessageView):
    audit: list[AuditEntry] = Field(description="What was decided and done, in the order of time.")


@router.get("", operation_id="listMessages", responses=documented(401, 403, 422))
def page(query: Annotated[LogQuery, Query()], caller: Reader, _: Once, runtime: RuntimeDep) -> LogPage:
    """Messages, newest first. What is accepted while you turn the pages does not shift them. Needs the scope read."""
    with runtime.database.read() as session:
        rows = message_store.find(
            session, _filter(runtime, query), limit=query.limit + 1, before=_message_id(query.cursor)
        )
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    return LogPage(items=[view(row, caller) for row in shown], next_cursor=_cursor(shown[-1].id) if more else None)


@router.get("/{message_id}", operation_id="getMessage", responses=documented(401, 403, 404, 422))
def show(message_id: UUID, caller: Reader, runtime: RuntimeDep) -> LogEntry:
    """One message, with everything that was decided about it and done with it. Needs the scope read."""
    with runtime.database.read() as session:
        message = require_message(session, message_id)
        trail = [AuditEntry.model_validate(row) for row in audit_log.of_message(session, message.id)]
    return LogEntry(**dict(view(message, caller)), audit=trail)


def _filter(runtime: Runtime, query: LogQuery) -> message_store.MessageFilter:
    values = query.model_dump(include=set(FILTERS) - {"recipient"})
    return message_store.MessageFilter(
        **values, recipient_hashes=_hashes(runtime, query.recipient) if query.recipient else None
    )


def _hashes(runtime: Runtime, address: str) -> list[str]:
    try:
        return MessageFilters(runtime.keys, runtime.settings.otp_default_region, runtime.clock()).hashes(address)
    except ValueError as error:
        raise ApiError(422, "invalid_request", f"recipient: {error}") from error


def _cursor(message_id: str) -> str:
    return urlsafe_b64encode(UUID(message_id).bytes).rstrip(b"=").decode()


def _message_id(cursor: str | None) -> str | None:
    return str(UUID(bytes=urlsafe_b64decode(f"{cursor}=="))) if cursor else None
