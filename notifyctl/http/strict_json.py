"""What comes in: JSON as strict as it is written down (RFC 8259), and the types of single fields."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

from notifyctl.text.durations import iso

MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands in for a body that is no JSON.

    A value and not an exception: who is asking is found out first, and answered 401 before anything is said about
    the body.
    """

    fault: str


class JsonRoute(APIRoute):
    """For `APIRouter(route_class=JsonRoute)`, wherever a body is JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        handler = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return strictly


class _JsonRequest(Request):
    async def json(self) -> object:
        value = parse(await self.body())
        # Not before: some callers take it for the place of `utf-8`, and send plain JSON.
        if isinstance(value, Malformed) and self.headers.get("content-encoding", "identity").lower() != "identity":
            value = Malformed(_ENCODED)
        # In a tuple, which no model takes: of an object of ours, pydantic would read the attributes.
        return (value,) if isinstance(value, Malformed) else value


def fault_of(body: object) -> str | None:
    """What was wrong with the body that a route got; None when it was JSON."""
    match body:
        case (Malformed(fault=fault),):
            return fault
    return None


def parse(body: bytes) -> object:
    """The value, or Malformed. Never raises."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
        )
    except UnicodeDecodeError:
        return Malformed("is not UTF-8")
    except json.JSONDecodeError as error:
        return Malformed(f"is not JSON (at character {error.pos})")
    except _Unfit as error:
        return Malformed(str(error))
    except RecursionError:
        return Malformed(_TOO_DEEP)
    return Malformed(_TOO_DEEP) if _is_deep(value) else value


class _Unfit(ValueError):
    pass


_ENCODED = "has a Content-Encoding; send it as it is"
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Unfit("has the same name twice in one object")
    return members


def _no_constant(_text: str) -> NoReturn:
    raise _Unfit("has NaN or Infinity, which JSON does not know")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _Unfit("has a number that is too large")
    return number


_MOST_DIGITS = 400
"""Of an integer: as many as the largest float has. Thousands take long to read, and Python refuses them."""


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise _Unfit("has a number that is too large")
    return int(text)


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


FIRST, LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
"""Nothing happened before or will after. At the very ends of the calendar, another zone is beyond it."""
STORABLE = r"^[^\x00]*$"
"""PostgreSQL keeps no NUL."""


def _read(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError("must be a time in ISO 8601, as 2026-03-01T12:00:00Z") from None
    if moment.year <= FIRST.year:
        return FIRST
    return LAST if moment.year >= LAST.year else moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


Moment = Annotated[
    datetime, PlainSerializer(iso, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""In an answer: 2026-03-01T12:00:00.000Z."""
QueryMoment = Annotated[datetime, BeforeValidator(_read), WithJsonSchema({"type": "string", "format": "date-time"})]
"""In a query: UTC where it names no zone."""

Text64 = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=STORABLE)]
Text128 = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=STORABLE)]
Text255 = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=STORABLE)]
Text1000 = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=STORABLE)]
LocaleTag = Annotated[
    Text128, WithJsonSchema({"type": "string", "pattern": "^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*([.@].*)?$"})
]
"""The document says of what form it is. Whether there is such a language, and how to write one, is said in words."""
