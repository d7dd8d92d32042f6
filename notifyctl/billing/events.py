"""Which events of Stripe's do something, and what. Every other is stored and ignored."""

from collections.abc import Callable, Mapping

from notifyctl.billing import handlers
from notifyctl.billing.case import Case, Finding

Handler = Callable[[Case], Finding]

EVENTS: Mapping[str, Handler] = {
    # Somebody finished a checkout: the first time that Stripe's customer and our client are named together.
    "checkout.session.completed": handlers.checkout_completed,
    # The bank has confirmed a payment that was still open when the checkout was completed.
    "checkout.session.async_payment_succeeded": handlers.checkout_paid_later,
    # An invoice is paid: a subscription has begun, has been renewed, or has recovered from failed payments.
    "invoice.paid": handlers.invoice_paid,
    # A payment was declined. Stripe goes on trying; each attempt is an event of its own.
    "invoice.payment_failed": handlers.invoice_failed,
    # A subscription is there, perhaps waiting for its first payment.
    "customer.subscription.created": handlers.subscription_told,
    # Anything about a subscription has changed: its price, status, period, or that it will be canceled.
    "customer.subscription.updated": handlers.subscription_told,
    # A subscription has ended for good.
    "customer.subscription.deleted": handlers.subscription_told,
}
