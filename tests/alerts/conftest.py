"""A runtime on a clock that stands until it is turned, with people to alert."""

from collections.abc import Iterator

import pytest

from notifyctl.bootstrap import Runtime
from tests.support.alerts import ADMIN, OPS, PHONE
from tests.support.clocks import StandingClock
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings
from tests.support.templates import seed_templates


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def more_settings() -> dict[str, object]:
    """What a test sets besides."""
    return {}


@pytest.fixture
def runtime(database_url: str, clock: StandingClock, more_settings: dict[str, object]) -> Iterator[Runtime]:
    values: dict[str, object] = {
        "database_url": database_url,
        "ops_alert_email": OPS,
        "admin_alert_emails": ADMIN,
        "ops_alert_sms_number": PHONE,
        "login_url": "https://cloud.example/login",
    }
    opened = open_shared(make_settings(**(values | more_settings)), clock=clock)
    seed_templates(opened)
    yield opened
    opened.close()
