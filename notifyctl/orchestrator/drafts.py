"""A request on its way through the pipe, and the rows that it becomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from notifyctl.audit import log as audit_log
from notifyctl.errors import IdempotencyConflict
from notifyctl.keyring import KeyRing
from notifyctl.models.client import AddressedClient
from notifyctl.models.enums import CHANNELS, AuditAction, BlockReason, Channel, MessageStatus
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.models.template import Template
from notifyctl.orchestrator import gates
from notifyctl.orchestrator.gate_facts import RateWindow
from notifyctl.orchestrator.gates import GateOutcome, Verdict
from notifyctl.orchestrator.message_store import KeyedMessage
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate, Queued, SendRequest
from notifyctl.templates.context import canonical_json
from notifyctl.templates.render import about
from notifyctl.text.durations import iso
from notifyctl.text.locales import choose

STRIPE = "stripe"
"""The source of a billing message."""


@dataclass(slots=True)
class Draft:
    request: SendRequest
    template: Template
    written: str | None = None
    """The recipient as the caller or the client's row spells it."""
    recipient: str | None = None
    recipient_fault: str | None = None
    """Names the address, for the caller."""
    stored_fault: str | None = None
    """Does not."""
    hashes: Sequence[str] = ()
    rate_subject: str = ""
    context: str | None = None
    """As JSON, where the request has an idempotency key."""
    fingerprints: Sequence[str] = ()
    message_id: str = ""
    client_locale: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    decision: Decision | None = None
    not_before: datetime | None = None
    """The end of its client's quiet hours, where they hold it."""

    def stored(self, verdict: Verdict) -> Verdict:
        """For the log: an address stands in the message's `recipient` and nowhere else, so that it can be erased."""
        if verdict.gate is BlockReason.RECIPIENT_INVALID and self.stored_fault is not None:
            return replace(verdict, detail=self.stored_fault)
        return verdict

    @property
    def language(self) -> tuple[str, str]:
        """Of its words, and the locale of what is formatted in them."""
        return choose(self.request.locale or self.client_locale, self.template.languages)

    @property
    def is_rate_limited(self) -> bool:
        return self.template.rate_limit_window_seconds is not None

    @property
    def rated_client_id(self) -> str | None:
        """Who the rate is counted by; None for the recipient. Codes are counted by the phone, whoever asks for them."""
        return None if self.template.template_key == OTP_TEMPLATE else self.request.client_id

    @property
    def rate_owner(self) -> tuple[str, str, str]:
        owner = self.rated_client_id or (self.hashes[0] if self.hashes else "")
        return self.template.template_key, owner, self.rate_subject


def is_client_rated(template: Template | None) -> bool:
    """Codes are counted by the phone, whoever asks for them."""
    return (
        template is not None
        and template.rate_limit_window_seconds is not None
        and template.template_key != OTP_TEMPLATE
    )


def address_of(client: AddressedClient, channel: Channel) -> str | None:
    address: str | None = getattr(client, CHANNELS[channel].client_field)
    return address


def texts(values: Iterable[str | None]) -> set[str]:
    return {value for value in values if value is not None}


def rated_recipients(drafts: Iterable[Draft]) -> set[str]:
    """Who are counted by their address."""
    rated = (draft for draft in drafts if draft.is_rate_limited and draft.rated_client_id is None)
    return {hashed for draft in rated for hashed in draft.hashes}


def stripe_references(drafts: Iterable[Draft]) -> set[str]:
    requests = (draft.request for draft in drafts if draft.template.billing)
    return {request.source_ref for request in requests if request.source == STRIPE and request.source_ref}


def recognise(drafts: Iterable[Draft], earlier: Mapping[str, KeyedMessage]) -> None:
    for draft in drafts:
        row = earlier.get(draft.request.idempotency_key or "")
        if row is not None:
            draft.decision = duplicate(draft, row.id, row.status, row.fingerprint)


Window: TypeAlias = tuple[tuple[str, str, str], RateWindow]
"""Whose rate is counted, and a window to count in: one for each key of an address, while keys rotate."""


