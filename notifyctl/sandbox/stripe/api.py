"""Stripe's API, as far as notifyctl asks it: events, subscriptions and customers; and what is put on its books."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.clock import Clock
from notifyctl.errors import InvalidInput
from notifyctl.sandbox.control_api import invalid, json_answer, json_object
from notifyctl.sandbox.faults.errors import STRIPE, ApiRefusal, Endpoint, with_refusals
from notifyctl.sandbox.state import SandboxState
from notifyctl.sandbox.stripe.ledger import StripeObject, created_at

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
        for parameter, value in params.multi_items():
            name = re.sub(r"\[\d*\]$", "", parameter)
            if name.partition("[")[0] not in (*known, *_PAGING):
                raise StripeRefusal(
                    f"Received unknown parameter: {parameter}", code="parameter_unknown", param=parameter
                )
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


_ENDED = ("canceled", "incomplete_expired")
_STATUSES = ("active", "past_due", "unpaid", "incomplete", "trialing", "paused", *_ENDED, "all", "ended")
_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth"
    " (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
)

METHODS = ("GET", "POST", "DELETE")
METHODS_UNKNOWN_TO_STRIPE = ("PUT", "PATCH", "OPTIONS")
"""None of its v1 resources has them."""

FindObject = Callable[[Request], StripeObject]
"""Raises StripeRefusal."""


class FakeStripe:
    def __init__(self, state: SandboxState) -> None:
        self._ledger = state.stripe
        self._faults = state.faults
        self._clock: Clock = lambda: state.clock()  # it may be set anew

    def routes(self) -> list[Route]:
        return [
            Route("/v1/events", self._endpoint(self._events), methods=["GET"]),
            Route("/v1/events/{id}", self._endpoint(self._event), methods=["GET"]),
            Route("/v1/subscriptions", self._endpoint(self._subscriptions), methods=["GET"]),
            Route("/v1/subscriptions/{id}", self._endpoint(self._object("subscription")), methods=["GET"]),
            Route("/v1/customers", self._endpoint(self._customers), methods=["GET"]),
            Route("/v1/customers/{id}", self._endpoint(self._object("customer")), methods=["GET"]),
            Route("/v1/{path:path}", self._endpoint(_unknown), methods=[*METHODS, *METHODS_UNKNOWN_TO_STRIPE]),
            Route("/stripe", self._clear, methods=["DELETE"]),
            Route("/stripe/events", self._record, methods=["POST"]),
        ]

    def _endpoint(self, find: FindObject) -> Endpoint:
        async def respond(request: Request) -> Response:
            self._admit(request)

            def answer() -> Response:
                if refusal := self._faults.refusal(STRIPE):
                    raise refusal
                return _answer(find(request))

            return await self._faults.answer(STRIPE, (), request, answer, _refusal)

        return with_refusals(respond, _refusal)

    def _admit(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise StripeRefusal(_NO_KEY, status=401)
        if self._ledger.api_key not in (None, key.strip()):
            raise StripeRefusal(f"Invalid API Key provided: {key[:7]}***{key[-4:]}", status=401)

    def _events(self, request: Request) -> StripeObject:
        query = StripeQuery.read(request.query_params, ("created", "types"))
        is_in_time, types = query.created(), query.types()
        events = self._ledger.events(self._clock())
        matching = [event for event in events if is_in_time(event) and (not types or event["type"] in types)]
        return query.page(matching, "/v1/events", "event")

    def _event(self, request: Request) -> StripeObject:
        event_id = request.path_params["id"]
        return _known(self._ledger.event(event_id, self._clock()), "event", event_id)

    def _subscriptions(self, request: Request) -> StripeObject:
        query = StripeQuery.read(request.query_params, ("created", "status"))
        is_in_time, status = query.created(), query.one("status")
        if status is not None and status not in _STATUSES:
            raise StripeRefusal(f"Invalid status: must be one of {', '.join(_STATUSES)}", param="status")
        subscriptions = self._ledger.objects("subscription")
        matching = [value for value in subscriptions if is_in_time(value) and _has_status(value, status)]
        return query.page(matching, "/v1/subscriptions", "subscription")

    def _customers(self, request: Request) -> StripeObject:
        query = StripeQuery.read(request.query_params, ("created", "email"))
        is_in_time, email = query.created(), query.one("email")
        customers = self._ledger.objects("customer")
        matching = [value for value in customers if is_in_time(value) and email in (None, value.get("email"))]
        return query.page(matching, "/v1/customers", "customer")

    def _object(self, kind: str) -> FindObject:
        def find(request: Request) -> StripeObject:
            object_id = request.path_params["id"]
            return _known(self._ledger.object(kind, object_id), kind, object_id)

        return find

    async def _record(self, request: Request) -> Response:
        """`{"event": …, "objects": […]}`: what happened, and how things are after it."""
        try:
            body = await json_object(request)
            event, objects = body.get("event"), body.get("objects", [])
            if not isinstance(event, dict) or not isinstance(objects, list):
                raise InvalidInput("the body needs an event, and may have a list of objects")
            self._ledger.record(event, [value if isinstance(value, dict) else {} for value in objects])
        except InvalidInput as error:
            return invalid(error)
        return Response(status_code=204)

    async def _clear(self, request: Request) -> Response:
        self._ledger.clear()
        return Response(status_code=204)


def _known(value: StripeObject | None, kind: str, object_id: str) -> StripeObject:
    if value is None:
        raise StripeRefusal(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param="id")
    return value


def _unknown(request: Request) -> StripeObject:
    message = f"Unrecognized request URL ({request.method}: {request.url.path}). The sandbox knows only what"
    status = 405 if request.method in METHODS_UNKNOWN_TO_STRIPE else 404
    raise StripeRefusal(f"{message} notifyctl asks for.", status=status)


def _has_status(subscription: StripeObject, status_filter: str | None) -> bool:
    """Without a status, Stripe lists what is not canceled."""
    status = subscription.get("status")
    match status_filter:
        case None:
            return status != "canceled"
        case "all":
            return True
        case "ended":
            return status in _ENDED
    return status == status_filter


def _refusal(refusal: ApiRefusal) -> Response:
    if isinstance(refusal, StripeRefusal):
        error = refusal.body
    else:
        error = {"message": refusal.message, "type": "api_error" if refusal.code >= 500 else "invalid_request_error"}
        error |= {"code": "rate_limit"} if refusal.code == 429 else {}
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after is not None else {}
    return _answer({"error": error}, refusal.http_status, headers)


def _answer(body: StripeObject, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return json_answer(body, status, {"Request-Id": f"req_{uuid4().hex[:14]}", **(headers or {})})
