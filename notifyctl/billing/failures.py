"""An event that could not be worked on: what is kept of the error, when it is tried again, and who is told."""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from traceback import extract_tb

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.billing import store
from notifyctl.billing.event_context import ACTOR
from notifyctl.billing.processing import BillingServices, ProcessingOptions
from notifyctl.billing.store import StoredEvent
from notifyctl.errors import IdempotencyConflict, NotFound
from notifyctl.models.enums import Alert, AuditAction
from notifyctl.orchestrator.requests import for_admins

log = logging.getLogger("notifyctl.billing")

RETRY_AFTER = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440))
"""After the first failure, the second and so on. After one more it waits for a replay."""
ALERT_TEMPLATE = "STRIPE_WEBHOOK_FAILURE_ADMIN"
STORM = "many events"
OWN_ALERTS, OWN_ALERTS_WITHIN = 3, timedelta(hours=1)
"""So many events get a mail each; when more fail within this time, it is a storm."""
STORM_LASTS = timedelta(hours=24)
"""One mail speaks for all that fail in this time: it is the window of the template's rate, too."""
_PACKAGE = Path(__file__).resolve().parent.parent


def next_attempt(attempts: int, now: datetime) -> datetime | None:
    """When to try again after so many attempts; None when it has been enough."""
    return now + RETRY_AFTER[attempts - 1] if 0 < attempts <= len(RETRY_AFTER) else None


def describe_error(error: Exception) -> str:
    """An error without any value in it that may come from the event: those may be somebody's name or address."""
    if isinstance(error, (NotFound, IdempotencyConflict)):
        return str(error)
    ours = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not ours:
        return type(error).__name__
    place = Path(ours[-1].filename).relative_to(_PACKAGE.parent)
    return f"{type(error).__name__} in {place}, line {ours[-1].lineno} ({ours[-1].name})"


def mark_failed(services: BillingServices, event_id: str, error: str, options: ProcessingOptions) -> None:
    """In a transaction of its own: the one that failed is rolled back. Alerts the admins, if it can."""
    now = services.clock()
    with services.database.transaction() as session:
        failed = store.fail(session, event_id, error)
        attempts = failed.attempts if failed else None
        if failed is not None:
            store.schedule(session, event_id, next_attempt(failed.attempts, now))
        details = {"event_id": event_id, "error": error, "attempt": attempts, "is_replay": options.is_replay}
        audit_log.write(session, AuditAction.STRIPE_EVENT_FAILED, actor=options.actor, now=now, details=details)
    log.error("stripe event failed", extra={"event_id": event_id, "error": error, "attempt": attempts})
    if failed is not None and failed.alerted_at is None:
        _alert(services, failed, now)


def _alert(services: BillingServices, event: StoredEvent, now: datetime) -> None:
    """Never raises: the event is stored and marked, and nobody who delivers one is to suffer for our mail."""
    try:
        with services.database.transaction() as session:
            store.lock_alerts(session)
            alert = _choose_alert(session, now)
            if alert is Alert.COVERED or _send_alert(services, session, event, alert):
                store.mark_alerted(session, event.id, alert, now)
    except Exception as error:  # noqa: BLE001  who delivers one is not to suffer for our mail
        log.error(
            "admins were not told of a stripe event that failed",
            extra={"event_id": event.id, "error": describe_error(error)},
        )


def _choose_alert(session: Session, now: datetime) -> Alert:
    if Alert.STORM in store.alerts_since(session, now - STORM_LASTS):
        return Alert.COVERED
    lately = store.alerts_since(session, now - OWN_ALERTS_WITHIN)
    return Alert.OWN if lately.get(Alert.OWN, 0) < OWN_ALERTS else Alert.STORM


def _send_alert(services: BillingServices, session: Session, event: StoredEvent, alert: Alert) -> bool:
    is_storm = alert is Alert.STORM
    context = {
        "subject": STORM if is_storm else event.id,
        "event_type": event.type,
        "error": f"{event.error} ({event.id}, the latest)" if is_storm else event.error,
        "count": store.count_failed(session) if is_storm else 1,
    }
    recipients = services.settings.admin_recipients
    if not recipients:
        log.warning("nobody to tell of a stripe event that failed: set ADMIN_ALERT_EMAILS or OPS_ALERT_EMAIL")
        return False
    requests = for_admins(recipients, ALERT_TEMPLATE, context, source=ACTOR, source_ref=event.id)
    services.orchestrator.send_many(session, requests)
    return True
