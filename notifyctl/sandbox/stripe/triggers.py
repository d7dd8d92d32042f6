"""What happens at Stripe on command: the events that it sends then, and its objects as they are afterwards."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from notifyctl.errors import InvalidInput
from notifyctl.sandbox.stripe.objects import (
    ISSUER,
    NEW_API_VERSION,
    OLD_API_VERSION,
    UNTAXED,
    Json,
    checkout_session,
    customer,
    json_list,
    plan,
    price,
    subscription,
)
from notifyctl.sandbox.stripe.scenario import StripeScenario, letters
from notifyctl.text.choices import meant

_NULL_IN_INVOICE = (
    "account_name", "account_tax_ids", "application", "automatically_finalizes_at", "custom_fields",
    "customer_address", "customer_phone", "customer_shipping", "customer_tax_exempt", "default_payment_method",
    "default_source", "description", "due_date", "effective_at", "ending_balance", "footer", "from_invoice",
    "invoice_pdf", "last_finalization_error", "latest_revision", "on_behalf_of", "receipt_number", "rendering",
    "shipping_cost", "shipping_details", "statement_descriptor", "test_clock", "webhooks_delivered_at",
)  # fmt: skip
"""What Stripe always has, and has null where nothing was set."""


def invoice(scenario: StripeScenario, *, is_paid: bool) -> Json:
    paid = scenario.amount if is_paid else 0
    return {
        "id": scenario.invoice_id,
        "object": "invoice",
        **dict.fromkeys(_NULL_IN_INVOICE),
        "account_country": "DE",
        "amount_due": scenario.amount,
        "amount_overpaid": 0,
        "amount_paid": paid,
        "amount_remaining": scenario.amount - paid,
        "amount_shipping": 0,
        "attempt_count": scenario.attempt,
        "attempted": True,
        "auto_advance": not is_paid,
        "automatic_tax": {**UNTAXED, "provider": None, "status": None},
        "billing_reason": "subscription_create" if scenario.invoice == 1 else "subscription_cycle",
        "collection_method": "charge_automatically",
        "created": scenario.created,
        "currency": scenario.currency,
        "customer": scenario.customer,
        "customer_email": scenario.email,
        "customer_name": scenario.client_id,
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{scenario.invoice_id}",
        "issuer": ISSUER,
        "lines": json_list([_line(scenario)], f"/v1/invoices/{scenario.invoice_id}/lines"),
        "livemode": scenario.livemode,
        "metadata": {},
        "next_payment_attempt": None if is_paid else scenario.retries_at,
        "number": f"{letters(scenario.client_id, 8).upper()}-{scenario.invoice:04}",
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": scenario.created,
        "period_start": scenario.created,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "paid" if is_paid else "open",
        "status_transitions": {
            "finalized_at": scenario.created,
            "marked_uncollectible_at": None,
            "paid_at": scenario.created if is_paid else None,
            "voided_at": None,
        },
        "subtotal": scenario.amount,
        "subtotal_excluding_tax": scenario.amount,
        "total": scenario.amount,
        "total_discount_amounts": [],
        "total_excluding_tax": scenario.amount,
        **(_old_part_of_invoice(scenario, is_paid) if scenario.is_old else _new_part_of_invoice(scenario)),
    }


def _new_part_of_invoice(scenario: StripeScenario) -> Json:
    details = {"metadata": scenario.metadata, "subscription": scenario.subscription_id}
    return {"parent": {"quote_details": None, "subscription_details": details, "type": "subscription_details"}}


def _old_part_of_invoice(scenario: StripeScenario, is_paid: bool) -> Json:
    return {
        "charge": f"ch_{scenario.payment_id[3:]}",
        "paid": is_paid,
        "paid_out_of_band": False,
        "payment_intent": scenario.payment_id,
        "quote": None,
        "subscription": scenario.subscription_id,
        "subscription_details": {"metadata": scenario.metadata},
    }


def _line(scenario: StripeScenario) -> Json:
    return {
        "id": f"il_{scenario.invoice_id[3:]}",
        "object": "line_item",
        "amount": scenario.amount,
        "currency": scenario.currency,
        "description": f"1 × {scenario.price} (per month)",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": scenario.invoice_id,
        "livemode": scenario.livemode,
        "metadata": scenario.metadata,
        "period": {"end": scenario.period_end, "start": scenario.created},
        "pretax_credit_amounts": [],
        "quantity": 1,
        "subtotal": scenario.amount,
        **(_old_part_of_line(scenario) if scenario.is_old else _new_part_of_line(scenario)),
    }


def _new_part_of_line(scenario: StripeScenario) -> Json:
    details = {
        "invoice_item": None,
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": scenario.subscription_id,
        "subscription_item": scenario.item_id,
    }
    return {
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": details,
            "type": "subscription_item_details",
        },
        "pricing": {
            "price_details": {"price": scenario.price_id, "product": scenario.product_id},
            "type": "price_details",
            "unit_amount_decimal": str(scenario.amount),
        },
    }


def _old_part_of_line(scenario: StripeScenario) -> Json:
    return {
        "plan": plan(scenario),
        "price": price(scenario),
        "proration": False,
        "subscription": scenario.subscription_id,
        "subscription_item": scenario.item_id,
        "type": "subscription",
    }


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
        suggestion = meant(name, TRIGGERS) or f"; there are {', '.join(TRIGGERS)}"
        raise InvalidInput(f"there is no trigger {name!r}{suggestion}")
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
