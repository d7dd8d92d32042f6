"""Stripe's invoices, in either generation of their fields."""

from notifyctl.providers.sandbox.stripe_objects import ISSUER, UNTAXED, Json, json_list, plan, price
from notifyctl.providers.sandbox.stripe_order import StripeScenario, letters

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
