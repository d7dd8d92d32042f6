"""What a provider has, record by record, beside what the store has: settled, held, or written anew.

Where the provider keeps no id of ours, a record is known by its number, its text and its time.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.log import AboutMessage
from notifyctl.clock import Clock
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.delivery.wording import context_of
from notifyctl.errors import NotifyctlError
from notifyctl.keyring import KeyRing
from notifyctl.models.columns import new_message_id
from notifyctl.models.enums import Audience, AuditAction, Channel, FailureReason, MessageStatus, OnDoubt
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.models.template import Template
from notifyctl.orchestrator import message_store, payload_store
from notifyctl.providers.contract import SentRecord
from notifyctl.providers.registry import PROVIDERS
from notifyctl.recovery import store
from notifyctl.recovery.matching import match, template_of
from notifyctl.recovery.store import OpenMessage
from notifyctl.templates import store as template_store
from notifyctl.templates.render import Renderer
from notifyctl.text.addresses import AddressError, normal_address
from notifyctl.text.durations import iso

FORGOTTEN = "the database had forgotten it, and its provider was asked"
SOURCE = "recovered"
_ACTIONS = {
    MessageStatus.SENT: AuditAction.NOTIFICATION_SENT,
    MessageStatus.DELIVERED: AuditAction.NOTIFICATION_DELIVERED,
    MessageStatus.BOUNCED: AuditAction.NOTIFICATION_BOUNCED,
}


@dataclass(slots=True)
class RecoverySummary:
    since: datetime
    cause: str
    is_proven: bool
    """Without, another server has taken over and everybody who could know of a loss was there to deny it."""
    waiting: Mapping[Channel, int] = field(default_factory=dict)
    """Messages that might have gone out already."""
    settled: Counter[str] = field(default_factory=Counter)
    """What became of those that had, by status."""
    added: Counter[str] = field(default_factory=Counter)
    """Messages that were written anew, by channel."""
    lately: Counter[Channel] = field(default_factory=Counter)
    """How many messages each provider has got within a minute."""
    suppressed: int = 0
    released: int = 0
    phones_locked: int = 0
    strangers: int = 0
    """SMS at the provider that no template of ours makes."""
    calls: int = 0
    stripe_events: int = 0
    """Worked on once more."""
    has_stripe: bool = False
    """Whether all of Stripe's are: it was asked, and has answered."""

    @property
    def details(self) -> dict[str, object]:
        """For the audit row and for programs."""
        return {
            "since": iso(self.since),
            "cause": self.cause,
            "is_proven": self.is_proven,
            "waiting": {str(channel): count for channel, count in self.waiting.items()},
            "settled": dict(self.settled),
            "added": dict(self.added),
            "suppressed": self.suppressed,
            "released": self.released,
            "phones_locked": self.phones_locked,
            "strangers": self.strangers,
            "calls": self.calls,
            "stripe_events": self.stripe_events,
            "has_stripe": self.has_stripe,
        }


class AddedMessage(NamedTuple):
    id: str
    client_id: str | None


