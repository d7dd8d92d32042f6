"""The demo's part with Stripe: its events, signed, posted to a real server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from time import sleep

from notifyctl.billing import store as event_store
from notifyctl.bootstrap import Runtime
from notifyctl.cli import terminal
from notifyctl.cli.sandbox import WEBHOOK
from notifyctl.clients import store as client_store
from notifyctl.http.server import ApiServer, create_app, listen, url_of
from notifyctl.orchestrator import message_store
from notifyctl.sandbox import StripeScenario, TriggeredEvent, trigger
from notifyctl.sandbox.stripe.webhook import deliver

CLIENT = "dune"


@contextmanager
def served(runtime: Runtime) -> Iterator[str]:
    """The URL of `notifyctl serve`'s server, which answers on any free port until the block ends."""
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


def post_events(runtime: Runtime, url: str) -> None:
    """A purchase and a payment that fails, each event with the webhook's answer and what came of it."""
    scenario = StripeScenario(client_id=CLIENT, now=runtime.clock())
    subscribed, checkout, paid = trigger("purchase", scenario)
    (failed,) = trigger("invoice.payment_failed", replace(scenario, invoice=2))
    right = runtime.settings.stripe_webhook_secret[0].get_secret_value()
    terminal.listing(
        [
            _posted(runtime, url, "Dune subscribes", subscribed, right),
            _posted(runtime, url, "completes the checkout", checkout, right),
            _posted(runtime, url, "and pays", paid, right),
            _posted(runtime, url, "the same, delivered twice", paid, right),
            _posted(runtime, url, "a month later a payment fails", failed, right),
            _posted(runtime, url, "somebody else signs one", failed, "another"),
        ]
    )


def _posted(runtime: Runtime, url: str, what: str, triggered: TriggeredEvent, secret: str) -> tuple[terminal.Cell, ...]:
    before = _subscription_status(runtime)
    attempts = _attempts(runtime, triggered)
    reply = deliver(f"{url}{WEBHOOK}", triggered.event, secret=secret, now=runtime.clock())
    answer = (str(reply.status), "green" if reply.is_success else "bold red")
    if not reply.is_success:
        result = "refused: it is not Stripe's signature" if reply.status == 400 else reply.text
    elif _attempts(runtime, triggered) == attempts:
        result = "known already, nothing is done twice"
    else:
        after = _subscription_status(runtime)
        changed = f"subscription {before} -> {after}; " if after != before else ""
        result = f"{changed}{_mail(runtime, triggered)}"
    return what, triggered.type, answer, result


def _subscription_status(runtime: Runtime) -> str:
    with runtime.database.read() as session:
        return str(client_store.get_many(session, [CLIENT])[CLIENT].subscription_status)


def _attempts(runtime: Runtime, triggered: TriggeredEvent) -> int:
    """How often the event has been worked on."""
    with runtime.database.read() as session:
        event = event_store.get(session, triggered.id)
    return event.attempts if event is not None else 0


def _mail(runtime: Runtime, triggered: TriggeredEvent) -> str:
    with runtime.database.read() as session:
        event = event_store.get(session, triggered.id)
        mail = message_store.get(session, event.message_id) if event is not None and event.message_id else None
    if mail is None:
        return "no mail"
    if mail.source_ref != triggered.id:
        return "no second mail about one purchase"
    return f"{mail.template_key} {mail.status}"
