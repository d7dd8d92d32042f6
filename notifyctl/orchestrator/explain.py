"""Why a message did or did not arrive: one sentence, every verdict, and its life in time order. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifyctl.models.audit import AuditAction
from notifyctl.models.message import MessageStatus
from notifyctl.orchestrator.gates import Verdict, unpack

_NAMED = (
    "attempt",
    "reason",
    "error_code",
    "error",
    "detail",
    "provider_message_id",
    "next_attempt_at",
    "seconds",
)
"""What the timeline shows of an audit row's details, in this order."""


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


def explain(message: Any, audit_rows: Sequence[Any], *, now: datetime, workers: int) -> Explanation:
    """`workers` is how many are running; a message that waits for none is worth saying so."""
    accepted = next((row for row in audit_rows if "gates" in (row.metadata or {})), None)
    return Explanation(
        sentence=_sentence(message, now, workers),
        verdicts=unpack(accepted.metadata) if accepted else (),
        steps=tuple(Step(row.created_at, row.action, row.actor, _detail(row.metadata or {})) for row in audit_rows),
    )


def _detail(details: Mapping[str, Any]) -> str:
    shown = [f"{name.replace('_', ' ')} {details[name]}" for name in _NAMED if details.get(name) not in (None, "")]
    return ", ".join(shown)


def _sentence(message: Any, now: datetime, workers: int) -> str:
    status = MessageStatus(message.status)
    reason = f"{message.reason}: {message.error}" if message.reason else f"{message.error}"
    attempts = f"{message.attempts} attempt{'s' if message.attempts != 1 else ''}"
    match status:
        case MessageStatus.QUEUED:
            return f"It has waited for a worker for {_age(message.created_at, now)}{_nobody(workers)}."
        case MessageStatus.DEFERRED_THROTTLED:
            return f"It waits for its channel's minute to have room; its turn is forecast for {_at(message.next_attempt_at)}."
        case MessageStatus.RETRY_SCHEDULED:
            return (
                f"Not sent yet: {attempts} failed for now ({_code(message)}{message.error});"
                f" the next is due at {_at(message.next_attempt_at)}{_nobody(workers)}."
            )
        case MessageStatus.SENDING:
            return f"A worker is sending it (attempt {message.attempts}, {message.lease_owner})."
        case MessageStatus.IN_DOUBT:
            return f"It may have gone out: {message.error}. Nothing is sent again before {message.provider} was asked."
        case MessageStatus.SENT:
            return f"{message.provider} accepted it at {_at(message.sent_at)} (attempt {message.attempts}); no receipt yet."
        case MessageStatus.DELIVERED:
            return f"It arrived: {message.provider} reported delivery at {_at(message.delivered_at)}."
        case MessageStatus.BOUNCED:
            return f"It did not arrive: {message.provider} reported a bounce at {_at(message.finished_at)} ({reason})."
        case MessageStatus.FAILED:
            return f"It was not delivered: after {attempts} it failed for good ({_code(message)}{reason})."
        case MessageStatus.BLOCKED:
            return f"It was not sent: the gate {message.reason} refused ({message.error})."
        case MessageStatus.EXPIRED:
            return f"It was not sent: its send-by time {_at(message.expires_at)} passed first."
        case MessageStatus.CANCELED:
            return f"It was not sent: it was withdrawn at {_at(message.finished_at)}."


def _code(message: Any) -> str:
    return f"{message.provider} {message.error_code}: " if message.error_code else ""


def _nobody(workers: int) -> str:
    return "" if workers else "; no worker is running, start one with `notifyctl worker`"


def _age(since: datetime, now: datetime) -> str:
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _at(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if moment else "an unknown time"
