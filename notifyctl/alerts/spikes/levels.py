"""From when on failures are too many, how bad what was measured is, and what follows from it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from notifyctl.alerts.spikes.store import ChannelFailures, LaneQueue, SpikeMemory
from notifyctl.models.enums import Channel, SpikeLevel
from notifyctl.settings import Settings
from notifyctl.text.durations import age

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


@dataclass(frozen=True, slots=True)
class Measurement:
    """One channel in the window that ends `at`, and what waits in it."""

    channel: Channel
    at: datetime
    failures: ChannelFailures
    sent: int
    sent_lately: bool
    """Within MAX_DUE."""
    queues: Sequence[LaneQueue]
    breaker: str | None
    """Why the circuit breaker is open; None while it is closed."""

    @property
    def failed(self) -> int:
        return self.failures.failed

    @property
    def percent(self) -> float:
        return percent_of(self.failed, self.sent)

    @property
    def oldest_due(self) -> timedelta:
        """How long the oldest message has been due, whatever it waits for."""
        moments = [moment for queue in self.queues for moment in (queue.due_at, queue.turn_at) if moment is not None]
        return max(self.at - min(moments, default=self.at), timedelta())

    @property
    def unattended(self) -> timedelta:
        """The same of what no worker takes, though it could.

        Where messages wait for room in the minute and others go out, it is the limit that holds them: forecasts are
        no promises.
        """
        moments: list[datetime] = []
        for queue in self.queues:
            if queue.turn_at is not None and self.sent_lately:
                continue
            moments += [moment for moment in (queue.due_at, queue.turn_at) if moment is not None]
        return max(self.at - min(moments, default=self.at), timedelta())


@dataclass(frozen=True, slots=True)
class SpikeVerdict:
    level: SpikeLevel
    other_problems: tuple[str, ...] = ()
    """What is wrong whatever the share of failures, in words."""
    share: str = ""
    """The share of failures, in words, where it is too high."""

    @property
    def problems(self) -> tuple[str, ...]:
        return (*self.other_problems, self.share) if self.share else self.other_problems


def assess(measurement: Measurement, thresholds: Thresholds) -> SpikeVerdict:
    level = thresholds.level(measurement.failed, measurement.sent)
    others = []
    if measurement.breaker is not None:
        others.append(f"the circuit breaker is open ({measurement.breaker})")
    elif measurement.unattended > MAX_DUE:  # while the provider is down they wait for it, and no worker is to blame
        since = age(measurement.at - measurement.unattended, measurement.at)
        others.append(f"messages have been due for {since}, and nobody sends them")
    worst = SpikeLevel.CRITICAL if others else level
    return SpikeVerdict(worst, tuple(others), share_in_words(measurement) if level is not SpikeLevel.OK else "")


def share_in_words(measurement: Measurement) -> str:
    if not measurement.failed:
        return f"{measurement.sent} sent, none failed" if measurement.sent else "nothing sent"
    return f"{measurement.failed} of {measurement.failed + measurement.sent} failed ({measurement.percent:.1f}%)"


class SpikeTransition(StrEnum):
    RAISED = "raised"
    ESCALATED = "escalated"
    CLEARED = "cleared"


def move(
    memory: SpikeMemory, verdict: SpikeVerdict, measurement: Measurement
) -> tuple[SpikeMemory, SpikeTransition | None]:
    """What is so now, whoever hears of it. A measurement older than the last one changes nothing.

    A spike keeps its worst level until it is over: after a window that had successes and is below WARN. Silence is
    no success.
    """
    if memory.measured_at is not None and measurement.at < memory.measured_at:
        return memory, None
    memory = replace(memory, measured_at=measurement.at)
    if verdict.level is not SpikeLevel.OK:
        memory = replace(memory, problem="; ".join(verdict.problems))
    if verdict.level.gravity > memory.level.gravity:
        if memory.level is SpikeLevel.OK:
            return replace(memory, level=verdict.level, raised_at=measurement.at), SpikeTransition.RAISED
        return replace(memory, level=verdict.level), SpikeTransition.ESCALATED
    if memory.level is not SpikeLevel.OK and verdict.level is SpikeLevel.OK and measurement.sent:
        return replace(memory, level=SpikeLevel.OK, problem="", raised_at=None), SpikeTransition.CLEARED
    return memory, None


def due_alert(memory: SpikeMemory, cooldown: timedelta, now: datetime) -> SpikeTransition | None:
    """What those who are alerted do not know yet, and should by now.

    Bad news is told at once. That it is over is told when the cool-down is, so that a channel that goes up and down
    does not write each time.
    """
    if memory.level.gravity > memory.told.gravity:
        return SpikeTransition.RAISED if memory.told is SpikeLevel.OK else SpikeTransition.ESCALATED
    if memory.level is SpikeLevel.OK and memory.told is not SpikeLevel.OK:
        return SpikeTransition.CLEARED if memory.told_at is None or now >= memory.told_at + cooldown else None
    return None


def after_alert(memory: SpikeMemory, transition: SpikeTransition, now: datetime) -> SpikeMemory:
    if transition is SpikeTransition.CLEARED:
        return replace(memory, told=SpikeLevel.OK, told_at=None)
    return replace(memory, told=memory.level, told_at=now)