def windows_of(drafts: Iterable[Draft], now: datetime) -> list[Window]:
    windows: dict[tuple[str, str, str], list[RateWindow]] = {}
    for draft in drafts:
        if not draft.is_rate_limited or draft.rate_owner in windows:
            continue
        key, client_id = draft.template.template_key, draft.rated_client_id
        since = now - timedelta(seconds=draft.template.rate_limit_window_seconds or 0)
        hashes = [None] if client_id is not None else draft.hashes
        windows[draft.rate_owner] = [RateWindow(key, draft.rate_subject, client_id, hashed, since) for hashed in hashes]
    return [(owner, window) for owner, found in windows.items() for window in found]


def duplicate(draft: Draft, message_id: str, status: MessageStatus, fingerprint: str) -> Duplicate:
    if fingerprint not in draft.fingerprints:
        raise IdempotencyConflict(
            f"idempotency key {draft.request.idempotency_key!r} belongs to message {message_id}, which has another"
            " template, recipient or context; use a new key for a new message"
        )
    draft.message_id = message_id
    return Duplicate(message_id, status)


def message_row(draft: Draft, now: datetime) -> dict[str, object]:
    request, template = draft.request, draft.template
    refused = draft.decision if isinstance(draft.decision, Blocked) else None
    expires = template.expires_after_seconds
    return {
        "id": draft.message_id,
        "idempotency_key": request.idempotency_key,
        "fingerprint": draft.fingerprints[0] if draft.fingerprints else None,
        "client_id": request.client_id,
        "channel": template.channel,
        "audience": template.audience,
        "template_key": template.template_key,
        "template_version": template.version,
        "recipient": draft.recipient or _storable(draft.written),
        "recipient_hash": draft.hashes[0] if draft.hashes else None,
        "source": request.source,
        "source_ref": request.source_ref,
        "rate_subject": draft.rate_subject,
        "status": MessageStatus.BLOCKED if refused else MessageStatus.QUEUED,
        "reason": refused.reason if refused else None,
        "error": _stored_detail(draft, refused) if refused else None,
        "attempts": 0,
        "lane": template.lane,
        "next_attempt_at": None if refused else draft.not_before or now,
        "expires_at": now + timedelta(seconds=expires) if expires is not None else None,
        "created_at": now,
        "finished_at": now if refused else None,
        "metadata": request.metadata,
        "lease_generation": 0,
        "language": draft.language[0],
    }


def payload_row(draft: Draft, keys: KeyRing) -> dict[str, object]:
    default = draft.template.languages[0]
    chosen = {} if draft.language == (default, default) else about(*draft.language)
    if not draft.template.sensitive:
        text = draft.context if draft.context and not chosen else canonical_json({**draft.request.context, **chosen})
        return {"message_id": draft.message_id, "context": text, "sealed": None, "key_id": None}
    sealed = keys.seal({**draft.request.context, **chosen}, message_id=draft.message_id)
    return {
        "message_id": draft.message_id,
        "context": None,
        "sealed": sealed.text,
        "key_id": sealed.key_id,
    }


def _stored_detail(draft: Draft, refused: Blocked) -> str:
    return draft.stored(Verdict(refused.reason, GateOutcome.REFUSED, refused.detail)).detail


def _storable(text: str | None) -> str | None:
    return text.replace("\0", "").encode(errors="replace").decode() if text else None


_ACTIONS = {
    Queued: AuditAction.NOTIFICATION_QUEUED,
    Blocked: AuditAction.NOTIFICATION_BLOCKED,
    Duplicate: AuditAction.NOTIFICATION_DUPLICATE,
}


def audit_row(draft: Draft, now: datetime) -> audit_log.NewAuditRow:
    details: dict[str, object] = {"template_key": draft.template.template_key}
    match draft.decision:
        case Queued(verdicts=verdicts):
            details |= gates.pack(verdicts)
            if draft.not_before is not None:
                details["detail"] = "it is in its client's quiet hours"
                details["next_attempt_at"] = iso(draft.not_before)
        case Blocked(reason=reason, verdicts=verdicts):
            details |= {"reason": reason} | gates.pack([draft.stored(verdict) for verdict in verdicts])
        case _:
            details |= {"idempotency_key": draft.request.idempotency_key}
    return audit_log.entry(
        _ACTIONS[type(draft.decision)],
        actor=draft.request.actor or draft.request.source,
        now=now,
        client_id=draft.request.client_id,
        message_id=draft.message_id,
        details=details,
    )
