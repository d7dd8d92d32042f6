from datetime import UTC, datetime, timedelta

import pytest

from notifyctl.delivery.claims import LEASE
from notifyctl.delivery.outcomes import next_attempt
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import POSTMARK_TIMEOUT, TWILIO_TIMEOUT
from notifyctl.worker.worker import UPKEEP_SECONDS

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("channel", "attempts", "seconds"),
    [
        (Channel.EMAIL, 1, 30), (Channel.EMAIL, 2, 120), (Channel.EMAIL, 3, 600), (Channel.EMAIL, 4, None),
        (Channel.SMS, 1, 60), (Channel.SMS, 2, 60), (Channel.SMS, 3, None),
    ],
)  # fmt: skip
def test_the_backoff_of_each_channel(channel: Channel, attempts: int, seconds: int | None) -> None:
    due = next_attempt(channel, attempts=attempts, now=NOW)
    assert due == (None if seconds is None else NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("asked", "waited"),
    [(5, 30), (30, 30), (45, 45), (60, 60), (3_600, 60)],
    ids=["never shorter", "equal", "honoured", "at most twice", "an hour is too long"],
)
def test_retry_after_is_honoured_within_bounds(asked: int, waited: int) -> None:
    due = next_attempt(Channel.EMAIL, attempts=1, now=NOW, retry_after=timedelta(seconds=asked))
    assert due == NOW + timedelta(seconds=waited)


def test_a_lease_outlives_every_provider_call_with_room_to_spare() -> None:
    assert max(POSTMARK_TIMEOUT, TWILIO_TIMEOUT) + timedelta(seconds=UPKEEP_SECONDS) < LEASE
