"""Stripe's invoices, in either generation of their fields."""

from notifyctl.providers.sandbox.stripe_objects import ISSUER, UNTAXED, Object, a_list, plan, price
from notifyctl.providers.sandbox.stripe_order import Order, letters

_NULL_IN_INVOICE = (
    "account_name", "account_tax_ids", "application", "automatically_finalizes_at", "custom_fields",
    "customer_address", "customer_phone", "customer_shipping", "customer_tax_exempt", "default_payment_method",
    "default_source", "description", "due_date", "effective_at", "ending_balance", "footer", "from_invoice",
    "invoice_pdf", "last_finalization_error", "latest_revision", "on_behalf_of", "receipt_number", "rendering",
    "shipping_cost", "shipping_details", "statement_descriptor", "test_clock", "webhooks_delivered_at",
)  # fmt: skip
"""What Stripe always has, and has null where nothing was set."""


def invoice(order: Order, *, is_paid: bool) -> Object:
    paid = order.amount if is_paid else 0
    return {
        "id": order.invoice_id,
        "object": "invoice",
        **dict.fromkeys(_NULL_IN_INVOICE),
        "account_country": "DE",
        "amount_due": order.amount,
        "amount_overpaid": 0,
        "amount_paid": paid,
        "amount_remaining": order.amount - paid,
        "amount_shipping": 0,
        "attempt_count": order.attempt,
        "attempted": True,
        "auto_advance": not is_paid and not order.is_last_attempt,
        "automatic_tax": {**UNTAXED, "provider": None, "status": None},
        "billing_reason": "subscription_create" if order.invoice == 1 else "subscription_cycle",
        "collection_method": "charge_automatically",
        "created": order.created,
        "currency": order.currency,
        "customer": order.customer,
        "customer_email": order.email,
        "customer_name": order.client_id,
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{order.invoice_id}",
        "issuer": ISSUER,
        "lines": a_list([_line(order)], f"/v1/invoices/{order.invoice_id}/lines"),
        "livemode": order.livemode,
        "metadata": {},
        "next_payment_attempt": None if is_paid else order.retries_at,
        "number": f"{letters(order.client_id, 8).upper()}-{order.invoice:04}",
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": order.created,
        "period_start": order.created,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "paid" if is_paid else "open",
        "status_transitions": {
            "finalized_at": order.created,
            "marked_uncollectible_at": None,
            "paid_at": order.created if is_paid else None,
            "voided_at": None,
        },
        "subtotal": order.amount,
        "subtotal_excluding_tax": order.amount,
        "total": order.amount,
        "total_discount_amounts": [],
        "total_excluding_tax": order.amount,
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
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": order.invoice_id,
        "livemode": order.livemode,
        "metadata": order.metadata,
        "period": {"end": order.period_end, "start": order.created},
        "pretax_credit_amounts": [],
        "quantity": 1,
        "subtotal": order.amount,
        **(_old_part_of_line(order) if order.is_old else _new_part_of_line(order)),
    }


def _new_part_of_line(order: Order) -> Object:
    details = {
        "invoice_item": None,
        "proration": False,
        "proration_details": {"credited_items": None},
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
        "plan": plan(order),
        "price": price(order),
        "proration": False,
        "subscription": order.subscription_id,
        "subscription_item": order.item_id,
        "type": "subscription",
    }
