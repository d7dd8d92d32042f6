"""What one run of the monitor found, and how it is put in words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from notifyctl.alerts.spikes.levels import Measurement, SpikeTransition, SpikeVerdict, share_in_words
from notifyctl.alerts.spikes.store import SpikeMemory
from notifyctl.models.enums import Channel, SpikeLevel
from notifyctl.text.durations import plural

MAX_WORDS = 500


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


def reasons(report: SpikeReport) -> str:
    """What else is wrong comes first: with the breaker open or no worker, little fails."""
    return "; ".join(filter(None, (*report.verdict.other_problems, counts(report.measurement.failures.reasons))))[
        :MAX_WORDS
    ]


def affected(measurement: Measurement) -> str:
    """`WELCOME_EMAIL 11, PASSWORD_RESET 7; 12 clients are affected`."""
    clients = measurement.failures.clients
    reach = f"{plural(clients, 'client is', 'clients are')} affected" if clients else ""
    return "; ".join(filter(None, (counts(measurement.failures.templates), reach)))


def counts(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in items)
