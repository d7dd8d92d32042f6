"""The failure-spike monitor: measures each channel, remembers what it found, and alerts when that changes.

Worker, cron and any number of monitors at once agree, since what is remembered is locked: one of them moves it, and
the alert is written in the same transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlmodel import Session

from notifyctl.alerts import spike_levels as levels
from notifyctl.alerts.spike_levels import MAX_DUE, Measured, Memory, Thresholds, Transition
from notifyctl.alerts.spike_report import Report
from notifyctl.clock import Clock
from notifyctl.errors import NotifyctlError
from notifyctl.models.audit import AuditAction
from notifyctl.models.operations import BreakerState
from notifyctl.models.template import Channel
from notifyctl.orchestrator import timetable
from notifyctl.settings import Settings
from notifyctl.store import audit, breakers, pauses, spikes
from notifyctl.store.database import Database

if TYPE_CHECKING:
    from notifyctl.orchestrator.orchestrator import NotificationOrchestrator

JOB, EVERY = timetable.MONITOR, timetable.MONITOR_EVERY

_ACTIONS = {
    Transition.RAISED: AuditAction.SPIKE_RAISED,
    Transition.ESCALATED: AuditAction.SPIKE_ESCALATED,
    Transition.CLEARED: AuditAction.SPIKE_CLEARED,
}


@dataclass(frozen=True, slots=True)
class SpikeMonitor:
    """`orchestrator` is asked for only when there is something to tell: it takes long to load."""

    database: Database
    settings: Settings
    clock: Clock
    orchestrator: "Callable[[], NotificationOrchestrator]"
    actor: str

    def run(self, thresholds: Thresholds, channels: Sequence[Channel] = tuple(Channel)) -> list[Report]:
        """Raises DatabaseError; whatever else stands in an alert's way is in the report."""
        measured = self._measure(thresholds.window, channels)
        with self.database.transaction() as session:
            return [self._conclude(session, found, thresholds) for found in measured]

    def _measure(self, window: timedelta, channels: Sequence[Channel]) -> list[Measured]:
        """Without a lock, since it may take a moment."""
        now = self.clock()
        with self.database.read() as session:
            failures = spikes.failures(session, now - window)
            sent, sent_lately = spikes.sent(session, now - window), spikes.sent(session, now - MAX_DUE)
            paused = [pauses.scope_of(row) for row in pauses.everything(session)]
            return [
                Measured(
                    channel=channel,
                    at=now,
                    failures=failures[channel],
                    sent=sent[channel],
                    sent_lately=sent_lately[channel] > 0,
                    queues=spikes.queues(session, channel, now, paused),
                    breaker=_open_breaker(session, channel),
                )
                for channel in channels
            ]

    def _conclude(self, session: Session, measured: Measured, thresholds: Thresholds) -> Report:
        verdict = levels.weigh(measured, thresholds)
        memory = Memory.of(spikes.lock(session, measured.channel))
        memory, moved = levels.move(memory, verdict, measured)
        report = Report(measured, verdict, memory, moved)
        if moved is not None:
            self._audit(session, report, moved, thresholds)
        if due := levels.due_to_tell(memory, thresholds.cooldown, measured.at):
            report = self._tell(session, report, due, thresholds)
        spikes.save(session, measured.channel, asdict(report.memory))
        return report

    def _tell(self, session: Session, report: Report, due: Transition, thresholds: Thresholds) -> Report:
        """An alert that cannot be written is tried again by the next run, and hides nothing of this one."""
        from notifyctl.alerts import spike_alerts

        try:
            with session.begin_nested():
                told = spike_alerts.tell(session, self.orchestrator(), self.settings, report, due, thresholds)
        except NotifyctlError as error:
            return replace(report, trouble=str(error))
        except Exception as error:  # noqa: BLE001  whatever it stumbles over, the verdict comes first
            return replace(report, trouble=f"unexpected {type(error).__name__}")
        if told.is_to_be_repeated:
            return replace(report, trouble=told.words)
        memory = levels.after_telling(report.memory, due, report.measured.at)
        return replace(report, memory=memory, told=due, trouble=told.words)

    def _audit(self, session: Session, report: Report, moved: Transition, thresholds: Thresholds) -> None:
        details = {
            "channel": report.channel,
            "level": report.memory.level,
            "failed": report.measured.failed,
            "sent": report.measured.sent,
            "rate_percent": round(report.measured.percent, 1),
            "window_minutes": thresholds.window_minutes,
            "problem": report.memory.problem,
        }
        audit.write(session, _ACTIONS[moved], actor=self.actor, now=report.measured.at, details=details)


def _open_breaker(session: Session, channel: Channel) -> str | None:
    row = breakers.get(session, channel)
    if row is None or row.state == BreakerState.CLOSED:
        return None
    return " ".join((row.reason or "no cause is known").split())
