"""What an event is about, read before anything is decided, so that it can be found by it later."""

from dataclasses import dataclass

from notifyctl.billing.envelope import Envelope
from notifyctl.billing.objects import read_checkout, read_invoice, read_subscription
from notifyctl.billing.reading import at, client_name, identifier


@dataclass(frozen=True, slots=True)
class About:
    customer_id: str | None
    subscription_id: str | None
    named_client: str | None


def about(event: Envelope) -> About:
    named: tuple[str, ...]
    if event.type.startswith("invoice."):
        invoice = read_invoice(event.object)
        subscription, named = invoice.subscription, invoice.named_clients
    elif event.type.startswith("customer.subscription."):
        found = read_subscription(event.object)
        subscription, named = found.id, found.named_clients
    elif event.type.startswith("checkout.session."):
        checkout = read_checkout(event.object)
        subscription, named = checkout.subscription, checkout.named_clients
    else:
        subscription = identifier(event.object.get("subscription"))
        name = client_name(at(event.object, "metadata").get("client_id"))
        named = (name,) if name else ()
    return About(event.customer, subscription, next(filter(_is_no_address, named), None))


def _is_no_address(name: str) -> bool:
    """client_reference_id can be written by whoever opens a payment link: addresses stay in the body."""
    return "@" not in name and not name.startswith("+")
