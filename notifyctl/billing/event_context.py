"""One event being worked on: whose it is, how its subscription stands, what is written of it, and what comes of it.

Everything happens in the caller's transaction, by its ledger.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from notifyctl.billing.event import Event
from notifyctl.billing.ledger import Ledger, Subject
from notifyctl.billing.mails import (
    PAYMENT_FAILED,
    Addressee,
    BillingMail,
    HistoryPart,
    MailBuilder,
    SubscriptionHistory,
    keys_of_failures,
    read_history,
)
from notifyctl.billing.objects import Invoice, StripeObject
from notifyctl.billing.subscription import SubscriptionState, best, best_in_force, state_of, with_payments
from notifyctl.billing.subscription_store import InvoiceRow
from notifyctl.clients.fields import ClientChange, ClientValue
from notifyctl.clients.plans import PlanRegistry
from notifyctl.clients.store import ClientRow
from notifyctl.models.enums import StripeEventStatus, SubscriptionStatus
from notifyctl.orchestrator.cancel import withdraw
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.text.durations import iso

log = logging.getLogger("notifyctl.billing")

ACTOR = "stripe"
_SHOWN_OF_SUBSCRIPTIONS = ("client_id", "status", "plan", "price_id", "current_period_end", "cancel_at", "ended_at")
_MOST_ATTEMPTS = 2**31 - 1


class MailFate(StrEnum):
    QUEUED = "queued"
    DUPLICATE = "duplicate"
    """The same news has been written already."""
    BLOCKED = "blocked"
    """A gate refused; `detail` says which and why."""
    WITHHELD = "withheld"
    """The event is too old to be news."""


@dataclass(frozen=True, slots=True)
class MailOutcome:
    fate: MailFate
    template_key: str
    message_id: str | None
    """In a rehearsal, of a message that is not kept."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """`what` is `client ID`, `subscription ID`, or `message ID` of a mail that is withdrawn."""

    what: str
    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What came of an event, or would come of it."""

    event_id: str
    type: str
    created: datetime
    status: StripeEventStatus
    reason: str | None = None
    """Why it was ignored, matched nobody or failed; of one that was processed, why no mail came of it."""
    client_id: str | None = None
    changes: tuple[Change, ...] = ()
    mail: MailOutcome | None = None
    is_repeated: bool = False
    """It had been settled before, and nothing was done."""
    matched: tuple["EventOutcome", ...] = ()
    """Of others that had matched nobody, and now matched the client that this one linked."""
    reopened: tuple["EventOutcome", ...] = ()
    """Of failed payments taken for a checkout's, until this one showed that their subscription had been live."""

    def everything(self) -> Iterator["EventOutcome"]:
        """This, and whatever came of others by it."""
        yield self
        for other in (*self.matched, *self.reopened):
            yield from other.everything()


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """`mail` is what is to be said, if it is news."""

    status: StripeEventStatus
    reason: str | None = None
    mail: BillingMail | None = None
    is_of_erased: bool = False
    withdraws_mail: bool = False
    """A mail that the event brought before is now known to be about nothing."""


def processed(
    reason: str | None = None, mail: BillingMail | None = None, *, withdraws_mail: bool = False
) -> HandlerResult:
    return HandlerResult(StripeEventStatus.PROCESSED, reason, mail, withdraws_mail=withdraws_mail)


def ignored(reason: str) -> HandlerResult:
    return HandlerResult(StripeEventStatus.IGNORED, reason)


