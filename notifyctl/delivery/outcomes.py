"""From a provider's answer to what is written down: the row, its audit, a suppression, the erasure of secrets. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

from notifyctl.delivery.retry import next_attempt
from notifyctl.models.audit import AuditAction
from notifyctl.models.message import FINAL, BlockReason, FailureReason, MessageStatus
from notifyctl.models.suppression import SuppressionReason
from notifyctl.models.template import Channel
from notifyctl.orchestrator.masking import mask
from notifyctl.orchestrator.words import iso
from notifyctl.providers.base import Accepted, Answer, Rejected, SendResult, Unavailable, Unknown
from notifyctl.store import audit

MAX_ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed message while its call is on the way."""

    message_id: str
    channel: Channel
    template_key: str
    client_id: str | None
    recipient: str
    attempts: int
    lease_generation: int
    sensitive: bool
    audit_sent: str | None
    metadata: Mapping[str, Any] | None = None
    subject: str | None = None
    attempted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`row` is for store.outbox.record; `entries` are audit rows."""

    row: dict[str, Any]
    entries: list[audit.NewAuditRow]
    erase: bool
    log_fields: dict[str, Any]
    """For one structured line; the recipient is masked."""
    suppress: SuppressionReason | None = None

    @property
    def is_of_nobody(self) -> bool:
        """Its client is gone, so nothing personal may stay."""
        return bool(self.row["reason"] == BlockReason.CLIENT_UNKNOWN)


_ACTIONS = {
    MessageStatus.SENT: AuditAction.NOTIFICATION_SENT,
    MessageStatus.FAILED: AuditAction.NOTIFICATION_FAILED,
    MessageStatus.RETRY_SCHEDULED: AuditAction.NOTIFICATION_RETRY_SCHEDULED,
    MessageStatus.IN_DOUBT: AuditAction.NOTIFICATION_IN_DOUBT,
    MessageStatus.BLOCKED: AuditAction.NOTIFICATION_BLOCKED,
    MessageStatus.EXPIRED: AuditAction.NOTIFICATION_EXPIRED,
    MessageStatus.CANCELED: AuditAction.NOTIFICATION_CANCELED,
}


def of_answer(attempt: Attempt, answer: Answer, *, actor: str, now: datetime) -> Outcome:
    row = _row(attempt, answer.result, now)
    status = MessageStatus(row["status"])
    details: dict[str, Any] = {"attempt": attempt.attempts, "seconds": round(answer.seconds, 3)}
    details |= {name: row[name] for name in _TOLD if row[name] is not None}
    if row["next_attempt_at"] is not None:
        details["next_attempt_at"] = iso(row["next_attempt_at"])
    entries = [_entry(_ACTIONS[status], attempt, details, actor, now)]
    if status is MessageStatus.SENT and attempt.audit_sent:
        entries.append(_entry(AuditAction(attempt.audit_sent), attempt, attempt.metadata or {}, actor, now))
    suppress = answer.result.suppress if isinstance(answer.result, Rejected) else None
    about = _about(attempt.message_id, attempt.template_key, attempt.recipient, details)
    return Outcome(row, entries, attempt.sensitive and status in FINAL, about, suppress)


def without_extras(attempt: Attempt, answer: Answer) -> tuple[Attempt, Answer]:
    """What decides about the message, and no word of the caller's, the template's or the provider's beside it."""
    result = answer.result
    if not isinstance(result, Accepted):
        result = replace(result, detail="")
    return replace(attempt, audit_sent=None, metadata=None, subject=None), replace(answer, result=result)


_TOLD = ("reason", "error_code", "error", "provider_message_id")


def _row(attempt: Attempt, result: SendResult, now: datetime) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": attempt.message_id,
        "lease_generation": attempt.lease_generation,
        "reason": None,
        "error_code": None,
        "error": None,
        "subject": attempt.subject,
        "provider_message_id": None,
        "next_attempt_at": None,
        "sent_at": None,
        "delivered_at": None,
        "finished_at": None,
    }
    match result:
        case Accepted():
            row |= {
                "status": MessageStatus.SENT,
                "sent_at": now,
                "provider_message_id": result.provider_message_id,
            }
        case Rejected():
            row |= _failed(result.reason, now)
        case Unavailable():
            due = next_attempt(attempt.channel, attempts=attempt.attempts, now=now, retry_after=result.retry_after)
            if due is None:
                row |= _failed(FailureReason.PROVIDER_UNAVAILABLE, now)
            else:
                row |= {"status": MessageStatus.RETRY_SCHEDULED, "next_attempt_at": due}
        case Unknown():
            row |= {"status": MessageStatus.IN_DOUBT}
        case _:
            assert_never(result)
    if not isinstance(result, Accepted):
        row |= {
            "error_code": result.code,
            "error": result.detail[:MAX_ERROR_LENGTH]
            if result.is_ours
            else kept_words(result.detail, attempt.recipient, sensitive=attempt.sensitive),
        }
    return row


