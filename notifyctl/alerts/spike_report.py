"""What one run of the monitor found."""

from collections.abc import Sequence
from dataclasses import dataclass

from notifyctl.alerts.spike_levels import Measurement, SpikeTransition, SpikeVerdict, share_in_words
from notifyctl.models.enums import Channel, SpikeLevel
from notifyctl.store.spikes import SpikeMemory


@dataclass(frozen=True, slots=True)
class SpikeReport:
    """Of one channel."""

    measurement: Measurement
    verdict: SpikeVerdict
    memory: SpikeMemory
    moved: SpikeTransition | None = None
    alert_queued: SpikeTransition | None = None
    alert_problem: str = ""
    """Why none could be."""

    @property
    def channel(self) -> Channel:
        return self.measurement.channel

    @property
    def level(self) -> SpikeLevel:
        """As it is now; that of the spike while nothing has been sent that would show that it is over."""
        return self.memory.level if self.verdict.level is SpikeLevel.OK else self.verdict.level


def summary(reports: Sequence[SpikeReport]) -> str:
    """Of a run, in one line."""
    words = [f"{report.channel} {report.level}: {share_in_words(report.measurement)}" for report in reports]
    words += [f"{report.channel} alert queued: {report.alert_queued}" for report in reports if report.alert_queued]
    return "; ".join(words + [report.alert_problem for report in reports if report.alert_problem])
