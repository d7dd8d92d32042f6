"""Messages of a test: values for the templates, sending, and what became of one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.operations import heartbeats
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.orchestrator import CodePipe, NotificationOrchestrator
from notifyctl.orchestrator.requests import Decision, SendRequest

WELCOME = {"client_name": "Acme", "login_url": "https://cloud.example/login"}
RESET = {"client_name": "Acme", "reset_url": "https://cloud.example/reset/t0k3n", "valid_minutes": 60}
REMINDER_SMS = {
    "item_name": "Trade licence",
    "item_reference": "TL-20",
    "expires_on": "2026-04-01",
    "days_left": 30,
}
REMINDER = REMINDER_SMS | {"client_name": "Acme", "renew_url": "https://cloud.example/renew"}
CODE = {"code": "493027", "valid_minutes": 10}
SPIKE = {"summary": "Email is failing"}


def send(runtime: Runtime, template_key: str, context: Mapping[str, Any], **more: Any) -> Decision:
    """One send in a transaction of its own; to client `acme` unless `client_id` or `recipient` says otherwise."""
    if "recipient" not in more:
        more.setdefault("client_id", "acme")
    with runtime.database.transaction() as session:
        pipe = pipe_for(runtime, template_key)
        return pipe.send(session, SendRequest(template_key=template_key, context=context, **more))


def pipe_for(runtime: Runtime, template_key: str) -> NotificationOrchestrator:
    """For tests of delivery, to whom a code is a message as any other: without the limits that OneTimeCodes asks."""
    return code_pipe(runtime) if template_key == "OTP_CODE_SMS" else runtime.orchestrator


def code_pipe(runtime: Runtime) -> CodePipe:
    return CodePipe(settings=runtime.settings, keys=runtime.keys, plans=runtime.plans, clock=runtime.clock)


def a_worker(runtime: Runtime, name: str = "app-1:4711:ab", *, now: datetime | None = None, **about: Any) -> None:
    """One that is at work, for as long as nobody asks more than a minute later."""
    now = now or runtime.clock()
    values = {"host": "app-1", "pid": 4711, "version": "1", "started_at": now} | about
    with runtime.database.transaction() as session:
        heartbeats.beat(session, worker=name, now=now, stopping=False, **values)


def fail(runtime: Runtime, message_id: str) -> None:
    """As after the last retry."""
    with runtime.database.transaction() as session:
        session.execute(
            text("UPDATE message_log SET status = 'FAILED', reason = 'UNKNOWN', attempts = 4 WHERE id = :id"),
            {"id": message_id},
        )


def message(runtime: Runtime, message_id: str) -> Any:
    with runtime.database.read() as session:
        return message_store.get(session, message_id)


def actions(runtime: Runtime, message_id: str) -> list[str]:
    """The audit trail of a message, as names in time order."""
    with runtime.database.read() as session:
        return [row.action.value for row in audit_log.of_message(session, message_id)]


def audit_details(runtime: Runtime, message_id: str) -> list[dict[str, Any]]:
    """What the rows of that trail tell besides, in the same order."""
    with runtime.database.read() as session:
        return [row.metadata for row in audit_log.of_message(session, message_id)]


def all_messages(session: Session) -> list[Any]:
    return list(message_store.find(session, message_store.MessageFilter(), limit=100_000))
