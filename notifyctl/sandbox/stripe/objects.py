"""Stripe's objects as its events and its API carry them, in either generation of their fields."""

from collections.abc import Mapping
from datetime import timedelta

from notifyctl.sandbox.stripe.scenario import StripeScenario

NEW_API_VERSION = "2026-10-28.endive"
OLD_API_VERSION = "2024-06-20"
"""Of before 2025-03-31, which moved an invoice's subscription and a subscription's period."""

Json = dict[str, object]

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


def customer(scenario: StripeScenario) -> Json:
    return {
        "id": scenario.customer,
        "object": "customer",
        **dict.fromkeys(_NULL_IN_CUSTOMER),
        "balance": 0,
        "created": scenario.started,
        "currency": scenario.currency,
        "delinquent": False,
        "email": scenario.email,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": scenario.livemode,
        "metadata": scenario.metadata,
        "name": scenario.client_id,
        "next_invoice_sequence": scenario.invoice + 1,
        "preferred_locales": [],
        "tax_exempt": "none",
    }


def subscription(scenario: StripeScenario, status: str = "active") -> Json:
    """As it is after the event. A canceled one has ended now."""
    has_ended = status == "canceled"
    period = {"current_period_end": scenario.period_end, "current_period_start": scenario.created}
    return {
        "id": scenario.subscription_id,
        "object": "subscription",
        **dict.fromkeys(_NULL_IN_SUBSCRIPTION),
        "automatic_tax": UNTAXED,
        "billing_cycle_anchor": scenario.started,
        "cancel_at_period_end": False,
        "canceled_at": scenario.created if has_ended else None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": scenario.cause if has_ended else None},
        "collection_method": "charge_automatically",
        "created": scenario.started,
        "currency": scenario.currency,
        "customer": scenario.customer,
        "default_tax_rates": [],
        "discounts": [],
        "ended_at": scenario.created if has_ended else None,
        "invoice_settings": {"account_tax_ids": None, "issuer": ISSUER},
        "items": json_list(
            [_item(scenario, period)], f"/v1/subscription_items?subscription={scenario.subscription_id}"
        ),
        "latest_invoice": scenario.invoice_id,
        "livemode": scenario.livemode,
        "metadata": scenario.metadata,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "start_date": scenario.started,
        "status": status,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        **(_old_part_of_subscription(scenario, period) if scenario.is_old else _NEW_PART_OF_SUBSCRIPTION),
    }


_NEW_PART_OF_SUBSCRIPTION = {"billing_mode": {"type": "classic"}, "billing_schedules": []}


def _old_part_of_subscription(scenario: StripeScenario, period: Mapping[str, int]) -> Json:
    return {**period, "discount": None, "plan": plan(scenario), "quantity": 1}


def _item(scenario: StripeScenario, period: Mapping[str, int]) -> Json:
    return {
        "id": scenario.item_id,
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": scenario.started,
        "discounts": [],
        "metadata": {},
        "plan": plan(scenario),
        "price": price(scenario),
        "quantity": 1,
        "subscription": scenario.subscription_id,
        "tax_rates": [],
        **({} if scenario.is_old else period),
    }


def price(scenario: StripeScenario) -> Json:
    return {
        "id": scenario.price_id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": scenario.started,
        "currency": scenario.currency,
        "custom_unit_amount": None,
        "livemode": scenario.livemode,
        "lookup_key": scenario.lookup_key,
        "metadata": {},
        "nickname": None,
        "product": scenario.product_id,
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
        "unit_amount": scenario.amount,
        "unit_amount_decimal": str(scenario.amount),
    }


def plan(scenario: StripeScenario) -> Json:
    return {
        "id": scenario.price_id,
        "object": "plan",
        "active": True,
        "amount": scenario.amount,
        "amount_decimal": str(scenario.amount),
        "billing_scheme": "per_unit",
        "created": scenario.started,
        "currency": scenario.currency,
        "interval": "month",
        "interval_count": 1,
        "livemode": scenario.livemode,
        "metadata": {},
        "meter": None,
        "nickname": None,
        "product": scenario.product_id,
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def checkout_session(scenario: StripeScenario) -> Json:
    return {
        "id": scenario.session_id,
        "object": "checkout.session",
        **dict.fromkeys(_NULL_IN_SESSION),
        "amount_subtotal": scenario.amount,
        "amount_total": scenario.amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": "https://app.example/billing",
        "client_reference_id": scenario.client_id,
        "created": scenario.created,
        "currency": scenario.currency,
        "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer": scenario.customer,
        "customer_creation": "always",
        "customer_details": {
            "address": None,
            "email": scenario.email,
            "name": scenario.client_id,
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "expires_at": int((scenario.now + timedelta(days=1)).timestamp()),
        "invoice": scenario.invoice_id,
        "livemode": scenario.livemode,
        "metadata": scenario.metadata,
        "mode": "subscription",
        "payment_method_collection": "always",
        "payment_method_options": {},
        "payment_method_types": ["sepa_debit" if scenario.is_unpaid else "card"],
        "payment_status": "unpaid" if scenario.is_unpaid else "paid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "complete",
        "subscription": scenario.subscription_id,
        "success_url": "https://app.example/billing/thanks",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    }


def json_list(data: list[Json], url: str) -> Json:
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}
