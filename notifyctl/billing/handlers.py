"""What each kind of event does: whose is it, what has changed by it, what is there to say."""

from collections.abc import Iterator
from dataclasses import replace

from notifyctl.billing.case import Case, Finding, ignored, processed
from notifyctl.billing.mails import Mail
from notifyctl.billing.mirror import DELETED, Standing, planned, reported
from notifyctl.billing.objects import Checkout, Invoice, read_checkout, read_invoice, read_subscription
from notifyctl.billing.told import purchase, recovery
from notifyctl.models.client import SubscriptionStatus


def subscription_told(case: Case) -> Finding:
    subscription = read_subscription(case.event.object)
    if subscription.id is None:
        return ignored("it names no subscription")
    if obstacle := case.meet(subscription, subscription.id):
        return obstacle
    before = case.standing(subscription.id)
    after = case.keep(before, reported(before, subscription, case.event, case.plans), is_report=True)
    if after.ended_at is None:
        plan, _ = planned(subscription.prices, case.plans)
        return processed(None if plan or after.is_over else "the plan registry knows none of its prices")
    if not after.end_is_news:
        return processed("it ended before it was ever paid", takes_back=True)
    return _ended(case, before, after) if case.event.type != DELETED else _canceled(case, after)


def invoice_paid(case: Case) -> Finding:
    invoice = read_invoice(case.event.object)
    if obstacle := _obstacle(case, invoice):
        return obstacle
    case.keep_payment(invoice, is_paid=True)
    before, standing = _settled(case, invoice.subscription, invoice.customer, was_live=True)
    if standing is not None and standing.is_over:
        return _ended(case, before, standing)
    if not invoice.is_first and invoice.attempt_count <= 1:
        return processed("a renewal, or another payment at the first attempt")
    return processed(mail=_paid(case, invoice))


def invoice_failed(case: Case) -> Finding:
    invoice = read_invoice(case.event.object)
    if obstacle := _obstacle(case, invoice):
        return obstacle
    is_paid = case.is_paid(invoice)
    before = case.standing(invoice.subscription) if invoice.subscription else None
    was_live = invoice.is_renewal or (before is not None and before.was_live)
    case.keep_payment(invoice, is_paid=False, is_debt=was_live or not invoice.is_first)
    _, standing = _settled(case, invoice.subscription, invoice.customer, was_live=was_live)
    if is_paid:
        return processed("the invoice has been paid")
    if standing is not None and standing.is_over:
        return processed("the subscription has ended", takes_back=standing.was_never_live)
    if not was_live and (invoice.is_first or _is_incomplete(standing)):
        return processed("a first payment, still at checkout", takes_back=True)
    return processed(mail=_declined(case, invoice))


def checkout_completed(case: Case) -> Finding:
    return _checkout(case, is_unpaid=read_checkout(case.event.object).is_unpaid)


def checkout_paid_later(case: Case) -> Finding:
    return _checkout(case, is_unpaid=False)


def _checkout(case: Case, *, is_unpaid: bool) -> Finding:
    checkout = read_checkout(case.event.object)
    if not checkout.is_of_subscription:
        return _other_checkout(case, checkout)
    if obstacle := case.meet(checkout, checkout.subscription):
        return obstacle
    before, standing = _settled(case, checkout.subscription, checkout.customer, was_live=not is_unpaid)
    if standing is not None and standing.is_over:
        return _ended(case, before, standing)
    if is_unpaid:
        return processed("not paid yet: it waits for checkout.session.async_payment_succeeded")
    return processed(mail=_started(case, checkout.subscription or checkout.id))


def _other_checkout(case: Case, checkout: Checkout) -> Finding:
    """It confirms nothing, but it may tell which of Stripe's customers a client is."""
    about = f"a checkout of mode {checkout.mode or 'unknown'}"
    obstacle = case.meet(checkout, None) if checkout.named_clients else None
    if obstacle is not None and obstacle.is_of_erased:
        return obstacle
    return processed(about) if case.has_linked else ignored(about)


def _obstacle(case: Case, invoice: Invoice) -> Finding | None:
    if invoice.id is None:
        return ignored("it names no invoice")
    if invoice.is_one_off:
        return ignored("a one-off invoice, of no subscription")
    return case.meet(invoice, invoice.subscription)


def _settled(
    case: Case, subscription_id: str | None, customer: str | None, *, was_live: bool
) -> tuple[Standing | None, Standing | None]:
    """How the subscription stood before this payment or checkout, and how it stands after it."""
    if subscription_id is None:
        return None, None
    before = case.standing(subscription_id)
    told = replace(before, customer_id=before.customer_id or customer, was_live=before.was_live or was_live)
    return before, case.keep(before, told)


def restated(case: Case, key: str) -> Mail | None:
    """What the mail of that key, which this event brought, says by now, whatever has silenced the event since.

    The event has met its client.
    """
    return next((mail for mail in _mails(case) if mail.key == key), None)


def _mails(case: Case) -> Iterator[Mail]:
    kind, told = case.event.type, case.event.object
    if kind == "invoice.paid":
        yield _paid(case, read_invoice(told))
    elif kind == "invoice.payment_failed":
        yield _declined(case, read_invoice(told))
    elif kind.startswith("checkout.session."):
        yield _started(case, case.subscription_id or read_checkout(told).id)
    standing = case.standing(case.subscription_id) if case.subscription_id else None
    if standing is not None and standing.end_is_news:
        yield case.letters.canceled(case.addressee, standing)


def _paid(case: Case, invoice: Invoice) -> Mail:
    if invoice.is_first:
        return _started(case, invoice.subscription or invoice.id)
    standing = case.standing(invoice.subscription) if invoice.subscription else None
    terms = recovery(invoice, standing, case.told(), case.plans)
    return case.letters.recovered(case.addressee, invoice, standing, terms)


def _started(case: Case, about: str | None) -> Mail:
    terms = purchase(case.told(), case.plans)
    if case.subscription_id is None:  # nothing shows which other events are about the same purchase
        terms = replace(terms, is_whole=True)
    return case.letters.started(case.addressee, about or "", terms)


def _declined(case: Case, invoice: Invoice) -> Mail:
    """Of a checkout that fails and is then paid, the report may come just before the payment, which withdraws this."""
    told = case.told()
    is_whole = not invoice.is_first or told.shows_live_at(case.event.created)
    return case.letters.payment_failed(case.addressee, told.last_word_on(invoice), is_whole=is_whole)


def _is_incomplete(standing: Standing | None) -> bool:
    """Whatever the invoice is for. Without a report of that it may be a renewal of what is not known yet."""
    return standing is not None and standing.status == SubscriptionStatus.INCOMPLETE


def _ended(case: Case, before: Standing | None, after: Standing) -> Finding:
    """Something older than the end has come after it. It may be what makes the end worth a mail."""
    if after.end_is_news and not (before is not None and before.end_is_news):
        return _canceled(case, after)
    return processed("the subscription has ended")


def _canceled(case: Case, standing: Standing) -> Finding:
    return processed(mail=case.letters.canceled(case.addressee, standing))
