"""Why an address is suppressed, and what takes that back: by when somebody acted, whenever we heard of it. Pure.

Of each cause and of each release the latest word counts. A release lifts what it is about and what was no later, also
what is heard of only afterwards. So the order in which news comes in makes no difference.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from notifyctl.models.enums import SuppressionReason

_ORDER = {reason: number for number, reason in enumerate(SuppressionReason)}


@dataclass(frozen=True, slots=True)
class Cause:
    """`source` is who said so: a provider, or an operator."""

    reason: SuppressionReason
    source: str
    acted_at: datetime

    @property
    def key(self) -> tuple[SuppressionReason, str]:
        return self.reason, self.source


@dataclass(frozen=True, slots=True)
class Lift:
    """Frees from what was for this reason and from this source; without them, from whatever it was."""

    acted_at: datetime
    reason: SuppressionReason | None = None
    source: str | None = None

    def is_about(self, cause: Cause) -> bool:
        return self.reason in (None, cause.reason) and self.source in (None, cause.source)

    def lifts(self, cause: Cause) -> bool:
        """At the same moment too: who frees an address knows what it is freed from."""
        return self.is_about(cause) and cause.acted_at <= self.acted_at


def holding(causes: Iterable[Cause], lifts: Iterable[Lift]) -> list[Cause]:
    """What still holds; first whoever acted first."""
    known = list(lifts)
    latest: dict[tuple[SuppressionReason, str], Cause] = {}
    for cause in sorted(causes, key=lambda cause: cause.acted_at):
        if not any(lift.lifts(cause) for lift in known):
            latest[cause.key] = cause
    return sorted(latest.values(), key=lambda cause: (cause.acted_at, _ORDER[cause.reason], cause.source))
