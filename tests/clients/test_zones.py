"""A zone means the same on every host, or it is none."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifyctl import clock
from notifyctl.alerts.compliance.items import days_left
from notifyctl.billing.mails import Addressee
from notifyctl.clients.fields import ClientFields
from notifyctl.clients.plans import SHIPPED
from notifyctl.errors import InvalidInput
from notifyctl.orchestrator.holds import QuietHours
from tests.support.settings import make_settings

OF_THE_HOST = [
    "localtime", "posixrules", "Factory", "right/UTC", "right/Europe/Berlin", "posix/Europe/Berlin", "/etc/localtime",
    "../etc/localtime", "posix/localtime", "zone.tab", "tzdata.zi", "", ".", "local", "LOCALTIME", "Etc/localtime",
]  # fmt: skip
LATE = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host in Tokyo, whose zone files hold more than zones."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")


@pytest.mark.parametrize(
    "name", ["Europe/Kyiv", "Europe/Kiev", "EST5EDT", "UTC", "Etc/GMT+2", "US/Eastern", "Asia/Kolkata"]
)
def test_real_zones_are_taken(name: str) -> None:
    assert ClientFields(SHIPPED).change("ann", {"timezone": name}).values == {"timezone": name}
    assert clock.zone_of(name).key == name


@pytest.mark.parametrize("name", [name for name in OF_THE_HOST if name])
def test_what_means_the_host_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a known time zone"):
        ClientFields(SHIPPED).change("ann", {"timezone": name})


def test_a_zone_that_is_mistyped_is_told_with_the_nearest_one() -> None:
    with pytest.raises(InvalidInput, match=r"'Europe/Berln' is not a known time zone; did you mean Europe/Berlin\?"):
        ClientFields(SHIPPED).change("ann", {"timezone": "Europe/Berln"})


def test_a_zone_in_other_capitals_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"did you mean Europe/Berlin\?"):
        ClientFields(SHIPPED).change("ann", {"timezone": "europe/berlin"})


@pytest.mark.parametrize("name", OF_THE_HOST)
def test_what_is_stored_as_such_counts_as_utc_everywhere(name: str, elsewhere: None) -> None:
    assert clock.zone_of(name).key == "UTC"
    assert Addressee("Ann", name, None).day(LATE) == "2026-07-01"
    assert days_left(LATE.date(), name, LATE) == 0
    quiet = QuietHours(*make_settings(quiet_hours="21:00-08:00").quiet_span)
    assert quiet.end_of(LATE, name) == datetime(2026, 7, 2, 8, tzinfo=UTC)