class Records:
    """Used by one thread."""

    def __init__(self, clock: Clock, keys: KeyRing, owner: str) -> None:
        self._clock = clock
        self._keys = keys
        self._owner = owner
        self._renderer = Renderer()

    def take(
        self, session: Session, channel: Channel, records: Sequence[SentRecord], summary: RecoverySummary
    ) -> set[str]:
        """Returns the numbers that were sent a code of which the store knows nothing."""
        if PROVIDERS[channel].keeps_our_id:
            return self._take_by_id(session, channel, records, summary)
        return self._take_by_text(session, channel, records, summary)

    def _take_by_id(
        self, session: Session, channel: Channel, records: Sequence[SentRecord], summary: RecoverySummary
    ) -> set[str]:
        ours = {record.message_id: record for record in records if record.message_id is not None}
        known = store.statuses(session, ours)
        gone = [record for message_id, record in ours.items() if message_id not in known]
        repeated, gone = _repeated(session, gone)
        ours |= repeated
        settled = [(message, ours[message.id]) for message in store.open_by_id(session, ours)]
        self._settle(session, channel, settled, summary)
        again = {message.id for message, _ in settled}
        gone += [replace(record, held_key=None) for message_id, record in repeated.items() if message_id not in again]
        self._add(session, channel, gone, summary)
        return set()

    def _take_by_text(
        self, session: Session, channel: Channel, records: Sequence[SentRecord], summary: RecoverySummary
    ) -> set[str]:
        known = store.known_ids(session, channel, [record.provider_message_id for record in records])
        by_number: dict[str, list[SentRecord]] = defaultdict(list)
        for record in records:
            if record.provider_message_id not in known:
                by_number[record.recipient].append(record)
        hashes = {number: self._keys.recipient_hashes(channel, number) for number in by_number}
        every = [each for of_number in hashes.values() for each in of_number]
        busy = store.being_sent_to(session, every)
        waiting = store.open_to(session, channel, every)
        added: list[SentRecord] = []
        for number, of_number in by_number.items():
            to_it = [message for message in waiting if message.recipient_hash in hashes[number]]
            matches = match(of_number, to_it, text_of=partial(self._text, session))
            self._settle(session, channel, matches.found, summary)
            self._settle_doubtful(session, matches.doubtful, summary)
            # What is being sent at this moment has an answer of its own.
            added += [] if busy.intersection(hashes[number]) else matches.unknown
        return self._add(session, channel, added, summary)

    def _text(self, session: Session, message: OpenMessage) -> str | None:
        """As it would have gone out; None where it cannot be made again."""
        pinned = (message.template_key, message.template_version)
        source = template_store.sources(session, [pinned]).get(pinned)
        if source is None:
            return None
        try:
            return self._renderer.render(source, context_of(self._keys, message)).text
        except (NotifyctlError, ValueError):
            return None

    def _settle(
        self,
        session: Session,
        channel: Channel,
        pairs: Sequence[tuple[OpenMessage, SentRecord]],
        summary: RecoverySummary,
    ) -> None:
        now = self._clock()
        results = [_result_of(message, record, now) for message, record in pairs]
        attempted = {message.id: record.accepted_at for message, record in pairs}
        written = store.settle(session, results, attempted, PROVIDERS[channel].name)
        templates = template_store.by_key(session, {message.template_key for message, _ in pairs})
        for message, record in pairs:
            if message.id in written:
                summary.settled[record.status] += 1
                self._audit(session, message, record, templates.get(message.template_key), now)
        payload_store.erase_sealed(session, [message.id for message, _ in pairs if message.id in written])

    def _settle_doubtful(self, session: Session, doubtful: Sequence[OpenMessage], summary: RecoverySummary) -> None:
        """As any message in doubt of which the provider cannot tell."""
        now = self._clock()
        templates = template_store.by_key(session, {message.template_key for message in doubtful})
        for message in doubtful:
            if templates[message.template_key].on_doubt is OnDoubt.RESEND:
                continue
            detail = f"{FORGOTTEN}, and cannot tell whether this went out"
            reason = FailureReason.IN_DOUBT_HELD
            held = AttemptResult(
                id=message.id, status=MessageStatus.FAILED, reason=reason, error=detail, finished_at=now
            )
            if store.settle(session, [held], {}, ""):
                summary.settled[MessageStatus.FAILED] += 1
                details = {"reason": reason, "detail": detail}
                entry = audit_log.for_message(
                    AuditAction.NOTIFICATION_FAILED, message, actor=self._owner, now=now, details=details
                )
                audit_log.write_many(session, [entry])
                payload_store.erase_sealed(session, [message.id])

    def _audit(
        self, session: Session, message: AboutMessage, record: SentRecord, template: Template | None, now: datetime
    ) -> None:
        details = {"detail": FORGOTTEN, "provider_message_id": record.provider_message_id}
        details["happened_at"] = iso(record.accepted_at)
        entries = [audit_log.for_message(_ACTIONS[record.status], message, actor=self._owner, now=now, details=details)]
        if template is not None and template.audit_sent:
            sent = AuditAction(template.audit_sent)
            entries.append(audit_log.for_message(sent, message, actor=self._owner, now=now, details={}))
        audit_log.write_many(session, entries)

    def _add(
        self, session: Session, channel: Channel, records: Sequence[SentRecord], summary: RecoverySummary
    ) -> set[str]:
        """Messages of which the store has nothing. Returns the numbers that were sent a code."""
        if not records:
            return set()
        now = self._clock()
        templates = {template.template_key: template for template in template_store.everything(session)}
        sources = template_store.sources(session, [(key, each.version) for key, each in templates.items()])
        of_channel = [source for source in sources.values() if source.channel is channel]
        clients = store.clients_at(session, channel, [record.recipient for record in records])
        codes: set[str] = set()
        for record in records:
            source = template_of(record.text, of_channel) if record.text is not None else None
            template = templates.get(record.template_key or (source.template_key if source else ""))
            try:
                address = normal_address(channel, record.recipient)
            except AddressError:
                template = None
            if template is None or template.channel is not channel:
                summary.strangers += 1
                continue
            row = self._row(record, template, address, clients.get(address.lower()), now)
            added = AddedMessage(str(row["id"]), None if row["client_id"] is None else str(row["client_id"]))
            if store.add(session, [row]):
                summary.added[channel] += 1
                self._audit(session, added, record, template, now)
            if template.template_key == OTP_TEMPLATE:
                codes.add(address)
        return codes

    def _row(
        self, record: SentRecord, template: Template, address: str, client_id: str | None, now: datetime
    ) -> dict[str, object]:
        has_ended = record.status is not MessageStatus.SENT
        is_of_client = template.audience is Audience.CLIENT and template.template_key != OTP_TEMPLATE
        hashes = self._keys.recipient_hashes(template.channel, address)
        return {
            "id": record.message_id or new_message_id(),
            "idempotency_key": record.held_key.idempotency_key if record.held_key else None,
            "fingerprint": record.held_key.fingerprint if record.held_key else None,
            "client_id": client_id if is_of_client else None,
            "channel": template.channel,
            "audience": template.audience,
            "template_key": template.template_key,
            "template_version": template.version,
            "recipient": address,
            "recipient_hash": hashes[0],
            "subject": None if template.sensitive else record.subject,
            "source": SOURCE,
            "rate_subject": "",
            "status": record.status,
            "attempts": 1,
            "lane": template.lane,
            "last_attempt_at": record.accepted_at,
            "provider": PROVIDERS[template.channel].name,
            "provider_message_id": record.provider_message_id,
            "created_at": record.accepted_at,
            "sent_at": record.accepted_at,
            "delivered_at": now if record.status is MessageStatus.DELIVERED else None,
            "finished_at": now if has_ended else None,
            "metadata": {"recovered": True},
            "lease_generation": 0,
        }


