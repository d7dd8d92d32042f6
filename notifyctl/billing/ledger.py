"""All that working on events reads and writes in one transaction: each row is read once, and written once at the end.

Events are locked first, then what they are about, then its clients, each in the order of their ids; only then is
anything read of their subscriptions, invoices and messages. So the events of each take turns, and nobody else changes
what is remembered here.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.log import NewAuditRow
from notifyctl.billing import store, subscription_store
from notifyctl.billing.event import Event, read_event
from notifyctl.billing.mails import TEMPLATES
from notifyctl.billing.store import StoredEvent
from notifyctl.billing.subscription import Payments
from notifyctl.billing.subscription_store import InvoiceRow, SubscriptionRow
from notifyctl.clients import clients as client_writing
from notifyctl.clients import store as client_store
from notifyctl.clients.fields import ClientChange
from notifyctl.clients.store import ClientRow
from notifyctl.models.enums import StripeEventStatus
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.message_store import UntriedMessage

FAILURE = "invoice.payment_failed"
MOST_IN_HISTORY = 100
"""Events of a subscription that are read for a text: those about one purchase or payment come within days."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about. `names`: clients, if there are any of these ids."""

    customer: str | None = None
    subscription: str | None = None
    invoice: str | None = None
    names: tuple[str, ...] = ()


