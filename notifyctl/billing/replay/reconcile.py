"""What Stripe has and we have not: events that never came, and subscriptions that stand otherwise."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal, TypeVar

from sqlmodel import Session

from notifyctl.billing import store as event_store
from notifyctl.billing.event import Event, event_subject
from notifyctl.billing.event_context import as_text
from notifyctl.billing.objects import Json, read_subscription
from notifyctl.billing.replay import listing_store
from notifyctl.billing.replay.sources import SourceFilter, StripeAccount, fetch_events
from notifyctl.billing.subscription import TERMINAL, SubscriptionState, reporter_of, with_report
from notifyctl.billing.subscription_store import SubscriptionRow
from notifyctl.clients.plans import PlanRegistry
from notifyctl.db.database import Database
from notifyctl.models.enums import StripeEventStatus
from notifyctl.operations.problem import how_to_match

PAGE = 100
OLD_ENDS_AFTER = timedelta(days=30)
"""A subscription that ended longer ago, and that we never heard of, is no difference: it is history."""
IDS_SHOWN = 5
T = TypeVar("T")
COMPARED = ("status", "plan", "price_id", "current_period_end", "cancel_at")


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Literal["event", "subscription"]
    id: str
    what: str
    """An event's type; the field of a subscription, or `missing`."""
    client_id: str | None
    here: str | None
    at_stripe: str | None
    mend: str
    """What to run or do."""


@dataclass(slots=True)
class Comparison:
    """How much was compared, and what differs."""

    events: int = 0
    subscriptions: int = 0
    differences: list[Difference] = field(default_factory=list)


