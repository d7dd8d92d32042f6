"""What happens at Stripe on command: the events that it sends then, and its objects as they are afterwards."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox.stripe_invoices import invoice
from notifyctl.providers.sandbox.stripe_objects import (
    NEW_API_VERSION,
    OLD_API_VERSION,
    Object,
    checkout_session,
    customer,
    subscription,
)
from notifyctl.providers.sandbox.stripe_order import Order


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, and the objects as Stripe's API gives them after it."""

    event: Object
    objects: tuple[Object, ...]


def happen(trigger: str, order: Order) -> list[Happening]:
    """In the order in which Stripe sends them. Each call makes new event ids. Raises InvalidInput."""
    if trigger not in TRIGGERS:
        raise InvalidInput(f"there is no trigger {trigger!r}; there are {', '.join(TRIGGERS)}")
    return [make(order) for make in TRIGGERS[trigger]]


def _created(order: Order) -> Happening:
    return _happening("customer.subscription.created", order, subscription(order))


def _updated(order: Order) -> Happening:
    before = {"status": "active" if order.status != "active" else "incomplete"}
    return _happening("customer.subscription.updated", order, subscription(order), before)


def _deleted(order: Order) -> Happening:
    return _happening("customer.subscription.deleted", order, subscription(order, "canceled"))


def _checkout(order: Order) -> Happening:
    state = subscription(order, "incomplete" if order.is_unpaid else None)
    return _happening("checkout.session.completed", order, checkout_session(order), state=state)


def _slow_payment_came(order: Order) -> Happening:
    session = checkout_session(replace(order, is_unpaid=False))
    return _happening("checkout.session.async_payment_succeeded", order, session, state=subscription(order))


def _paid(order: Order) -> Happening:
    return _happening("invoice.paid", order, invoice(order, is_paid=True), state=subscription(order))


def _failed(order: Order) -> Happening:
    status = "incomplete" if order.invoice == 1 else "past_due"
    state = subscription(order, status)
    return _happening("invoice.payment_failed", order, invoice(order, is_paid=False), state=state)


TRIGGERS: dict[str, Sequence[Callable[[Order], Happening]]] = {
    "purchase": (_created, _checkout, _paid),
    "checkout.session.completed": (_checkout,),
    "checkout.session.async_payment_succeeded": (_slow_payment_came,),
    "invoice.paid": (_paid,),
    "invoice.payment_failed": (_failed,),
    "customer.subscription.created": (_created,),
    "customer.subscription.updated": (_updated,),
    "customer.subscription.deleted": (_deleted,),
}


def _happening(
    kind: str, order: Order, told: Object, before: Object | None = None, *, state: Object | None = None
) -> Happening:
    """`state` is the subscription afterwards, where `told` is something else."""
    event = {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": OLD_API_VERSION if order.is_old else NEW_API_VERSION,
        "created": order.created,
        "data": {"object": told} | ({"previous_attributes": before} if before else {}),
        "livemode": order.livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    return Happening(event, (customer(order), state or told))
