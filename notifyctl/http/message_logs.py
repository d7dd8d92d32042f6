"""The message log for operators: filtered, page by page, and one message with its audit trail."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from notifyctl.bootstrap import Runtime
from notifyctl.http.auth import Caller, require
from notifyctl.http.dependencies import RuntimeDep
from notifyctl.http.errors import ApiError, documented
from notifyctl.http.fields import Moment, MomentAsked, Text64, Text128, Text255, Text1000
from notifyctl.http.message_view import MessageView, view
from notifyctl.models.access import Scope
from notifyctl.models.audit import AuditAction
from notifyctl.models.message import MessageStatus
from notifyctl.models.template import Channel
from notifyctl.orchestrator.addresses import AddressError, normal_address
from notifyctl.store import audit, messages

MAX_PAGE = 200

router = APIRouter(prefix="/api/admin/message-logs", tags=["message logs"])
Reader = Annotated[Caller, Depends(require(Scope.READ))]


class LogQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: MessageStatus | None = None
    reason: Text64 | None = Field(None, description="As RATE_LIMITED or RECIPIENT_INVALID.")
    channel: Channel | None = None
    template_key: Text128 | None = None
    client_id: Text255 | None = None
    recipient: Text1000 | None = Field(None, description="An email address or phone number, in any spelling.")
    since: MomentAsked | None = Field(None, description="Accepted then or later.")
    until: MomentAsked | None = Field(None, description="Accepted before.")
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
    metadata: dict[str, Any] | None


class LogEntry(MessageView):
    audit: list[AuditEntry] = Field(description="What was decided and done, in the order of time.")


@router.get("", responses=documented(401, 403, 422))
def page(asked: Annotated[LogQuery, Query()], caller: Reader, runtime: RuntimeDep) -> LogPage:
    """Messages, newest first. What is accepted while you turn the pages does not shift them. Needs the scope read."""
    with runtime.database.read() as session:
        found = messages.find(session, _filter(runtime, asked), limit=asked.limit + 1, before=_message_id(asked.cursor))
    shown = found[: asked.limit]
    more = len(found) > asked.limit
    return LogPage(items=[view(row, caller) for row in shown], next_cursor=_cursor(shown[-1].id) if more else None)


@router.get("/{message_id}", responses=documented(401, 403, 404, 422))
def show(message_id: UUID, caller: Reader, runtime: RuntimeDep) -> LogEntry:
    """One message, with everything that was decided about it and done with it. Needs the scope read."""
    with runtime.database.read() as session:
        message = messages.get(session, str(message_id))
        if message is None:
            raise ApiError(404, "not_found", "There is no such message.")
        trail = [AuditEntry.model_validate(row) for row in audit.of_message(session, message.id)]
    return LogEntry(**dict(view(message, caller)), audit=trail)


def _filter(runtime: Runtime, asked: LogQuery) -> messages.Filter:
    return messages.Filter(
        status=asked.status,
        reason=asked.reason,
        channel=asked.channel,
        template_key=asked.template_key,
        client_id=asked.client_id,
        recipient_hashes=_hashes(runtime, asked.recipient) if asked.recipient else None,
        since=asked.since,
        until=asked.until,
    )


def _hashes(runtime: Runtime, address: str) -> list[str]:
    channel = Channel.EMAIL if "@" in address else Channel.SMS
    try:
        normal = normal_address(channel, address, runtime.settings.otp_default_region)
    except AddressError as error:
        raise ApiError(422, "invalid_request", f"recipient: the {error.fault}") from error
    return runtime.keys.recipient_hashes(channel, normal)


def _cursor(message_id: str) -> str:
    return urlsafe_b64encode(UUID(message_id).bytes).rstrip(b"=").decode()


def _message_id(cursor: str | None) -> str | None:
    return str(UUID(bytes=urlsafe_b64decode(f"{cursor}=="))) if cursor else None
