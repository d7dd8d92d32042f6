"""The state of a subscription, from events in any order. Pure.

Each of its own events is a report of its state; the newest report counts, and for its plan the newest of those with
a price that the plan registry knows. Payments come from its invoices, and the newest payment counts where it is not
older than the report. All are kept apart, so that the same events end in the same state, in whatever order they come
and however often.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from notifyctl.billing.event import Event
from notifyctl.billing.objects import Price, Subscription, read_subscription
from notifyctl.billing.subscription_store import VALUES, SubscriptionRow
from notifyctl.clients.plans import Plan, PlanRegistry
from notifyctl.models.client import ACTIVE_SUBSCRIPTION
from notifyctl.models.enums import SubscriptionStatus

S = SubscriptionStatus
TERMINAL = (S.CANCELED.value, S.INCOMPLETE_EXPIRED.value)
"""Stripe never brings such a subscription back."""
_NEVER_PAID = (S.INCOMPLETE.value, S.INCOMPLETE_EXPIRED.value)
OWING = (S.PAST_DUE.value, S.UNPAID.value)
WERE_LIVE = (S.TRIALING.value, S.ACTIVE.value, S.PAST_DUE.value, S.UNPAID.value, S.PAUSED.value)
_MADE_PAST_DUE_BY_FAILURE = (None, S.TRIALING.value, S.ACTIVE.value)
_MADE_ACTIVE_BY_PAYMENT = (None, S.INCOMPLETE.value, S.PAST_DUE.value, S.UNPAID.value)
_BEST_FIRST = (S.ACTIVE, S.TRIALING, S.PAST_DUE, S.UNPAID, S.PAUSED, S.INCOMPLETE, S.CANCELED, S.INCOMPLETE_EXPIRED)
_RANKS = {status.value: rank for rank, status in enumerate(_BEST_FIRST)}

CREATED = "customer.subscription.created"
DELETED = "customer.subscription.deleted"


@dataclass(frozen=True, slots=True)
class SubscriptionState(SubscriptionRow):
    """The row, and what follows from it."""

    @property
    def counted_status(self) -> str | None:
        """What counts for its client: the last status that we knew, where Stripe's newest is none of those."""
        return self.status if self.status in _RANKS else self.known_status

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def was_never_live(self) -> bool:
        """As far as we know it was no more than a checkout that nobody paid."""
        return self.was_incomplete and not self.was_live

    @property
    def end_is_news(self) -> bool:
        """It ended, and may have been more than a checkout that nobody paid."""
        return self.ended_at is not None and not self.was_never_live


def state_of(row: SubscriptionRow) -> SubscriptionState:
    return SubscriptionState(*VALUES(row))


@dataclass(frozen=True, slots=True)
class Payments:
    """Of a subscription's invoices: the latest that was paid, and the latest failure of one that is not paid."""

    paid_at: datetime | None
    failed_at: datetime | None


def with_report(
    state: SubscriptionState, subscription: Subscription, event: Event, plans: PlanRegistry
) -> SubscriptionState:
    status = _status_in(subscription, event)
    order = report_order(event)
    is_newest = order >= state.report_order  # the newest itself, again, may find a plan that was added since
    if event.type == DELETED and (is_newest or state.ended_at is None):
        ended_at = subscription.ended_at or event.created
        state = replace(state, ended_at=ended_at, end_cause=subscription.end_cause)
    state = replace(
        state,
        customer_id=state.customer_id or subscription.customer,
        was_live=state.was_live or status in WERE_LIVE,
        was_incomplete=state.was_incomplete or status in _NEVER_PAID,
    )
    if status in _RANKS and order >= state.known_order:
        state = replace(state, known_status=status, known_order=order)
    plan, price = find_plan(subscription.prices, plans)
    if plan is not None and order >= state.plan_order:
        state = replace(state, plan=plan.key, plan_order=order)
    if not is_newest:
        return state
    return replace(
        state,
        reported_status=status,
        reported_at=event.created,
        report_order=order,
        price_id=price.id if price else None,
        current_period_end=subscription.period_end or (price.period_end if price else None),
        started_at=subscription.started_at or event.created,
        cancel_at=subscription.cancel_at,
    )


def with_payments(state: SubscriptionState, payments: Payments) -> SubscriptionState:
    return replace(state, status=_status(state.reported_status, state.reported_at, payments))


def find_plan(prices: Collection[Price], plans: PlanRegistry) -> tuple[Plan | None, Price | None]:
    """The first price that the plan registry knows, with its plan; else the first price that is no proration."""
    usual = [price for price in prices if not price.is_proration] or list(prices)
    for price in usual:
        if plan := plans.for_stripe(*price.references):
            return plan, price
    return None, usual[0] if usual else None


def best(states: Iterable[SubscriptionState], plans: PlanRegistry) -> SubscriptionState | None:
    """By status, then of those in force the one with more features, then the newest, or the one that ended last."""
    candidates = [state for state in states if state.counted_status in _RANKS]

    def merit(state: SubscriptionState) -> tuple[int, int, float, str]:
        plan = plans.plans.get(state.plan or "") if is_live(state) else None
        since = state.ended_at or state.started_at
        features = len(plan.features) if plan else -1
        return -_RANKS[state.counted_status or ""], features, since.timestamp() if since else 0, state.id

    return max(candidates, key=merit, default=None)


def best_in_force(states: Iterable[SubscriptionState], plans: PlanRegistry) -> SubscriptionState | None:
    """The one that a client's plan comes from, of those that have ever been in force, with a plan that we know.

    With none in force it is the last that was: its client keeps the plan, also where the news of the end comes first.
    """
    return best((state for state in states if state.was_live and state.plan), plans)


def is_live(state: SubscriptionState) -> bool:
    return state.counted_status in ACTIVE_SUBSCRIPTION


def _status_in(subscription: Subscription, event: Event) -> str | None:
    if event.type == DELETED and subscription.status not in TERMINAL:
        return S.CANCELED.value
    return subscription.status


def report_order(event: Event) -> str:
    """Text that sorts by what is final, by time, and within a second by what can only come after the other.

    The event's id decides what is left, so that everyone decides alike.
    """
    status = _status_in(read_subscription(event.object), event)
    kind = {CREATED: 0, DELETED: 2}.get(event.type, 1)
    seconds = int(event.created.timestamp())
    return f"{status in TERMINAL:d} {seconds:012d} {status not in _NEVER_PAID:d} {kind} {event.id}"


def reporter_of(order: str) -> str:
    """The id of the event that made the report."""
    return order.rpartition(" ")[2]


def _status(reported_status: str | None, reported_at: datetime | None, payments: Payments) -> str | None:
    """At the same second the payment counts: the report may have been made before it."""
    latest = max(filter(None, (payments.paid_at, payments.failed_at)), default=None)
    if latest is None or reported_status in TERMINAL or (reported_at is not None and reported_at > latest):
        return reported_status
    if payments.paid_at == latest:
        return S.ACTIVE.value if reported_status in _MADE_ACTIVE_BY_PAYMENT else reported_status
    return S.PAST_DUE.value if reported_status in _MADE_PAST_DUE_BY_FAILURE else reported_status
