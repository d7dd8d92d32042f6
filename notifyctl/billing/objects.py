"""What we need of Stripe's objects, read from either generation of their fields.

API version 2025-03-31 moved much of an invoice under `parent`, and a subscription's period to its items. Which one is
before us is seen by its shape: an event keeps the version of its birth, and the version's name tells nothing more.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

MAX_ID = 120
"""Characters of an id: it becomes part of keys and indexes. Stripe's own have at most some 70."""
MAX_AMOUNT = 2**63 - 1
LAST_SECOND = 253_370_764_799
"""The end of the year 9998: at the very end of the calendar, another zone is beyond it."""
_ID = re.compile(r"[!-~]+")
_WORD = re.compile(r"[a-z][a-z_]*")

Json = Mapping[str, object]
NOTHING: Json = {}


def at(value: object, *path: str) -> Json:
    """The object at the end of `path`; an empty one where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else NOTHING


def each(value: object, *path: str) -> Iterator[Json]:
    """The objects in the list at the end of `path`, which may also be Stripe's kind of list, with `data`."""
    holder = at(value, *path[:-1]).get(path[-1])
    items = holder.get("data") if isinstance(holder, Mapping) else holder
    return (item for item in items if isinstance(item, Mapping)) if isinstance(items, list) else iter(())


def identifier(value: object) -> str | None:
    """An id: printable ASCII without blanks. Of an object in an id's place, its id."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) and len(value) <= MAX_ID and _ID.fullmatch(value) else None


def client_name(value: object) -> str | None:
    """An id of ours that somebody wrote into Stripe: it may have other characters, but none that cannot be kept."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    return value if value.isprintable() else None


def word(value: object) -> str | None:
    """A member of one of Stripe's enumerations, known to us or not."""
    return value if isinstance(value, str) and len(value) <= MAX_ID and _WORD.fullmatch(value) else None


def integer(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) <= MAX_AMOUNT else None


def moment(value: object) -> datetime | None:
    """Seconds since 1970 as an aware datetime."""
    seconds = integer(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None and 0 < seconds <= LAST_SECOND else None


def text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


@dataclass(frozen=True, slots=True)
class Price:
    id: str | None
    references: tuple[str, ...]
    """What a plan registry may know it by: its id, its product's, its lookup key."""
    period_end: datetime | None
    is_proration: bool = False


@dataclass(frozen=True, slots=True)
class StripeObject:
    id: str | None
    customer: str | None
    named_clients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subscription(StripeObject):
    status: str | None
    prices: tuple[Price, ...]
    period_end: datetime | None
    """Of the whole subscription, where it has one (before 2025-03-31)."""
    started_at: datetime | None
    cancel_at: datetime | None
    ended_at: datetime | None
    end_cause: str | None


def read_subscription(raw: Json) -> Subscription:
    items = tuple(_item(item) for item in each(raw, "items"))
    plan = at(raw, "plan")
    period_end = moment(raw.get("current_period_end"))
    at_period_end = (period_end or _earliest(items)) if raw.get("cancel_at_period_end") is True else None
    return Subscription(
        id=identifier(raw.get("id")),
        customer=identifier(raw.get("customer")),
        named_clients=_named(at(raw, "metadata").get("client_id")),
        status=word(raw.get("status")),
        prices=items or ((_price(plan, None),) if plan else ()),
        period_end=period_end,
        started_at=moment(raw.get("start_date")) or moment(raw.get("created")) or moment(raw.get("start")),
        cancel_at=moment(raw.get("cancel_at")) or at_period_end,
        ended_at=moment(raw.get("ended_at")) or moment(raw.get("canceled_at")),
        end_cause=word(at(raw, "cancellation_details").get("reason")),
    )


@dataclass(frozen=True, slots=True)
class Invoice(StripeObject):
    subscription: str | None
    billing_reason: str | None
    attempt_count: int
    next_attempt_at: datetime | None
    amount_due: int | None
    amount_paid: int | None
    total: int
    currency: str | None
    prices: tuple[Price, ...]
    hosted_url: str | None

    @property
    def is_first(self) -> bool:
        return self.billing_reason == "subscription_create"

    @property
    def is_renewal(self) -> bool:
        """Its subscription has been in force, if only on trial."""
        return self.billing_reason == "subscription_cycle"

    @property
    def is_one_off(self) -> bool:
        """Made by hand, for no subscription."""
        return self.subscription is None and self.billing_reason is not None and not self._is_of_subscription

    @property
    def _is_of_subscription(self) -> bool:
        return str(self.billing_reason).startswith("subscription")


def read_invoice(raw: Json) -> Invoice:
    lines = list(each(raw, "lines"))
    owed = integer(raw.get("amount_remaining"))
    due = integer(raw.get("amount_due"))
    total = integer(raw.get("total"))
    return Invoice(
        id=identifier(raw.get("id")),
        customer=identifier(raw.get("customer")),
        named_clients=_named(*(metadata.get("client_id") for metadata in _invoice_metadata(raw, lines))),
        subscription=_invoice_subscription(raw, lines),
        billing_reason=word(raw.get("billing_reason")),
        attempt_count=max(0, integer(raw.get("attempt_count")) or 0),
        next_attempt_at=moment(raw.get("next_payment_attempt")),
        amount_due=owed or due or total,
        amount_paid=next((paid for paid in (integer(raw.get("amount_paid")), total) if paid is not None), None),
        total=total if total is not None else due or 0,
        currency=_currency(raw.get("currency")),
        prices=tuple(_line(line) for line in lines),
        hosted_url=text(raw.get("hosted_invoice_url")),
    )


@dataclass(frozen=True, slots=True)
class Checkout(StripeObject):
    subscription: str | None
    is_of_subscription: bool
    mode: str | None
    is_unpaid: bool
    amount: int | None
    currency: str | None


def read_checkout(raw: Json) -> Checkout:
    mode, subscription = word(raw.get("mode")), identifier(raw.get("subscription"))
    return Checkout(
        id=identifier(raw.get("id")),
        customer=identifier(raw.get("customer")),
        named_clients=_named(at(raw, "metadata").get("client_id"), raw.get("client_reference_id")),
        subscription=subscription,
        is_of_subscription=mode == "subscription" or (mode is None and subscription is not None),
        mode=mode,
        # Sessions of before 2020 have no payment_status: they were complete only when paid.
        is_unpaid=raw.get("payment_status") == "unpaid",
        amount=integer(raw.get("amount_total")),
        currency=_currency(raw.get("currency")),
    )


def _named(*values: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for value in values if (name := client_name(value))))


