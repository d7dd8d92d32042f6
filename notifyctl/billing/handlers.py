"""What each type of event does: whose is it, what has changed by it, what is there to say. EVENTS is the table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from notifyctl.billing.event_context import EventContext, HandlerResult, ignored, processed
from notifyctl.billing.mails import BillingMail, HistoryPart, SubscriptionHistory, terms_of_purchase, terms_of_recovery
from notifyctl.billing.objects import Checkout, Invoice, read_checkout, read_invoice, read_subscription
from notifyctl.billing.subscription import DELETED, SubscriptionState, find_plan, with_report
from notifyctl.models.enums import SubscriptionStatus


@dataclass(frozen=True, slots=True)
class EventType:
    handle: Callable[[EventContext], HandlerResult]
    history: HistoryPart
    """What it adds to the history of its subscription, which mails are written from."""
    mail: Callable[[EventContext], BillingMail] | None = None
    """What the mail that it brings says by now, whatever has silenced the event since. Its client is matched."""


def _subscription_reported(context: EventContext) -> HandlerResult:
    subscription = read_subscription(context.event.object)
    if subscription.id is None:
        return ignored("it names no subscription")
    if obstacle := context.match_client(subscription, subscription.id):
        return obstacle
    before = context.subscription_state(subscription.id)
    reported = with_report(before, subscription, context.event, context.plans)
    after = context.save_state(before, reported, is_report=True)
    if after.ended_at is None:
        plan, _ = find_plan(subscription.prices, context.plans)
        return processed(None if plan or after.is_over else "the plan registry knows none of its prices")
    if not after.end_is_news:
        return processed("it ended before it was ever paid", withdraws_mail=True)
    return _ended(context, before, after) if context.event.type != DELETED else _canceled(context, after)


def _invoice_paid(context: EventContext) -> HandlerResult:
    invoice = read_invoice(context.event.object)
    if obstacle := _obstacle(context, invoice):
        return obstacle
    context.save_payment(invoice, is_paid=True)
    before, state = _update_state(context, invoice.subscription, invoice.customer, was_live=True)
    if state is not None and state.is_over:
        return _ended(context, before, state)
    if not invoice.is_first and invoice.attempt_count <= 1:
        return processed("a renewal, or another payment at the first attempt")
    return processed(mail=_payment_mail(context))


def _invoice_failed(context: EventContext) -> HandlerResult:
    invoice = read_invoice(context.event.object)
    if obstacle := _obstacle(context, invoice):
        return obstacle
    is_paid = context.is_paid(invoice)
    before = context.subscription_state(invoice.subscription) if invoice.subscription else None
    was_live = invoice.is_renewal or (before is not None and before.was_live)
    context.save_payment(invoice, is_paid=False, is_debt=was_live or not invoice.is_first)
    _, state = _update_state(context, invoice.subscription, invoice.customer, was_live=was_live)
    if is_paid:
        return processed("the invoice has been paid")
    if state is not None and state.is_over:
        return processed("the subscription has ended", withdraws_mail=state.was_never_live)
    if not was_live and (invoice.is_first or _is_incomplete(state)):
        return processed("a first payment, still at checkout", withdraws_mail=True)
    return processed(mail=_failure_mail(context))


def _checkout(context: EventContext) -> HandlerResult:
    checkout = read_checkout(context.event.object)
    is_unpaid = checkout.is_unpaid and EVENTS[context.event.type].history is not HistoryPart.PAID_CHECKOUT
    if not checkout.is_of_subscription:
        return _other_checkout(context, checkout)
    if obstacle := context.match_client(checkout, checkout.subscription):
        return obstacle
    before, state = _update_state(context, checkout.subscription, checkout.customer, was_live=not is_unpaid)
    if state is not None and state.is_over:
        return _ended(context, before, state)
    if is_unpaid:
        return processed("not paid yet: it waits for checkout.session.async_payment_succeeded")
    return processed(mail=_purchase_mail(context))


def _other_checkout(context: EventContext, checkout: Checkout) -> HandlerResult:
    """It confirms nothing, but it may tell which of Stripe's customers a client is."""
    reason = f"a checkout of mode {checkout.mode or 'unknown'}"
    obstacle = context.match_client(checkout, None) if checkout.named_clients else None
    if obstacle is not None and obstacle.is_of_erased:
        return obstacle
    return processed(reason) if context.has_linked else ignored(reason)


def _obstacle(context: EventContext, invoice: Invoice) -> HandlerResult | None:
    if invoice.id is None:
        return ignored("it names no invoice")
    if invoice.is_one_off:
        return ignored("a one-off invoice, of no subscription")
    return context.match_client(invoice, invoice.subscription)


