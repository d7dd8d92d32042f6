"""What the billing mails say, and the key under which each is said once. Pure.

Stripe sends a purchase as several events, in any order, and none of them says everything: a checkout names no plan, and
an invoice of since 2025-03-31 gives a price's id without its lookup key. What is written of it is therefore drawn from
all that is stored of its subscription, so that it is the same whichever event came first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from notifyctl.billing.event import Event
from notifyctl.billing.objects import (
    Checkout,
    Invoice,
    Price,
    Subscription,
    read_checkout,
    read_invoice,
    read_subscription,
)
from notifyctl.billing.subscription import OWING, WERE_LIVE, SubscriptionState, find_plan, report_order
from notifyctl.clients.plans import Plan, PlanRegistry
from notifyctl.clock import zone_of
from notifyctl.models.enums import VariableType
from notifyctl.models.template import Variable
from notifyctl.templates.context import context_faults

SUBSCRIPTION_CONFIRMED = "SUBSCRIPTION_CONFIRMED"
PAYMENT_FAILED = "PAYMENT_FAILED"
SUBSCRIPTION_CANCELED = "SUBSCRIPTION_CANCELED"
TEMPLATES = (SUBSCRIPTION_CONFIRMED, PAYMENT_FAILED, SUBSCRIPTION_CANCELED)

_KEY = "stripe:{}:{}"

WHOLE = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
"""Stripe counts these in their one and only unit."""
THREE_DECIMALS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
COUNTED_IN_HUNDREDTHS = frozenset(("isk", "ugx"))
"""Have no decimals, but Stripe goes on counting them as if they had two."""


def keys_of_failures(invoice_id: str | None) -> str:
    """How the keys of all PAYMENT_FAILED mails about an invoice begin."""
    return _KEY.format(PAYMENT_FAILED, f"{invoice_id}:")


@dataclass(frozen=True, slots=True)
class BillingMail:
    template_key: str
    topic: str
    """What it is news of: the same template is written once about the same thing, whichever events bring the news."""
    context: Mapping[str, object]
    is_whole: bool = True
    """Nothing is missing in it that another event is likely to bring within seconds."""

    @property
    def key(self) -> str:
        return _KEY.format(self.template_key, self.topic)


@dataclass(frozen=True, slots=True)
class Addressee:
    """A client, as far as a text needs it."""

    name: str
    zone: str
    plan: str | None

    def day(self, moment: datetime | None) -> str | None:
        """The calendar day on which it is in the client's time zone."""
        return moment.astimezone(zone_of(self.zone)).date().isoformat() if moment else None


class HistoryPart(StrEnum):
    """What an event adds to the history of its subscription."""

    REPORT = "report"
    CHECKOUT = "checkout"
    """Which may still be unpaid."""
    PAID_CHECKOUT = "paid_checkout"
    PAYMENT = "payment"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class SubscriptionHistory:
    """All that the events of a subscription say; of each part the oldest first."""

    reports: Sequence[Subscription] = ()
    checkouts: Sequence[Checkout] = ()
    """Those that are paid, or need no payment."""
    payments: Sequence[Invoice] = ()
    failures: Sequence[Invoice] = ()
    live_since: datetime | None = None
    """The oldest report of it as in force."""
    has_owed: bool = False
    """It has been reported as past due or unpaid, which only comes of being in force."""

    def shows_live_at(self, moment: datetime) -> bool:
        return self.has_owed or (self.live_since is not None and self.live_since <= moment)

    def newest_of_attempt(self, failure: Invoice) -> Invoice:
        """By the newest event about the same attempt to pay the same invoice."""
        attempt = (failure.id, failure.attempt_count)
        alike = (other for other in reversed(self.failures) if (other.id, other.attempt_count) == attempt)
        return next(alike, failure)


def read_history(events: Iterable[Event], parts: Mapping[str, HistoryPart]) -> SubscriptionHistory:
    """`parts`, by type of event. Events of other types add nothing."""
    ordered = sorted(events, key=lambda event: (event.created, event.id))
    by_part = {part: [event for event in ordered if parts.get(event.type) is part] for part in HistoryPart}
    reporting = sorted(by_part[HistoryPart.REPORT], key=report_order)
    reports = [(event, read_subscription(event.object)) for event in reporting]
    return SubscriptionHistory(
        reports=[report for _, report in reports],
        checkouts=[paid for event in ordered if (paid := _paid_checkout(event, parts.get(event.type)))],
        payments=[read_invoice(event.object) for event in by_part[HistoryPart.PAYMENT]],
        failures=[read_invoice(event.object) for event in by_part[HistoryPart.FAILURE]],
        live_since=min((event.created for event, report in reports if report.status in WERE_LIVE), default=None),
        has_owed=any(report.status in OWING for _, report in reports),
    )


def _paid_checkout(event: Event, part: HistoryPart | None) -> Checkout | None:
    if part not in (HistoryPart.CHECKOUT, HistoryPart.PAID_CHECKOUT):
        return None
    checkout = read_checkout(event.object)
    return None if part is HistoryPart.CHECKOUT and checkout.is_unpaid else checkout


@dataclass(frozen=True, slots=True)
class PurchaseTerms:
    """What is bought or paid for. `is_whole`: no event that is still to come would change it."""

    plan: str | None
    """Its key in the plan registry."""
    amount: str | None
    ends: datetime | None
    is_whole: bool


