from datetime import UTC, datetime, timedelta, timezone

import pytest

from notifyctl.text import durations

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (86400, "1 d"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_there_is_one_of(seconds: int, text: str) -> None:
    assert durations.age(NOON - timedelta(seconds=seconds), NOON) == text
    assert durations.rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90 s"), (60, "1 min"), (1800, "30 min"), (86400, "24 h"), (90000, "25 h"), (172800, "2 d"), (604800, "7 d")],
)
def test_a_window_is_exact(seconds: int, text: str) -> None:
    assert durations.exact_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.006, "6 ms"),
        (1.24, "1.2 s"),
        (1.0, "1 s"),
        (59.94, "59.9 s"),
        (1445.2, "24.1 min"),
        (312439.8, "3.6 d"),
    ],
)
def test_how_long_it_took_is_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert durations.duration(seconds) == text


def test_a_moment_leaves_out_the_day_that_stands_beside_it() -> None:
    assert durations.moment(NOON) == "2026-03-02 12:00:00Z"
    assert durations.moment(NOON, beside=NOON + timedelta(hours=1)) == "12:00:00Z"
    assert durations.moment(NOON, beside=NOON + timedelta(hours=12)) == "2026-03-02 12:00:00Z"
    assert durations.moment(None) == "an unknown time"


def test_a_time_for_programs_is_in_utc_with_z() -> None:
    at = datetime(2026, 3, 2, 13, 0, 0, 123456, timezone(timedelta(hours=1)))
    assert durations.iso(at) == "2026-03-02T12:00:00.123Z"
    assert durations.iso(at, "seconds") == "2026-03-02T12:00:00Z"
    assert durations.iso(at, "auto") == "2026-03-02T12:00:00.123456Z"
