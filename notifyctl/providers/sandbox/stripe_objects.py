"""Stripe's objects as its events and its API carry them, in either generation of their fields."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from notifyctl.providers.sandbox.stripe_order import Order

NEW_API_VERSION = "2026-10-28.endive"
OLD_API_VERSION = "2024-06-20"
"""Of before 2025-03-31, which moved an invoice's subscription and a subscription's period."""

Object = dict[str, Any]

ISSUER = {"type": "self"}
UNTAXED = {"disabled_reason": None, "enabled": False, "liability": None}
_NULL_IN_CUSTOMER = (
    "address", "default_source", "description", "discount", "invoice_prefix", "phone", "shipping", "test_clock",
)  # fmt: skip
_NULL_IN_SUBSCRIPTION = (
    "application", "application_fee_percent", "billing_cycle_anchor_config", "billing_thresholds", "cancel_at",
    "days_until_due", "default_payment_method", "default_source", "description", "next_pending_invoice_item_invoice",
    "on_behalf_of", "pause_collection", "pending_invoice_item_interval", "pending_setup_intent", "pending_update",
    "schedule", "test_clock", "transfer_data", "trial_end", "trial_start",
)  # fmt: skip
_NULL_IN_SESSION = (
    "after_expiration", "allow_promotion_codes", "billing_address_collection", "client_secret", "consent",
    "consent_collection", "currency_conversion", "customer_email", "invoice_creation", "locale", "payment_intent",
    "payment_link", "permissions", "recovered_from", "saved_payment_method_options", "setup_intent", "shipping_cost",
    "submit_type", "ui_mode", "url",
)  # fmt: skip
"""What Stripe always has, and has null where nothing was set."""


def customer(order: Order) -> Object:
    return {
        "id": order.customer,
        "object": "customer",
        **dict.fromkeys(_NULL_IN_CUSTOMER),
        "balance": 0,
        "created": order.started,
        "currency": order.currency,
        "delinquent": False,
        "email": order.email,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": order.livemode,
        "metadata": order.metadata,
        "name": order.client_id,
        "next_invoice_sequence": order.invoice + 1,
        "preferred_locales": [],
        "tax_exempt": "none",
    }


def subscription(order: Order, status: str | None = None) -> Object:
    """As it is after the event. A canceled one has ended now."""
    status = status or order.status
    has_ended = status == "canceled"
    period = {"current_period_end": order.period_end, "current_period_start": order.created}
    return {
        "id": order.subscription_id,
        "object": "subscription",
        **dict.fromkeys(_NULL_IN_SUBSCRIPTION),
        "automatic_tax": UNTAXED,
        "billing_cycle_anchor": order.started,
        "cancel_at_period_end": False,
        "canceled_at": order.created if has_ended else None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": order.cause if has_ended else None},
        "collection_method": "charge_automatically",
        "created": order.started,
        "currency": order.currency,
        "customer": order.customer,
        "default_tax_rates": [],
        "discounts": [],
        "ended_at": order.created if has_ended else None,
        "invoice_settings": {"account_tax_ids": None, "issuer": ISSUER},
        "items": a_list([_item(order, period)], f"/v1/subscription_items?subscription={order.subscription_id}"),
        "latest_invoice": order.invoice_id,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "start_date": order.started,
        "status": status,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        **(_old_part_of_subscription(order, period) if order.is_old else _NEW_PART_OF_SUBSCRIPTION),
    }


_NEW_PART_OF_SUBSCRIPTION = {"billing_mode": {"type": "classic"}, "billing_schedules": []}


def _old_part_of_subscription(order: Order, period: Mapping[str, int]) -> Object:
    return {**period, "discount": None, "plan": plan(order), "quantity": 1}


def _item(order: Order, period: Mapping[str, int]) -> Object:
    return {
        "id": order.item_id,
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": order.started,
        "discounts": [],
        "metadata": {},
        "plan": plan(order),
        "price": price(order),
        "quantity": 1,
        "subscription": order.subscription_id,
        "tax_rates": [],
        **({} if order.is_old else period),
    }


def price(order: Order) -> Object:
    return {
        "id": order.price_id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": order.started,
        "currency": order.currency,
        "custom_unit_amount": None,
        "livemode": order.livemode,
        "lookup_key": order.lookup_key,
        "metadata": {},
        "nickname": None,
        "product": order.product_id,
        "recurring": {
            "interval": "month",
            "interval_count": 1,
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        },
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": order.amount,
        "unit_amount_decimal": str(order.amount),
    }


def plan(order: Order) -> Object:
    return {
        "id": order.price_id,
        "object": "plan",
        "active": True,
        "amount": order.amount,
        "amount_decimal": str(order.amount),
        "billing_scheme": "per_unit",
        "created": order.started,
        "currency": order.currency,
        "interval": "month",
        "interval_count": 1,
        "livemode": order.livemode,
        "metadata": {},
        "meter": None,
        "nickname": None,
        "product": order.product_id,
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def checkout_session(order: Order) -> Object:
    return {
        "id": order.session_id,
        "object": "checkout.session",
        **dict.fromkeys(_NULL_IN_SESSION),
        "amount_subtotal": order.amount,
        "amount_total": order.amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": "https://app.example/billing",
        "client_reference_id": order.client_id,
        "created": order.created,
        "currency": order.currency,
        "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer": order.customer,
        "customer_creation": "always",
        "customer_details": {
            "address": None,
            "email": order.email,
            "name": order.client_id,
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "expires_at": int((order.now + timedelta(days=1)).timestamp()),
        "invoice": order.invoice_id,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "mode": "subscription",
        "payment_method_collection": "always",
        "payment_method_options": {},
        "payment_method_types": ["sepa_debit" if order.is_unpaid else "card"],
        "payment_status": "unpaid" if order.is_unpaid else "paid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "complete",
        "subscription": order.subscription_id,
        "success_url": "https://app.example/billing/thanks",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    }


def a_list(data: list[Object], url: str) -> Object:
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}
