"""What one run of the monitor found."""

from collections.abc import Sequence
from dataclasses import dataclass

from notifyctl.alerts.spike_levels import Measured, Memory, Transition, Verdict, share_in_words
from notifyctl.models.spike import SpikeLevel
from notifyctl.models.template import Channel


@dataclass(frozen=True, slots=True)
class Report:
    """Of one channel."""

    measured: Measured
    verdict: Verdict
    memory: Memory
    moved: Transition | None = None
    told: Transition | None = None
    """Which alert was queued."""
    trouble: str = ""
    """Why none could be."""

    @property
    def channel(self) -> Channel:
        return self.measured.channel

    @property
    def level(self) -> SpikeLevel:
        """As it is now; that of the spike while nothing has been sent that would show that it is over."""
        return self.memory.level if self.verdict.level is SpikeLevel.OK else self.verdict.level


def summary(reports: Sequence[Report]) -> str:
    """Of a run, in one line."""
    words = [f"{report.channel} {report.level}: {share_in_words(report.measured)}" for report in reports]
    words += [f"{report.channel} alert queued: {report.told}" for report in reports if report.told]
    return "; ".join(words + [report.trouble for report in reports if report.trouble])
