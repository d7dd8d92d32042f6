"""Stripe's events on both databases, at noon of the day on which they happened."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from tests.support.clients import a_client
from tests.support.clocks import StandingClock
from tests.support.runtimes import MakeRuntime, open_shared
from tests.support.settings import make_settings
from tests.support.stripe_payloads import NOW, OLD_SECRET, WEBHOOK_SECRET
from tests.support.templates import seed_templates


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(datetime.fromtimestamp(NOW, UTC) + timedelta(minutes=1))


@pytest.fixture
def make_runtime(database_url: str, clock: StandingClock) -> Iterator[MakeRuntime]:
    with ExitStack() as opened:

        def make(**settings: Any) -> Runtime:
            defaults = {
                "stripe_webhook_secret": f"{WEBHOOK_SECRET},{OLD_SECRET}",
                "admin_alert_emails": "ops@acme.example,dev@acme.example",
            }
            runtime = open_shared(make_settings(database_url=database_url, **(defaults | settings)), clock=clock)
            opened.callback(runtime.close)
            seed_templates(runtime)
            return runtime

        yield make


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    """With client acme, whose Stripe customer is cus_1, and which has no subscription yet."""
    made = make_runtime()
    a_client(made, plan=None, subscription_status="none", stripe_customer_id="cus_1", timezone="Europe/Berlin")
    return made