def _invoice_metadata(raw: Json, lines: list[Json]) -> Iterator[Json]:
    yield at(raw, "metadata")
    yield at(raw, "parent", "subscription_details", "metadata")
    yield at(raw, "subscription_details", "metadata")
    for line in lines:  # a copy of the subscription's, and the only one in events of before 2023
        yield at(line, "metadata")


def _invoice_subscription(raw: Json, lines: list[Json]) -> str | None:
    named = identifier(at(raw, "parent", "subscription_details").get("subscription"))
    named = named or identifier(raw.get("subscription"))
    return named or next((by_line for line in lines if (by_line := _line_subscription(line))), None)


def _line_subscription(line: Json) -> str | None:
    item = at(line, "parent", "subscription_item_details")
    named = identifier(item.get("subscription")) or identifier(line.get("subscription"))
    own = identifier(line.get("id"))  # until 2018 a subscription's line had the subscription's id
    return named or (own if own and own.startswith("sub_") else None)


def _item(item: Json) -> Price:
    return _price(at(item, "price") or at(item, "plan"), moment(item.get("current_period_end")))


def _line(line: Json) -> Price:
    ends = moment(at(line, "period").get("end"))
    details = at(line, "pricing", "price_details")
    kinds = ("subscription_item_details", "invoice_item_details")
    prorated = any(at(line, "parent", kind).get("proration") is True for kind in kinds)
    prorated = prorated or line.get("proration") is True
    if details:
        price = _price({**details, "id": identifier(details.get("price"))}, ends)
    else:
        price = _price(at(line, "price") or at(line, "plan"), ends)
    return replace(price, is_proration=prorated)


def _price(raw: Json, period_end: datetime | None) -> Price:
    price_id = identifier(raw.get("id"))
    named = (price_id, identifier(raw.get("product")), client_name(raw.get("lookup_key")))
    return Price(price_id, tuple(name for name in named if name), period_end)


def _earliest(prices: tuple[Price, ...]) -> datetime | None:
    return min((price.period_end for price in prices if price.period_end), default=None)


def _currency(value: object) -> str | None:
    return word(value.lower()) if isinstance(value, str) else None