class EventContext:
    def __init__(self, ledger: Ledger, event: Event, plans: PlanRegistry, now: datetime) -> None:
        self.event = event
        self.plans = plans
        self.mails = MailBuilder(plans)
        self.changes: list[Change] = []
        self.has_linked = False
        """A customer or subscription has come to a client: earlier events about it can be matched now."""
        self.subscription_id: str | None = None
        """Of what the client was matched by."""
        self.came_alive = False
        """The subscription is known only now to have been in force."""
        self.client: ClientRow | None = None
        self._known: dict[str, ClientRow] = {}
        self._ledger = ledger
        self._now = now

    @property
    def addressee(self) -> Addressee:
        assert self.client is not None
        return Addressee(self.client.name, self.client.timezone, self.client.plan)

    def match_client(self, subject: StripeObject, subscription_id: str | None) -> HandlerResult | None:
        """Finds, locks and links the client; else says why there is none to work with.

        It is the one that metadata or client_reference_id name, else the subscription's, else the customer's.
        """
        self.subscription_id = subscription_id
        invoice_id = subject.id if isinstance(subject, Invoice) else None
        self._ledger.enter([Subject(subject.customer, subscription_id, invoice_id, subject.named_clients)])
        subscription, holder = self._ledger.subscription(subscription_id), self._ledger.holder(subject.customer)
        owner = subscription.client_id if subscription else None
        candidates = [name for name in (*subject.named_clients, owner, holder) if name]
        self._known = self._ledger.clients(candidates)
        client_id = next((name for name in candidates if name in self._known), None)
        if client_id is None:
            return _unmatched(subject, subscription_id)
        self.client = self._known[client_id]
        if self.client.erased_at is not None:
            return HandlerResult(StripeEventStatus.IGNORED, f"client {client_id} was erased", is_of_erased=True)
        if client_id in subject.named_clients:
            self._link(subject.customer, holder)
        return None

    def subscription_state(self, subscription_id: str) -> SubscriptionState:
        row = self._ledger.subscription(subscription_id)
        return state_of(row) if row else SubscriptionState(subscription_id)

    def save_state(
        self, before: SubscriptionState, after: SubscriptionState, *, is_report: bool = False
    ) -> SubscriptionState:
        """Writes how the subscription stands by now, and what its client's plan and status are by it."""
        owner = self._owner(before, is_report and after.report_order != before.report_order)
        payments = self._ledger.payments(after.id)
        last_event_at = max(filter(None, (before.last_event_at, self.event.created)))
        after = with_payments(replace(after, client_id=owner, last_event_at=last_event_at), payments)
        self.has_linked = self.has_linked or owner != before.client_id
        self.came_alive = self.came_alive or (after.was_live and not before.was_live)
        if after != before:
            self._ledger.save_subscription(after)
            shown = ((name, getattr(before, name), getattr(after, name)) for name in _SHOWN_OF_SUBSCRIPTIONS)
            self._note(f"subscription {after.id}", shown)
        for client_id, client in self._known.items():
            if client_id in (before.client_id, owner):
                self._refresh(client, lost=before if client_id != owner else None)
        return after

    def is_paid(self, invoice: Invoice) -> bool:
        row = self._ledger.invoice(invoice.id)
        return row is not None and row.paid_at is not None

    def history(self, parts: Mapping[str, HistoryPart]) -> SubscriptionHistory:
        """Of its subscription; where it is about none, the event alone. `parts`, by type of event."""
        if self.subscription_id is None:
            return read_history([self.event], parts)
        return read_history([self.event, *self._ledger.history(self.subscription_id)], parts)

    def save_payment(self, invoice: Invoice, *, is_paid: bool, is_debt: bool = True) -> None:
        """`is_debt`: a failure of it makes its subscription past due."""
        assert self.client is not None
        row = self._ledger.invoice(invoice.id)
        row = row or InvoiceRow(invoice.id or "", self.client.id, None, 0, None, None, 0)
        if is_paid:
            if row.failed_at is not None:
                self._withdraw_failures(invoice)
            row = replace(row, paid_at=max(filter(None, (row.paid_at, self.event.created))))
        elif is_debt:
            attempts = max(row.failed_attempts, min(invoice.attempt_count, _MOST_ATTEMPTS))
            failed_at = max(filter(None, (row.failed_at, self.event.created)))
            row = replace(row, failed_at=failed_at, failed_attempts=attempts)
        subscription_id = invoice.subscription or row.subscription_id
        row = replace(row, client_id=self.client.id, subscription_id=subscription_id, total=invoice.total)
        self._ledger.save_invoice(row)

    def _withdraw_failures(self, invoice: Invoice) -> None:
        """Nobody who has paid is to read that the payment failed: what has not gone out does not go."""
        assert self.client is not None
        failures = keys_of_failures(invoice.id)
        criteria = MessageFilter(client_id=self.client.id, template_key=PAYMENT_FAILED, key_prefix=failures)
        self.changes += withdraw_mails(
            self._ledger, self.client.id, criteria, "its invoice was paid in the meantime", now=self._now
        )

    def _link(self, customer: str | None, holder: str | None) -> None:
        assert self.client is not None
        if not customer or self.client.stripe_customer_id == customer:
            return
        if holder is not None or self.client.stripe_customer_id is not None:
            details = {"event_id": self.event.id, "client_id": self.client.id, "customer_id": customer}
            log.warning(
                "stripe customer not linked: the client has another, or another client has it",
                extra=details | {"holder": holder},
            )
            return
        self.has_linked = True
        self._change(self.client, {"stripe_customer_id": customer})

    def _owner(self, state: SubscriptionState, is_newest_report: bool) -> str:
        """A subscription stays with its client, unless its newest report names another."""
        assert self.client is not None
        if state.client_id is None or is_newest_report:
            return str(self.client.id)
        return state.client_id

    def _refresh(self, client: ClientRow, lost: SubscriptionState | None) -> None:
        """`lost`: a subscription that is another client's by now."""
        if client.erased_at is not None:
            return
        states = [state_of(row) for row in self._ledger.subscriptions_of(client.id)]
        state = best(states, self.plans)
        if state is None and lost is None:
            return
        status = SubscriptionStatus(str(state.counted_status)) if state else SubscriptionStatus.NONE
        values: dict[str, ClientValue] = {"subscription_status": status}
        in_force = best_in_force(states, self.plans)
        if in_force is not None:
            values["plan"] = in_force.plan
        elif lost is not None and client.plan == lost.plan:  # it had it by that one, and by none of the others
            values["plan"] = None
        self._change(client, values)

    def _change(self, client: ClientRow, values: Mapping[str, ClientValue]) -> None:
        before = {name: getattr(client, name) for name in values}
        if before == values:
            return
        self._ledger.change_client(ClientChange(client.id, values), actor=ACTOR, now=self._now)
        self._note(f"client {client.id}", ((name, before[name], value) for name, value in values.items()))

    def _note(self, what: str, fields: Iterable[tuple[str, object, object]]) -> None:
        """`fields`: name, value before, value after."""
        self.changes += [
            Change(what, name, as_text(before), as_text(after)) for name, before, after in fields if before != after
        ]


def withdraw_mails(
    ledger: Ledger, client_id: str, criteria: MessageFilter, detail: str, *, now: datetime
) -> list[Change]:
    """Those of them that still wait. Their keys go on being held."""
    ledger.flush_clients()
    moved = withdraw(ledger.session, criteria, detail, actor=ACTOR, now=now)
    ledger.forget_mails(client_id)
    return [Change(f"message {message.id}", "status", "waiting", "CANCELED") for message in moved]


def as_text(value: object) -> str | None:
    if isinstance(value, datetime):
        return iso(value, "seconds")
    return None if value is None else str(value)


def _unmatched(subject: StripeObject, subscription_id: str | None) -> HandlerResult:
    if subject.customer is None and subscription_id is None and not subject.named_clients:
        return ignored("it names neither a client nor a customer")
    return HandlerResult(StripeEventStatus.UNMATCHED, "no client is known by what it names")
