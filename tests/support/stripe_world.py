"""What tests of billing look at: clients, subscriptions, mails and events after some deliveries."""

import json
from collections import Counter
from typing import Any

from sqlalchemy import select, text

from notifyctl.billing import store as event_store
from notifyctl.billing import subscription_store
from notifyctl.billing.event_context import EventOutcome
from notifyctl.bootstrap import Runtime
from notifyctl.clients import store as client_store
from notifyctl.models.columns import table
from notifyctl.models.message import MessagePayload
from notifyctl.orchestrator import message_store

CONFIRMED, FAILED, CANCELED = "SUBSCRIPTION_CONFIRMED", "PAYMENT_FAILED", "SUBSCRIPTION_CANCELED"
ALERT = "STRIPE_WEBHOOK_FAILURE_ADMIN"


def receive(runtime: Runtime, *raws: bytes) -> EventOutcome:
    """Verified deliveries, one after the other. What came of the last."""
    return [runtime.billing.receive(raw) for raw in raws][-1]


def mails(runtime: Runtime, **wanted: Any) -> list[str]:
    """The billing mails that have gone out or are to, by template, in alphabetical order."""
    rows = _messages(runtime, **wanted)
    return sorted(row.template_key for row in rows if row.reason is None and row.status != "CANCELED")


def withdrawn(runtime: Runtime) -> list[str]:
    return sorted(row.template_key for row in _messages(runtime, status="CANCELED"))


def mail(runtime: Runtime, template_key: str) -> dict[str, Any]:
    """The context of the only mail of this template."""
    (row,) = _messages(runtime, template_key=template_key)
    payload = table(MessagePayload)
    with runtime.database.read() as session:
        context = session.execute(select(payload.c.context).where(payload.c.message_id == row.id)).scalar_one()
    return dict(json.loads(context))


def blocked(runtime: Runtime) -> list[tuple[str, str]]:
    return [(row.template_key, row.reason) for row in _messages(runtime) if row.reason is not None]


def _messages(runtime: Runtime, **wanted: Any) -> list[Any]:
    with runtime.database.read() as session:
        rows = message_store.find(session, message_store.MessageFilter(**wanted), limit=10_000)
    return [row for row in rows if row.audience == "CLIENT"]


def alerts(runtime: Runtime) -> list[Any]:
    with runtime.database.read() as session:
        return list(message_store.find(session, message_store.MessageFilter(template_key=ALERT), limit=10_000))


def the_client(runtime: Runtime, client_id: str = "acme") -> Any:
    with runtime.database.read() as session:
        return client_store.get_many(session, [client_id])[client_id]


def subscription_state(runtime: Runtime, subscription_id: str = "sub_1") -> Any:
    with runtime.database.read() as session:
        return subscription_store.get(session, subscription_id)


def event(runtime: Runtime, event_id: str) -> Any:
    with runtime.database.read() as session:
        return event_store.get(session, event_id)


def statuses(runtime: Runtime) -> Counter[str]:
    with runtime.database.read() as session:
        rows = session.execute(text("SELECT status, count(*) FROM stripe_event GROUP BY status"))
        return Counter({status: count for status, count in rows})


def audits(runtime: Runtime, action: str = "STRIPE%") -> list[Any]:
    with runtime.database.read() as session:
        statement = text("SELECT action, actor, client_id, metadata FROM audit_log WHERE action LIKE :like ORDER BY id")
        return list(session.execute(statement, {"like": action}))
