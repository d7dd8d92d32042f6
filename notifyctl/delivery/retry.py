"""When to try again. Pure."""

from datetime import datetime, timedelta

from notifyctl.models.channels import CHANNELS
from notifyctl.models.enums import Channel


def next_attempt(
    channel: Channel, *, attempts: int, now: datetime, retry_after: timedelta | None = None
) -> datetime | None:
    """When to try again after `attempts` attempts; None to give up.

    The provider's Retry-After is honoured, but never shortens the backoff and at most doubles it.
    """
    waits = CHANNELS[channel].backoff
    if attempts > len(waits):
        return None
    backoff = waits[attempts - 1]
    return now + max(backoff, min(retry_after or backoff, 2 * backoff))
