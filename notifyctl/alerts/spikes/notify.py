"""What is written when a spike is raised, becomes worse or is over, and to whom."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from notifyctl.alerts.spikes.levels import SpikeTransition, Thresholds
from notifyctl.alerts.spikes.report import SpikeReport, affected, reasons
from notifyctl.models.enums import BlockReason, Channel, SpikeLevel
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, Decision, SendRequest
from notifyctl.settings import Settings
from notifyctl.templates import store as template_store

OPS_TEMPLATE = "OPS_ALERT_NOTIFICATION_SPIKE"
ADMIN_TEMPLATE = "NOTIFICATION_SPIKE_ALERT_ADMIN"
SMS_TEMPLATE = "OPS_ALERT_SMS"
SOURCE = "monitor"


@dataclass(frozen=True, slots=True)
class AlertResult:
    decisions: Sequence[Decision]

    @property
    def is_to_be_repeated(self) -> bool:
        """Nobody was alerted, so that it is still news. Who disables the templates does not want to hear of it."""
        refusals = [decision for decision in self.decisions if isinstance(decision, Blocked)]
        if len(refusals) < len(self.decisions):
            return False
        return not refusals or any(decision.reason is not BlockReason.TEMPLATE_DISABLED for decision in refusals)

    @property
    def problem(self) -> str:
        """What went wrong; empty when nothing did."""
        if not self.decisions:
            return "nobody is told: set OPS_ALERT_EMAIL or ADMIN_ALERT_EMAILS"
        refusals = {
            f"{decision.reason} ({decision.detail})" for decision in self.decisions if isinstance(decision, Blocked)
        }
        return f"an alert was refused: {', '.join(sorted(refusals))}" if refusals else ""


def send_alerts(
    session: Session,
    orchestrator: NotificationOrchestrator,
    settings: Settings,
    report: SpikeReport,
    transition: SpikeTransition,
    thresholds: Thresholds,
) -> AlertResult:
    context = context_of(report, transition, thresholds)
    requests = [*_emails(settings, context)]
    if report.channel is Channel.EMAIL and transition is not SpikeTransition.CLEARED:
        requests += _sms(session, settings, context)
    return AlertResult(orchestrator.send_many(session, requests))


def _emails(settings: Settings, context: dict[str, object]) -> Iterator[SendRequest]:
    """An address that is on both lists gets the operators' one."""
    recipients = {address.lower(): (ADMIN_TEMPLATE, address) for address in settings.admin_recipients}
    if settings.ops_alert_email:
        recipients[settings.ops_alert_email.lower()] = (OPS_TEMPLATE, settings.ops_alert_email)
    for template_key, address in recipients.values():
        yield SendRequest(template_key=template_key, recipient=address, context=context, source=SOURCE)


def _sms(session: Session, settings: Settings, context: dict[str, object]) -> Iterator[SendRequest]:
    """Email is what fails, so that word of it may not arrive by email. Off until somebody enables the template."""
    template = template_store.by_key(session, [SMS_TEMPLATE]).get(SMS_TEMPLATE)
    number = settings.ops_alert_sms_number
    if number is None or template is None or not template.enabled:
        return
    summary = (
        f"EMAIL {context['level']} {context['transition']}: {context['failed']} failed, {context['sent']} sent"
        f" in {context['window_minutes']} min"
    )
    yield SendRequest(template_key=SMS_TEMPLATE, recipient=number, context={"summary": summary}, source=SOURCE)


def context_of(report: SpikeReport, transition: SpikeTransition, thresholds: Thresholds) -> dict[str, object]:
    measurement = report.measurement
    context = {
        "channel": measurement.channel.value,
        "level": SpikeLevel.OK.value if transition is SpikeTransition.CLEARED else report.memory.level.value,
        "transition": transition.value,
        "failed": measurement.failed,
        "sent": measurement.sent,
        "rate_percent": round(measurement.percent, 1),
        "window_minutes": thresholds.window_minutes,
        "top_reasons": reasons(report),
        "top_templates": affected(measurement),
    }
    return {name: value for name, value in context.items() if value != ""}
