"""The jobs that watch over the traffic and over what expires."""

from notifyctl.alerts.compliance import Reminders
from notifyctl.alerts.compliance_sla import SlaMonitor
from notifyctl.alerts.spike_levels import Thresholds
from notifyctl.alerts.spike_report import summary
from notifyctl.alerts.spikes import SpikeMonitor
from notifyctl.worker.job_context import JobContext


def run_notification_failure_spike_monitor(context: JobContext) -> str:
    """The same as `notifyctl monitor`."""
    runtime = context.runtime
    monitor = SpikeMonitor(
        database=runtime.database,
        settings=runtime.settings,
        clock=runtime.clock,
        orchestrator=lambda: runtime.orchestrator,
        actor=context.worker,
    )
    return summary(monitor.run(Thresholds.of(runtime.settings)))


def remind_of_expiry(context: JobContext) -> str:
    runtime = context.runtime
    reminders = Reminders(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        plans=runtime.plans,
        settings=runtime.settings,
        clock=runtime.clock,
    )
    return str(reminders.run(context.stopping))


def watch_compliance_sla(context: JobContext) -> str:
    runtime = context.runtime
    return SlaMonitor(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        settings=runtime.settings,
        clock=runtime.clock,
    ).run()
