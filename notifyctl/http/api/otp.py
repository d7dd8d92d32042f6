"""One-time codes over HTTP. What is answered tells nothing of what happened behind it."""

import asyncio
import logging
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from notifyctl.bootstrap import Runtime
from notifyctl.errors import NotFound
from notifyctl.http.auth import Caller, RuntimeDep, require
from notifyctl.http.errors import ApiError, documented
from notifyctl.http.strict_json import JsonRoute
from notifyctl.http.together import Together
from notifyctl.models.enums import OtpAction, Scope
from notifyctl.otp.one_time_codes import Guess
from notifyctl.text.addresses import AddressError

ANSWER_AFTER_SECONDS = 0.1
"""Longer than what any send takes on a database that is well, so that every answer takes as long."""

log = logging.getLogger("notifyctl.http")
router = APIRouter(
    prefix="/api/otp",
    tags=["one-time codes"],
    route_class=JsonRoute,
)
OtpCaller = Annotated[Caller, Depends(require(Scope.OTP))]

PhoneNumber = Annotated[
    str,
    Field(
        max_length=80,
        description="E.164, as +491701234567; without +, of the region that OTP_DEFAULT_REGION names.",
        examples=["+491701234567"],
    ),
]


class SendCodeRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    phone_number: PhoneNumber
    action: OtpAction


class AskForCode(SendCodeRequest):
    locale: str | None = Field(None, max_length=64, description="Of the SMS, as de-AT.", examples=["de-AT"])


class VerifyCodeRequest(SendCodeRequest):
    code: str = Field(description="What the person typed.", examples=["493027"])


class CodeAccepted(BaseModel):
    status: Literal["accepted"] = "accepted"


class Verified(BaseModel):
    verified: Literal[True] = True


class NotVerified(BaseModel):
    verified: Literal[False] = False
    error: Literal["invalid_code"] = "invalid_code"
    message: Literal["Invalid code."] = "Invalid code."


@router.post("/send", operation_id="sendCode", status_code=202, responses=documented(401, 403, 413, 422))
async def send(body: AskForCode, caller: OtpCaller, runtime: RuntimeDep) -> CodeAccepted:
    """Send a code, if nothing stands against it. The answer is the same, and as late, whether one is sent or not."""
    earliest = asyncio.get_running_loop().time() + ANSWER_AFTER_SECONDS
    try:
        send = partial(runtime.otp.send, actor=caller.actor, locale=body.locale)
        await run_in_threadpool(send, body.phone_number, body.action)
    except AddressError as error:
        raise _not_a_phone(error) from error
    except NotFound as error:
        log.error("code not sent", extra={"error": str(error)})
        raise ApiError(503, "not_ready", "No template is seeded.") from error
    await asyncio.sleep(earliest - asyncio.get_running_loop().time())
    return CodeAccepted()


@router.post(
    "/verify",
    operation_id="verifyCode",
    response_model=Verified,
    responses=documented(401, 403, 413, 422)
    | {400: {"model": NotVerified, "description": "Wrong, expired, used, replaced, locked, or never sent."}},
)
async def verify(
    body: VerifyCodeRequest, request: Request, caller: OtpCaller, runtime: RuntimeDep
) -> Verified | JSONResponse:
    """Whether this is the live code of the phone for this action. It works once."""
    guess = Guess(body.phone_number, body.action, body.code, caller.actor)
    try:
        if runtime.database.is_sqlite:
            is_right = await _guesses(request.app, runtime).together.answer(guess)
        else:
            is_right = await run_in_threadpool(_try, runtime, guess)
    except AddressError as error:
        raise _not_a_phone(error) from error
    return Verified() if is_right else JSONResponse(NotVerified().model_dump(), 400)


class Guesses:
    """Those that come at once share a transaction."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.together = Together(runtime.otp.verify_together, partial(_try, runtime))


def _guesses(app: FastAPI, runtime: Runtime) -> Guesses:
    found: Guesses | None = getattr(app.state, "guesses", None)
    if found is None or found.runtime is not runtime:
        found = app.state.guesses = Guesses(runtime)
    return found


def _try(runtime: Runtime, guess: Guess) -> bool:
    return runtime.otp.verify(guess.phone, guess.action, guess.code, actor=guess.actor)


def _not_a_phone(error: AddressError) -> ApiError:
    return ApiError(422, "invalid_request", f"phone_number: the {error.fault}")
