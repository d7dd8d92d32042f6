"""A store on either database that forgets what a test tells it to, with the sandbox for the providers."""

from collections.abc import Iterator

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Sandbox
from notifyctl.worker.worker import make_dispatcher
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings
from tests.support.templates import seed_templates


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def runtime(database_url: str, sandbox: Sandbox, clock: TurnableClock) -> Iterator[Runtime]:
    settings = make_settings(
        database_url=database_url,
        postmark_api_url=sandbox.url,
        twilio_api_url=sandbox.url,
        stripe_api_url=sandbox.url,
        stripe_api_key="sk_live_1",
        in_doubt_search_delay_seconds=0,
    )
    opened = open_shared(settings, clock=clock, stopwatch=clock.stopwatch)
    seed_templates(opened)
    yield opened
    opened.close()


@pytest.fixture
def dispatcher(runtime: Runtime) -> Iterator[MakeDispatcher]:
    """Each with a memory of its own, as those of different processes."""
    made = []

    def make(channel: str) -> object:
        sender = build_senders(runtime.settings, [channel], 10)[channel]
        made.append(sender)
        return make_dispatcher(runtime, channel, sender, f"worker-{len(made)}")

    yield make
    for sender in made:
        sender.close()