def _failed(reason: FailureReason, now: datetime) -> dict[str, Any]:
    return {"status": MessageStatus.FAILED, "reason": reason, "finished_at": now}


def kept_words(detail: str, recipient: str, *, sensitive: bool) -> str:
    """What may be on record of a provider's words about one message."""
    detail = _without_recipient(detail, recipient)
    return _without_secrets(detail)[:MAX_ERROR_LENGTH] if sensitive else detail


_BETWEEN_DIGITS = "(?:%[0-9A-F]{2}|[^0-9A-Za-z]){0,3}"
_TELLING_DIGITS = 7
"""As many digits from a number's end are taken for it: it may be quoted without its country code."""


def _without_recipient(detail: str, recipient: str) -> str:
    """Providers like to repeat the address; it is kept in one place only, so that it can be erased."""
    detail = detail[: 2 * MAX_ERROR_LENGTH]
    # Compiling a pattern for one recipient takes a millisecond: most words can be told to need none.
    if sum(map(str.isdigit, detail)) >= _TELLING_DIGITS or not recipient.startswith("+"):
        spelled = _number_pattern(recipient) if recipient.startswith("+") else _text_pattern(recipient)
        detail = re.sub(spelled, "<recipient>", detail, flags=re.IGNORECASE) if spelled else detail
    return detail[:MAX_ERROR_LENGTH]


def _number_pattern(number: str) -> str:
    """Its digits, each as it is or percent-encoded, with whatever stands between them."""
    digits = [f"(?:%3)?{digit}" for digit in number if digit.isdigit()]
    optional = ""
    for digit in digits[:-_TELLING_DIGITS]:
        optional = f"(?:{optional}{digit}{_BETWEEN_DIGITS})?"
    telling = _BETWEEN_DIGITS.join(digits[-_TELLING_DIGITS:])
    return rf"(?:\+|%2B)?{optional}{telling}" if telling else ""


def _text_pattern(address: str) -> str:
    return re.escape(address).replace("@", "(?:@|%40)").replace(r"\+", r"(?:\+|%2B)")


_WORD = re.compile(r"[^\s'\"<>()]+")
_CODE = re.compile(r"\d(?:[\s.\-]?\d){3,}")


def _without_secrets(detail: str) -> str:
    """A refusal may quote the message itself: no digits that can be a code stay, and no link."""
    links_gone = _WORD.sub(lambda word: "[link]" if _is_link(word[0].lower()) else word[0], detail)
    return _CODE.sub("[digits]", links_gone)


def _is_link(word: str) -> bool:
    if "://" in word or "%2f" in word or word.startswith("www."):
        return True
    return "." in word and any(mark in word for mark in "/?=#")


def of_refusal(
    message: Any,
    status: MessageStatus,
    reason: BlockReason | None,
    detail: str,
    *,
    actor: str,
    now: datetime,
) -> Outcome:
    """A message that is due but must not go: a gate has closed since acceptance, or its time has passed."""
    row = {
        "id": message.id,
        "status": status,
        "reason": reason,
        "error_code": None,
        "error": detail,
        "subject": None,
        "provider_message_id": None,
        "next_attempt_at": None,
        "sent_at": None,
        "delivered_at": None,
        "finished_at": now,
    }
    entry = audit.entry(
        _ACTIONS[status],
        actor=actor,
        now=now,
        client_id=message.client_id,
        message_id=message.id,
        details={"reason": reason, "detail": detail, "attempts": message.attempts},
    )
    about = _about(message.id, message.template_key, message.recipient, {"reason": reason, "error": detail})
    return Outcome(row, [entry], message.sealed is not None, about)


def _about(message_id: str, template_key: str, recipient: str, details: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in details.items() if value is not None}
    return {"message_id": message_id, "template_key": template_key, "recipient": mask(recipient), **told}


def _entry(
    action: AuditAction, attempt: Attempt, details: Mapping[str, Any], actor: str, now: datetime
) -> audit.NewAuditRow:
    return audit.entry(
        action,
        actor=actor,
        now=now,
        client_id=attempt.client_id,
        message_id=attempt.message_id,
        details=details,
    )