def terms_of_purchase(history: SubscriptionHistory, plans: PlanRegistry) -> PurchaseTerms:
    """By its first invoice as far as that goes, since it says what was bought; then by the oldest report."""
    invoice = next((payment for payment in history.payments if payment.is_first), None)
    plan, price, is_plain = _invoiced_plan(invoice, history, plans)
    ends = price.period_end if plan and price else None
    for report in history.reports:
        reported_plan, reported_price = find_plan(report.prices, plans)
        plan = plan or reported_plan
        ends = ends or report.period_end or (reported_price.period_end if reported_price else None)
    return PurchaseTerms(
        plan=plan.key if plan else None,
        amount=_purchase_amount(invoice, history.checkouts),
        ends=ends or (price.period_end if price else None),
        is_whole=invoice is not None and (bool(history.reports) or (is_plain and ends is not None)),
    )


def terms_of_recovery(
    invoice: Invoice, state: SubscriptionState | None, history: SubscriptionHistory, plans: PlanRegistry
) -> PurchaseTerms:
    """Of a payment that was made good."""
    plan, price, is_plain = _invoiced_plan(invoice, history, plans)
    ends = price.period_end if price else None
    current = state or SubscriptionState("")
    return PurchaseTerms(
        plan=plan.key if plan else current.plan,
        amount=money(invoice.amount_paid, invoice.currency),
        ends=ends or current.current_period_end,
        is_whole=state is None or is_plain or bool(current.report_order),
    )


def _invoiced_plan(
    invoice: Invoice | None, history: SubscriptionHistory, plans: PlanRegistry
) -> tuple[Plan | None, Price | None, bool]:
    """The plan, the price and whether the invoice alone names the plan."""
    if invoice is None:
        return None, None, False
    plan, price = find_plan(invoice.prices, plans)
    if plan is not None:
        return plan, price, True
    names = _price_names(history)
    renamed = [replace(price, references=names.get(price.id or "", price.references)) for price in invoice.prices]
    return *find_plan(renamed, plans), False


def _price_names(history: SubscriptionHistory) -> Mapping[str, tuple[str, ...]]:
    """A price's id -> whatever else it is called anywhere."""
    holders: tuple[Invoice | Subscription, ...] = (*history.payments, *history.failures, *history.reports)
    names: dict[str, tuple[str, ...]] = {}
    for price in (price for holder in holders for price in holder.prices):
        if price.id is not None:
            names[price.id] = tuple(sorted({*names.get(price.id, ()), *price.references}))
    return names


def _purchase_amount(invoice: Invoice | None, checkouts: Sequence[Checkout]) -> str | None:
    if invoice is not None:
        return money(invoice.amount_paid, invoice.currency)
    return next((money(checkout.amount, checkout.currency) for checkout in checkouts), None)


class MailBuilder:
    """The plans' names come from the registry."""

    def __init__(self, plans: PlanRegistry) -> None:
        self._plans = plans

    def started(self, to: Addressee, topic: str, terms: PurchaseTerms) -> BillingMail:
        return self._confirmed(to, topic, self._name(terms.plan), terms)

    def recovered(
        self, to: Addressee, invoice: Invoice, state: SubscriptionState | None, terms: PurchaseTerms
    ) -> BillingMail:
        return self._confirmed(to, invoice.id or "", self._name_or_own(terms.plan, state, to), terms)

    def payment_failed(self, to: Addressee, invoice: Invoice, *, is_whole: bool) -> BillingMail:
        context = {
            "client_name": to.name,
            "amount": money(invoice.amount_due, invoice.currency),
            "attempt": max(1, invoice.attempt_count),
            "next_attempt_on": to.day(invoice.next_attempt_at),
            "update_url": _usable_url(invoice.hosted_url),
        }
        return BillingMail(PAYMENT_FAILED, f"{invoice.id}:{invoice.attempt_count}", _drop_none(context), is_whole)

    def canceled(self, to: Addressee, state: SubscriptionState) -> BillingMail:
        context = {
            "client_name": to.name,
            "plan_name": self._name_or_own(state.plan, state, to),
            "ended_on": to.day(state.ended_at),
            "cause": state.end_cause,
        }
        is_whole = state.plan is not None or state.price_id is not None
        return BillingMail(SUBSCRIPTION_CANCELED, state.id, _drop_none(context), is_whole)

    def _confirmed(self, to: Addressee, topic: str, plan: str | None, terms: PurchaseTerms) -> BillingMail:
        context = {
            "client_name": to.name,
            "plan_name": plan,
            "amount": terms.amount,
            "period_end": to.day(terms.ends),
        }
        return BillingMail(SUBSCRIPTION_CONFIRMED, topic, _drop_none(context), terms.is_whole)

    def _name_or_own(self, plan: str | None, state: SubscriptionState | None, to: Addressee) -> str | None:
        """Of a price that no plan names, the client's plan says nothing: it is that of another subscription."""
        has_price = state is not None and state.price_id is not None
        return self._name(plan) or self._name(None if has_price else to.plan)

    def _name(self, plan: str | None) -> str | None:
        return self._plans.plans[plan].name if plan in self._plans.plans else None


_URL = {"url": Variable(VariableType.URL)}


def _usable_url(url: str | None) -> str | None:
    """Without an address the mail is worth sending all the same."""
    return url if url and not context_faults(_URL, {"url": url}) else None


def _drop_none(context: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in context.items() if value is not None}


def money(amount: int | None, currency: str | None) -> str | None:
    """Stripe's minor units as clients read them: `49.00 USD`, `500 JPY`, `1.250 KWD`.

    None for nothing, less than nothing, and an amount without a currency.
    """
    if amount is None or amount <= 0 or currency is None:
        return None
    places = 0 if currency in WHOLE else 3 if currency in THREE_DECIMALS else 2
    whole, part = divmod(amount, 10**places)
    is_whole = places == 0 or (currency in COUNTED_IN_HUNDREDTHS and part == 0)
    return f"{whole} {currency.upper()}" if is_whole else f"{whole}.{part:0{places}} {currency.upper()}"
