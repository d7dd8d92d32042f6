"""What a receipt does to its message: new values and audit rows, or nothing. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from notifyctl.delivery.outcomes import kept_words
from notifyctl.models.enums import AuditAction, FailureReason, MessageStatus
from notifyctl.models.status import may_become
from notifyctl.orchestrator.words import iso
from notifyctl.providers.receipts import Receipt, ReceiptEvent
from notifyctl.store import audit
from notifyctl.store.attempt_results import AttemptResult
from notifyctl.store.receipts import IN_TIME, ReceivedMessage

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
class ReceiptEffect:
    """`entries` are audit rows."""

    result: AttemptResult
    entries: list[audit.NewAuditRow]


def is_too_early(message: ReceivedMessage) -> bool:
    """Our own record of the sending may still be on its way."""
    return message.status not in IN_TIME


def is_in_doubt(message: ReceivedMessage) -> bool:
    """Whether nobody knows if it went out; a receipt that may move it tells that it did."""
    return message.status in (MessageStatus.IN_DOUBT, MessageStatus.FAILED)


def is_of_another_copy(message: ReceivedMessage, receipt: Receipt) -> bool:
    """A message that was sent twice has two fates, and only that of the copy on record counts."""
    ours, theirs = message.provider_message_id, receipt.provider_message_id
    return ours is not None and theirs is not None and ours != theirs


def effect_of(message: ReceivedMessage, receipt: Receipt, *, is_id_free: bool, now: datetime) -> ReceiptEffect | None:
    """None when it changes nothing. `is_id_free`: no other message has the provider's id that the receipt names."""
    status = _STATUS[receipt.event]
    if not _may_move(message, status):
        return None
    words = _provider_words(message, receipt)
    result = _result(message, status, receipt, words, now)
    entries: list[audit.NewAuditRow] = []
    if is_in_doubt(message):
        provider_message_id = receipt.provider_message_id if is_id_free else None
        result = replace(result, sent_at=message.last_attempt_at, provider_message_id=provider_message_id)
        entries += _sent_after_all(message, receipt, now)
    if status in _ACTIONS:
        entries.append(_entry(_ACTIONS[status], message, receipt, _details(receipt, words), now))
    return ReceiptEffect(result, entries)


def _may_move(message: ReceivedMessage, status: MessageStatus) -> bool:
    if message.status is MessageStatus.FAILED and message.reason != FailureReason.IN_DOUBT_HELD:
        return False
    return may_become(message.status, status)


def _result(
    message: ReceivedMessage, status: MessageStatus, receipt: Receipt, words: str, now: datetime
) -> AttemptResult:
    """The times are ours, of when we learned it: no figure of an hour that has passed changes afterwards.

    What a bounce takes back leaves no trace here, so that the order of receipts makes no difference; the audit has it.
    """
    is_bounce = status is MessageStatus.BOUNCED
    return AttemptResult(
        id=message.id,
        status=status,
        reason=receipt.reason if is_bounce else None,
        error_code=receipt.code if is_bounce else None,
        error=words or None if is_bounce else None,
        provider_message_id=message.provider_message_id,
        sent_at=message.sent_at,
        delivered_at=now if status is MessageStatus.DELIVERED else None,
        finished_at=None if status is MessageStatus.SENT else now,
    )


def _provider_words(message: ReceivedMessage, receipt: Receipt) -> str:
    """Of an erased client's message the provider's words are not kept: they may quote the address."""
    if not message.recipient:
        return ""
    return kept_words(receipt.detail, message.recipient, sensitive=bool(message.sensitive))


def _details(receipt: Receipt, words: str) -> dict[str, object]:
    happened_at = iso(receipt.happened_at) if receipt.happened_at else None
    details = {"detail": words, "happened_at": happened_at}
    if receipt.event is ReceiptEvent.BOUNCED:
        details = {"reason": receipt.reason, "error_code": receipt.code, "error": words, "happened_at": happened_at}
    return {name: value for name, value in details.items() if value}


def _sent_after_all(message: ReceivedMessage, receipt: Receipt, now: datetime) -> list[audit.NewAuditRow]:
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
    action: AuditAction, message: ReceivedMessage, receipt: Receipt, details: Mapping[str, object], now: datetime
) -> audit.NewAuditRow:
    return audit.for_message(action, message, actor=receipt.provider, now=now, details=details)
