"""What tests of delivery share besides their fixtures."""

from collections.abc import Callable
from typing import Any

from notifyctl.delivery.dispatch import Dispatcher
from notifyctl.sandbox import Sandbox

MakeDispatcher = Callable[..., Dispatcher]


def drain(dispatcher: Dispatcher) -> None:
    while dispatcher.turn(claiming=True, timeout=5) or not dispatcher.is_idle:
        pass


def arrivals(sandbox: Sandbox, address: str) -> list[Any]:
    return [found for found in sandbox.messages() if address in (getattr(found, "recipients", None) or [found.to])]
