"""The query of Stripe's lists: filters, and pages by cursor. https://docs.stripe.com/api/pagination"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import QueryParams

from notifyctl.providers.sandbox.failures import ApiRefusal
from notifyctl.providers.sandbox.stripe_ledger import StripeObject, created_at

MAX_LIMIT = 100
DEFAULT_LIMIT = 10
MAX_TYPES = 20
_PAGING = ("limit", "starting_after", "expand")
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}


class StripeRefusal(ApiRefusal):
    """Stripe's answer to what it does not take, with a code in words and the parameter that is meant."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(status, status, message)
        self.body = {"message": message, "type": "invalid_request_error"}
        self.body |= {name: value for name, value in (("code", code), ("param", param)) if value}


@dataclass(frozen=True, slots=True)
class StripeQuery:
    """Values by name; `types[]` and `types[3]` are both `types`."""

    values: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, params: QueryParams, known: Sequence[str]) -> "StripeQuery":
        values: dict[str, list[str]] = {}
        for written, value in params.multi_items():
            name = re.sub(r"\[\d*\]$", "", written)
            if name.partition("[")[0] not in (*known, *_PAGING):
                raise StripeRefusal(f"Received unknown parameter: {written}", code="parameter_unknown", param=written)
            values.setdefault(name, []).append(value)
        return cls(values)

    def one(self, name: str) -> str | None:
        return self.values.get(name, [None])[-1]

    def created(self) -> Callable[[StripeObject], bool]:
        """Whether an object was created within the bounds of `created`."""
        bounds = [
            (compare, self._whole_number(f"created[{name}]", value))
            for name, compare in _COMPARISONS.items()
            if (value := self.one(f"created[{name}]")) is not None
        ]
        return lambda value: all(compare(created_at(value), bound) for compare, bound in bounds)

    def types(self) -> Sequence[str]:
        types = self.values.get("types", ())
        if len(types) > MAX_TYPES:
            raise StripeRefusal(f"You may only specify up to {MAX_TYPES} types.", param="types")
        return types

    def page(self, values: Sequence[StripeObject], url: str, named: str) -> StripeObject:
        """`values` are newest first, and so is the page."""
        limit, start, after = self._limit(), 0, self.one("starting_after")
        if after is not None:
            start = next((place for place, value in enumerate(values, 1) if value["id"] == after), 0)
            if not start:
                message = f"No such {named}: '{after}'"
                raise StripeRefusal(message, code="resource_missing", param="starting_after")
        end = start + limit
        return {"object": "list", "data": list(values[start:end]), "has_more": end < len(values), "url": url}

    def _limit(self) -> int:
        value = self.one("limit")
        limit = DEFAULT_LIMIT if value is None else self._whole_number("limit", value)
        if not 1 <= limit <= MAX_LIMIT:
            raise StripeRefusal(f"This value must be between 1 and {MAX_LIMIT} (passed {value}).", param="limit")
        return limit

    def _whole_number(self, name: str, value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value):
            raise StripeRefusal(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
        return int(value)
