"""From when on failures are too many, and work has been left lying."""

from dataclasses import dataclass
from datetime import timedelta

from notifyctl.models.enums import SpikeLevel
from notifyctl.settings import Settings

MAX_DUE = timedelta(seconds=300)
"""Work that has been due for longer is left lying by somebody."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A level is reached when both its share and its number are."""

    window: timedelta
    cooldown: timedelta
    warn_percent: float
    warn_min: int
    crit_percent: float
    crit_min: int

    @classmethod
    def of(cls, settings: Settings) -> "Thresholds":
        return cls(
            window=timedelta(minutes=settings.notification_spike_window_minutes),
            cooldown=timedelta(minutes=settings.notification_spike_cooldown_minutes),
            warn_percent=settings.notification_spike_warn_percent,
            warn_min=settings.notification_spike_warn_min,
            crit_percent=settings.notification_spike_crit_percent,
            crit_min=settings.notification_spike_crit_min,
        )

    @property
    def window_minutes(self) -> int:
        return self.window // timedelta(minutes=1)

    def level(self, failed: int, sent: int) -> SpikeLevel:
        percent = percent_of(failed, sent)
        if failed >= self.crit_min and percent >= self.crit_percent:
            return SpikeLevel.CRITICAL
        if failed >= self.warn_min and percent >= self.warn_percent:
            return SpikeLevel.WARN
        return SpikeLevel.OK


def percent_of(failed: int, sent: int) -> float:
    """0.0 when there was nothing."""
    return 100 * failed / (failed + sent) if failed else 0.0
