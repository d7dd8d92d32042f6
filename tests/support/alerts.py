"""What tests of the alerts share: a clock that stands, messages with a past, and what was queued for whom."""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import AuditAction
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.requests import Queued, SendRequest
from tests.support.clients import a_client
from tests.support.messages import CODE, pipe_for

OPS, ADMIN, PHONE = "ops@acme.example", "admin@acme.example", "+12025550143"
ALERTS = ("OPS_ALERT_NOTIFICATION_SPIKE", "NOTIFICATION_SPIKE_ALERT_ADMIN", "OPS_ALERT_SMS")


def some_clients(runtime: Runtime, count: int, prefix: str = "c", **fields: Any) -> list[str]:
    ids = [f"{prefix}{number}" for number in range(count)]
    for client_id in ids:
        a_client(runtime, client_id, **fields)
    return ids


def queue(runtime: Runtime, count: int, template: str = "WELCOME_EMAIL", prefix: str = "client") -> list[str]:
    """Messages to as many clients, new ones where there are none yet; codes by SMS to strangers."""
    if template == "OTP_CODE_SMS":
        requests = [
            SendRequest(template_key=template, recipient=f"+4915112{number:06}", context=CODE)
            for number in range(count)
        ]
    else:
        context = {"client_name": "Acme", "login_url": "https://cloud.example/login"}
        for number in range(count):
            a_client(runtime, f"{prefix}{number}")
        requests = [
            SendRequest(template_key=template, client_id=f"{prefix}{number}", context=context)
            for number in range(count)
        ]
    with runtime.database.transaction() as session:
        decisions = pipe_for(runtime, template).send_many(session, requests)
    assert all(isinstance(decision, Queued) for decision in decisions)
    return [decision.message_id for decision in decisions]


def attempted(runtime: Runtime, ids: Iterable[str], outcome: str, **fields: Any) -> None:
    """Each was attempted a moment ago with this outcome, as a worker would have recorded it."""
    now = runtime.clock()
    at = now if runtime.database.is_sqlite is False else now.strftime("%Y-%m-%d %H:%M:%S.%f")
    values = {"status": outcome, "attempts": 1, "last_attempt_at": at, "next_attempt_at": None} | fields
    if outcome in ("SENT", "DELIVERED"):
        values["sent_at"] = at
    if outcome in ("FAILED", "BOUNCED", "DELIVERED"):
        values["finished_at"] = at
    if outcome == "RETRY_SCHEDULED":
        later = now + timedelta(seconds=30)
        values["next_attempt_at"] = later if not runtime.database.is_sqlite else later.strftime("%Y-%m-%d %H:%M:%S.%f")
    written = ", ".join(f"{name} = :{name}" for name in values)
    with runtime.database.transaction() as session:
        for message_id in ids:
            session.execute(text(f"UPDATE message_log SET {written} WHERE id = :id"), values | {"id": message_id})
            action = AuditAction(f"NOTIFICATION_{outcome}")
            audit_log.write(session, action, actor="worker", now=now, message_id=message_id, details={"attempt": 1})


def sent(runtime: Runtime, count: int, template: str = "WELCOME_EMAIL", prefix: str = "sent") -> list[str]:
    ids = queue(runtime, count, template, prefix)
    attempted(runtime, ids, "SENT")
    return ids


def failed(
    runtime: Runtime, count: int, outcome: str = "RETRY_SCHEDULED", prefix: str = "bad", **more: Any
) -> list[str]:
    ids = queue(runtime, count, prefix=prefix)
    attempted(runtime, ids, outcome, **more)
    return ids


def alerts(runtime: Runtime, *templates: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Template, recipient and context of those queued or sent, oldest first."""
    found = []
    with runtime.database.read() as session:
        rows = message_store.find(session, message_store.MessageFilter(), limit=1_000)
        for row in reversed(rows):
            if row.template_key in (templates or ALERTS) and row.status != "BLOCKED":
                payload = text("SELECT context FROM message_payload WHERE message_id = :id")
                context = session.execute(payload, {"id": row.id}).scalar_one()
                found.append((row.template_key, row.recipient, json.loads(context)))
    return found


def audited(runtime: Runtime, like: str) -> list[tuple[str, dict[str, Any]]]:
    with runtime.database.read() as session:
        statement = text("SELECT action, metadata FROM audit_log WHERE action LIKE :like ORDER BY id")
        rows = session.execute(statement, {"like": like}).all()
    return [(row.action, json.loads(row.metadata) if isinstance(row.metadata, str) else row.metadata) for row in rows]
