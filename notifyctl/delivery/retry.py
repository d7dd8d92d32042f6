"""When to try again. Pure."""

from datetime import datetime, timedelta

from notifyctl.models.template import Channel

BACKOFF: dict[Channel, tuple[timedelta, ...]] = {
    Channel.EMAIL: (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10)),
    Channel.SMS: (timedelta(minutes=1), timedelta(minutes=1)),
}
"""The wait after the first, second, … failed attempt. When it is used up, the message has failed."""


def next_attempt(
    channel: Channel, *, attempts: int, now: datetime, retry_after: timedelta | None = None
) -> datetime | None:
    """When to try again after `attempts` attempts; None to give up.

    The provider's Retry-After is honoured, but never shortens the backoff and at most doubles it.
    """
    waits = BACKOFF[channel]
    if attempts > len(waits):
        return None
    backoff = waits[attempts - 1]
    return now + max(backoff, min(retry_after or backoff, 2 * backoff))
