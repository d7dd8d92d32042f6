"""What a phone has failed so far, and what one more attempt makes of it. Pure.

The count belongs to the phone, not to a code: a new code brings no new guesses (NIST SP 800-63B-4, 3.1.3.2), and no
more than a hundred may fail in a row over all locks (3.2.2).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from notifyctl.store.otp import CodeRow, PhoneFailures

MAX_CONSECUTIVE_FAILURES = 100
CLOCK_SET_BACK = timedelta(seconds=60)
"""A code that was made longer than this after now is not believed."""


@dataclass(frozen=True, slots=True)
class LockPolicy:
    max_attempts: int
    lockout: timedelta


@dataclass(frozen=True, slots=True)
class PhoneState(PhoneFailures):
    def is_locked(self, now: datetime) -> bool:
        return self.hard_locked_at is not None or (self.locked_until is not None and now < self.locked_until)

    def at(self, now: datetime) -> "PhoneState":
        """A lock that has ended gives back the guesses; the count over all locks stays."""
        if self.locked_until is None or now < self.locked_until:
            return self
        return replace(self, failed_count=0, locked_until=None)

    def attempted(self) -> "PhoneState":
        """Counted before the code is compared."""
        return replace(self, failed_count=self.failed_count + 1, consecutive_failures=self.consecutive_failures + 1)

    def failed(self, now: datetime, policy: LockPolicy) -> "PhoneState":
        """What the attempt that was counted leads to when the code was wrong."""
        until = now + policy.lockout if self.failed_count >= policy.max_attempts else None
        hard = now if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES else None
        return replace(self, locked_until=until, hard_locked_at=hard)


CLEAN = PhoneState()


def merged(rows: Collection[PhoneFailures]) -> PhoneState:
    """The worst of a phone's rows. It has one for each pepper while peppers are being exchanged."""
    return PhoneState(
        failed_count=max((row.failed_count for row in rows), default=0),
        consecutive_failures=max((row.consecutive_failures for row in rows), default=0),
        locked_until=max((row.locked_until for row in rows if row.locked_until), default=None),
        hard_locked_at=max((row.hard_locked_at for row in rows if row.hard_locked_at), default=None),
    )


def is_open(code: CodeRow, now: datetime) -> bool:
    """Whether a live code may still be used."""
    return code.created_at - CLOCK_SET_BACK <= now < code.expires_at
