"""Why a message did or did not arrive: one sentence, every verdict, and its life in time order. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import TypedDict, cast

from notifyctl.audit.log import AuditRow
from notifyctl.models.enums import AuditAction, BlockReason, Channel, FailureReason, MessageStatus
from notifyctl.models.message import WAITING
from notifyctl.orchestrator.gates import Verdict, unpack
from notifyctl.orchestrator.holds import Hold
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.text.durations import age, duration, moment, plural

_LATE = timedelta(minutes=1)
SHORT = 8
"""As many digits of an id are shown in lists: its last ones, since ids of one hour begin alike."""


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
    next_step: str
    """What somebody may do about it; empty where there is nothing to do, or nothing but wait."""
    verdicts: tuple[Verdict, ...]
    """As they were at acceptance."""
    steps: tuple[Step, ...]


def explain_message(
    message: MessageRow,
    audit_rows: Sequence[AuditRow],
    *,
    now: datetime,
    workers: int,
    held_by: Sequence[Hold] = (),
    suppressed: str | None = None,
) -> Explanation:
    """`workers` is how many are running; a message that waits for none is worth saying so.

    `held_by` is what holds it back: quiet hours, pauses, or a provider that is down. `suppressed` is why its address
    is suppressed now.
    """
    return Explanation(
        sentence=_SENTENCES[MessageStatus(message.status)](message, _Present(now, workers, tuple(held_by))),
        next_step=_next_step(message, now, held_by, suppressed),
        verdicts=next(filter(None, (unpack(row.metadata or {}) for row in audit_rows)), ()),
        steps=tuple(_step(row, message) for row in audit_rows),
    )


def _step(row: AuditRow, message: MessageRow) -> Step:
    details = cast(_Details, row.metadata or {})
    detail = _detail(details, row.created_at, message)
    if row.action in _BY_SOMEBODY:
        detail = "; ".join(filter(None, (detail, f"by {row.actor}")))
    return Step(row.created_at, row.action, row.actor, detail)


_BY_SOMEBODY = (AuditAction.OPERATOR_ACTION, AuditAction.NOTIFICATION_CANCELED)
"""Where it is of interest who did it: all else is a worker's, or the caller's."""


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
    held_by: tuple[Hold, ...] = ()

    @property
    def nobody(self) -> str:
        if self.held_by:
            return f"; held by {' and '.join(hold.words for hold in self.held_by)}"
        return "" if self.workers else "; no worker is running, start one with `notifyctl worker`"


def _queued(message: MessageRow, present: _Present) -> str:
    if message.next_attempt_at is not None and message.next_attempt_at > present.now:
        will = "did not go out and will be sent again" if message.attempts else "will be sent"
        return f"It {will} at {moment(message.next_attempt_at)}{present.nobody}."
    for_whom = "" if present.held_by else " for a worker"
    return f"It has waited{for_whom} for {age(message.created_at, present.now)}{present.nobody}."


def _deferred(message: MessageRow, present: _Present) -> str:
    if present.held_by:  # its turn comes when that is over, whatever was forecast
        return f"It has waited for {age(message.created_at, present.now)}{present.nobody}."
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


_LIFTED_BY = {
    BlockReason.TEMPLATE_DISABLED: "`notifyctl templates enable {template}`",
    BlockReason.SUPPRESSED: (
        "`notifyctl suppressions remove {channel} ADDRESS` (see `notifyctl suppressions list --reveal`)"
    ),
    BlockReason.SMS_DISABLED: "`notifyctl clients set {client} --sms`, once they have consented",
    BlockReason.PROVISIONING_INCOMPLETE: "`notifyctl clients set {client} --provisioning COMPLETED`, once they are",
    BlockReason.SUBSCRIPTION_INACTIVE: (
        "`notifyctl clients set {client} --subscription active`, or `notifyctl stripe reconcile`"
    ),
    BlockReason.PLAN_FEATURE_MISSING: "`notifyctl clients set {client} --plan PLAN`",
    BlockReason.CLIENT_UNKNOWN: "`notifyctl clients set {client} --name NAME --email ADDRESS`",
    BlockReason.RECIPIENT_MISSING: "`notifyctl clients set {client} {address}`",
    BlockReason.RECIPIENT_INVALID: "`notifyctl clients set {client} {address}`",
    BlockReason.COUNTRY_NOT_ALLOWED: "OTP_ALLOWED_COUNTRIES with that country",
    BlockReason.CONTEXT_INVALID: "the values that `notifyctl templates show {template}` lists",
}
"""What makes a gate let such a message through; nothing where nobody should."""


def how_to_lift(
    gate: BlockReason, *, channel: Channel, template_key: str, client_id: str | None, by_setting: bool = False
) -> str:
    """`client_id` is None where it is that of several. `by_setting`: SMS_ENABLED is false."""
    if gate is BlockReason.SMS_DISABLED and by_setting:
        return "SMS_ENABLED=true"
    words = _LIFTED_BY.get(gate, "")
    return words.format(
        template=template_key, channel=channel, client=quote(client_id or "ID"), address=_address_option(channel)
    )


def _next_step(message: MessageRow, now: datetime, held_by: Sequence[Hold], suppressed: str | None) -> str:
    match message.status:
        case status if status in WAITING:
            return "; ".join(filter(None, (hold.remedy for hold in held_by)))
        case MessageStatus.BLOCKED if message.reason in set(BlockReason):
            return _of_blocked(message, BlockReason(message.reason))
        case MessageStatus.FAILED if message.expires_at is not None and message.expires_at <= now:
            return "Its send-by time has passed: send it anew, if it is still of use."
        case MessageStatus.FAILED:
            return _of_failed(message, suppressed)
        case MessageStatus.BOUNCED if message.client_id:
            return f"Find out the right address, {_set_address(message)}, and send it anew."
        case MessageStatus.EXPIRED:
            return "Send it anew, if it is still of use; `notifyctl health` says whether the workers keep up."
    return ""


def _of_blocked(message: MessageRow, gate: BlockReason) -> str:
    lift = how_to_lift(
        gate,
        channel=message.channel,
        template_key=message.template_key,
        client_id=message.client_id,
        by_setting="SMS_ENABLED" in (message.error or ""),
    )
    return f"To lift that: {lift}. Then send it anew: what is BLOCKED stays so." if lift else ""


def _of_failed(message: MessageRow, suppressed: str | None) -> str:
    short = message.id[-SHORT:]
    again = f"`notifyctl messages retry {short}`"
    if suppressed:
        return (
            f"Its address is suppressed now ({suppressed}). When that is over:"
            f" `notifyctl suppressions remove {message.channel} ADDRESS`, with the address that"
            f" `notifyctl messages show {short} --reveal` shows; then {again}."
        )
    match message.reason:
        case FailureReason.RECIPIENT_INVALID | FailureReason.RECIPIENT_UNREACHABLE if message.client_id:
            return f"Find out the right address, {_set_address(message)}, and send it anew: this one keeps its address."
        case FailureReason.ACCOUNT_PROBLEM:
            return f"`notifyctl doctor` asks {_provider(message)} what is wrong; once it is mended, {again}."
        case FailureReason.CONTENT_REJECTED | FailureReason.RENDER_ERROR:
            return f"`notifyctl templates render {message.template_key}` shows what it says; mend it and send it anew."
        case FailureReason.IN_DOUBT_HELD:
            return f"Look at {_provider(message)} whether it went out; if it did not, {again}."
        case FailureReason.PROVIDER_UNAVAILABLE:
            return f"Once `notifyctl health` says that the provider is up again: {again}."
    return f"Once its cause is mended: {again}."


def _set_address(message: MessageRow) -> str:
    return f"`notifyctl clients set {quote(message.client_id or 'ID')} {_address_option(message.channel)}`"


def _address_option(channel: Channel) -> str:
    return "--email ADDRESS" if channel == Channel.EMAIL else "--phone NUMBER"


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
