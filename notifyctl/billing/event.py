"""An event as it came: its bytes made into JSON, the fields that every event has, and what it is about."""

import json
from dataclasses import dataclass
from datetime import datetime

from notifyctl.billing.objects import (
    NOTHING,
    Json,
    at,
    client_name,
    identifier,
    moment,
    read_checkout,
    read_invoice,
    read_subscription,
)
from notifyctl.billing.store import EventSubject
from notifyctl.errors import InvalidInput

THIN = "v2.core.event"
CHANGES_BETWEEN_DELIVERIES = ("pending_webhooks", "request")


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    created: datetime
    livemode: bool
    account: str | None
    """Of a connected account that the event belongs to; it was called user_id until 2017."""
    api_version: str | None
    is_thin: bool
    object: Json

    @property
    def object_id(self) -> str | None:
        return identifier(self.object.get("id"))

    @property
    def customer(self) -> str | None:
        return self.object_id if self.object.get("object") == "customer" else identifier(self.object.get("customer"))


def read_event(raw: bytes, received_at: datetime) -> Event:
    """Raises InvalidInput, which repeats nothing of the body, for what is no event.

    One without a time happened when it was received. Only a livemode that is `true` is live.
    """
    event = _json_object(raw)
    event_id, kind = identifier(event.get("id")), identifier(event.get("type"))
    if event_id is None or kind is None:
        missing = "id" if event_id is None else "type"
        raise InvalidInput(f"the body is no Stripe event: it has no {missing}, or one that is no plain text")
    return Event(
        id=event_id,
        type=kind,
        created=moment(event.get("created")) or received_at,
        livemode=event.get("livemode") is True,
        account=_account(event.get("account")) or _account(event.get("user_id")),
        api_version=client_name(event.get("api_version")),
        is_thin=event.get("object") == THIN,
        object=at(event, "data", "object"),
    )


def _account(value: object) -> str | None:
    """Whatever stands there, the event is not of our own account."""
    return client_name(value) or ("unreadable" if value else None)


def event_subject(event: Event) -> EventSubject:
    named: tuple[str, ...]
    if event.type.startswith("invoice."):
        invoice = read_invoice(event.object)
        subscription_id, named = invoice.subscription, invoice.named_clients
    elif event.type.startswith("customer.subscription."):
        subscription = read_subscription(event.object)
        subscription_id, named = subscription.id, subscription.named_clients
    elif event.type.startswith("checkout.session."):
        checkout = read_checkout(event.object)
        subscription_id, named = checkout.subscription, checkout.named_clients
    else:
        subscription_id = identifier(event.object.get("subscription"))
        name = client_name(at(event.object, "metadata").get("client_id"))
        named = (name,) if name else ()
    return EventSubject(event.customer, subscription_id, next(filter(_is_no_address, named), None))


def _is_no_address(name: str) -> bool:
    """client_reference_id can be written by whoever opens a payment link: addresses stay in the body."""
    return "@" not in name and not name.startswith("+")


def is_same_event(one: bytes, other: bytes) -> bool:
    """Whether two deliveries of an event differ at most in what differs between any two."""
    try:
        return one == other or _comparable(one) == _comparable(other)
    except RecursionError:  # nested almost too deep to be read
        return False


def _comparable(raw: bytes) -> Json | bytes:
    try:
        event = _json_object(raw)
    except InvalidInput:
        return raw
    return {name: value for name, value in event.items() if name not in CHANGES_BETWEEN_DELIVERIES}


def _json_object(raw: bytes) -> Json:
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError:
        raise InvalidInput("the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidInput("the body is no JSON object")
    return value or NOTHING
