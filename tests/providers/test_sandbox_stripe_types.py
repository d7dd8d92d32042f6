"""What the sandbox's Stripe sends, against the types that Stripe's own SDK gives to it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin

import pytest
import stripe

from notifyctl.clock import system_clock
from notifyctl.sandbox import TRIGGERS, Sandbox, StripeScenario, TriggeredEvent, trigger

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TYPES: dict[str, Any] = {
    "checkout.session": stripe.checkout.Session,
    "customer": stripe.Customer,
    "invoice": stripe.Invoice,
    "subscription": stripe.Subscription,
}


def faults(value: Any, wanted: Any, where: str) -> Iterator[str]:
    """What of `value` is not of the type `wanted`. The SDK writes what may be absent and what may be null alike."""
    wanted = _resolved(wanted)
    origin, inner = get_origin(wanted), get_args(wanted)
    match origin:
        case _ if wanted is Any or isinstance(wanted, TypeVar):
            return  # the kind of a list's items is known from outside the list
        case _ if origin in (Union, UnionType):
            found = [list(faults(value, one, where)) for one in inner]
            if all(found):
                yield from min(found, key=len)
        case _ if origin is list:
            yield from _faults_of_list(value, inner[0], where)
        case _ if origin is stripe.ListObject:
            yield from faults(value, origin, where)
            yield from _faults_of_list(value.get("data"), inner[0], f"{where}.data")
        case None if issubclass(wanted, stripe.StripeObject):
            yield from _faults_of_object(value, wanted, where)
        case _ if not _is_plain(value, wanted):
            yield f"{where} is {value!r}"


def _is_plain(value: Any, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    kind = get_origin(wanted) or wanted
    # Decimals come as text; whole numbers may stand for others; of some objects the SDK knows no fields.
    written = {"Decimal": (str,), "float": (float, int), "UntypedStripeObject": (dict,)}
    return type(value) in written.get(kind.__name__, (kind,))


def _resolved(wanted: Any) -> Any:
    name = wanted.__forward_arg__ if isinstance(wanted, ForwardRef) else wanted
    return _named(name) if isinstance(name, str) else wanted


def _faults_of_object(value: Any, wanted: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object"
        return
    for name, kind in fields(wanted).items():
        if name in value:
            yield from faults(value[name], kind, f"{where}.{name}")
        elif not _may_lack(kind):
            yield f"{where}.{name} is missing"


def _faults_of_list(value: Any, wanted: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is no list"
        return
    for number, one in enumerate(value):
        yield from faults(one, wanted, f"{where}[{number}]")


def fields(kind: Any) -> dict[str, Any]:
    """Name -> type."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, stripe.StripeObject) and base is not stripe.StripeObject:
            found |= vars(base).get("__annotations__", {})
    return {
        name: one for name, one in found.items() if not name.startswith("_") and name not in ("OBJECT_NAME", "deleted")
    }


def _named(name: str) -> Any:
    """As `Discount`, or `checkout.Session.Item`. Some modules of the SDK have names of their own: those say nothing."""
    found: Any = stripe
    for part in name.split("."):
        found = getattr(found, part, Any)
    return found


def _may_lack(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)


@pytest.mark.parametrize("name", TRIGGERS)
def test_what_the_sandbox_sends_is_of_the_sdks_types(name: str) -> None:
    for triggered in trigger(name, StripeScenario(client_id="acme", now=NOW)):
        found = list(faults_of(triggered))
        assert not found, "\n".join(found)


def faults_of(triggered: TriggeredEvent) -> Iterator[str]:
    yield from faults(triggered.event, stripe.Event, "event")
    for value in (triggered.event["data"]["object"], *triggered.objects):
        yield from faults(value, TYPES[value["object"]], value["object"])


@pytest.mark.parametrize("name", TRIGGERS)
def test_the_older_shape_lacks_only_what_was_moved_or_came_later(name: str) -> None:
    found = [
        fault
        for triggered in trigger(name, StripeScenario(client_id="acme", now=NOW, is_old=True))
        for fault in faults_of(triggered)
    ]
    later = ("current_period_start", "current_period_end", "billing_mode", "billing_schedules")
    assert all(fault.endswith("is missing") and fault.split()[0].rpartition(".")[2] in later for fault in found)


def test_a_fault_of_any_depth_is_found() -> None:
    """The test of the test: a type is asked of what is deep inside, too."""
    (triggered,) = trigger("customer.subscription.created", StripeScenario(client_id="acme", now=NOW))
    item = triggered.event["data"]["object"]["items"]["data"][0]
    item["price"]["active"] = "yes"
    item["price"]["type"] = "rented"
    del item["price"]["created"]
    found = list(faults(triggered.event["data"]["object"], stripe.Subscription, "subscription"))
    assert found == [
        "subscription.items.data[0].price.active is 'yes'",
        "subscription.items.data[0].price.created is missing",
    ]


def test_the_api_answers_with_the_same_types() -> None:
    with Sandbox() as sandbox:
        for triggered in trigger("purchase", StripeScenario(client_id="acme", now=system_clock())):
            sandbox.stripe.record(triggered.event, triggered.objects)
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": sandbox.url}, max_network_retries=0)
        lists = {
            stripe.Event: client.v1.events.list(),
            stripe.Subscription: client.v1.subscriptions.list(),
            stripe.Customer: client.v1.customers.list({"email": "billing@acme.example", "limit": 3}),
        }
        for kind, page in lists.items():
            told = page.to_dict(for_json=True)
            assert told["data"], kind
            assert not list(faults(told, stripe.ListObject[kind], kind.__name__))
        assert client.v1.customers.list({"email": "else@acme.example"}).data == []