class Reconciliation:
    """Reads only. Each page is a transaction of its own, and what differs is looked at twice: things move on."""

    def __init__(self, database: Database, plans: PlanRegistry, api: StripeAccount, now: datetime) -> None:
        self._database = database
        self._plans = plans
        self._api = api
        self._now = now
        self._missing_by_subscription: dict[str, list[str]] = defaultdict(list)
        """Subscription id -> the events about it that never came."""

    def compare(self, criteria: SourceFilter) -> Comparison:
        """`criteria`: which events. Subscriptions are compared whatever it says. Raises ProviderError."""
        comparison = Comparison()
        for page in _pages(fetch_events(self._api, criteria, self._now)):
            events = [answer[0] for answer in page if isinstance(answer, tuple)]
            comparison.events += len(events)
            comparison.differences += self._missing_events(events)
        suspects: list[str] = []
        seen: set[str] = set()
        for subscriptions in _pages(self._api.subscriptions()):
            comparison.subscriptions += len(subscriptions)
            seen.update(str(remote["id"]) for remote in subscriptions)
            suspects += self._suspects(subscriptions)
        suspects += self._unknown_to_stripe(seen)
        for subscription_id in suspects:
            comparison.differences += self._differences(subscription_id, self._api.subscription(subscription_id))
        return comparison

    def _missing_events(self, events: Sequence[Event]) -> Iterator[Difference]:
        with self._database.read() as session:
            statuses = listing_store.statuses(session, [event.id for event in events])
        for event in events:
            if event.id in statuses:
                continue
            subject = event_subject(event)
            if subject.subscription_id:
                self._missing_by_subscription[subject.subscription_id].append(event.id)
            made, mend = f"made {as_text(event.created)}", f"notifyctl stripe replay --from-api {event.id}"
            yield Difference("event", event.id, event.type, subject.named_client, None, made, mend)

    def _suspects(self, subscriptions: Sequence[Json]) -> Iterator[str]:
        remote = {str(subscription["id"]): subscription for subscription in subscriptions}
        with self._database.read() as session:
            rows = listing_store.subscriptions(session, remote)
        yield from (key for key, value in remote.items() if any(self._unlike(rows.get(key), value)))

    def _unknown_to_stripe(self, seen: set[str]) -> Iterator[str]:
        after = ""
        while True:
            with self._database.read() as session:
                rows = listing_store.subscriptions_after(session, after, limit=PAGE)
            yield from (row.id for row in rows if row.id not in seen and row.status not in TERMINAL)
            if len(rows) < PAGE:
                return
            after = rows[-1].id

    def _differences(self, subscription_id: str, remote: Json | None) -> Iterator[Difference]:
        with self._database.read() as session:
            row = listing_store.subscriptions(session, [subscription_id]).get(subscription_id)
            unlike = list(self._unlike(row, remote))
            is_by_registry = {"plan"} == {name for name, _, _ in unlike}
            mend = self._mend(
                session, subscription_id, row, is_at_stripe=remote is not None, is_by_registry=is_by_registry
            )
        client_id = row.client_id if row else next(iter(read_subscription(remote or {}).named_clients), None)
        for name, here, there in unlike:
            yield Difference("subscription", subscription_id, name, client_id, here, there, mend)

    def _unlike(self, row: SubscriptionRow | None, remote: Json | None) -> Iterator[tuple[str, str | None, str | None]]:
        """Field, ours, Stripe's."""
        if remote is None:
            if row is not None and row.status not in TERMINAL:
                yield "missing", row.status, None
            return
        theirs = self._remote_state(remote)
        if row is None:
            if not self._is_history(theirs, remote):
                yield "missing", None, theirs.reported_status
            return
        pairs = [(name, getattr(row, name), getattr(theirs, _NAMES.get(name, name))) for name in COMPARED]
        if theirs.plan is None:  # the registry names no plan for its price: then the one known before stays
            pairs = [pair for pair in pairs if pair[0] != "plan"]
        if theirs.reported_status in TERMINAL:
            pairs = pairs[:1]
        yield from ((name, as_text(here), as_text(there)) for name, here, there in pairs if here != there)

    def _remote_state(self, remote: Json) -> SubscriptionState:
        """What a report of it would come to just now."""
        event = Event(
            id="",
            type="customer.subscription.updated",
            created=self._now,
            livemode=remote.get("livemode") is True,
            account=None,
            api_version=None,
            is_thin=False,
            object=remote,
        )
        return with_report(SubscriptionState(str(remote["id"])), read_subscription(remote), event, self._plans)

    def _is_history(self, theirs: SubscriptionState, remote: Json) -> bool:
        ended_at = read_subscription(remote).ended_at
        has_ended = theirs.reported_status in TERMINAL
        return has_ended and (ended_at is None or ended_at < self._now - OLD_ENDS_AFTER)

    def _mend(
        self,
        session: Session,
        subscription_id: str,
        row: SubscriptionRow | None,
        *,
        is_at_stripe: bool,
        is_by_registry: bool,
    ) -> str:
        """`is_by_registry`: all is as Stripe has it, and the plan registry has another plan for it now."""
        if not is_at_stripe:
            return "see whether STRIPE_API_KEY is of the account that the events came from"
        missing = self._missing_by_subscription.get(subscription_id, [])
        if missing:
            shown = " ".join(missing[-IDS_SHOWN:])
            return f"notifyctl stripe replay --from-api {shown}"
        newest = listing_store.newest_of_subscription(session, subscription_id)
        if newest is not None and newest.status == StripeEventStatus.UNMATCHED:
            return how_to_match(newest.customer_id, None, newest.id)
        if newest is not None and newest.status not in (StripeEventStatus.PROCESSED, StripeEventStatus.IGNORED):
            return f"notifyctl stripe replay {newest.id}"
        reporter = (
            event_store.get(session, reporter_of(row.report_order)) if row is not None and is_by_registry else None
        )
        if reporter is not None and reporter.body:
            return f"notifyctl stripe replay {reporter.id}"
        return "change its metadata in Stripe's dashboard: Stripe then sends an event that tells how it stands"


_NAMES = {"status": "reported_status"}


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(islice(iterator, PAGE)):
        yield page
