"""The failure-spike monitor: measures each channel, remembers what it found, and alerts when that changes.

Worker, cron and any number of monitors at once agree, since what is remembered is locked: one of them moves it, and
the alert is written in the same transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlmodel import Session

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.alerts.spikes.levels import (
    MAX_DUE,
    Measurement,
    SpikeTransition,
    Thresholds,
    after_alert,
    assess,
    due_alert,
    move,
)
from notifyctl.alerts.spikes.report import SpikeReport
from notifyctl.audit import log as audit_log
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import AuditAction, BreakerState, Channel
from notifyctl.operations import breakers, job_runs, pauses
from notifyctl.settings import Settings
from notifyctl.text.durations import one_line

if TYPE_CHECKING:
    from notifyctl.orchestrator.orchestrator import NotificationOrchestrator

JOB, EVERY = job_runs.MONITOR, job_runs.MONITOR_EVERY

_ACTIONS = {
    SpikeTransition.RAISED: AuditAction.SPIKE_RAISED,
    SpikeTransition.ESCALATED: AuditAction.SPIKE_ESCALATED,
    SpikeTransition.CLEARED: AuditAction.SPIKE_CLEARED,
}


@dataclass(frozen=True, slots=True)
class SpikeMonitor:
    """`orchestrator` is asked for only when there is something to alert about: it takes long to load."""

    database: Database
    settings: Settings
    clock: Clock
    orchestrator: "Callable[[], NotificationOrchestrator]"
    actor: str

    def run(self, thresholds: Thresholds, channels: Sequence[Channel] = tuple(Channel)) -> list[SpikeReport]:
        """Raises DatabaseError; whatever else stands in an alert's way is in the report."""
        measurements = self._measure(thresholds.window, channels)
        with self.database.transaction() as session:
            return [self._conclude(session, measurement, thresholds) for measurement in measurements]

    def _measure(self, window: timedelta, channels: Sequence[Channel]) -> list[Measurement]:
        """Without a lock, since it may take a moment."""
        now = self.clock()
        with self.database.read() as session:
            failures = spike_store.failures(session, now - window)
            sent, sent_lately = spike_store.sent(session, now - window), spike_store.sent(session, now - MAX_DUE)
            paused = [pauses.scope_of(row) for row in pauses.everything(session)]
            return [
                Measurement(
                    channel=channel,
                    at=now,
                    failures=failures[channel],
                    sent=sent[channel],
                    sent_lately=sent_lately[channel] > 0,
                    queues=spike_store.queues(session, channel, now, paused),
                    breaker=_open_breaker(session, channel),
                )
                for channel in channels
            ]

    def _conclude(self, session: Session, measurement: Measurement, thresholds: Thresholds) -> SpikeReport:
        verdict = assess(measurement, thresholds)
        memory, moved = move(spike_store.lock(session, measurement.channel), verdict, measurement)
        report = SpikeReport(measurement, verdict, memory, moved)
        if moved is not None:
            self._audit(session, report, moved, thresholds)
        if due := due_alert(memory, thresholds.cooldown, measurement.at):
            report = self._alert(session, report, due, thresholds)
        spike_store.save(session, measurement.channel, report.memory)
        return report

    def _alert(
        self, session: Session, report: SpikeReport, due: SpikeTransition, thresholds: Thresholds
    ) -> SpikeReport:
        """An alert that cannot be written is tried again by the next run, and hides nothing of this one."""
        from notifyctl.alerts.spikes.notify import send_alerts

        try:
            with session.begin_nested():
                result = send_alerts(session, self.orchestrator(), self.settings, report, due, thresholds)
        except NotifyctlError as error:
            return replace(report, alert_problem=str(error))
        except Exception as error:  # noqa: BLE001  whatever it stumbles over, the verdict comes first
            return replace(report, alert_problem=f"unexpected {type(error).__name__}")
        if result.is_to_be_repeated:
            return replace(report, alert_problem=result.problem)
        memory = after_alert(report.memory, due, report.measurement.at)
        return replace(report, memory=memory, alert_queued=due, alert_problem=result.problem)

    def _audit(self, session: Session, report: SpikeReport, moved: SpikeTransition, thresholds: Thresholds) -> None:
        details = {
            "channel": report.channel,
            "level": report.memory.level,
            "failed": report.measurement.failed,
            "sent": report.measurement.sent,
            "rate_percent": round(report.measurement.percent, 1),
            "window_minutes": thresholds.window_minutes,
            "problem": report.memory.problem,
        }
        audit_log.write(session, _ACTIONS[moved], actor=self.actor, now=report.measurement.at, details=details)


def _open_breaker(session: Session, channel: Channel) -> str | None:
    row = breakers.get(session, channel)
    if row is None or row.state == BreakerState.CLOSED:
        return None
    return one_line(row.reason or "no cause is known")
