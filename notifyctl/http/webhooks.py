"""What Postmark, Twilio and Stripe call: who is calling is checked first, then what it says is read and applied."""

import hmac
import logging
from base64 import b64decode
from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.receipts.apply import Result, receive
from notifyctl.errors import InvalidInput
from notifyctl.http.auth import RawBody, RuntimeDep
from notifyctl.http.errors import ApiError, documented
from notifyctl.http.middleware import origin_of
from notifyctl.models.enums import Channel
from notifyctl.providers.postmark import receipts as postmark_receipts
from notifyctl.providers.receipts import (
    POSTMARK_PATH,
    TWILIO_INBOUND_PATH,
    TWILIO_STATUS_PATH,
    MalformedReceipt,
    Notice,
)
from notifyctl.providers.registry import PROVIDERS, secret_text, unset
from notifyctl.providers.stripe import signature_fault
from notifyctl.providers.twilio import receipts as twilio_receipts
from notifyctl.providers.twilio.receipts import Call, read_signed
from notifyctl.settings import Settings
from notifyctl.text.durations import sentence

STRIPE_PATH = "/api/webhooks/stripe"
POSTMARK_HEADER = b"x-postmark-token"
NO_REPLY = "<Response/>"
"""TwiML. What a person is answered to STOP is Twilio's own text."""

log = logging.getLogger("notifyctl.http")
router = APIRouter(tags=["webhooks"])


class ReceiptAnswer(BaseModel):
    result: Result


@router.post(POSTMARK_PATH, operation_id="receiveFromPostmark", responses=documented(401, 413, 422))
def postmark(request: Request, runtime: RuntimeDep, body: RawBody) -> ReceiptAnswer:
    """Deliveries, bounces, spam complaints and changes of subscription."""
    _admit_postmark(request, runtime.settings)
    try:
        notice = postmark_receipts.read(body, stream=runtime.settings.postmark_message_stream)
    except MalformedReceipt as error:
        raise _malformed(error) from error
    return ReceiptAnswer(result=_receive(runtime, notice))


@router.post(
    TWILIO_STATUS_PATH, operation_id="receiveStatusFromTwilio", status_code=204, responses=documented(403, 413, 422)
)
def twilio_status(request: Request, runtime: RuntimeDep, body: RawBody) -> None:
    """What became of an SMS. `message_id` in the query is our own id, which the URL was given when it was sent."""
    fields = _read_twilio(request, runtime, body, TWILIO_STATUS_PATH)
    try:
        notice = twilio_receipts.read_status(fields, message_id=request.query_params.get("message_id"))
    except MalformedReceipt as error:
        raise _malformed(error) from error
    _receive(runtime, notice)


@router.post(
    TWILIO_INBOUND_PATH,
    operation_id="receiveReplyFromTwilio",
    response_class=Response,
    responses=documented(403, 413, 422),
)
def twilio_inbound(request: Request, runtime: RuntimeDep, body: RawBody) -> Response:
    """What people write back: STOP and START. Answers that nothing is to be replied."""
    fields = _read_twilio(request, runtime, body, TWILIO_INBOUND_PATH)
    try:
        notice = twilio_receipts.read_inbound(fields)
    except MalformedReceipt as error:
        raise _malformed(error) from error
    _receive(runtime, notice)
    return Response(NO_REPLY, media_type="text/xml")


def _receive(runtime: Runtime, notice: Notice) -> Result:
    return receive(runtime.database, runtime.keys, notice, now=runtime.clock())


def _admit_postmark(request: Request, settings: Settings) -> None:
    if missing := unset(settings, PROVIDERS[Channel.EMAIL].webhook_settings):
        raise _refused(request, 401, f"{missing[0]} is not set, so that every webhook of Postmark is refused")
    token = secret_text(settings.postmark_webhook_token).encode()
    # All of them, whichever is right: the time that it takes tells nothing.
    if not any([hmac.compare_digest(credential, token) for credential in _credentials(request)]):
        raise _refused(request, 401, "the credentials are not POSTMARK_WEBHOOK_TOKEN")


def _credentials(request: Request) -> Iterator[bytes]:
    """As bytes: what a header holds need not be text."""
    for name, value in request.scope["headers"]:
        if name == POSTMARK_HEADER:
            yield value.strip()
        elif name == b"authorization":
            scheme, _, encoded = value.strip().partition(b" ")
            if scheme.lower() == b"basic":
                yield _password(encoded)


def _password(encoded: bytes) -> bytes:
    """Of any user."""
    try:
        return b64decode(encoded).partition(b":")[2]
    except ValueError:
        return b""


def _read_twilio(request: Request, runtime: Runtime, body: bytes, path: str) -> dict[str, str]:
    settings = runtime.settings
    if missing := unset(settings, PROVIDERS[Channel.SMS].webhook_settings):
        raise _refused(request, 403, f"{' and '.join(missing)} not set, so that no signature of Twilio can be checked")
    query = request.scope["query_string"].decode("latin-1")
    call = Call(
        url=f"{settings.public_base_url}{path}{'?' if query else ''}{query}",
        content_type=request.headers.get("content-type", ""),
        body=body,
        signature=request.headers.get("x-twilio-signature", ""),
    )
    try:
        fields = read_signed(call, secret_text(settings.twilio_auth_token))
    except MalformedReceipt as error:
        raise _malformed(error) from error
    if fields is None:
        why = "the signature does not fit: check TWILIO_AUTH_TOKEN, and that Twilio calls PUBLIC_BASE_URL"
        raise _refused(request, 403, why)
    return fields


def _refused(request: Request, status: int, cause: str) -> ApiError:
    """The caller is not told the cause, which is in the log."""
    log.warning("webhook refused", extra=origin_of(request.scope) | {"cause": cause})
    if status == 401:
        headers = {"WWW-Authenticate": 'Basic realm="notifyctl webhooks"'}
        return ApiError(401, "unauthorized", "Valid credentials are needed.", headers)
    return ApiError(403, "forbidden", "The signature is not valid.")


def _malformed(error: MalformedReceipt) -> ApiError:
    return ApiError(422, "invalid_request", sentence(str(error)))


class EventAnswer(BaseModel):
    """The same for whatever came of the event: Stripe needs to know no more, and we try again ourselves."""

    received: Literal[True] = True


@router.post(STRIPE_PATH, operation_id="receiveFromStripe", responses=documented(400, 413))
def stripe(request: Request, runtime: RuntimeDep, body: RawBody) -> EventAnswer:
    """An event, signed by Stripe. Any other answer than 200 makes Stripe deliver it again, for three days."""
    secrets = runtime.settings.stripe_webhook_secret
    if not secrets:
        cause = "STRIPE_WEBHOOK_SECRET is not set, so that no signature can be checked"
        raise _refuse_event(request, cause, 503, "unavailable", "Webhooks are not set up here.")
    fault = signature_fault(body, request.headers.get("stripe-signature"), secrets, runtime.clock())
    if fault is not None:
        raise _refuse_event(request, fault.value, 400, "invalid_signature", "The signature is missing or not valid.")
    try:
        runtime.billing.receive(body)
    except InvalidInput as error:
        cause = f"rightly signed, but {error}"
        raise _refuse_event(request, cause, 400, "invalid_request", sentence(str(error))) from error
    return EventAnswer()


def _refuse_event(request: Request, cause: str, status: int, code: str, message: str) -> ApiError:
    log.warning("webhook refused", extra=origin_of(request.scope) | {"cause": cause})
    return ApiError(status, code, message)
