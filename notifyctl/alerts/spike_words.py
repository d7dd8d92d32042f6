"""What was found of a channel, as alerts and the monitor's line say it."""

from collections.abc import Iterable

from notifyctl.alerts.spike_levels import Measurement
from notifyctl.alerts.spike_report import SpikeReport

MAX_WORDS = 500


def reasons(report: SpikeReport) -> str:
    """What else is wrong comes first: with the breaker open or no worker, little fails."""
    return "; ".join(filter(None, (*report.verdict.other_problems, counts(report.measurement.failures.reasons))))[
        :MAX_WORDS
    ]


def affected(measurement: Measurement) -> str:
    """`WELCOME_EMAIL 11, PASSWORD_RESET 7; 12 clients are affected`."""
    clients = measurement.failures.clients
    known = f"{clients} client{'s are' if clients != 1 else ' is'} affected" if clients else ""
    return "; ".join(filter(None, (counts(measurement.failures.templates), known)))


def counts(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in items)