def _update_state(
    context: EventContext, subscription_id: str | None, customer: str | None, *, was_live: bool
) -> tuple[SubscriptionState | None, SubscriptionState | None]:
    """How the subscription stood before this payment or checkout, and how it stands after it."""
    if subscription_id is None:
        return None, None
    before = context.subscription_state(subscription_id)
    after = replace(before, customer_id=before.customer_id or customer, was_live=before.was_live or was_live)
    return before, context.save_state(before, after)


def _is_incomplete(state: SubscriptionState | None) -> bool:
    """Whatever the invoice is for. Without a report of that it may be a renewal of what is not known yet."""
    return state is not None and state.status == SubscriptionStatus.INCOMPLETE


def _ended(context: EventContext, before: SubscriptionState | None, after: SubscriptionState) -> HandlerResult:
    """Something older than the end has come after it. It may be what makes the end worth a mail."""
    if after.end_is_news and not (before is not None and before.end_is_news):
        return _canceled(context, after)
    return processed("the subscription has ended")


def _canceled(context: EventContext, state: SubscriptionState) -> HandlerResult:
    return processed(mail=context.mails.canceled(context.addressee, state))


def current_mail(context: EventContext, key: str) -> BillingMail | None:
    """What the mail of that key, which this event brought, says by now. The event's client is matched."""
    return next((mail for mail in _current_mails(context) if mail.key == key), None)


def _current_mails(context: EventContext) -> Iterator[BillingMail]:
    if write := EVENTS[context.event.type].mail:
        yield write(context)
    state = context.subscription_state(context.subscription_id) if context.subscription_id else None
    if state is not None and state.end_is_news:
        yield context.mails.canceled(context.addressee, state)


def _payment_mail(context: EventContext) -> BillingMail:
    invoice = read_invoice(context.event.object)
    if invoice.is_first:
        return _started(context, invoice.subscription or invoice.id)
    state = context.subscription_state(invoice.subscription) if invoice.subscription else None
    terms = terms_of_recovery(invoice, state, _history(context), context.plans)
    return context.mails.recovered(context.addressee, invoice, state, terms)


def _failure_mail(context: EventContext) -> BillingMail:
    """Of a checkout that fails and is then paid, the report may come just before the payment, which withdraws this."""
    invoice, history = read_invoice(context.event.object), _history(context)
    is_whole = not invoice.is_first or history.shows_live_at(context.event.created)
    return context.mails.payment_failed(context.addressee, history.newest_of_attempt(invoice), is_whole=is_whole)


def _purchase_mail(context: EventContext) -> BillingMail:
    return _started(context, context.subscription_id or read_checkout(context.event.object).id)


def _started(context: EventContext, topic: str | None) -> BillingMail:
    terms = terms_of_purchase(_history(context), context.plans)
    if context.subscription_id is None:  # nothing shows which other events are about the same purchase
        terms = replace(terms, is_whole=True)
    return context.mails.started(context.addressee, topic or "", terms)


def _history(context: EventContext) -> SubscriptionHistory:
    return context.history({name: kind.history for name, kind in EVENTS.items()})


EVENTS: Mapping[str, EventType] = {
    # Somebody finished a checkout: the first time that Stripe's customer and our client are named together.
    "checkout.session.completed": EventType(_checkout, HistoryPart.CHECKOUT, _purchase_mail),
    # The bank has confirmed a payment that was still open when the checkout was completed.
    "checkout.session.async_payment_succeeded": EventType(_checkout, HistoryPart.PAID_CHECKOUT, _purchase_mail),
    # An invoice is paid: a subscription has begun, has been renewed, or has recovered from failed payments.
    "invoice.paid": EventType(_invoice_paid, HistoryPart.PAYMENT, _payment_mail),
    # A payment was declined. Stripe goes on trying; each attempt is an event of its own.
    "invoice.payment_failed": EventType(_invoice_failed, HistoryPart.FAILURE, _failure_mail),
    # A subscription is there, perhaps waiting for its first payment.
    "customer.subscription.created": EventType(_subscription_reported, HistoryPart.REPORT),
    # Anything about a subscription has changed: its price, status, period, or that it will be canceled.
    "customer.subscription.updated": EventType(_subscription_reported, HistoryPart.REPORT),
    # A subscription has ended for good.
    "customer.subscription.deleted": EventType(_subscription_reported, HistoryPart.REPORT),
}
"""Every other event is stored and ignored. To add one: its handler above, and its line here."""
