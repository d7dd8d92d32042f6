"""Tells the operators of items that have been expired for too long, and of reminders that are not being written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from notifyctl.alerts.compliance import store
from notifyctl.alerts.compliance.items import days_left
from notifyctl.alerts.compliance.store import ListedItem
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.models.enums import BlockReason
from notifyctl.operations import job_runs
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate, SendRequest
from notifyctl.settings import Settings
from notifyctl.text.durations import moment, plural

TEMPLATE = "COMPLIANCE_SLA_ALERT"
REMINDER_JOB = "compliance_expiry_reminders"
UNFINISHED_FOR = timedelta(hours=26)
ONE_MAIL_IN = timedelta(hours=24)
"""As the template's rate has it: what comes up meanwhile is in the next one."""
AGAIN_AFTER = timedelta(hours=25)
"""While the job does not finish; longer than the rate's window, which the hourly looks would run into."""
NAMED = 20
LINE = 400
"""Characters of one item: all that are named must fit into a variable."""


@dataclass(frozen=True, slots=True)
class SlaMonitor:
    database: Database
    orchestrator: NotificationOrchestrator
    settings: Settings
    clock: Clock

    def run(self) -> str:
        """What it did, as one line."""
        now = self.clock()
        if self.settings.ops_alert_email is None:
            return "nobody is told: OPS_ALERT_EMAIL is not set"
        with self.database.transaction() as session:
            return "; ".join(filter(None, (self._overdue(session, now), self._unfinished(session, now)))) or "all well"

    def _overdue(self, session: Session, now: datetime) -> str:
        days = self.settings.compliance_sla_days
        # A day more: somewhere it is tomorrow already.
        last = now.date() - timedelta(days=days - 1)
        overdue = [
            item
            for item in store.lock_overdue(session, last)
            if days_left(item.expires_on, item.timezone, now) <= -days
        ]
        if not overdue:
            return ""
        last_at = store.last_overdue_at(session)
        if last_at is not None and now < last_at + ONE_MAIL_IN:
            more = plural(len(overdue), "more expired item is", "more expired items are")
            return f"{more} for the mail after {moment(last_at + ONE_MAIL_IN)}"
        decision = self._alert(session, f"Items expired for over {plural(days, 'day')}", _listed(overdue), len(overdue))
        if isinstance(decision, Blocked) and decision.reason is not BlockReason.TEMPLATE_DISABLED:
            why = f"{decision.reason}: {decision.detail}"
            return f"{plural(len(overdue), 'expired item')} could not be told of ({why}); they are tried again"
        store.mark_overdue(session, overdue, now=now)
        return f"{plural(len(overdue), 'expired item')}: {_describe(decision)}"

    def _unfinished(self, session: Session, now: datetime) -> str:
        record = job_runs.records(session).get(REMINDER_JOB)
        since = (record.done_at if record else None) or job_runs.first_start(session)
        if since is None or now - since <= UNFINISHED_FOR:
            return ""
        number = (now - since - UNFINISHED_FOR) // AGAIN_AFTER
        last = f"It was last done at {moment(since)}." if record and record.done_at else "It was never done."
        decision = self._alert(
            session,
            f"The reminder job has not finished for {UNFINISHED_FOR // timedelta(hours=1)} hours",
            f"{last}\nRun it with `notifyctl jobs run {REMINDER_JOB}`, and look why no worker does.",
            1,
            key=f"compliance-job:{since.isoformat()}:{number}",
        )
        return f"{REMINDER_JOB} does not finish: {_describe(decision)}"

    def _alert(self, session: Session, subject: str, details: str, count: int, key: str | None = None) -> Decision:
        assert self.settings.ops_alert_email is not None
        request = SendRequest(
            template_key=TEMPLATE,
            recipient=self.settings.ops_alert_email,
            context={"subject": subject, "details": details, "count": count},
            idempotency_key=key,
            source="job",
            source_ref="compliance_sla_monitor",
        )
        return self.orchestrator.send(session, request)


def _listed(items: Sequence[ListedItem]) -> str:
    names = (f"{item.client_id} {item.reference} {item.name}"[:LINE] for item in items[:NAMED])
    lines = [f"{name}, expired {item.expires_on}" for name, item in zip(names, items, strict=False)]
    if len(items) > NAMED:
        lines.append(f"… and {len(items) - NAMED} more")
    return "\n".join(lines)


def _describe(decision: Decision) -> str:
    match decision:
        case Blocked(reason=reason, detail=detail):
            return f"the alert was refused by {reason} ({detail})"
        case Duplicate():
            return "the operators have been told"
    return "the operators are told"
