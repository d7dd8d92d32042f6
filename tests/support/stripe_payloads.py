"""Stripe's events as our tests write them: only the fields that anything depends on, in both generations."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from itertools import count
from typing import Any

import stripe

WEBHOOK_SECRET = "whsec_of_these_tests"
OLD_SECRET = "whsec_before_it_was_rolled"
NOW = int(datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp())
MONTH = 30 * 86_400
DAY = 86_400

Json = dict[str, Any]
_numbers = count(1)


class Era(Enum):
    """Of the fields: API version 2025-03-31 moved many of them."""

    BEFORE = "2024-06-20"
    SINCE = "2025-06-30.basil"


ERAS = list(Era)


def an_event(kind: str, subject: Mapping[str, Any], *, at: int = NOW, id: str | None = None, **more: Any) -> bytes:
    fields = {
        "id": id or f"evt_{next(_numbers):08d}",
        "object": "event",
        "api_version": "2025-06-30.basil",
        "created": at,
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        "data": {"object": subject},
    }
    return json.dumps(fields | more).encode()


def event_id(raw: bytes) -> str:
    return str(json.loads(raw)["id"])


def signed(raw: bytes, *, secret: str = WEBHOOK_SECRET, at: int | None = None) -> dict[str, str]:
    """The headers that Stripe would send with it."""
    header = stripe.WebhookSignature.generate_signature_header(raw.decode("utf-8", "surrogateescape"), secret, at)
    return {"Stripe-Signature": header, "Content-Type": "application/json"}


def a_price(lookup_key: str = "pro_monthly", **more: Any) -> Json:
    return {"id": lookup_key, "object": "price", "product": "prod_x", "lookup_key": lookup_key} | more


def a_subscription(
    id: str = "sub_1",
    *,
    status: str = "active",
    price: Json | None = None,
    customer: Any = "cus_1",
    era: Era = Era.SINCE,
    period_end: int = NOW + MONTH,
    started: int = NOW,
    **more: Any,
) -> Json:
    item: Json = {"id": "si_1", "object": "subscription_item", "price": a_price() if price is None else price}
    made: Json = {
        "id": id,
        "object": "subscription",
        "customer": customer,
        "status": status,
        "created": started,
        "start_date": started,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "ended_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "metadata": {},
    }
    if era is Era.SINCE:
        item["current_period_end"] = period_end
    else:
        made["current_period_end"] = period_end
    made["items"] = {"object": "list", "data": [item], "has_more": False}
    return made | more


def an_ended_subscription(id: str = "sub_1", *, cause: str | None = "cancellation_requested", **more: Any) -> Json:
    ended = more.pop("ended", NOW + DAY)
    details = {"comment": None, "feedback": None, "reason": cause}
    return a_subscription(
        id, **({"status": "canceled", "ended_at": ended, "canceled_at": ended, "cancellation_details": details} | more)
    )


def an_invoice(
    id: str = "in_1",
    *,
    subscription: str | None = "sub_1",
    reason: str | None = "subscription_create",
    customer: Any = "cus_1",
    amount: int = 4900,
    attempt: int = 1,
    price: Json | None = None,
    era: Era = Era.SINCE,
    period_end: int = NOW + MONTH,
    **more: Any,
) -> Json:
    made: Json = {
        "id": id,
        "object": "invoice",
        "customer": customer,
        "customer_email": "somebody@elsewhere.example",
        "customer_name": "Somebody Else",
        "billing_reason": reason,
        "attempt_count": attempt,
        "next_payment_attempt": None,
        "amount_due": amount,
        "amount_paid": amount,
        "amount_remaining": 0,
        "total": amount,
        "currency": "usd",
        "hosted_invoice_url": f"https://invoice.stripe.example/i/{id}",
        "metadata": {},
    }
    line: Json = {"id": "il_1", "object": "line_item", "period": {"start": NOW, "end": period_end}, "metadata": {}}
    found = a_price() if price is None else price
    if era is Era.SINCE:
        details = {"subscription": subscription, "metadata": {}}
        made["parent"] = {"type": "subscription_details", "subscription_details": details} if subscription else None
        item = {"subscription": subscription, "proration": False}
        line["parent"] = {"type": "subscription_item_details", "subscription_item_details": item}
        line["pricing"] = {"price_details": {"price": found["id"], "product": found["product"]}}
    else:
        made["subscription"] = subscription
        line |= {"subscription": subscription, "proration": False, "price": found}
    made["lines"] = {"object": "list", "data": [line] if subscription else [], "has_more": False}
    return made | more


def a_failed_invoice(id: str = "in_1", *, amount: int = 4900, attempt: int = 1, **more: Any) -> Json:
    fields: Json = {
        "reason": "subscription_cycle",
        "amount_paid": 0,
        "amount_remaining": amount,
        "next_payment_attempt": NOW + 3 * DAY,
    }
    return an_invoice(id, amount=amount, attempt=attempt, **(fields | more))


def a_checkout(
    id: str = "cs_1",
    *,
    subscription: str | None = "sub_1",
    customer: Any = "cus_1",
    mode: str | None = "subscription",
    paid: str | None = "paid",
    client: str | None = "acme",
    **more: Any,
) -> Json:
    made: Json = {
        "id": id,
        "object": "checkout.session",
        "mode": mode,
        "payment_status": paid,
        "status": "complete",
        "customer": customer,
        "subscription": subscription,
        "client_reference_id": client,
        "amount_total": 4900,
        "currency": "usd",
        "metadata": {},
        "customer_details": {"email": "somebody@elsewhere.example", "name": "Somebody Else"},
    }
    return {
        name: value
        for name, value in (made | more).items()
        if not (name in ("mode", "payment_status") and value is None)
    }


def created(subscription: Json, **more: Any) -> bytes:
    return an_event("customer.subscription.created", subscription, **more)


def updated(subscription: Json, **more: Any) -> bytes:
    return an_event("customer.subscription.updated", subscription, **more)


def deleted(subscription: Json, **more: Any) -> bytes:
    return an_event("customer.subscription.deleted", subscription, **more)


def paid(invoice: Json, **more: Any) -> bytes:
    return an_event("invoice.paid", invoice, **more)


def failed(invoice: Json, **more: Any) -> bytes:
    return an_event("invoice.payment_failed", invoice, **more)


def completed(checkout: Json, **more: Any) -> bytes:
    return an_event("checkout.session.completed", checkout, **more)
