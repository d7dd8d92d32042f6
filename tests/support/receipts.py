"""What tests of receipts share: messages as they wait for one, and receipts as providers bring them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.receipts import apply
from notifyctl.delivery.receipts.apply import Result
from notifyctl.models.enums import Channel, FailureReason, SuppressionReason
from notifyctl.providers.receipts import Notice, Receipt, ReceiptEvent
from tests.support.clients import a_client
from tests.support.messages import CODE, WELCOME, message, send

ADDRESS = "acme@client.example"
PHONE = "+4915112345678"


def an_email(runtime: Runtime, status: str = "SENT", client_id: str = "acme", **values: Any) -> str:
    a_client(runtime, client_id)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME, client_id=client_id)
    return put(runtime, decision.message_id, status, provider="postmark", **values)


def a_code(runtime: Runtime, status: str = "SENT", recipient: str = PHONE, **values: Any) -> str:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient=recipient)
    return put(runtime, decision.message_id, status, provider="twilio", **values)


def put(runtime: Runtime, message_id: str, status: str, **values: Any) -> str:
    """The row as it stands in `status`: with the provider's id once that is known, which is `pm-` and our own."""
    known = {"SENT", "DELIVERED", "BOUNCED"}
    now = runtime.clock()
    row = {
        "status": status,
        "attempts": 1,
        "last_attempt_at": stamp(now - timedelta(seconds=5)),
        "sent_at": stamp(now) if status in known else None,
        "provider_message_id": f"pm-{message_id}" if status in known else None,
        "reason": None,
        **values,
    }
    assignments = ", ".join(f"{name} = :{name}" for name in row)
    with runtime.database.transaction() as session:
        session.execute(text(f"UPDATE message_log SET {assignments} WHERE id = :id"), row | {"id": message_id})
    return message_id


def stamp(moment: Any) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f") + "+00:00" if moment else None


def a_receipt(message_id: str | None, event: str = "DELIVERED", **values: Any) -> Receipt:
    """An email's unless `channel` says otherwise."""
    bounce: dict[str, Any] = {}
    if event == "BOUNCED":
        bounce = {"reason": FailureReason.RECIPIENT_INVALID, "code": "HardBounce", "detail": "no such mailbox"}
    channel = values.get("channel", Channel.EMAIL)
    fields = {
        "provider": "postmark" if channel is Channel.EMAIL else "twilio",
        "channel": channel,
        "event_id": f"{event} of {message_id}",
        "message_id": message_id,
        "provider_message_id": f"pm-{message_id}",
        **bounce,
    }
    return Receipt(event=ReceiptEvent(event), **(fields | values))


def a_complaint(message_id: str | None, **values: Any) -> Receipt:
    return a_receipt(message_id, "REFUSED", suppress=SuppressionReason.COMPLAINT, code="SpamComplaint", **values)


def receive(runtime: Runtime, *notices: Notice) -> list[Result]:
    return [apply.receive(runtime.database, runtime.keys, notice, now=runtime.clock()) for notice in notices]


def status_of(runtime: Runtime, message_id: str) -> str:
    return str(message(runtime, message_id).status)


def rows(runtime: Runtime, table: str) -> Sequence[Any]:
    with runtime.database.read() as session:
        return session.execute(text(f"SELECT * FROM {table}")).all()


def suppressed(runtime: Runtime) -> dict[str, str]:
    """Address -> reason."""
    return {row.address: row.reason for row in rows(runtime, "suppression")}
