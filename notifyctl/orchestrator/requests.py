"""What a caller asks of the orchestrator, and what it answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import BlockReason, MessageStatus
from notifyctl.orchestrator.gates import Verdict
from notifyctl.templates.context import MAX_INTEGER, is_unicode, kind_of, name_fault
from notifyctl.text.durations import plural
from notifyctl.text.locales import is_known, normal_locale

MAX_LENGTHS = {
    "template_key": 128, "client_id": 255, "recipient": 1_000, "idempotency_key": 255, "source": 64, "source_ref": 255,
    "actor": 255,
}  # fmt: skip
"""Characters a field may have. Most are indexed: PostgreSQL's indexes take no long values."""
_MAX_LOCALE = 64
MAX_METADATA_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """One message to one recipient: a client by its id, or an address.

    `source` names the caller (cli, http, api, stripe, job); `source_ref` what it acted on, as a Stripe event's id;
    `actor` who it was, for the audit log, where that says more than the source.
    `locale` is that of the words, as `de-AT`; the client's when there is none.
    `metadata` is an object of plain values. `objections` are what the caller itself knows to stand in the way, as a
    lock or a spent budget, by the gate that they close: a caller can refuse, and never let through.
    Raises InvalidInput for what no database could keep; whether the context fits the template is asked by a gate.
    """

    template_key: str
    client_id: str | None = None
    recipient: str | None = None
    context: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    source: str = "api"
    source_ref: str | None = None
    actor: str | None = None
    metadata: Mapping[str, object] | None = None
    locale: str | None = None
    objections: Mapping[BlockReason, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, longest in MAX_LENGTHS.items():
            value = getattr(self, name)
            if value is not None or name in _NEEDED:
                _check_text(name, value, longest)
        if (self.client_id is None) == (self.recipient is None):
            raise InvalidInput(f"{self.template_key}: give either client_id or recipient, one of the two")
        if self.idempotency_key == "":
            raise InvalidInput(
                f"idempotency_key is empty; give none, or 1 to {MAX_LENGTHS['idempotency_key']} characters"
            )
        if self.locale is not None:
            _check_text("locale", self.locale, _MAX_LOCALE)
            if not is_known(self.locale):
                raise InvalidInput("locale is no language that is known; write it as de, de-AT or zh-Hant-TW")
            object.__setattr__(self, "locale", normal_locale(self.locale))
        if fault := name_fault("the context", self.context):
            raise InvalidInput(fault)
        if self.metadata is not None:
            object.__setattr__(self, "metadata", _checked_metadata(self.metadata))


_NEEDED = ("template_key", "source")


def _check_text(name: str, value: object, longest: int) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string, got {kind_of(value)}")
    if len(value) > longest:
        raise InvalidInput(f"{name} has {plural(len(value), 'character')}, at most {longest:,} are kept; shorten it")
    if not _is_storable(value):
        raise InvalidInput(f"{name} has a NUL or half of a surrogate pair in it; leave it out")


def _checked_metadata(metadata: Mapping[str, object]) -> dict[str, object]:
    """A copy, which nobody can change any more."""
    if fault := name_fault("metadata", metadata):
        raise InvalidInput(fault)
    if not all(map(_is_storable, metadata)):
        raise InvalidInput("metadata has a name with a NUL or half of a surrogate pair; leave it out")
    for name, value in metadata.items():
        if fault := _plain_fault(value):
            raise InvalidInput(f"metadata {name[:64]} {fault}")
    kept = dict(metadata)
    size = len(json.dumps(kept, separators=(",", ":")))
    if size > MAX_METADATA_BYTES:
        raise InvalidInput(
            f"metadata has {plural(size, 'byte')} as JSON, at most {MAX_METADATA_BYTES:,} are kept; shorten it"
        )
    return kept


def _plain_fault(value: object) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return None if _is_storable(value) else "has a NUL or half of a surrogate pair; leave it out"
        case int():
            return None if abs(value) <= MAX_INTEGER else "does not fit into 64 bits"
        case float():
            return None if isfinite(value) else "is not a finite number"
    return f"must be a string, a number, true, false or null, got {kind_of(value)}"


def _is_storable(text: str) -> bool:
    """PostgreSQL keeps neither NUL nor half a surrogate pair."""
    return "\0" not in text and is_unicode(text)


@dataclass(frozen=True, slots=True)
class Queued:
    """Accepted and written; a worker will send it."""

    message_id: str
    verdicts: tuple[Verdict, ...] = field(repr=False)
    status: Literal[MessageStatus.QUEUED] = MessageStatus.QUEUED


@dataclass(frozen=True, slots=True)
class Blocked:
    """Refused by a gate, and written down as such."""

    message_id: str
    reason: BlockReason
    detail: str
    verdicts: tuple[Verdict, ...] = field(repr=False)
    status: Literal[MessageStatus.BLOCKED] = MessageStatus.BLOCKED


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The idempotency key belongs to an earlier message: this is it."""

    message_id: str
    status: MessageStatus


Decision = Queued | Blocked | Duplicate


def for_admins(
    recipients: Sequence[str],
    template_key: str,
    context: Mapping[str, object],
    *,
    source: str,
    source_ref: str | None = None,
) -> list[SendRequest]:
    """One message a recipient. They are Settings.admin_recipients; an address that stands there twice gets one."""
    return [
        SendRequest(
            template_key=template_key, recipient=recipient, context=context, source=source, source_ref=source_ref
        )
        for recipient in {address.lower(): address for address in recipients}.values()
    ]
