"""Stripe's objects as its events and its API carry them, in either generation of their fields."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from notifyctl.providers.sandbox.stripe_order import Order, letters

NEW_API_VERSION = "2026-10-28.endive"
OLD_API_VERSION = "2024-06-20"
"""Of before 2025-03-31, which moved an invoice's subscription and a subscription's period."""

Object = dict[str, Any]


def customer(order: Order) -> Object:
    return {
        "id": order.customer,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": order.started,
        "currency": order.currency,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": order.email,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "name": order.client_id,
        "phone": None,
    }


def subscription(order: Order, status: str | None = None) -> Object:
    """As it is after the event. A canceled one has ended now."""
    status = status or order.status
    has_ended = status == "canceled"
    period = {"current_period_end": order.period_end, "current_period_start": order.created}
    return {
        "id": order.subscription_id,
        "object": "subscription",
        "application": None,
        "billing_cycle_anchor": order.started,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": order.created if has_ended else None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": order.cause if has_ended else None},
        "collection_method": "charge_automatically",
        "created": order.started,
        "currency": order.currency,
        "customer": order.customer,
        "ended_at": order.created if has_ended else None,
        "items": _list([_item(order, period)], f"/v1/subscription_items?subscription={order.subscription_id}"),
        "latest_invoice": order.invoice_id,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "pause_collection": None,
        "start_date": order.started,
        "status": status,
        "trial_end": None,
        "trial_start": None,
        **({**period, "plan": _plan(order), "quantity": 1} if order.is_old else {"billing_mode": {"type": "classic"}}),
    }


def _item(order: Order, period: Mapping[str, int]) -> Object:
    return {
        "id": order.item_id,
        "object": "subscription_item",
        "created": order.started,
        "metadata": {},
        "plan": _plan(order),
        "price": _price(order),
        "quantity": 1,
        "subscription": order.subscription_id,
        "tax_rates": [],
        **({} if order.is_old else period),
    }


def _price(order: Order) -> Object:
    return {
        "id": order.price_id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "currency": order.currency,
        "livemode": order.livemode,
        "lookup_key": order.lookup_key,
        "metadata": {},
        "nickname": None,
        "product": order.product_id,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "type": "recurring",
        "unit_amount": order.amount,
        "unit_amount_decimal": str(order.amount),
    }


def _plan(order: Order) -> Object:
    return {
        "id": order.price_id,
        "object": "plan",
        "active": True,
        "amount": order.amount,
        "amount_decimal": str(order.amount),
        "currency": order.currency,
        "interval": "month",
        "interval_count": 1,
        "livemode": order.livemode,
        "metadata": {},
        "nickname": None,
        "product": order.product_id,
        "usage_type": "licensed",
    }


def invoice(order: Order, *, is_paid: bool) -> Object:
    paid = order.amount if is_paid else 0
    return {
        "id": order.invoice_id,
        "object": "invoice",
        "account_country": "DE",
        "amount_due": order.amount,
        "amount_paid": paid,
        "amount_remaining": order.amount - paid,
        "attempt_count": order.attempt,
        "attempted": True,
        "auto_advance": not is_paid and not order.is_last_attempt,
        "billing_reason": "subscription_create" if order.invoice == 1 else "subscription_cycle",
        "collection_method": "charge_automatically",
        "created": order.created,
        "currency": order.currency,
        "customer": order.customer,
        "customer_email": order.email,
        "customer_name": order.client_id,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{order.invoice_id}",
        "lines": _list([_line(order)], f"/v1/invoices/{order.invoice_id}/lines"),
        "livemode": order.livemode,
        "metadata": {},
        "next_payment_attempt": None if is_paid else order.retries_at,
        "number": f"{letters(order.client_id, 8).upper()}-{order.invoice:04}",
        "period_end": order.created,
        "period_start": order.created,
        "status": "paid" if is_paid else "open",
        "status_transitions": {"finalized_at": order.created, "paid_at": order.created if is_paid else None},
        "subtotal": order.amount,
        "total": order.amount,
        **(_old_part_of_invoice(order, is_paid) if order.is_old else _new_part_of_invoice(order)),
    }


def _new_part_of_invoice(order: Order) -> Object:
    details = {"metadata": order.metadata, "subscription": order.subscription_id}
    return {"parent": {"quote_details": None, "subscription_details": details, "type": "subscription_details"}}


def _old_part_of_invoice(order: Order, is_paid: bool) -> Object:
    return {
        "charge": f"ch_{order.payment_id[3:]}",
        "paid": is_paid,
        "paid_out_of_band": False,
        "payment_intent": order.payment_id,
        "quote": None,
        "subscription": order.subscription_id,
        "subscription_details": {"metadata": order.metadata},
    }


def _line(order: Order) -> Object:
    return {
        "id": f"il_{order.invoice_id[3:]}",
        "object": "line_item",
        "amount": order.amount,
        "currency": order.currency,
        "description": f"1 × {order.price} (per month)",
        "invoice": order.invoice_id,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "period": {"end": order.period_end, "start": order.created},
        "quantity": 1,
        **(_old_part_of_line(order) if order.is_old else _new_part_of_line(order)),
    }


def _new_part_of_line(order: Order) -> Object:
    details = {
        "invoice_item": None,
        "proration": False,
        "subscription": order.subscription_id,
        "subscription_item": order.item_id,
    }
    return {
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": details,
            "type": "subscription_item_details",
        },
        "pricing": {
            "price_details": {"price": order.price_id, "product": order.product_id},
            "type": "price_details",
            "unit_amount_decimal": str(order.amount),
        },
    }


def _old_part_of_line(order: Order) -> Object:
    return {
        "plan": _plan(order),
        "price": _price(order),
        "proration": False,
        "subscription": order.subscription_id,
        "subscription_item": order.item_id,
        "type": "subscription",
    }


def checkout_session(order: Order) -> Object:
    return {
        "id": order.session_id,
        "object": "checkout.session",
        "amount_subtotal": order.amount,
        "amount_total": order.amount,
        "cancel_url": "https://app.example/billing",
        "client_reference_id": order.client_id,
        "created": order.created,
        "currency": order.currency,
        "customer": order.customer,
        "customer_details": {"address": None, "email": order.email, "name": order.client_id, "phone": None},
        "customer_email": None,
        "expires_at": int((order.now + timedelta(days=1)).timestamp()),
        "invoice": order.invoice_id,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "mode": "subscription",
        "payment_intent": None,
        "payment_method_types": ["sepa_debit" if order.is_unpaid else "card"],
        "payment_status": "unpaid" if order.is_unpaid else "paid",
        "status": "complete",
        "subscription": order.subscription_id,
        "success_url": "https://app.example/billing/thanks",
        "url": None,
    }


def _list(data: list[Object], url: str) -> Object:
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}
