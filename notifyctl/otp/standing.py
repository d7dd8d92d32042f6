"""What a phone has failed so far, and what a guess makes of it. Pure.

The count belongs to the phone, not to a code: a new code brings no new guesses (NIST SP 800-63B-4, 3.1.3.2), and no
more than a hundred may fail in a row over all locks (3.2.2).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

MAX_CONSECUTIVE_FAILURES = 100
CLOCK_SET_BACK = timedelta(seconds=60)
"""A code that was made longer than this after now is not believed."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_attempts: int
    lockout: timedelta


@dataclass(frozen=True, slots=True)
class Standing:
    failed_count: int = 0
    consecutive_failures: int = 0
    locked_until: datetime | None = None
    hard_locked_at: datetime | None = None

    def is_locked(self, now: datetime) -> bool:
        return self.hard_locked_at is not None or (self.locked_until is not None and now < self.locked_until)

    def at(self, now: datetime) -> "Standing":
        """A lock that has ended gives back the guesses; the count over all locks stays."""
        if self.locked_until is None or now < self.locked_until:
            return self
        return replace(self, failed_count=0, locked_until=None)

    def attempted(self) -> "Standing":
        """Counted before the code is compared."""
        return replace(self, failed_count=self.failed_count + 1, consecutive_failures=self.consecutive_failures + 1)

    def failed(self, now: datetime, limits: Limits) -> "Standing":
        """What the attempt that was counted leads to when the code was wrong."""
        until = now + limits.lockout if self.failed_count >= limits.max_attempts else None
        hard = now if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES else None
        return replace(self, locked_until=until, hard_locked_at=hard)


CLEAN = Standing()


def merged(rows: Iterable[Any]) -> Standing:
    """The worst of a phone's rows. It has one for each pepper while peppers are being exchanged."""
    standing = CLEAN
    for row in rows:
        standing = Standing(
            failed_count=max(standing.failed_count, row.failed_count),
            consecutive_failures=max(standing.consecutive_failures, row.consecutive_failures),
            locked_until=_later(standing.locked_until, row.locked_until),
            hard_locked_at=_later(standing.hard_locked_at, row.hard_locked_at),
        )
    return standing


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)


def is_open(challenge: Any, now: datetime) -> bool:
    """Whether a live code may still be used."""
    return bool(challenge.created_at - CLOCK_SET_BACK <= now < challenge.expires_at)
