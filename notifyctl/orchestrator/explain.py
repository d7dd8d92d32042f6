"""Why a message did or did not arrive: one sentence, every verdict, and its life in time order. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict, cast

from notifyctl.audit.log import AuditRow
from notifyctl.models.enums import AuditAction, MessageStatus
from notifyctl.orchestrator.gates import Verdict, unpack
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.text.durations import age, duration, moment, plural

_LATE = timedelta(minutes=1)


class _Details(TypedDict, total=False):
    """What the audit rows of a message tell, those of any action."""

    attempt: int
    reason: str
    error_code: str
    error: str
    detail: str
    cause: str
    refusals: dict[str, str]
    provider_message_id: str
    per_minute_limit: int
    next_attempt_at: str
    happened_at: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    at: datetime
    action: AuditAction
    actor: str
    detail: str


@dataclass(frozen=True, slots=True)
class Explanation:
    sentence: str
    verdicts: tuple[Verdict, ...]
    """As they were at acceptance."""
    steps: tuple[Step, ...]


def explain_message(
    message: MessageRow, audit_rows: Sequence[AuditRow], *, now: datetime, workers: int, held_by: Sequence[str] = ()
) -> Explanation:
    """`workers` is how many are running; a message that waits for none is worth saying so.

    `held_by` is what holds it back: quiet hours, pauses, or a provider that is down.
    """
    return Explanation(
        sentence=_SENTENCES[MessageStatus(message.status)](message, _Present(now, workers, tuple(held_by))),
        verdicts=next(filter(None, (unpack(row.metadata or {}) for row in audit_rows)), ()),
        steps=tuple(_step(row, message) for row in audit_rows),
    )


def _step(row: AuditRow, message: MessageRow) -> Step:
    details = cast(_Details, row.metadata or {})
    return Step(row.created_at, row.action, row.actor, _detail(details, row.created_at, message))


def _detail(details: _Details, at: datetime, message: MessageRow) -> str:
    """`attempt 1, code 100: The API is down for maintenance; next attempt 04:17:17Z; 6 ms`."""
    words = {"attempt": "attempt {}", "reason": "{}", "error_code": "code {}"}
    head = ", ".join(text.format(value) for name, text in words.items() if (value := details.get(name)))
    parts = [": ".join(filter(None, (head, _cause(details))))]
    if provider_id := details.get("provider_message_id"):
        parts.append(f"{_provider(message)}'s id {provider_id}")
    if limit := details.get("per_minute_limit"):
        parts.append(f"{limit} a minute are sent")
    if due := details.get("next_attempt_at"):
        parts.append(f"next attempt {moment(datetime.fromisoformat(due), beside=at)}")
    if happened := _long_before(details.get("happened_at"), at):
        parts.append(f"it happened at {moment(happened, beside=at)}")
    if (seconds := details.get("seconds")) is not None:
        parts.append(duration(seconds))
    return "; ".join(filter(None, parts))


def _long_before(happened_at: str | None, noted_at: datetime) -> datetime | None:
    """When it happened, where that is not what one takes the time of the receipt for."""
    happened = datetime.fromisoformat(happened_at) if happened_at else None
    return happened if happened and noted_at - happened >= _LATE else None


def _cause(details: _Details) -> str:
    refusals = details.get("refusals") or {}
    refusal = refusals.get(details.get("reason", ""))
    words = (details.get("error"), details.get("detail"), details.get("cause"), refusal)
    return "; ".join(dict.fromkeys(_clause(text) for text in words if text))


@dataclass(frozen=True, slots=True)
class _Present:
    now: datetime
    workers: int
    held_by: tuple[str, ...] = ()

    @property
    def nobody(self) -> str:
        if self.held_by:
            return f"; held by {' and '.join(self.held_by)}"
        return "" if self.workers else "; no worker is running, start one with `notifyctl worker`"


def _queued(message: MessageRow, present: _Present) -> str:
    if message.next_attempt_at is not None and message.next_attempt_at > present.now:
        will = "did not go out and will be sent again" if message.attempts else "will be sent"
        return f"It {will} at {moment(message.next_attempt_at)}{present.nobody}."
    return f"It has waited for a worker for {age(message.created_at, present.now)}{present.nobody}."


def _deferred(message: MessageRow, present: _Present) -> str:
    turn = moment(message.next_attempt_at)
    return f"It waits for room in its channel's minute; its turn is forecast for {turn}{present.nobody}."


def _retry_scheduled(message: MessageRow, present: _Present) -> str:
    return (
        f"Not sent yet: {_attempts(message)} failed for now ({_why(message)});"
        f" the next is due at {moment(message.next_attempt_at)}{present.nobody}."
    )


def _sending(message: MessageRow, _: _Present) -> str:
    return f"A worker is sending it (attempt {message.attempts}, {message.lease_owner})."


def _in_doubt(message: MessageRow, _: _Present) -> str:
    return f"It may have gone out ({_why(message)}). Nothing is sent again before {_provider(message)} was asked."


def _sent(message: MessageRow, _: _Present) -> str:
    accepted = f"{_provider(message)} accepted it at {moment(message.sent_at)}"
    return f"{accepted} (attempt {message.attempts}); no receipt yet."


def _delivered(message: MessageRow, _: _Present) -> str:
    return f"It arrived: {_provider(message)} reported delivery at {moment(message.delivered_at)}."


def _bounced(message: MessageRow, _: _Present) -> str:
    reported = f"{_provider(message)} reported a bounce at {moment(message.finished_at)}"
    return f"It did not arrive: {reported} ({_why(message)})."


def _failed(message: MessageRow, _: _Present) -> str:
    return f"It was not delivered: after {_attempts(message)} it failed for good ({_why(message)})."


def _blocked(message: MessageRow, _: _Present) -> str:
    because = f" ({_clause(message.error)})" if message.error else ""
    return f"It was not sent: the gate {message.reason} refused{because}."


def _expired(message: MessageRow, _: _Present) -> str:
    return f"It was not sent: its send-by time {moment(message.expires_at)} passed first."


def _canceled(message: MessageRow, _: _Present) -> str:
    return f"It was not sent: it was withdrawn at {moment(message.finished_at)}."


_SENTENCES: Mapping[MessageStatus, Callable[[MessageRow, _Present], str]] = {
    MessageStatus.QUEUED: _queued,
    MessageStatus.DEFERRED_THROTTLED: _deferred,
    MessageStatus.SENDING: _sending,
    MessageStatus.RETRY_SCHEDULED: _retry_scheduled,
    MessageStatus.IN_DOUBT: _in_doubt,
    MessageStatus.SENT: _sent,
    MessageStatus.DELIVERED: _delivered,
    MessageStatus.BOUNCED: _bounced,
    MessageStatus.FAILED: _failed,
    MessageStatus.BLOCKED: _blocked,
    MessageStatus.EXPIRED: _expired,
    MessageStatus.CANCELED: _canceled,
}


def _why(message: MessageRow) -> str:
    """`Postmark 406, RECIPIENT_OPTED_OUT: You tried to send …`; what is not known is left out."""
    code = f"{_provider(message)} {message.error_code}" if message.error_code else None
    head = ", ".join(filter(None, (code, message.reason)))
    return ": ".join(filter(None, (head, _clause(message.error)))) or "no cause is known"


def _clause(text: str | None) -> str:
    """Fit to stand within a sentence."""
    return (text or "").rstrip(". ")


def _attempts(message: MessageRow) -> str:
    return plural(message.attempts, "attempt")


def _provider(message: MessageRow) -> str:
    """Names are kept in small letters."""
    return message.provider.capitalize() if message.provider else "the provider"
