"""What happens at Stripe on command: the events that it sends then, and its objects as they are afterwards."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox.stripe_invoices import invoice
from notifyctl.providers.sandbox.stripe_objects import (
    NEW_API_VERSION,
    OLD_API_VERSION,
    Json,
    checkout_session,
    customer,
    subscription,
)
from notifyctl.providers.sandbox.stripe_order import StripeScenario


@dataclass(frozen=True, slots=True)
class TriggeredEvent:
    """An event, and the objects as Stripe's API gives them after it."""

    type: str
    event: Json
    objects: tuple[Json, ...]

    @property
    def id(self) -> str:
        return str(self.event["id"])


def trigger(name: str, scenario: StripeScenario) -> list[TriggeredEvent]:
    """In the order in which Stripe sends them. Each call makes new event ids. Raises InvalidInput."""
    if name not in TRIGGERS:
        raise InvalidInput(f"there is no trigger {name!r}; there are {', '.join(TRIGGERS)}")
    return [make(scenario) for make in TRIGGERS[name]]


def _created(scenario: StripeScenario) -> TriggeredEvent:
    return _event("customer.subscription.created", scenario, subscription(scenario))


def _updated(scenario: StripeScenario) -> TriggeredEvent:
    return _event("customer.subscription.updated", scenario, subscription(scenario), {"status": "incomplete"})


def _deleted(scenario: StripeScenario) -> TriggeredEvent:
    return _event("customer.subscription.deleted", scenario, subscription(scenario, "canceled"))


def _checkout(scenario: StripeScenario) -> TriggeredEvent:
    after = subscription(scenario, "incomplete" if scenario.is_unpaid else "active")
    return _event("checkout.session.completed", scenario, checkout_session(scenario), after=after)


def _slow_payment_came(scenario: StripeScenario) -> TriggeredEvent:
    session = checkout_session(replace(scenario, is_unpaid=False))
    return _event("checkout.session.async_payment_succeeded", scenario, session, after=subscription(scenario))


def _paid(scenario: StripeScenario) -> TriggeredEvent:
    return _event("invoice.paid", scenario, invoice(scenario, is_paid=True), after=subscription(scenario))


def _failed(scenario: StripeScenario) -> TriggeredEvent:
    after = subscription(scenario, "incomplete" if scenario.invoice == 1 else "past_due")
    return _event("invoice.payment_failed", scenario, invoice(scenario, is_paid=False), after=after)


TRIGGERS: dict[str, Sequence[Callable[[StripeScenario], TriggeredEvent]]] = {
    "purchase": (_created, _checkout, _paid),
    "checkout.session.completed": (_checkout,),
    "checkout.session.async_payment_succeeded": (_slow_payment_came,),
    "invoice.paid": (_paid,),
    "invoice.payment_failed": (_failed,),
    "customer.subscription.created": (_created,),
    "customer.subscription.updated": (_updated,),
    "customer.subscription.deleted": (_deleted,),
}


def _event(
    kind: str, scenario: StripeScenario, subject: Json, before: Json | None = None, *, after: Json | None = None
) -> TriggeredEvent:
    """`after` is the subscription afterwards, where `subject` is something else."""
    event: Json = {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": OLD_API_VERSION if scenario.is_old else NEW_API_VERSION,
        "created": scenario.created,
        "data": {"object": subject} | ({"previous_attributes": before} if before else {}),
        "livemode": scenario.livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    return TriggeredEvent(kind, event, (customer(scenario), after or subject))
