"""JSON as strict as it is written down (RFC 8259): UTF-8, no name twice, no NaN, no bottomless nesting."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import isfinite
from typing import NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

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


_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Unfit("has the same name twice in one object")
    return made


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
