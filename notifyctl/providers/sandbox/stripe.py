"""Stripe's API, as far as notifyctl asks it: events, subscriptions and customers; and what is put on its books."""

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.clock import Clock
from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox.connection import Cut, NoAnswer
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.misbehaviour import GARBAGE
from notifyctl.providers.sandbox.state import State
from notifyctl.providers.sandbox.stripe_ledger import StripeFault, stripe_fault_from
from notifyctl.providers.sandbox.stripe_query import Query, Refused

EVENT_FILTERS = ("created", "type", "types", "delivery_success")
SUBSCRIPTION_FILTERS = ("created", "customer", "price", "status")
CUSTOMER_FILTERS = ("created", "email")
_ENDED = ("canceled", "incomplete_expired")
_STATUSES = ("active", "past_due", "unpaid", "incomplete", "trialing", "paused", *_ENDED, "all", "ended")
_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth"
    " (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
)
_TOO_MANY = "Request rate limit exceeded. Learn more about rate limits here https://docs.stripe.com/rate-limits."

METHODS = ("GET", "POST", "DELETE")
METHODS_UNKNOWN_TO_STRIPE = ("PUT", "PATCH", "OPTIONS")
"""None of its v1 resources has them."""

Answering = Callable[[Request], dict[str, Any]]


