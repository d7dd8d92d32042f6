"""All that Stripe has told of a subscription, and what a purchase or a payment of it comes to by that. Pure.

Stripe sends a purchase as several events, in any order, and none of them says everything: a checkout names no plan, and
an invoice of since 2025-03-31 gives a price's id without its lookup key. What is written of it is therefore drawn from
all of them together, so that it is the same whichever came first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from notifyctl.billing.envelope import Event
from notifyctl.billing.mirror import OWING, WERE_LIVE, Standing, planned, report_order
from notifyctl.billing.money import money
from notifyctl.billing.objects import (
    Checkout,
    Invoice,
    Price,
    Subscription,
    read_checkout,
    read_invoice,
    read_subscription,
)
from notifyctl.orchestrator.plans import Plan, PlanRegistry

TELLING: Mapping[str, str] = {
    "checkout.session.completed": "checkout",
    "checkout.session.async_payment_succeeded": "checkout",
    "invoice.paid": "paid",
    "invoice.payment_failed": "failed",
    "customer.subscription.created": "report",
    "customer.subscription.updated": "report",
    "customer.subscription.deleted": "report",
}
"""The type of an event -> what it tells of."""


@dataclass(frozen=True, slots=True)
class Told:
    """Each the oldest first."""

    reports: Sequence[Subscription] = ()
    checkouts: Sequence[Checkout] = ()
    """Those that are paid, or need no payment."""
    paid: Sequence[Invoice] = ()
    failed: Sequence[Invoice] = ()
    live_since: datetime | None = None
    """The oldest report of it as in force."""
    has_owed: bool = False
    """It has been reported as past due or unpaid, which only comes of being in force."""

    def shows_live_at(self, moment: datetime) -> bool:
        return self.has_owed or (self.live_since is not None and self.live_since <= moment)

    def last_word_on(self, failure: Invoice) -> Invoice:
        """The newest event about the same attempt to pay the same invoice."""
        alike = (
            other for other in self.failed if (other.id, other.attempt_count) == (failure.id, failure.attempt_count)
        )
        return next(iter(reversed(list(alike))), failure)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is bought or paid for. `is_whole`: no event that is still to come would say it otherwise."""

    plan: str | None
    """Its key in the plan registry."""
    amount: str | None
    ends: datetime | None
    is_whole: bool


def told_by(events: Iterable[Event]) -> Told:
    """Events of other types tell nothing."""
    by_kind: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.created, event.id)):
        by_kind[TELLING.get(event.type, "")].append(event)
    reports = [(event, read_subscription(event.object)) for event in sorted(by_kind["report"], key=report_order)]
    return Told(
        reports=tuple(report for _, report in reports),
        checkouts=tuple(_paid_checkouts(by_kind["checkout"])),
        paid=tuple(read_invoice(event.object) for event in by_kind["paid"]),
        failed=tuple(read_invoice(event.object) for event in by_kind["failed"]),
        live_since=min((event.created for event, report in reports if report.status in WERE_LIVE), default=None),
        has_owed=any(report.status in OWING for _, report in reports),
    )


def _paid_checkouts(events: Iterable[Event]) -> Iterator[Checkout]:
    for event in events:
        checkout = read_checkout(event.object)
        if event.type == "checkout.session.async_payment_succeeded" or not checkout.is_unpaid:
            yield checkout


def purchase(told: Told, plans: PlanRegistry) -> Terms:
    """By its first invoice as far as that goes, since it says what was bought; then by the oldest report."""
    invoice = next((paid for paid in told.paid if paid.is_first), None)
    plan, price, is_plain = _invoiced(invoice, told, plans)
    ends = price.period_end if plan and price else None
    for report in told.reports:
        reported_plan, reported_price = planned(report.prices, plans)
        plan = plan or reported_plan
        ends = ends or report.period_end or (reported_price.period_end if reported_price else None)
    return Terms(
        plan=plan.key if plan else None,
        amount=_amount(invoice, told.checkouts),
        ends=ends or (price.period_end if price else None),
        is_whole=invoice is not None and (bool(told.reports) or (is_plain and ends is not None)),
    )


def recovery(invoice: Invoice, standing: Standing | None, told: Told, plans: PlanRegistry) -> Terms:
    """Of a payment that was made good."""
    plan, price, is_plain = _invoiced(invoice, told, plans)
    ends = price.period_end if price else None
    known = standing or Standing("")
    return Terms(
        plan=plan.key if plan else known.plan,
        amount=money(invoice.amount_paid, invoice.currency),
        ends=ends or known.current_period_end,
        is_whole=standing is None or is_plain or bool(known.report_order),
    )


def _invoiced(invoice: Invoice | None, told: Told, plans: PlanRegistry) -> tuple[Plan | None, Price | None, bool]:
    """The plan, the price and whether the invoice alone names the plan."""
    if invoice is None:
        return None, None, False
    plan, price = planned(invoice.prices, plans)
    if plan is not None:
        return plan, price, True
    names = _names(told)
    return *planned([_by_all_names(price, names) for price in invoice.prices], plans), False


def _names(told: Told) -> Mapping[str, tuple[str, ...]]:
    """A price's id -> whatever else it is called anywhere."""
    holders: tuple[Invoice | Subscription, ...] = (*told.paid, *told.failed, *told.reports)
    names: dict[str, tuple[str, ...]] = {}
    for price in (price for holder in holders for price in holder.prices):
        if price.id is not None:
            names[price.id] = tuple(sorted({*names.get(price.id, ()), *price.references}))
    return names


def _by_all_names(price: Price, names: Mapping[str, tuple[str, ...]]) -> Price:
    return replace(price, references=names.get(price.id or "", price.references))


def _amount(invoice: Invoice | None, checkouts: Sequence[Checkout]) -> str | None:
    if invoice is not None:
        return money(invoice.amount_paid, invoice.currency)
    return next((money(checkout.amount, checkout.currency) for checkout in checkouts), None)