def _repeated(session: Session, gone: Sequence[SentRecord]) -> tuple[dict[str, SentRecord], list[SentRecord]]:
    """Who has repeated a forgotten request since has made another message of it, which has gone out as well: its id
    -> the record. And the others, less the keys that other requests have taken.
    """
    keyed = {record.held_key.idempotency_key: record for record in gone if record.held_key is not None}
    holders = message_store.by_idempotency_keys(session, keyed)
    repeated: dict[str, SentRecord] = {}
    others: list[SentRecord] = []
    for record in gone:
        holder = holders.get(record.held_key.idempotency_key) if record.held_key else None
        if holder is None or record.held_key is None:
            others.append(record)
        elif holder.fingerprint == record.held_key.fingerprint:
            repeated[holder.id] = record
        else:
            others.append(replace(record, held_key=None))
    return repeated, others


def _result_of(message: OpenMessage, record: SentRecord, now: datetime) -> AttemptResult:
    bounced = record.status is MessageStatus.BOUNCED
    return AttemptResult(
        id=message.id,
        status=record.status,
        reason=FailureReason.UNKNOWN if bounced else None,
        error="its provider says that it bounced" if bounced else None,
        provider_message_id=record.provider_message_id,
        sent_at=record.accepted_at,
        delivered_at=now if record.status is MessageStatus.DELIVERED else None,
        finished_at=now if record.status is not MessageStatus.SENT else None,
    )
