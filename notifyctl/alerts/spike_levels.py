"""How bad what was found of a channel is, and what follows from it: raised, worse, over, and who hears of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from notifyctl.models.spike import SpikeLevel
from notifyctl.models.template import Channel
from notifyctl.orchestrator.thresholds import MAX_DUE as MAX_DUE
from notifyctl.orchestrator.thresholds import Thresholds as Thresholds
from notifyctl.orchestrator.thresholds import percent_of as percent_of
from notifyctl.orchestrator.words import age
from notifyctl.store.spikes import Failures, LaneQueue


@dataclass(frozen=True, slots=True)
class Measured:
    """One channel in the window that ends `at`, and what waits in it."""

    channel: Channel
    at: datetime
    failures: Failures
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
    def left_lying(self) -> timedelta:
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
class Verdict:
    level: SpikeLevel
    standing: tuple[str, ...] = ()
    """What is wrong whatever the share of failures, in words."""
    share: str = ""
    """The share of failures, in words, where it is too high."""

    @property
    def problems(self) -> tuple[str, ...]:
        return (*self.standing, self.share) if self.share else self.standing


def weigh(measured: Measured, thresholds: Thresholds) -> Verdict:
    level = thresholds.level(measured.failed, measured.sent)
    standing = []
    if measured.breaker is not None:
        standing.append(f"the circuit breaker is open ({measured.breaker})")
    elif measured.left_lying > MAX_DUE:  # while the provider is down they wait for it, and no worker is to blame
        since = age(measured.at - measured.left_lying, measured.at)
        standing.append(f"messages have been due for {since}, and nobody sends them")
    worst = SpikeLevel.CRITICAL if standing else level
    return Verdict(worst, tuple(standing), share_in_words(measured) if level is not SpikeLevel.OK else "")


def share_in_words(measured: Measured) -> str:
    if not measured.failed:
        return f"{measured.sent} sent, none failed" if measured.sent else "nothing sent"
    return f"{measured.failed} of {measured.failed + measured.sent} failed ({measured.percent:.1f} %)"


class Transition(StrEnum):
    RAISED = "raised"
    ESCALATED = "escalated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Memory:
    """A row of spike_state, without its channel."""

    level: SpikeLevel = SpikeLevel.OK
    told: SpikeLevel = SpikeLevel.OK
    problem: str = ""
    raised_at: datetime | None = None
    told_at: datetime | None = None
    measured_at: datetime | None = None

    @classmethod
    def of(cls, row: Any) -> "Memory":
        return cls(row.level, row.told, row.problem, row.raised_at, row.told_at, row.measured_at)


def move(memory: Memory, verdict: Verdict, measured: Measured) -> tuple[Memory, Transition | None]:
    """What is so now, whoever hears of it. A measurement older than the last one changes nothing.

    A spike keeps its worst level until it is over: after a window that had successes and is below WARN. Silence is
    no success.
    """
    if memory.measured_at is not None and measured.at < memory.measured_at:
        return memory, None
    memory = replace(memory, measured_at=measured.at)
    if verdict.level is not SpikeLevel.OK:
        memory = replace(memory, problem="; ".join(verdict.problems))
    if verdict.level.gravity > memory.level.gravity:
        if memory.level is SpikeLevel.OK:
            return replace(memory, level=verdict.level, raised_at=measured.at), Transition.RAISED
        return replace(memory, level=verdict.level), Transition.ESCALATED
    if memory.level is not SpikeLevel.OK and verdict.level is SpikeLevel.OK and measured.sent:
        return replace(memory, level=SpikeLevel.OK, problem="", raised_at=None), Transition.CLEARED
    return memory, None


def due_to_tell(memory: Memory, cooldown: timedelta, now: datetime) -> Transition | None:
    """What those who are alerted do not know yet, and should by now.

    Bad news is told at once. That it is over is told when the cool-down is, so that a channel that goes up and down
    does not write each time.
    """
    if memory.level.gravity > memory.told.gravity:
        return Transition.RAISED if memory.told is SpikeLevel.OK else Transition.ESCALATED
    if memory.level is SpikeLevel.OK and memory.told is not SpikeLevel.OK:
        return Transition.CLEARED if memory.told_at is None or now >= memory.told_at + cooldown else None
    return None


def after_telling(memory: Memory, transition: Transition, now: datetime) -> Memory:
    if transition is Transition.CLEARED:
        return replace(memory, told=SpikeLevel.OK, told_at=None)
    return replace(memory, told=memory.level, told_at=now)
