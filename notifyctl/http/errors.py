"""Every error of the API in one shape: `{"error": code, "message": what is wrong}`, and never a value that was sent."""

import logging
import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, get_args

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifyctl.errors import DatabaseError, InvalidInput
from notifyctl.http.strict_json import fault_of
from notifyctl.text.choices import meant

RETRY_AFTER_SECONDS = 5
MAX_FAULTS = 10
CODES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "body_too_large",
    422: "invalid_request",
    500: "internal_error",
    503: "unavailable",
}
MESSAGES = {
    400: "This is not a valid HTTP request.",
    404: "There is nothing here.",
    405: "This path does not take that method.",
    408: "The request took too long to arrive.",
    422: "The request is not valid.",
    500: "Something went wrong on our side.",
    503: "The database cannot be used at the moment; try again.",
}

log = logging.getLogger("notifyctl.http")


class Error(BaseModel):
    """What every refusal looks like."""

    error: str = Field(description="A word for programs.")
    message: str = Field(description="A sentence for people.")


class ApiError(Exception):
    """Becomes the response. `code` and `message` have nothing in them that was sent."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": code, "message": message}, status, headers=dict(headers or {}))


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """`responses=` of a route: these, and those that every route may answer. With 413, it takes a body."""
    every = (*statuses, *([408] if 413 in statuses else []), 500, 503)
    return {status: {"model": Error, "description": HTTPStatus(status).phrase} for status in every}


def _refuse_repeated(request: Request) -> None:
    """Of `status=SENT&status=FAILED` only the last would count, and nobody would see that."""
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ApiError(422, CODES[422], "; ".join(f"{name_of(name)}: is given twice" for name in repeated[:MAX_FAULTS]))


Once = Annotated[None, Depends(_refuse_repeated)]
"""Behind the caller in a route's signature: who is asking is found out first."""


def add_error_handlers(app: FastAPI) -> None:
    app.exception_handler(ApiError)(_of_api_error)
    app.exception_handler(HTTPException)(_of_http_exception)
    app.exception_handler(RequestValidationError)(_of_validation)
    app.exception_handler(DatabaseError)(_of_database)
    app.exception_handler(InvalidInput)(_of_invalid_input)


async def _of_api_error(_request: Request, error: ApiError) -> JSONResponse:
    return error_response(error.status, error.code, error.message, error.headers)


async def _of_http_exception(_request: Request, error: HTTPException) -> JSONResponse:
    """Of the framework: a path or method that is not there. Its own words may repeat what was sent."""
    status = error.status_code
    headers = dict(error.headers or {})
    if "GET" in headers.get("Allow", ""):
        headers["Allow"] += ", HEAD"
    message = MESSAGES.get(status) or f"{HTTPStatus(status).phrase}."
    return error_response(status, CODES.get(status, "error"), message, headers)


async def _of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    if fault := fault_of(error.body):
        return error_response(422, CODES[422], f"body: {fault}")
    known = _fields_of(request)
    faults = [f"{_fault(item)}{_meant(item, known)}" for item in error.errors()]
    more = f" and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return error_response(422, CODES[422], "; ".join(faults[:MAX_FAULTS]) + more)


async def _of_database(_request: Request, error: DatabaseError) -> JSONResponse:
    log.warning("database unavailable", extra={"error": str(error)})
    return error_response(503, CODES[503], MESSAGES[503], {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _of_invalid_input(_request: Request, _error: InvalidInput) -> JSONResponse:
    """Its text is for the one who typed the value; where it can be told without it, the route says it itself."""
    return error_response(422, CODES[422], MESSAGES[422])


def _fault(item: ErrorDetails) -> str:
    """`context: must be an object`."""
    where, *names = item["loc"]
    return f"{'.'.join(map(name_of, names)) or where}: {_words(item)}"


def name_of(part: str | int) -> str:
    """The names of unknown things come from outside too, and are repeated only if they look like names."""
    return str(part) if isinstance(part, int) or _PLAIN_NAME.fullmatch(part) else "(a strange name)"


def _fields_of(request: Request) -> set[str]:
    """Of the body and the query that its route takes."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    taken = (*dependant.body_params, *dependant.query_params) if dependant else ()
    models = [part for field in taken for part in (field.field_info.annotation, *get_args(field.field_info.annotation))]
    return {name for model in models for name in getattr(model, "model_fields", {})}


def _meant(item: ErrorDetails, known: Collection[str]) -> str:
    """The name that was probably meant: it is one of ours, and none that was sent."""
    if item["type"] == "extra_forbidden":
        return meant(str(item["loc"][-1]), known)
    if item["type"] in ("enum", "literal_error"):
        return meant(str(item["input"]), re.findall("'([^']*)'", str((item.get("ctx") or {}).get("expected"))))
    return ""


def _words(item: ErrorDetails) -> str:
    context = item.get("ctx") or {}
    if item["type"] == "value_error":
        return str(context.get("error"))
    return _WORDS.get(item["type"], "is not valid").format(**context)


_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "model_attributes_type": "must be a JSON object, sent as application/json",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_unicode": "has half of a surrogate pair in it",
    "string_pattern_mismatch": "has a form or a character that it may not have",
    "bool_type": "must be true or false",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer that is not so large",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
}
"""pydantic's kinds of error, in words that repeat no value; its own sometimes do."""


class UnexpectedErrors:
    """Whatever nobody expected: one line in the log without anything of the request, and a 500 in our shape.

    Inside the middlewares that log and add headers, so that those see an ordinary response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001  the boundary of a request
            log.error("request failed", extra={"error": type(error).__name__, "at": _where(error)})
            if not started:
                await error_response(500, CODES[500], MESSAGES[500])(scope, receive, send)


def _where(error: Exception) -> list[str]:
    """The way to the error without its text and values, which may be secrets. The innermost call comes last."""
    frames = extract_tb(error.__traceback__)[-8:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
