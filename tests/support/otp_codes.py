"""What tests know of one-time codes: the code itself, from where only a worker would read it."""

from collections import Counter
from typing import Any

from sqlalchemy import select, text

from notifyctl.bootstrap import Runtime
from notifyctl.keyring import SealedContext
from notifyctl.models.columns import table
from notifyctl.models.enums import OtpAction
from notifyctl.models.message import MessagePayload
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.requests import Queued

PHONE = "+4915112345678"
VERIFY, SENSITIVE = OtpAction.PHONE_VERIFY, OtpAction.SENSITIVE_ACTION


def code_in(runtime: Runtime, message_id: str) -> str:
    payload = table(MessagePayload)
    with runtime.database.read() as session:
        row = session.execute(select(payload).where(payload.c.message_id == message_id)).one()
    return str(runtime.keys.open(SealedContext(row.key_id, row.sealed), message_id=message_id)["code"])


def sent_code(runtime: Runtime, phone: str = PHONE, action: OtpAction = VERIFY) -> str:
    decision = runtime.otp.send(phone, action)
    assert isinstance(decision, Queued)
    return code_in(runtime, decision.message_id)


def wrong(code: str, by: int = 1) -> str:
    return f"{(int(code) + by) % 1_000_000:06}"


def sms(runtime: Runtime) -> Counter[str]:
    """How many code messages there are by status, or by the gate that refused."""
    with runtime.database.read() as session:
        found = message_store.find(session, message_store.MessageFilter(template_key="OTP_CODE_SMS"), limit=10_000)
    return Counter(row.reason or row.status.value for row in found)


def audits(runtime: Runtime) -> list[tuple[str, dict[str, Any]]]:
    """The OTP_ rows of the audit log, in order: action and details."""
    with runtime.database.read() as session:
        found = session.execute(text("SELECT action, metadata FROM audit_log WHERE action LIKE 'OTP%' ORDER BY id"))
        return [(row.action, _json(row.metadata)) for row in found]


def audited(runtime: Runtime) -> Counter[str]:
    return Counter(action for action, _ in audits(runtime))


def _json(value: Any) -> dict[str, Any]:
    import json

    return json.loads(value) if isinstance(value, str) else value
