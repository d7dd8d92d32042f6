"""The query of Stripe's lists: filters, and pages by cursor. https://docs.stripe.com/api/pagination"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

MAX_LIMIT = 100
DEFAULT_LIMIT = 10
MAX_TYPES = 20
_PAGING = ("limit", "starting_after", "ending_before")
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}

Object = Mapping[str, Any]
Test = Callable[[Object], bool]


class Refused(Exception):
    """Stripe's answer to what it does not take."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "type": "invalid_request_error"}
        self.body |= {name: value for name, value in (("code", code), ("param", param)) if value}


@dataclass(frozen=True, slots=True)
class Query:
    """Values by name; `types[]` and `types[3]` are both `types`."""

    values: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, params: QueryParams, known: Sequence[str]) -> "Query":
        values: dict[str, list[str]] = {}
        for written, value in params.multi_items():
            name = re.sub(r"\[\d*\]$", "", written)
            if name.partition("[")[0] not in (*known, *_PAGING, "expand"):
                raise Refused(f"Received unknown parameter: {written}", code="parameter_unknown", param=written)
            values.setdefault(name, []).append(value)
        return cls(values)

    def one(self, name: str) -> str | None:
        return self.values.get(name, [None])[-1]

    def created(self) -> Test:
        """`created` itself, or its bounds."""
        bounds = [(compare, self._seconds(f"created[{name}]")) for name, compare in _COMPARISONS.items()]
        given = [(compare, bound) for compare, bound in bounds if bound is not None]
        if (exactly := self._seconds("created")) is not None:
            given.append((int.__eq__, exactly))
        return lambda found: all(compare(int(found.get("created") or 0), bound) for compare, bound in given)

    def _seconds(self, name: str) -> int | None:
        value = self.one(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,12}", value):
            raise Refused(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
        return int(value)

    def types(self) -> Test:
        """`type`, which may end in `.*`, or up to 20 in `types`."""
        one, many = self.one("type"), list(self.values.get("types", ()))
        if one is not None and many:
            raise Refused("You may only specify one of these parameters: type, types.")
        if len(many) > MAX_TYPES:
            raise Refused(f"You may only specify up to {MAX_TYPES} types.", param="types")
        wanted = many if one is None else [one]
        return lambda found: not wanted or any(_fits(str(found.get("type")), pattern) for pattern in wanted)

    def page(self, found: Sequence[Object], url: str, named: str) -> dict[str, Any]:
        """`found` is newest first, and so is the page, also the one that ends before a cursor."""
        limit = self._limit()
        after, before = self.one("starting_after"), self.one("ending_before")
        if after is not None and before is not None:
            raise Refused("You may only specify one of these parameters: starting_after, ending_before.")
        if before is not None:
            end = _place(found, before, "ending_before", named)
            start = max(0, end - limit)
            return _list(found[start:end], url, has_more=start > 0)
        start = 0 if after is None else _place(found, after, "starting_after", named) + 1
        return _list(found[start : start + limit], url, has_more=start + limit < len(found))

    def _limit(self) -> int:
        value = self.one("limit")
        if value is None:
            return DEFAULT_LIMIT
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise Refused(f"Invalid integer: {value}", code="parameter_invalid_integer", param="limit")
        if not 1 <= int(value) <= MAX_LIMIT:
            raise Refused(f"This value must be between 1 and {MAX_LIMIT} (passed {value}).", param="limit")
        return int(value)


def _fits(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


def _place(found: Sequence[Object], cursor: str, param: str, named: str) -> int:
    for place, value in enumerate(found):
        if value["id"] == cursor:
            return place
    raise Refused(f"No such {named}: '{cursor}'", code="resource_missing", param=param)


def _list(data: Sequence[Object], url: str, *, has_more: bool) -> dict[str, Any]:
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}