class Ledger:
    """`flush` writes what is to be written; whoever commits without it has done nothing."""

    def __init__(self, session: Session, now: datetime, *, livemode: bool, types: Collection[str]) -> None:
        """`livemode` and `types` are those of the events that tell the history of a subscription."""
        self.session = session
        self._now = now
        self._livemode = livemode
        self._types = types
        self._events: dict[str, StoredEvent] = {}
        self._subscriptions: dict[str, SubscriptionRow] = {}
        self._invoices: dict[str, InvoiceRow] = {}
        self._clients: dict[str, ClientRow] = {}
        self._holders: dict[str, str] = {}
        """Stripe's customer -> the client that has it."""
        self._entered: set[tuple[str, str]] = set()
        """Kind and id of what was locked and read, known or not."""
        self._histories: dict[str, list[Event]] = {}
        self._waiting: dict[str, list[UntriedMessage]] = {}
        self._words: dict[str, Mapping[str, object]] = {}
        """Of the mails that this transaction has written, by the ids of their messages."""
        self._changed_events: set[str] = set()
        self._changed_subscriptions: set[str] = set()
        self._changed_invoices: set[str] = set()
        self._changed_clients: list[tuple[ClientRow, ClientChange]] = []
        self._audit: list[NewAuditRow] = []

    # Events

    def lock(self, ids: Collection[str]) -> None:
        self._events |= store.lock(self.session, ids)

    def event(self, event_id: str) -> StoredEvent | None:
        """One that is locked, as it is by now."""
        return self._events.get(event_id)

    def read_ahead(self) -> None:
        """Enters, for all events that are locked so far, what working on them one by one would enter."""
        self.enter(map(_subject, self._events.values()))
        subscriptions = {event.subscription_id for event in self._events.values() if event.subscription_id}
        self._lock_failures(subscriptions)
        self._read_histories(subscriptions)
        self._read_waiting(self._clients)
        self.lock_free({message.source_ref for waiting in self._waiting.values() for message in waiting})
        self.enter(map(_subject, self._events.values()))

    def lock_free(self, ids: Collection[str]) -> dict[str, StoredEvent]:
        """Those of `ids` that nobody else works on, and that still have their bodies."""
        unknown = [event_id for event_id in ids if event_id not in self._events]
        if unknown:
            self._events |= store.lock_free(self.session, unknown)
        known = ((event_id, self._events.get(event_id)) for event_id in ids)
        return {event_id: event for event_id, event in known if event is not None and event.body}

    def failures_without_mail(self, subscription_id: str, client_id: str) -> list[StoredEvent]:
        """PROCESSED failures to pay that brought no mail, and that nobody else works on; the oldest first."""
        self._lock_failures([subscription_id])
        chosen = (
            event
            for event in self._events.values()
            if event.type == FAILURE
            and event.subscription_id == subscription_id
            and event.client_id == client_id
            and event.status is StripeEventStatus.PROCESSED
            and event.message_id is None
            and event.body
        )
        return sorted(chosen, key=lambda event: (event.created, event.id))

    def _lock_failures(self, subscription_ids: Iterable[str]) -> None:
        if asked := self._new("failures", subscription_ids):
            for event in store.lock_without_mail(self.session, asked, FAILURE):
                self._events.setdefault(event.id, event)

    def save_event(self, event: StoredEvent) -> None:
        self._events[event.id] = event
        self._changed_events.add(event.id)

    def blank(self, event: StoredEvent) -> None:
        store.blank(self.session, event.id)
        self._events[event.id] = replace(self._events[event.id], body=b"", customer_id=None, named_client=None)

    # Whom and what they are about

    def enter(self, subjects: Iterable[Subject]) -> None:
        """Locks what these are about, and their clients, and reads all that is known of them."""
        given = list(subjects)
        customers = self._new("customer", (subject.customer for subject in given))
        subscriptions = self._new("subscription", (subject.subscription for subject in given))
        invoices = self._new("invoice", (subject.invoice for subject in given))
        names = {name for subject in given for name in subject.names}
        if customers or subscriptions:
            store.lock_subjects(self.session, customers | subscriptions)
        if subscriptions:
            names |= subscription_store.owners(self.session, subscriptions)
        if customers:
            self._holders |= client_store.holders_of_stripe_customers(self.session, customers)
            names |= {self._holders[customer] for customer in customers & self._holders.keys()}
        clients = self._new("client", names)
        if clients:
            self._clients |= client_store.get_many(self.session, clients, lock=True)
        if subscriptions or clients:
            for row in subscription_store.these(self.session, subscriptions, clients):
                self._subscriptions.setdefault(row.id, row)
        if subscriptions or invoices:
            for invoice in subscription_store.invoices(self.session, subscriptions, invoices):
                self._invoices.setdefault(invoice.id, invoice)

    def _new(self, kind: str, ids: Iterable[str | None]) -> set[str]:
        """Those that are asked about for the first time."""
        new = {asked for asked in ids if asked and (kind, asked) not in self._entered}
        self._entered |= {(kind, asked) for asked in new}
        return new

    def clients(self, ids: Iterable[str]) -> dict[str, ClientRow]:
        """In the order of `ids`, without those that are unknown."""
        return {client_id: self._clients[client_id] for client_id in ids if client_id in self._clients}

    def holder(self, customer: str | None) -> str | None:
        """The id of the client that is linked with one of Stripe's customers."""
        return self._holders.get(customer or "")

    def change_client(self, change: ClientChange, *, actor: str, now: datetime) -> None:
        before = self._clients[change.id]
        if all(getattr(before, name) == value for name, value in change.values.items()):
            return
        self._changed_clients.append((before, change))
        self._audit.append(client_writing.audit_change(before, change, actor=actor, now=now))
        after = self._clients[change.id] = ClientRow(**{**before._asdict(), **change.values})
        if after.stripe_customer_id:
            self._holders[after.stripe_customer_id] = after.id

    def subscription(self, subscription_id: str | None) -> SubscriptionRow | None:
        return self._subscriptions.get(subscription_id or "")

    def subscriptions_of(self, client_id: str) -> list[SubscriptionRow]:
        rows = (row for row in self._subscriptions.values() if row.client_id == client_id)
        return sorted(rows, key=lambda row: row.id)

    def save_subscription(self, row: SubscriptionRow) -> None:
        self._subscriptions[row.id] = row
        self._changed_subscriptions.add(row.id)

    def invoice(self, invoice_id: str | None) -> InvoiceRow | None:
        return self._invoices.get(invoice_id or "")

    def save_invoice(self, row: InvoiceRow) -> None:
        self._invoices[row.id] = row
        self._changed_invoices.add(row.id)

    def payments(self, subscription_id: str) -> Payments:
        """When the last invoice with something to pay was paid, and when the last failed of those that are not paid."""
        rows = [row for row in self._invoices.values() if row.subscription_id == subscription_id]
        paid = (row.paid_at for row in rows if row.paid_at is not None and row.total > 0)
        failed = (row.failed_at for row in rows if row.failed_at is not None and row.paid_at is None)
        return Payments(max(paid, default=None), max(failed, default=None))

    def history(self, subscription_id: str) -> list[Event]:
        """What its newest events say."""
        self._read_histories([subscription_id])
        return self._histories[subscription_id]

    def _read_histories(self, subscription_ids: Iterable[str]) -> None:
        asked = self._new("history", subscription_ids)
        if not asked:
            return
        self._histories |= {subscription_id: [] for subscription_id in asked}
        for row in store.bodies_of_subscriptions(
            self.session, asked, livemode=self._livemode, types=self._types, limit=MOST_IN_HISTORY
        ):
            self._histories[row.subscription_id].append(read_event(row.body, row.received_at))

    # Mails and the log

    def waiting(self, client_id: str) -> list[UntriedMessage]:
        """The billing mails to a client that wait for their first attempt."""
        self._read_waiting([client_id])
        return self._waiting[client_id]

    def _read_waiting(self, client_ids: Iterable[str]) -> None:
        unread = [client_id for client_id in client_ids if client_id not in self._waiting]
        if unread:
            self._waiting |= {client_id: [] for client_id in unread}
            for message in message_store.untried(self.session, unread, TEMPLATES):
                self._waiting[message.client_id].append(message)

    def says(self, message_id: str, words: Mapping[str, object]) -> bool:
        """Whether this transaction has given a mail just these words."""
        return self._words.get(message_id) == words

    def written(self, message_id: str, words: Mapping[str, object]) -> None:
        """A mail that waits has got these words."""
        self._words[message_id] = words

    def forget_mails(self, client_id: str) -> None:
        """Something has changed about those that wait: they are read anew when they are next asked for."""
        self._waiting.pop(client_id, None)

    def audit(self, rows: Iterable[NewAuditRow]) -> None:
        self._audit += rows

    # Writing

    def flush(self) -> None:
        self.flush_clients()
        subscriptions = [self._subscriptions[changed] for changed in sorted(self._changed_subscriptions)]
        subscription_store.save(self.session, subscriptions, now=self._now)
        invoices = [self._invoices[changed] for changed in sorted(self._changed_invoices)]
        subscription_store.save_invoices(self.session, invoices, now=self._now)
        store.save_results(self.session, [self._events[changed] for changed in sorted(self._changed_events)])
        for changes in (self._changed_subscriptions, self._changed_invoices, self._changed_events):
            changes.clear()

    def flush_clients(self) -> None:
        """With the log of it: before the orchestrator is asked, which reads the one and goes on with the other."""
        client_writing.write_known(self.session, self._changed_clients, now=self._now)
        audit_log.write_many(self.session, self._audit)
        self._changed_clients.clear()
        self._audit.clear()


def _subject(event: StoredEvent) -> Subject:
    return Subject(
        event.customer_id,
        event.subscription_id,
        event.object_id if event.type.startswith("invoice.") else None,
        (event.named_client,) if event.named_client else (),
    )
