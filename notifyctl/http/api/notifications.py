"""Sending a message, and what has become of it."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlmodel import Session

from notifyctl.errors import IdempotencyConflict, InvalidInput
from notifyctl.http.api.messages import MessageView, require_message, view
from notifyctl.http.auth import Caller, RuntimeDep, forbidden, require
from notifyctl.http.errors import ApiError, documented, name_of
from notifyctl.http.strict_json import JsonRoute, Text128, Text255, Text1000
from notifyctl.models.enums import Audience, MessageStatus, Scope
from notifyctl.models.message import OTP_TEMPLATE, TEST_TEMPLATES
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.orchestrator import TESTS_HAVE_THEIR_OWN_WAY
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate, SendRequest
from notifyctl.templates import store as template_store

SOURCE = "http"

router = APIRouter(prefix="/api/notifications", tags=["notifications"], route_class=JsonRoute)


class SendNotification(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    template_key: Text128 = Field(examples=["WELCOME_EMAIL"])
    client_id: Text255 | None = Field(None, description="Whom it goes to, by your own id; or give `recipient`.")
    recipient: Text1000 | None = Field(None, description="An email address or phone number that is no client's.")
    context: dict[str, object] = Field({}, description="The variables that the template declares.")
    locale: Text128 | None = Field(None, description="Of its words, as de-AT; the client's if not given.")
    idempotency_key: Text255 | None = Field(None, description="The same key never makes a second message.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.client_id is None) == (self.recipient is None):
            raise ValueError("give either client_id or recipient, one of the two")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As two shapes, each whole: what is generated from the document has a class for each of them."""
        return handler(_EITHER.core_schema if cls is SendNotification else schema)


class SendToClient(SendNotification):
    client_id: Text255 = Field(description="Whom it goes to, by your own id.")
    recipient: None = None


class SendToAddress(SendNotification):
    client_id: None = None
    recipient: Text1000 = Field(description="An email address or phone number that is no client's.")


_EITHER: TypeAdapter[SendToClient | SendToAddress] = TypeAdapter(SendToClient | SendToAddress)


class NotificationAccepted(BaseModel):
    id: str = Field(description="Of the message; of the earlier one, where this is a duplicate.")
    status: MessageStatus
    reason: str | None = Field(description="Why it is BLOCKED.")
    detail: str | None = Field(description="The same in words, as which variables are missing.")
    duplicate_of: str | None = Field(description="The message that the idempotency key has made before.")


@router.post("", operation_id="sendNotification", status_code=202, responses=documented(401, 403, 404, 409, 413, 422))
def send(
    body: SendNotification,
    request: Request,
    caller: Annotated[Caller, Depends(require(Scope.SEND))],
    runtime: RuntimeDep,
) -> NotificationAccepted:
    """Accept a message for sending, or refuse it: a gate that says no makes it BLOCKED, and that is a 202 as well.

    Needs the scope send; admin for a template whose audience is ADMIN. OTP_CODE_SMS is sent by /api/otp/send alone.
    """
    try:
        with runtime.database.transaction() as session:
            _check_template(session, body.template_key, request, caller)
            decision = runtime.orchestrator.send(session, _send_request(body, caller))
            return _answer(session, decision)
    except IdempotencyConflict as error:
        raise ApiError(409, "idempotency_conflict", str(error)) from error


@router.get("/{message_id}", operation_id="getNotification", responses=documented(401, 403, 404, 422))
def show(
    message_id: UUID, caller: Annotated[Caller, Depends(require(Scope.SEND, Scope.READ))], runtime: RuntimeDep
) -> MessageView:
    """What has become of a message. Needs the scope send or read."""
    with runtime.database.read() as session:
        return view(require_message(session, message_id), caller)


def _check_template(session: Session, template_key: str, request: Request, caller: Caller) -> None:
    if template_key in TEST_TEMPLATES.values():
        raise ApiError(403, "forbidden", f"{TESTS_HAVE_THEIR_OWN_WAY.format(template_key)}; no scope opens it here.")
    if template_key == OTP_TEMPLATE:
        raise ApiError(403, "forbidden", f"{OTP_TEMPLATE} is sent by POST /api/otp/send alone; no scope opens it here.")
    template = template_store.by_key(session, [template_key]).get(template_key)
    if template is None:
        raise ApiError(404, "unknown_template", f"There is no template {name_of(template_key)}.")
    # Who may write to clients must not speak to strangers in the voice of our own alarms.
    if template.audience is Audience.ADMIN and not caller.is_admin:
        raise forbidden(request, caller, Scope.ADMIN)


def _send_request(body: SendNotification, caller: Caller) -> SendRequest:
    try:
        return SendRequest(
            template_key=body.template_key,
            client_id=body.client_id,
            recipient=body.recipient,
            context=body.context,
            locale=body.locale,
            idempotency_key=body.idempotency_key,
            source=SOURCE,
            actor=caller.actor,
        )
    except InvalidInput as error:
        raise ApiError(422, "invalid_request", str(error)) from error


def _answer(session: Session, decision: Decision) -> NotificationAccepted:
    answer = NotificationAccepted(
        id=decision.message_id, status=decision.status, reason=None, detail=None, duplicate_of=None
    )
    match decision:
        case Blocked(reason=reason, detail=detail):
            answer.reason, answer.detail = reason, detail or None
        case Duplicate(message_id=message_id):
            answer.duplicate_of = message_id
            if first := message_store.get(session, message_id):
                answer.reason, answer.detail = first.reason, first.error
    return answer