class StripeApi:
    def __init__(self, state: State) -> None:
        self._ledger = state.stripe
        self._clock: Clock = lambda: state.clock()  # it may be set anew

    def routes(self) -> list[Route]:
        return [
            Route("/v1/events", self._answering(self._events), methods=["GET"]),
            Route("/v1/events/{id}", self._answering(self._event), methods=["GET"]),
            Route("/v1/subscriptions", self._answering(self._subscriptions), methods=["GET"]),
            Route("/v1/subscriptions/{id}", self._answering(self._object("subscription")), methods=["GET"]),
            Route("/v1/customers", self._answering(self._customers), methods=["GET"]),
            Route("/v1/customers/{id}", self._answering(self._object("customer")), methods=["GET"]),
            Route("/v1/{path:path}", self._answering(_unknown), methods=[*METHODS, *METHODS_UNKNOWN_TO_STRIPE]),
            Route("/stripe", self._clear, methods=["DELETE"]),
            Route("/stripe/events", self._record, methods=["POST"]),
            Route("/stripe/fault", self._put_fault, methods=["PUT"]),
            Route("/stripe/fault", self._delete_fault, methods=["DELETE"]),
        ]

    def _answering(self, find: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                self._admit(request)
                if fault := self._ledger.strike():
                    return _failing(fault)
                return _answer(find(request))
            except Refused as refused:
                return _answer({"error": refused.body}, refused.status)

        return respond

    def _admit(self, request: Request) -> None:
        key = _key_of(request.headers.get("authorization", ""))
        if not key:
            raise Refused(_NO_KEY, status=401)
        if self._ledger.api_key not in (None, key):
            raise Refused(f"Invalid API Key provided: {key[:7]}***{key[-4:]}", status=401)

    def _events(self, request: Request) -> dict[str, Any]:
        query = Query.read(request.query_params, EVENT_FILTERS)
        in_time, of_types = query.created(), query.types()
        delivered = _truth(query.one("delivery_success"))
        found = [
            event
            for event in self._ledger.events(self._clock())
            if in_time(event)
            and of_types(event)
            and (delivered is None or self._ledger.is_delivered(event["id"]) is delivered)
        ]
        return query.page(found, "/v1/events", "event")

    def _event(self, request: Request) -> dict[str, Any]:
        event_id = request.path_params["id"]
        found = self._ledger.event(event_id, self._clock())
        if found is None:
            raise Refused(f"No such event: '{event_id}'", status=404, code="resource_missing", param="id")
        return dict(found)

    def _subscriptions(self, request: Request) -> dict[str, Any]:
        query = Query.read(request.query_params, SUBSCRIPTION_FILTERS)
        in_time = query.created()
        status, customer, price = query.one("status"), query.one("customer"), query.one("price")
        if status is not None and status not in _STATUSES:
            raise Refused(f"Invalid status: must be one of {', '.join(_STATUSES)}", param="status")
        found = [
            value
            for value in self._ledger.objects("subscription")
            if in_time(value)
            and _has_status(value, status)
            and (customer is None or value.get("customer") == customer)
            and (price is None or price in _prices(value))
        ]
        return query.page(found, "/v1/subscriptions", "subscription")

    def _customers(self, request: Request) -> dict[str, Any]:
        query = Query.read(request.query_params, CUSTOMER_FILTERS)
        in_time, email = query.created(), query.one("email")
        found = [
            value
            for value in self._ledger.objects("customer")
            if in_time(value) and (email is None or value.get("email") == email)
        ]
        return query.page(found, "/v1/customers", "customer")

    def _object(self, kind: str) -> Answering:
        def find(request: Request) -> dict[str, Any]:
            object_id = request.path_params["id"]
            found = self._ledger.object(kind, object_id)
            if found is None:
                raise Refused(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param="id")
            return dict(found)

        return find

    async def _record(self, request: Request) -> Response:
        """`{"event": …, "objects": […], "delivered": true}`: what happened, and how things are after it."""
        try:
            given = await _json_object(request)
            objects = given.get("objects", [])
            if not isinstance(given.get("event"), dict) or not isinstance(objects, list):
                raise InvalidInput("the body needs an event, and may have a list of objects")
            known = [value if isinstance(value, dict) else {} for value in objects]
            self._ledger.happen(given["event"], known, is_delivered=given.get("delivered") is not False)
        except InvalidInput as error:
            return answer({"error": "invalid", "message": str(error)}, 400)
        return Response(status_code=204)

    async def _clear(self, request: Request) -> Response:
        self._ledger.clear()
        return Response(status_code=204)

    async def _put_fault(self, request: Request) -> Response:
        try:
            self._ledger.set_fault(stripe_fault_from(await _json_object(request)))
        except InvalidInput as error:
            return answer({"error": "invalid", "message": str(error)}, 400)
        return Response(status_code=204)

    async def _delete_fault(self, request: Request) -> Response:
        self._ledger.set_fault(None)
        return Response(status_code=204)


def _unknown(request: Request) -> dict[str, Any]:
    message = f"Unrecognized request URL ({request.method}: {request.url.path}). The sandbox knows only what"
    raise Refused(f"{message} notifyctl asks for.", status=405 if request.method in METHODS_UNKNOWN_TO_STRIPE else 404)


def _key_of(header: str) -> str:
    """The SDK sends it as a bearer token; as the user of Basic authentication it is good too."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(value).decode().partition(":")[0]
    except ValueError:
        return ""


def _truth(value: str | None) -> bool | None:
    if value not in (None, "true", "false"):
        raise Refused(f"Invalid boolean: {value}", code="parameter_invalid_boolean", param="delivery_success")
    return None if value is None else value == "true"


def _has_status(value: Mapping[str, Any], wanted: str | None) -> bool:
    """Without a status, Stripe lists what is not canceled."""
    found = value.get("status")
    match wanted:
        case None:
            return found != "canceled"
        case "all":
            return True
        case "ended":
            return found in _ENDED
    return found == wanted


def _prices(value: Mapping[str, Any]) -> list[Any]:
    return [item.get("price", {}).get("id") for item in value.get("items", {}).get("data", [])]


def _failing(fault: StripeFault) -> Response:
    match fault.kind:
        case "hang":
            return NoAnswer()
        case "cut":
            return Cut()
        case "garbage":
            return Response(GARBAGE, media_type="application/json")
    error = {"message": "An unknown error occurred", "type": "api_error"}
    if fault.status == 429:
        error = {"message": _TOO_MANY, "type": "invalid_request_error", "code": "rate_limit"}
    elif fault.status < 500:
        error = {"message": f"Refused on purpose, with {fault.status}", "type": "invalid_request_error"}
    return _answer({"error": error}, fault.status)


def _answer(body: dict[str, Any], status: int = 200) -> Response:
    return answer(body, status, {"Request-Id": f"req_{uuid4().hex[:14]}"})


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    return value
