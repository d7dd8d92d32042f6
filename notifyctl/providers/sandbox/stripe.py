"""Stripe's API, as far as notifyctl asks it: events, subscriptions and customers; and what is put on its books."""

from collections.abc import Callable
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.clock import Clock
from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox.controls import invalid, json_answer, json_object
from notifyctl.providers.sandbox.failures import STRIPE, Answering, ApiRefusal, refusing
from notifyctl.providers.sandbox.state import SandboxState
from notifyctl.providers.sandbox.stripe_ledger import StripeObject
from notifyctl.providers.sandbox.stripe_query import StripeQuery, StripeRefusal

_ENDED = ("canceled", "incomplete_expired")
_STATUSES = ("active", "past_due", "unpaid", "incomplete", "trialing", "paused", *_ENDED, "all", "ended")
_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth"
    " (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
)

METHODS = ("GET", "POST", "DELETE")
METHODS_UNKNOWN_TO_STRIPE = ("PUT", "PATCH", "OPTIONS")
"""None of its v1 resources has them."""

Finding = Callable[[Request], StripeObject]
"""Raises StripeRefusal."""


class FakeStripe:
    def __init__(self, state: SandboxState) -> None:
        self._ledger = state.stripe
        self._faults = state.faults
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
        ]

    def _answering(self, find: Finding) -> Answering:
        async def respond(request: Request) -> Response:
            self._admit(request)

            def answer() -> Response:
                if refusal := self._faults.refusal(STRIPE):
                    raise refusal
                return _answer(find(request))

            return await self._faults.answer(STRIPE, (), request, answer, _refusal)

        return refusing(respond, _refusal)

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
        wanted = [event for event in events if is_in_time(event) and (not types or event["type"] in types)]
        return query.page(wanted, "/v1/events", "event")

    def _event(self, request: Request) -> StripeObject:
        event_id = request.path_params["id"]
        return _known(self._ledger.event(event_id, self._clock()), "event", event_id)

    def _subscriptions(self, request: Request) -> StripeObject:
        query = StripeQuery.read(request.query_params, ("created", "status"))
        is_in_time, status = query.created(), query.one("status")
        if status is not None and status not in _STATUSES:
            raise StripeRefusal(f"Invalid status: must be one of {', '.join(_STATUSES)}", param="status")
        subscriptions = self._ledger.objects("subscription")
        wanted = [value for value in subscriptions if is_in_time(value) and _has_status(value, status)]
        return query.page(wanted, "/v1/subscriptions", "subscription")

    def _customers(self, request: Request) -> StripeObject:
        query = StripeQuery.read(request.query_params, ("created", "email"))
        is_in_time, email = query.created(), query.one("email")
        customers = self._ledger.objects("customer")
        wanted = [value for value in customers if is_in_time(value) and email in (None, value.get("email"))]
        return query.page(wanted, "/v1/customers", "customer")

    def _object(self, kind: str) -> Finding:
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


def _has_status(subscription: StripeObject, wanted: str | None) -> bool:
    """Without a status, Stripe lists what is not canceled."""
    status = subscription.get("status")
    match wanted:
        case None:
            return status != "canceled"
        case "all":
            return True
        case "ended":
            return status in _ENDED
    return status == wanted


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
