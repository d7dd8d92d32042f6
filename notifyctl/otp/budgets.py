"""Limits that no single phone reaches: what stops SMS pumping, which uses many numbers once."""

from datetime import datetime, timedelta

from sqlmodel import Session

from notifyctl.settings import Settings
from notifyctl.store import otp as store

HOUR = timedelta(hours=1)


def spent_budget(session: Session, settings: Settings, prefix_hashes: list[str], now: datetime) -> str | None:
    """Which budget has nothing left, in words. Whoever asks holds it until the transaction ends.

    Always in one order, and after the phone's own rows: nobody waits in a circle.
    """
    since = now - HOUR
    if (most := settings.otp_prefix_hourly_limit) is not None:
        for prefix_hash in sorted(prefix_hashes):
            store.lock_budget(session, prefix_hash)
        if store.made_since(session, since, most=most, prefix_hashes=prefix_hashes) >= most:
            return f"its prefix has had {most} codes within an hour (OTP_PREFIX_HOURLY_LIMIT)"
    if (most := settings.otp_global_hourly_limit) is not None:
        store.lock_budget(session, "all")
        if store.made_since(session, since, most=most) >= most:
            return f"{most} codes were sent within an hour (OTP_GLOBAL_HOURLY_LIMIT)"
    return None
