"""One event being worked on: whose it is, how its subscription stands, and what is written of it.

Everything happens in the caller's transaction. Subscription and customer are locked before it is asked whose they are,
and the client's row before anything is read of its subscriptions, invoices and messages, so that the events of each
take turns.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.billing.envelope import Event, read_event
from notifyctl.billing.mails import PAYMENT_FAILED, Addressee, Letters, Mail, keys_of_failures
from notifyctl.billing.mirror import Payments, Standing, best, best_in_force, settled
from notifyctl.billing.objects import Invoice, Subject
from notifyctl.billing.outcome import Change
from notifyctl.billing.told import TELLING, Told, told_by
from notifyctl.models.client import SubscriptionStatus
from notifyctl.models.stripe_event import StripeEventStatus
from notifyctl.orchestrator.client_fields import ClientChange
from notifyctl.orchestrator.clients import set_clients
from notifyctl.orchestrator.plans import PlanRegistry
from notifyctl.orchestrator.withdrawal import withdraw
from notifyctl.store import clients, stripe_events, subscriptions
from notifyctl.store.clients import ClientRow
from notifyctl.store.messages import Filter

log = logging.getLogger("notifyctl.billing")

ACTOR = "stripe"
MOST_TOLD = 100
"""Events of a subscription that are read for a text: those about one purchase or payment come within days."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a handler found out. `mail` is what is to be said, if it is news."""

    status: StripeEventStatus
    reason: str | None = None
    mail: Mail | None = None
    is_of_erased: bool = False
    takes_back: bool = False
    """A mail that it brought before is now known to be about nothing."""


def processed(reason: str | None = None, mail: Mail | None = None, *, takes_back: bool = False) -> Finding:
    return Finding(StripeEventStatus.PROCESSED, reason, mail, takes_back=takes_back)


def ignored(reason: str) -> Finding:
    return Finding(StripeEventStatus.IGNORED, reason)


