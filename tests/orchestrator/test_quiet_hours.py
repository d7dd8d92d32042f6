from datetime import UTC, datetime, time, timedelta

import pytest

from notifyctl.clock import zone_of
from notifyctl.orchestrator.holds import QuietHours

NIGHT = QuietHours(time(21), time(8))
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-03-02T20:59:59+01:00", None),
        ("2026-03-02T21:00+01:00", "2026-03-03T08:00+01:00"),
        ("2026-03-02T23:59:59+01:00", "2026-03-03T08:00+01:00"),
        ("2026-03-03T00:00+01:00", "2026-03-03T08:00+01:00"),
        ("2026-03-03T07:59:59.999999+01:00", "2026-03-03T08:00+01:00"),
        ("2026-03-03T08:00+01:00", None),
    ],
)
def test_a_night_lasts_over_midnight(now: str, end: str | None) -> None:
    assert NIGHT.end_of(at(now), BERLIN) == (at(end) if end else None)


def test_a_siesta_is_within_one_day() -> None:
    siesta = QuietHours(time(13), time(15, 30))
    assert siesta.end_of(at("2026-03-02T13:00+01:00"), BERLIN) == at("2026-03-02T15:30+01:00")
    assert siesta.end_of(at("2026-03-02T15:30+01:00"), BERLIN) is None
    assert siesta.end_of(at("2026-03-02T03:00+01:00"), BERLIN) is None


@pytest.mark.parametrize("moment", [time(0), time(21)])
def test_from_and_to_the_same_is_never(moment: time) -> None:
    assert QuietHours(moment, moment).end_of(at("2026-03-02T21:00+01:00"), BERLIN) is None


def test_each_zone_has_its_own_night() -> None:
    now = at("2026-03-02T12:00Z")
    assert NIGHT.ends(now, ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati"]) == {
        "Asia/Tokyo": at("2026-03-03T08:00+09:00"),
        "America/Los_Angeles": at("2026-03-02T08:00-08:00"),
        "Pacific/Kiritimati": at("2026-03-03T08:00+14:00"),
    }


def test_the_night_in_which_the_clocks_go_forward_is_an_hour_shorter() -> None:
    now = at("2026-03-28T22:00+01:00")
    assert NIGHT.end_of(now, BERLIN) == at("2026-03-29T08:00+02:00")
    assert at("2026-03-29T08:00+02:00") - now == timedelta(hours=9)


def test_the_night_in_which_the_clocks_go_back_is_an_hour_longer() -> None:
    now = at("2026-10-24T22:00+02:00")
    assert NIGHT.end_of(now, BERLIN) == at("2026-10-25T08:00+01:00")
    assert at("2026-10-25T08:00+01:00") - now == timedelta(hours=11)


def test_an_hour_that_is_there_twice_does_not_begin_another_night() -> None:
    """02:30 comes twice; quiet until the first of them, it is not quiet again until the evening."""
    short = QuietHours(time(21), time(2, 30))
    assert short.end_of(at("2026-10-25T02:15+02:00"), BERLIN) == at("2026-10-25T02:30+02:00")
    assert short.end_of(at("2026-10-25T02:15+01:00"), BERLIN) is None


def test_an_end_that_the_clocks_leap_over_is_the_same_moment_on_the_new_time() -> None:
    short = QuietHours(time(21), time(2, 30))
    end = short.end_of(at("2026-03-08T01:59-05:00"), NEW_YORK)
    assert end == at("2026-03-08T03:30-04:00")


def test_every_minute_of_a_year_is_quiet_or_not_as_the_clock_on_the_wall_says() -> None:
    """But for the hours in which the clocks change, where a wall clock is no measure."""
    zone = zone_of(BERLIN)
    for hour in range(0, 365 * 24):
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour, minutes=hour % 60)
        wall = now.astimezone(zone).time()
        assert (NIGHT.end_of(now, BERLIN) is not None) == (wall >= time(21) or wall < time(8)), now


def test_a_zone_that_is_not_known_counts_as_utc() -> None:
    assert NIGHT.end_of(at("2026-03-02T22:00Z"), "Mars/Olympus") == at("2026-03-03T08:00Z")
