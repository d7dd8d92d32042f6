"""What Stripe calls. Checked over the bytes before anything is read of them; answered as soon as it is committed."""

import logging
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from notifyctl.errors import InvalidInput
from notifyctl.http.dependencies import RawBody, RuntimeDep
from notifyctl.http.errors import ApiError, documented
from notifyctl.http.request_log import origin_of
from notifyctl.providers.stripe_signature import signature_fault

PATH = "/api/webhooks/stripe"

log = logging.getLogger("notifyctl.http")
router = APIRouter(tags=["webhooks"])


class EventAnswer(BaseModel):
    """The same for whatever came of the event: Stripe needs to know no more, and we try again ourselves."""

    received: Literal[True] = True


@router.post(PATH, responses=documented(400, 413))
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
        text = f"{str(error)[0].upper()}{str(error)[1:]}."
        raise _refuse_event(request, f"rightly signed, but {error}", 400, "invalid_request", text) from error
    return EventAnswer()


def _refuse_event(request: Request, cause: str, status: int, code: str, message: str) -> ApiError:
    log.warning("webhook refused", extra=origin_of(request.scope) | {"cause": cause})
    return ApiError(status, code, message)
