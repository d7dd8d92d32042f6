"""What the billing mails say, and the key under which each is said once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifyctl.billing.mirror import Standing
from notifyctl.billing.money import money
from notifyctl.billing.objects import Invoice
from notifyctl.billing.told import Terms
from notifyctl.models.template import Variable, VariableType
from notifyctl.orchestrator.context import context_faults
from notifyctl.orchestrator.plans import PlanRegistry
from notifyctl.zones import zone_of

SUBSCRIPTION_CONFIRMED = "SUBSCRIPTION_CONFIRMED"
PAYMENT_FAILED = "PAYMENT_FAILED"
SUBSCRIPTION_CANCELED = "SUBSCRIPTION_CANCELED"
TEMPLATES = (SUBSCRIPTION_CONFIRMED, PAYMENT_FAILED, SUBSCRIPTION_CANCELED)

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
    is_whole: bool = True
    """Nothing is missing in it that another event is likely to tell within seconds."""

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
        return moment.astimezone(zone_of(self.zone)).date().isoformat() if moment else None


class Letters:
    """Writes the contexts. The plans' names come from the registry."""

    def __init__(self, plans: PlanRegistry) -> None:
        self._plans = plans

    def started(self, to: Addressee, about: str, terms: Terms) -> Mail:
        return self._confirmed(to, about, self._name(terms.plan), terms)

    def recovered(self, to: Addressee, invoice: Invoice, standing: Standing | None, terms: Terms) -> Mail:
        plan = self._name(terms.plan) or self._name(None if _has_price(standing) else to.plan)
        return self._confirmed(to, invoice.id or "", plan, terms)

    def payment_failed(self, to: Addressee, invoice: Invoice, *, is_whole: bool) -> Mail:
        context = {
            "client_name": to.name,
            "amount": money(invoice.amount_due, invoice.currency),
            "attempt": max(1, invoice.attempt_count),
            "next_attempt_on": to.day(invoice.next_attempt_at),
            "update_url": _usable_url(invoice.hosted_url),
        }
        return Mail(PAYMENT_FAILED, f"{invoice.id}:{invoice.attempt_count}", _without_nothing(context), is_whole)

    def canceled(self, to: Addressee, standing: Standing) -> Mail:
        plan = self._name(standing.plan) or self._name(None if _has_price(standing) else to.plan)
        context = {
            "client_name": to.name,
            "plan_name": plan,
            "ended_on": to.day(standing.ended_at),
            "cause": standing.end_cause,
        }
        is_whole = standing.plan is not None or _has_price(standing)
        return Mail(SUBSCRIPTION_CANCELED, standing.id, _without_nothing(context), is_whole)

    def _confirmed(self, to: Addressee, about: str, plan: str | None, terms: Terms) -> Mail:
        context = {
            "client_name": to.name,
            "plan_name": plan,
            "amount": terms.amount,
            "period_end": to.day(terms.ends),
        }
        return Mail(SUBSCRIPTION_CONFIRMED, about, _without_nothing(context), terms.is_whole)

    def _name(self, plan: str | None) -> str | None:
        return self._plans.plans[plan].name if plan in self._plans.plans else None


def _has_price(standing: Standing | None) -> bool:
    """Of a price that no plan names, the client's plan says nothing: it is that of another subscription."""
    return standing is not None and standing.price_id is not None


_URL = {"url": Variable(VariableType.URL)}


def _usable_url(url: str | None) -> str | None:
    """Without an address the mail is worth sending all the same."""
    return url if url and not context_faults(_URL, {"url": url}) else None


def _without_nothing(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if value is not None}
