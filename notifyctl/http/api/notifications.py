"""Sending a message, and what has become of it."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.errors import DatabaseError, IdempotencyConflict, InvalidInput
from notifyctl.http import api_keys
from notifyctl.http.api.messages import MessageView, require_message, view
from notifyctl.http.api_key_store import StoredApiKey
from notifyctl.http.api_keys import Refused
from notifyctl.http.auth import NOTHING, Caller, Presented, RuntimeDep, admit, authenticate, forbidden, require
from notifyctl.http.errors import ApiError, documented, name_of
from notifyctl.http.strict_json import JsonRoute, LocaleTag, Text128, Text255, Text1000
from notifyctl.http.together import Together
from notifyctl.models.enums import Audience, MessageStatus, Scope
from notifyctl.models.message import OTP_TEMPLATE, TEST_TEMPLATES
from notifyctl.models.template import Template
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.orchestrator import TESTS_HAVE_THEIR_OWN_WAY
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate, SendRequest
from notifyctl.templates import store as template_store
from notifyctl.text.choices import meant
from notifyctl.text.durations import sentence

SOURCE = "http"
LOCK_SECONDS = 0.1
"""For so long a group waits for a client that somebody else has locked. Then each of them tries alone, so that one does
not hold up the others.
"""


class _Route(JsonRoute):
    """Who is asking is found out together with all the rest; but nothing is said about a body before."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        handler = super().get_route_handler()

        async def known_first(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError:
                if not hasattr(request.state, "caller"):
                    await run_in_threadpool(authenticate, request, Scope.SEND)
                raise

        return known_first


router = APIRouter(prefix="/api/notifications", tags=["notifications"], route_class=_Route)


class SendNotification(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    template_key: Text128 = Field(examples=["WELCOME_EMAIL"])
    client_id: Text255 | None = Field(None, description="Whom it goes to, by your own id; or give `recipient`.")
    recipient: Text1000 | None = Field(None, description="An email address or phone number that is no client's.")
    context: dict[str, object] = Field({}, description="The variables that the template declares.")
    locale: LocaleTag | None = Field(None, description="Of its words, as de-AT; the client's if not given.")
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


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a message, and the key that it came with."""

    request: Request
    presented: bytes | None
    body: SendNotification


@router.post("", operation_id="sendNotification", status_code=202, responses=documented(401, 403, 404, 409, 413, 422))
async def send(
    body: SendNotification, request: Request, presented: Presented, runtime: RuntimeDep
) -> NotificationAccepted:
    """Accept a message for sending, or refuse it: a gate that says no makes it BLOCKED, and that is a 202 as well.

    Needs the scope send; admin for a template whose audience is ADMIN. OTP_CODE_SMS is sent by /api/otp/send alone.
    """
    try:
        return await _acceptance(request.app, runtime).requests.answer(Asked(request, presented, body))
    except IdempotencyConflict as error:
        raise ApiError(409, "idempotency_conflict", sentence(str(error))) from error


@router.get("/{message_id}", operation_id="getNotification", responses=documented(401, 403, 404, 422))
def show(
    message_id: UUID, caller: Annotated[Caller, Depends(require(Scope.SEND, Scope.READ))], runtime: RuntimeDep
) -> MessageView:
    """What has become of a message. Needs the scope send or read."""
    with runtime.database.read() as session:
        return view(require_message(session, message_id), caller)


class Acceptance:
    """Requests for messages, of which those that come at once share a transaction."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.requests = Together(self.together, self.alone)

    def together(self, group: Sequence[Asked]) -> Sequence[NotificationAccepted | Exception | None]:
        turn = _Turn(self.runtime, group, LOCK_SECONDS)
        try:
            return turn.take()
        except Exception as error:  # noqa: BLE001  it is raised by each of them, or found anew by one alone
            if turn.is_committing:
                # It may be committed, so that to try again might send twice.
                return [error] * len(group)
            is_its_own = len(group) == 1 and not isinstance(error, DatabaseError)
            return [error] if is_its_own else [None] * len(group)

    def alone(self, asked: Asked) -> NotificationAccepted:
        (found,) = _Turn(self.runtime, [asked]).take()
        if isinstance(found, Exception):
            raise found
        return found


def _acceptance(app: FastAPI, runtime: Runtime) -> Acceptance:
    found: Acceptance | None = getattr(app.state, "acceptance", None)
    if found is None or found.runtime is not runtime:
        found = app.state.acceptance = Acceptance(runtime)
    return found


class _Turn:
    """One transaction for some requests. What stands against one of them, before anything is written, is its answer."""

    def __init__(self, runtime: Runtime, group: Sequence[Asked], lock_seconds: float | None = None) -> None:
        self._runtime = runtime
        self._group = group
        self._lock_seconds = lock_seconds
        self.is_committing = False

    def take(self) -> list[NotificationAccepted | Exception]:
        """Raises what makes it impossible for all of them, or where the orchestrator refuses one."""
        database = self._runtime.database
        if not database.is_sqlite:
            with database.transaction(lock_seconds=self._lock_seconds) as session:
                return self._accept(session, self._read(session))
        # Who may write is asked before: a stranger must not make others wait for the one write lock.
        with database.read() as session:
            requests = self._read(session)
        if not any(isinstance(request, SendRequest) for request in requests):
            return [request for request in requests if isinstance(request, Exception)]
        with database.transaction() as session:
            return self._accept(session, requests)

    def _read(self, session: Session) -> list[SendRequest | ApiError]:
        keys, templates = self._keys_and_templates(session)
        requests: list[SendRequest | ApiError] = []
        for asked in self._group:
            try:
                caller = admit(asked.request, keys.get(asked.presented or b"", NOTHING), Scope.SEND)
                _check_template(session, templates, asked, caller)
                requests.append(_send_request(asked.body, caller))
            except ApiError as error:
                requests.append(error)
        return requests

    def _keys_and_templates(
        self, session: Session
    ) -> tuple[Mapping[bytes, StoredApiKey | Refused], Mapping[str, Template]]:
        """By what was presented, and by their keys."""
        now, presented = self._runtime.clock(), {asked.presented for asked in self._group if asked.presented}
        template_keys = {asked.body.template_key for asked in self._group}
        if len(presented) == len(template_keys) == 1:
            (one,), (template_key,) = presented, template_keys
            key, template = api_keys.recognise_beside(session, one, template_key, now)
            return {one: key}, {template_key: template} if template else {}
        keys = {one: api_keys.recognise(session, one, now) for one in presented}
        return keys, template_store.by_key(session, template_keys)

    def _accept(
        self, session: Session, requests: Sequence[SendRequest | ApiError]
    ) -> list[NotificationAccepted | Exception]:
        accepted = [request for request in requests if isinstance(request, SendRequest)]
        decisions = iter(self._runtime.orchestrator.send_many(session, accepted))
        found: list[NotificationAccepted | Exception] = [
            _answer(session, next(decisions)) if isinstance(request, SendRequest) else request for request in requests
        ]
        self.is_committing = True
        return found


def _check_template(session: Session, templates: Mapping[str, Template], asked: Asked, caller: Caller) -> None:
    template_key = asked.body.template_key
    if template_key in TEST_TEMPLATES.values():
        raise ApiError(403, "forbidden", f"{TESTS_HAVE_THEIR_OWN_WAY.format(template_key)}; no scope opens it here.")
    if template_key == OTP_TEMPLATE:
        raise ApiError(403, "forbidden", f"{OTP_TEMPLATE} is sent by POST /api/otp/send alone; no scope opens it here.")
    template = templates.get(template_key)
    if template is None:
        known = [template.template_key for template in template_store.everything(session)]
        suggestion = meant(template_key, known)
        raise ApiError(404, "unknown_template", f"There is no template {name_of(template_key)}{suggestion or '.'}")
    # Who may write to clients must not speak to strangers in the voice of our own alarms.
    if template.audience is Audience.ADMIN and not caller.is_admin:
        raise forbidden(asked.request, caller, Scope.ADMIN)


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
