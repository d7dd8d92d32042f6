"""What the billing mails say, and the key under which each is said once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from notifyctl.billing.mirror import Standing, planned
from notifyctl.billing.money import money
from notifyctl.billing.objects import Checkout, Invoice
from notifyctl.models.template import Variable, VariableType
from notifyctl.orchestrator.context import context_faults
from notifyctl.orchestrator.plans import PlanRegistry

SUBSCRIPTION_CONFIRMED = "SUBSCRIPTION_CONFIRMED"
PAYMENT_FAILED = "PAYMENT_FAILED"
SUBSCRIPTION_CANCELED = "SUBSCRIPTION_CANCELED"


_KEY = "stripe:{}:{}"


def keys_of_failures(invoice_id: str | None) -> str:
    """How the keys of all PAYMENT_FAILED mails about an invoice begin."""
    return _KEY.format(PAYMENT_FAILED, f"{invoice_id}:")


@dataclass(frozen=True, slots=True)
class Mail:
    template_key: str
    about: str
    """What it is news of: the same template is written once about the same thing, by whatever events it is told."""
    context: Mapping[str, Any]

    @property
    def key(self) -> str:
        return _KEY.format(self.template_key, self.about)


@dataclass(frozen=True, slots=True)
class Addressee:
    """A client, as far as a text needs it."""

    name: str
    zone: str
    plan: str | None

    def day(self, moment: datetime | None) -> str | None:
        """The calendar day on which it is in the client's time zone."""
        return moment.astimezone(self._zone).date().isoformat() if moment else None

    @property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.zone)
        except (OSError, ValueError, KeyError):
            return ZoneInfo("UTC")


class Letters:
    """Writes the contexts. The plans' names come from the registry."""

    def __init__(self, plans: PlanRegistry) -> None:
        self._plans = plans

    def started_by_checkout(self, to: Addressee, checkout: Checkout, standing: Standing | None) -> Mail:
        amount = money(checkout.amount, checkout.currency)
        ends = standing.current_period_end if standing else None
        about = checkout.subscription or checkout.id or ""
        return self._confirmed(to, about, self._plan_name(standing), amount, ends)

    def started_by_invoice(self, to: Addressee, invoice: Invoice, standing: Standing | None) -> Mail:
        about = invoice.subscription or invoice.id or ""
        return self._paid(to, about, invoice, self._invoiced(invoice, standing), standing)

    def recovered(self, to: Addressee, invoice: Invoice, standing: Standing | None) -> Mail:
        plan = self._invoiced(invoice, standing) or self._name(to.plan)
        return self._paid(to, invoice.id or "", invoice, plan, standing)

    def payment_failed(self, to: Addressee, invoice: Invoice) -> Mail:
        context = {
            "client_name": to.name,
            "amount": money(invoice.amount_due, invoice.currency),
            "attempt": max(1, invoice.attempt_count),
            "next_attempt_on": to.day(invoice.next_attempt_at),
            "update_url": _usable_url(invoice.hosted_url),
        }
        return Mail(PAYMENT_FAILED, f"{invoice.id}:{invoice.attempt_count}", _without_nothing(context))

    def canceled(self, to: Addressee, standing: Standing) -> Mail:
        context = {
            "client_name": to.name,
            "plan_name": self._plan_name(standing) or self._name(to.plan),
            "ended_on": to.day(standing.ended_at),
            "cause": standing.end_cause,
        }
        return Mail(SUBSCRIPTION_CANCELED, standing.id, _without_nothing(context))

    def _paid(self, to: Addressee, about: str, invoice: Invoice, plan: str | None, standing: Standing | None) -> Mail:
        _, price = planned(invoice.prices, self._plans)
        ends = (price.period_end if price else None) or (standing.current_period_end if standing else None)
        return self._confirmed(to, about, plan, money(invoice.amount_paid, invoice.currency), ends)

    def _confirmed(
        self, to: Addressee, about: str, plan: str | None, amount: str | None, ends: datetime | None
    ) -> Mail:
        context = {"client_name": to.name, "plan_name": plan, "amount": amount, "period_end": to.day(ends)}
        return Mail(SUBSCRIPTION_CONFIRMED, about, _without_nothing(context))

    def _invoiced(self, invoice: Invoice, standing: Standing | None) -> str | None:
        plan, _ = planned(invoice.prices, self._plans)
        return plan.name if plan else self._plan_name(standing)

    def _plan_name(self, standing: Standing | None) -> str | None:
        return self._name(standing.plan) if standing else None

    def _name(self, plan: str | None) -> str | None:
        return self._plans.plans[plan].name if plan in self._plans.plans else None


_URL = {"url": Variable(VariableType.URL)}


def _usable_url(url: str | None) -> str | None:
    """Without an address the mail is worth sending all the same."""
    return url if url and not context_faults(_URL, {"url": url}) else None


def _without_nothing(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if value is not None}
