"""Stripe's events on both databases, at noon of the day on which they happened."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import make_settings, seed_templates
from factories import a_client
from stripe_payloads import OLD_SECRET, WEBHOOK_SECRET
from stripe_world import SetClock

from notifyctl.bootstrap import Runtime, open_runtime

MakeRuntime = Callable[..., Runtime]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def make_runtime(database_url: str, clock: SetClock) -> Iterator[MakeRuntime]:
    with ExitStack() as opened:

        def make(**settings: Any) -> Runtime:
            defaults = {
                "stripe_webhook_secret": f"{WEBHOOK_SECRET},{OLD_SECRET}",
                "admin_alert_emails": "ops@acme.example,dev@acme.example",
            }
            runtime = open_runtime(make_settings(database_url=database_url, **(defaults | settings)), clock=clock)
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
