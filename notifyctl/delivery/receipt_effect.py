"""What a receipt does to its message: new values and audit rows, or nothing. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifyctl.delivery.outcomes import kept_words
from notifyctl.models.audit import AuditAction
from notifyctl.models.message import FailureReason, MessageStatus
from notifyctl.models.status import may_become
from notifyctl.orchestrator.words import iso
from notifyctl.providers.receipts import Receipt, ReceiptEvent
from notifyctl.store import audit
from notifyctl.store.receipts import IN_TIME

_STATUS = {
    ReceiptEvent.SENT: MessageStatus.SENT,
    ReceiptEvent.DELIVERED: MessageStatus.DELIVERED,
    ReceiptEvent.BOUNCED: MessageStatus.BOUNCED,
}
_ACTIONS = {
    MessageStatus.DELIVERED: AuditAction.NOTIFICATION_DELIVERED,
    MessageStatus.BOUNCED: AuditAction.NOTIFICATION_BOUNCED,
}


@dataclass(frozen=True, slots=True)
class Effect:
    """`values` are for store.receipts.move; `entries` are audit rows."""

    values: dict[str, Any]
    entries: list[audit.NewAuditRow]


def is_too_early(message: Any | None) -> bool:
    """Our own record of the sending may still be on its way."""
    return message is None or message.status not in IN_TIME


def is_in_doubt(message: Any) -> bool:
    """Whether nobody knows if it went out; a receipt that may move it tells that it did."""
    return message.status in (MessageStatus.IN_DOUBT, MessageStatus.FAILED)


def is_of_another_copy(message: Any, receipt: Receipt) -> bool:
    """A message that was sent twice has two fates, and only that of the copy on record counts."""
    known, told = message.provider_message_id, receipt.provider_message_id
    return known is not None and told is not None and known != told


def effect_of(message: Any, receipt: Receipt, *, is_id_free: bool, now: datetime) -> Effect | None:
    """None when it changes nothing. `is_id_free`: no other message has the provider's id that the receipt names."""
    status = _STATUS[receipt.event]
    if not _may_move(message, status):
        return None
    details = _details(message, receipt)
    values = _values(status, receipt, details, now)
    entries: list[audit.NewAuditRow] = []
    if is_in_doubt(message):
        values["sent_at"] = message.last_attempt_at
        values["provider_message_id"] = receipt.provider_message_id if is_id_free else None
        entries += _sent_after_all(message, receipt, now)
    if status in _ACTIONS:
        told = {name: value for name, value in details.items() if value}
        entries.append(_entry(_ACTIONS[status], message, receipt, told, now))
    return Effect(values, entries)


def _may_move(message: Any, status: MessageStatus) -> bool:
    if message.status is MessageStatus.FAILED and message.reason != FailureReason.IN_DOUBT_HELD:
        return False
    return may_become(message.status, status)


def _values(status: MessageStatus, receipt: Receipt, details: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The times are ours, of when we learned it: no figure of an hour that has passed changes afterwards.

    What a bounce takes back leaves no trace here, so that the order of receipts makes no difference; the audit has it.
    """
    return {
        "status": status,
        "reason": receipt.reason if status is MessageStatus.BOUNCED else None,
        "error_code": receipt.code if status is MessageStatus.BOUNCED else None,
        "error": details.get("error"),
        "delivered_at": now if status is MessageStatus.DELIVERED else None,
        "finished_at": None if status is MessageStatus.SENT else now,
    }


def _details(message: Any, receipt: Receipt) -> dict[str, Any]:
    """Of an erased client's message the provider's words are not kept: they may quote the address."""
    words = ""
    if message.recipient:
        words = kept_words(receipt.detail, message.recipient, sensitive=bool(message.sensitive))
    happened_at = iso(receipt.happened_at) if receipt.happened_at else None
    if receipt.event is not ReceiptEvent.BOUNCED:
        return {"detail": words, "happened_at": happened_at}
    return {"reason": receipt.reason, "error_code": receipt.code, "error": words or None, "happened_at": happened_at}


def _sent_after_all(message: Any, receipt: Receipt, now: datetime) -> list[audit.NewAuditRow]:
    """What was in doubt did go out: the rows that the answer to the call would have brought."""
    details = {
        "attempt": message.attempts,
        "provider_message_id": receipt.provider_message_id,
        "detail": "its receipt says that it went out",
    }
    entries = [_entry(AuditAction.NOTIFICATION_SENT, message, receipt, details, now)]
    if message.audit_sent:
        entries.append(_entry(AuditAction(message.audit_sent), message, receipt, message.metadata or {}, now))
    return entries


def _entry(
    action: AuditAction, message: Any, receipt: Receipt, details: dict[str, Any], now: datetime
) -> audit.NewAuditRow:
    about = {"client_id": message.client_id, "message_id": message.id}
    return audit.entry(action, actor=receipt.provider, now=now, details=details, **about)
