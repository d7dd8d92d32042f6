"""From a provider's answer to what is written down: the row, its audit, a suppression, the erasure of secrets. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, assert_never

from notifyctl.audit import log as audit_log
from notifyctl.delivery.outbox import DueMessage
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.models.enums import (
    CHANNELS,
    AuditAction,
    BlockReason,
    Channel,
    FailureReason,
    MessageStatus,
    SuppressionReason,
)
from notifyctl.models.message import FINAL
from notifyctl.providers.contract import Accepted, Answer, Rejected, SendResult, Unavailable, Unknown
from notifyctl.text.durations import iso
from notifyctl.text.masking import mask

MAX_ERROR_LENGTH = 500


def next_attempt(
    channel: Channel, *, attempts: int, now: datetime, retry_after: timedelta | None = None
) -> datetime | None:
    """When to try again after `attempts` attempts; None to give up.

    The provider's Retry-After is honoured, but never shortens the backoff and at most doubles it.
    """
    waits = CHANNELS[channel].backoff
    if attempts > len(waits):
        return None
    backoff = waits[attempts - 1]
    return now + max(backoff, min(retry_after or backoff, 2 * backoff))


class Attempt(NamedTuple):
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
    metadata: Mapping[str, object] | None = None
    subject: str | None = None
    attempted_at: datetime | None = None


class DeliveryOutcome(NamedTuple):
    """All that is written down of one message; `entries` are audit rows."""

    result: AttemptResult
    entries: list[audit_log.NewAuditRow]
    erase: bool
    log_fields: dict[str, object]
    """For one structured line; the recipient is masked."""
    suppress: SuppressionReason | None = None

    @property
    def has_no_client(self) -> bool:
        """Its client is gone, so nothing personal may stay."""
        return self.result.reason is BlockReason.CLIENT_UNKNOWN


_ACTIONS = {
    MessageStatus.SENT: AuditAction.NOTIFICATION_SENT,
    MessageStatus.FAILED: AuditAction.NOTIFICATION_FAILED,
    MessageStatus.RETRY_SCHEDULED: AuditAction.NOTIFICATION_RETRY_SCHEDULED,
    MessageStatus.IN_DOUBT: AuditAction.NOTIFICATION_IN_DOUBT,
    MessageStatus.BLOCKED: AuditAction.NOTIFICATION_BLOCKED,
    MessageStatus.EXPIRED: AuditAction.NOTIFICATION_EXPIRED,
    MessageStatus.CANCELED: AuditAction.NOTIFICATION_CANCELED,
}


def of_answer(attempt: Attempt, answer: Answer, *, actor: str, now: datetime) -> DeliveryOutcome:
    result = _result(attempt, answer.result, now)
    details = {"attempt": attempt.attempts, "seconds": round(answer.seconds, 3)} | to_details(result)
    entries = [_entry(_ACTIONS[result.status], attempt, details, actor, now)]
    if result.status is MessageStatus.SENT and attempt.audit_sent:
        entries.append(_entry(AuditAction(attempt.audit_sent), attempt, attempt.metadata or {}, actor, now))
    suppress = answer.result.suppress if isinstance(answer.result, Rejected) else None
    log_fields = _log_fields(attempt.message_id, attempt.template_key, attempt.recipient, details)
    return DeliveryOutcome(result, entries, attempt.sensitive and result.status in FINAL, log_fields, suppress)


def without_extras(attempt: Attempt, answer: Answer) -> tuple[Attempt, Answer]:
    """What decides about the message, and no word of the caller's, the template's or the provider's beside it."""
    result = answer.result
    if not isinstance(result, Accepted):
        result = replace(result, detail="")
    return attempt._replace(audit_sent=None, metadata=None, subject=None), answer._replace(result=result)


def of_forgotten(outcome: DeliveryOutcome) -> DeliveryOutcome:
    """The same, of a claim that the database does not know of any more."""
    first, *others = outcome.entries
    detail = {"detail": "the database had forgotten it; the worker that sent it had not"}
    entry = first._replace(metadata={**(first.metadata or {}), **detail})
    return outcome._replace(entries=[entry, *others])


def to_details(result: AttemptResult) -> dict[str, object]:
    """For the audit row."""
    details: dict[str, object] = {
        "reason": result.reason,
        "error_code": result.error_code,
        "error": result.error,
        "provider_message_id": result.provider_message_id,
        "next_attempt_at": iso(result.next_attempt_at) if result.next_attempt_at is not None else None,
    }
    return {name: value for name, value in details.items() if value is not None}


def _result(attempt: Attempt, answer: SendResult, now: datetime) -> AttemptResult:
    if isinstance(answer, Accepted):
        return AttemptResult(
            id=attempt.message_id,
            status=MessageStatus.SENT,
            lease_generation=attempt.lease_generation,
            subject=attempt.subject,
            provider_message_id=answer.provider_message_id,
            sent_at=now,
        )
    result = partial(
        AttemptResult,
        id=attempt.message_id,
        lease_generation=attempt.lease_generation,
        subject=attempt.subject,
        error_code=answer.code,
        error=_kept_detail(attempt, answer),
    )
    failed = partial(result, status=MessageStatus.FAILED, finished_at=now)
    match answer:
        case Rejected():
            return failed(reason=answer.reason)
        case Unavailable():
            due = next_attempt(attempt.channel, attempts=attempt.attempts, now=now, retry_after=answer.retry_after)
            if due is None:
                return failed(reason=FailureReason.PROVIDER_UNAVAILABLE)
            return result(status=MessageStatus.RETRY_SCHEDULED, next_attempt_at=due)
        case Unknown():
            return result(status=MessageStatus.IN_DOUBT)
        case _:
            assert_never(answer)


def _kept_detail(attempt: Attempt, answer: Rejected | Unavailable | Unknown) -> str:
    if answer.is_ours:
        return answer.detail[:MAX_ERROR_LENGTH]
    return kept_words(answer.detail, attempt.recipient, sensitive=attempt.sensitive)


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
    last_digits = _BETWEEN_DIGITS.join(digits[-_TELLING_DIGITS:])
    return rf"(?:\+|%2B)?{optional}{last_digits}" if last_digits else ""


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
    message: DueMessage,
    status: MessageStatus,
    reason: BlockReason | None,
    detail: str,
    *,
    actor: str,
    now: datetime,
) -> DeliveryOutcome:
    """A message that is due but must not go: a gate has closed since acceptance, or its time has passed."""
    result = AttemptResult(id=message.id, status=status, reason=reason, error=detail, finished_at=now)
    details = {"reason": reason, "detail": detail, "attempts": message.attempts}
    entry = audit_log.for_message(_ACTIONS[status], message, actor=actor, now=now, details=details)
    words = {"reason": reason, "error": detail}
    log_fields = _log_fields(message.id, message.template_key, message.recipient, words)
    return DeliveryOutcome(result, [entry], message.sealed is not None, log_fields)


def _log_fields(
    message_id: str, template_key: str, recipient: str | None, details: Mapping[str, object]
) -> dict[str, object]:
    return {
        "message_id": message_id,
        "template_key": template_key,
        "recipient": mask(recipient),
        **{name: value for name, value in details.items() if value is not None},
    }


def _entry(
    action: AuditAction, attempt: Attempt, details: Mapping[str, object], actor: str, now: datetime
) -> audit_log.NewAuditRow:
    return audit_log.entry(
        action,
        actor=actor,
        now=now,
        client_id=attempt.client_id,
        message_id=attempt.message_id,
        details=details,
    )
