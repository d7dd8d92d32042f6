"""The demo's part with Stripe: its events, signed, posted to a real server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING

from notifyctl.cli import output
from notifyctl.cli.sandbox_stripe import WEBHOOK

if TYPE_CHECKING:
    from notifyctl.bootstrap import Runtime
    from notifyctl.providers.sandbox import Happening

CLIENT = "dune"


@contextmanager
def served(runtime: "Runtime") -> Iterator[str]:
    """The URL of `notifyctl serve`'s server, which answers on any free port until the block ends."""
    from notifyctl.http.app import create_app
    from notifyctl.http.server import ApiServer, listen, url_of

    listener = listen("127.0.0.1", 0)
    server = ApiServer(create_app(runtime), listener)
    thread = Thread(target=server.run, name="demo-server")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            sleep(0.005)
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join()


def tell(runtime: "Runtime", url: str) -> None:
    """A purchase and a payment that fails, each event with the webhook's answer and what came of it."""
    from notifyctl.providers.sandbox import Order, happen

    order = Order(client_id=CLIENT, now=runtime.clock())
    subscribed, checkout, paid = happen("purchase", order)
    (failed,) = happen("invoice.payment_failed", replace(order, invoice=2))
    right = runtime.settings.stripe_webhook_secret[0].get_secret_value()
    output.listing(
        [
            _told(runtime, url, "Dune subscribes", subscribed, right),
            _told(runtime, url, "completes the checkout", checkout, right),
            _told(runtime, url, "and pays", paid, right),
            _told(runtime, url, "the same, delivered twice", paid, right),
            _told(runtime, url, "a month later a payment fails", failed, right),
            _told(runtime, url, "somebody else signs one", failed, "another"),
        ]
    )


def _told(runtime: "Runtime", url: str, what: str, happening: "Happening", secret: str) -> tuple[output.Cell, ...]:
    from notifyctl.providers.sandbox.stripe_post import deliver

    before = _subscription_status(runtime)
    attempts = _attempts(runtime, happening)
    reply = deliver(f"{url}{WEBHOOK}", happening.event, secret=secret, now=runtime.clock())
    answer = (str(reply.status), "green" if reply.is_taken else "bold red")
    if not reply.is_taken:
        came = "refused: it is not Stripe's signature" if reply.status == 400 else reply.text
    elif _attempts(runtime, happening) == attempts:
        came = "known already, nothing is done twice"
    else:
        after = _subscription_status(runtime)
        changed = f"subscription {before} -> {after}; " if after != before else ""
        came = f"{changed}{_mail(runtime, happening)}"
    return what, happening.event["type"], answer, came


def _subscription_status(runtime: "Runtime") -> str:
    from notifyctl.store import clients

    with runtime.database.read() as session:
        return str(clients.get_many(session, [CLIENT])[CLIENT].subscription_status)


def _attempts(runtime: "Runtime", happening: "Happening") -> int:
    """How often the event has been worked on."""
    from notifyctl.store import stripe_events

    with runtime.database.read() as session:
        event = stripe_events.get(session, happening.event["id"])
    return event.attempts if event is not None else 0


def _mail(runtime: "Runtime", happening: "Happening") -> str:
    from notifyctl.store import messages, stripe_events

    with runtime.database.read() as session:
        event = stripe_events.get(session, happening.event["id"])
        mail = messages.get(session, event.message_id) if event is not None and event.message_id else None
    if mail is None:
        return "no mail"
    if mail.source_ref != happening.event["id"]:
        return "no second mail about one purchase"
    return f"{mail.template_key} {mail.status}"
