"""A dispatcher on this test's database, a sandbox of its own, and a clock that can be turned ahead."""

from collections.abc import Iterator

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.dispatch import Dispatcher
from notifyctl.delivery.memory import SendingMemory
from notifyctl.models.enums import Channel, Lane
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Sandbox
from notifyctl.worker.worker import make_dispatcher
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher
from tests.support.runtimes import open_shared
from tests.support.sandboxes import at_rest
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

PLENTY = 10_000


@pytest.fixture(scope="session")
def strict_sandbox() -> Iterator[Sandbox]:
    """It knows the server token, and refuses any other."""
    with Sandbox(postmark_token="sandbox-token") as running:
        yield running


@pytest.fixture
def sandbox(strict_sandbox: Sandbox) -> Sandbox:
    return at_rest(strict_sandbox)


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def per_minute() -> int:
    """The limit of both channels; a test that is about it says its own."""
    return PLENTY


@pytest.fixture
def runtime(database_url: str, sandbox: Sandbox, clock: TurnableClock, per_minute: int) -> Iterator[Runtime]:
    settings = make_settings(
        database_url=database_url,
        postmark_api_url=sandbox.url,
        twilio_api_url=sandbox.url,
        notification_email_per_minute_limit=per_minute,
        notification_sms_per_minute_limit=per_minute,
        in_doubt_search_delay_seconds=60,
    )
    opened = open_shared(settings, clock=clock, stopwatch=clock.stopwatch)
    seed_templates(opened)
    yield opened
    opened.close()


@pytest.fixture
def dispatcher(runtime: Runtime) -> Iterator[MakeDispatcher]:
    made = []

    def make(
        channel: Channel = Channel.EMAIL,
        owner: str = "worker-1",
        concurrency: int = 10,
        lanes: tuple[Lane, ...] = tuple(Lane),
        memory: SendingMemory | None = None,
    ) -> Dispatcher:
        sender = build_senders(runtime.settings, [channel], concurrency)[channel]
        made.append(sender)
        return make_dispatcher(runtime, channel, sender, owner, lanes, memory)

    yield make
    for sender in made:
        sender.close()