class Case:
    def __init__(self, session: Session, event: Event, plans: PlanRegistry, now: datetime) -> None:
        self.event = event
        self.plans = plans
        self.letters = Letters(plans)
        self.changes: list[Change] = []
        self.has_linked = False
        """A customer or subscription has come to a client: earlier events about it can be matched now."""
        self.subscription_id: str | None = None
        """Of what it has met the client for."""
        self.came_alive = False
        """The subscription is known only now to have been in force."""
        self.client: ClientRow | None = None
        self._known: dict[str, ClientRow] = {}
        self._session = session
        self._now = now

    @property
    def addressee(self) -> Addressee:
        assert self.client is not None
        return Addressee(self.client.name, self.client.timezone, self.client.plan)

    def meet(self, subject: Subject, subscription_id: str | None) -> Finding | None:
        """Finds, locks and links the client; else says why there is none to work with.

        It is the one that metadata or client_reference_id name, else the subscription's, else the customer's.
        """
        self.subscription_id = subscription_id
        stripe_events.lock_subjects(self._session, [subscription_id, subject.customer])
        owner = subscriptions.owner(self._session, subscription_id) if subscription_id else None
        holder = self._holder(subject.customer)
        wanted = [name for name in (*subject.named_clients, owner, holder) if name]
        self._known = clients.get_many(self._session, dict.fromkeys(wanted), lock=True) if wanted else {}
        found = next((name for name in wanted if name in self._known), None)
        if found is None:
            return _nobody(subject, subscription_id)
        self.client = self._known[found]
        if self.client.erased_at is not None:
            return Finding(StripeEventStatus.IGNORED, f"client {found} was erased", is_of_erased=True)
        if found in subject.named_clients:
            self._link(subject.customer, holder)
        return None

    def standing(self, subscription_id: str) -> Standing:
        row = subscriptions.get(self._session, subscription_id)
        return _standing(row) if row else Standing(subscription_id)

    def keep(self, before: Standing, after: Standing, *, is_report: bool = False) -> Standing:
        """Writes how the subscription stands by now, and what its client's plan and status are by it."""
        assert self.client is not None
        owner = self._owner(before, is_report and after.report_order != before.report_order)
        payments = Payments(*subscriptions.payments(self._session, after.id))
        last_event_at = max(filter(None, (before.last_event_at, self.event.created)))
        after = settled(replace(after, client_id=owner, last_event_at=last_event_at), payments)
        self.has_linked = self.has_linked or owner != before.client_id
        self.came_alive = self.came_alive or (after.was_live and not before.was_live)
        if after != before:
            subscriptions.save(self._session, asdict(after) | {"updated_at": self._now})
            self._note(f"subscription {after.id}", asdict(before), asdict(after), _TOLD_OF_SUBSCRIPTIONS)
        for client_id, client in self._known.items():
            if client_id in (before.client_id, owner):
                self._refresh(client, lost=before if client_id != owner else None)
        return after

    def is_paid(self, invoice: Invoice) -> bool:
        row = subscriptions.invoice(self._session, invoice.id or "")
        return row is not None and row.paid_at is not None

    def told(self) -> Told:
        """Everything about its subscription; where it is about none, the event alone."""
        if self.subscription_id is None:
            return told_by([self.event])
        rows = stripe_events.told_of(
            self._session, self.subscription_id, livemode=self.event.livemode, types=TELLING, limit=MOST_TOLD
        )
        return told_by([self.event, *(read_event(row.body, row.received_at) for row in rows)])

    def keep_payment(self, invoice: Invoice, *, is_paid: bool, is_debt: bool = True) -> None:
        """`is_debt`: a failure of it makes its subscription past due."""
        assert self.client is not None
        row = subscriptions.invoice(self._session, invoice.id or "")
        paid_at, failed_at, attempts = (row.paid_at, row.failed_at, row.failed_attempts) if row else (None, None, 0)
        if is_paid:
            paid_at = max(filter(None, (paid_at, self.event.created)))
            if failed_at is not None:
                self._withdraw_failures(invoice)
        elif is_debt:
            failed_at = max(filter(None, (failed_at, self.event.created)))
            attempts = max(attempts, min(invoice.attempt_count, _MOST_ATTEMPTS))
        subscriptions.save_invoice(
            self._session,
            {
                "id": invoice.id,
                "client_id": self.client.id,
                "subscription_id": invoice.subscription or (row.subscription_id if row else None),
                "total": invoice.total,
                "paid_at": paid_at,
                "failed_at": failed_at,
                "failed_attempts": attempts,
                "updated_at": self._now,
            },
        )

    def _withdraw_failures(self, invoice: Invoice) -> None:
        """Nobody who has paid is to read that the payment failed: what has not gone out does not go."""
        assert self.client is not None
        failures = keys_of_failures(invoice.id)
        wanted = Filter(client_id=self.client.id, template_key=PAYMENT_FAILED, key_prefix=failures)
        moved = withdraw(self._session, wanted, "its invoice was paid in the meantime", actor=ACTOR, now=self._now)
        self.changes += [Change(f"message {row.id}", "status", "waiting", "CANCELED") for row in moved]

    def _holder(self, customer: str | None) -> str | None:
        return clients.holders_of_stripe_customers(self._session, [customer]).get(customer) if customer else None

    def _link(self, customer: str | None, holder: str | None) -> None:
        assert self.client is not None
        if not customer or self.client.stripe_customer_id == customer:
            return
        if holder is not None or self.client.stripe_customer_id is not None:
            about = {"event_id": self.event.id, "client_id": self.client.id, "customer_id": customer, "holder": holder}
            log.warning("stripe customer not linked: the client has another, or another client has it", extra=about)
            return
        self.has_linked = True
        self._change(self.client, {"stripe_customer_id": customer})

    def _owner(self, standing: Standing, is_newest_report: bool) -> str:
        """A subscription stays with its client, unless its newest report names another."""
        assert self.client is not None
        if standing.client_id is None or is_newest_report:
            return str(self.client.id)
        return standing.client_id

    def _refresh(self, client: ClientRow, lost: Standing | None) -> None:
        """`lost`: a subscription that is another client's by now."""
        if client.erased_at is not None:
            return
        standings = [_standing(row) for row in subscriptions.of_client(self._session, client.id)]
        standing = best(standings, self.plans)
        if standing is None and lost is None:
            return
        status = SubscriptionStatus(str(standing.counted_status)) if standing else SubscriptionStatus.NONE
        values: dict[str, Any] = {"subscription_status": status}
        in_force = best_in_force(standings, self.plans)
        if in_force is not None:
            values["plan"] = in_force.plan
        elif lost is not None and client.plan == lost.plan:  # it had it by that one, and by none of the others
            values["plan"] = None
        self._change(client, values)

    def _change(self, client: ClientRow, values: Mapping[str, Any]) -> None:
        before = client._asdict()
        if all(before[name] == value for name, value in values.items()):
            return
        set_clients(self._session, [ClientChange(client.id, values)], actor=ACTOR, now=self._now)
        self._note(f"client {client.id}", before, values, tuple(values))

    def _note(self, what: str, before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self.changes += [
            Change(what, name, _told(before[name]), _told(after[name])) for name in names if before[name] != after[name]
        ]


_TOLD_OF_SUBSCRIPTIONS = ("client_id", "status", "plan", "price_id", "current_period_end", "cancel_at", "ended_at")
_MOST_ATTEMPTS = 2**31 - 1


def _standing(row: Row[Any]) -> Standing:
    return Standing(**{field.name: row._mapping[field.name] for field in fields(Standing)})


def _nobody(subject: Subject, subscription_id: str | None) -> Finding:
    if subject.customer is None and subscription_id is None and not subject.named_clients:
        return ignored("it names neither a client nor a customer")
    return Finding(StripeEventStatus.UNMATCHED, "no client is known by what it names")


def _told(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return None if value is None else str(value)
