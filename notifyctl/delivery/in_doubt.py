"""Messages in doubt: the provider is asked before anything is sent again.

Only where the provider cannot tell does the template's on_doubt decide.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

from sqlmodel import Session

from notifyctl import errors
from notifyctl.audit import log as audit_log
from notifyctl.clients.suppressions import known_since, suppress
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.delivery import in_doubt_store, quarantine_store
from notifyctl.delivery.in_doubt_store import DoubtfulMessage
from notifyctl.delivery.outcomes import kept_words, next_attempt, to_details
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.delivery.wording import context_of
from notifyctl.errors import DatabaseError, NotifyctlError
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, Channel, FailureReason, MessageStatus, OnDoubt
from notifyctl.models.message import FINAL
from notifyctl.models.template import Template
from notifyctl.orchestrator import payload_store
from notifyctl.providers.contract import (
    CannotTell,
    Lookup,
    LookupHit,
    LookupMiss,
    LookupResult,
    Rejected,
    Unavailable,
    UncertainSend,
)
from notifyctl.providers.registry import PROVIDERS
from notifyctl.templates import store as template_store
from notifyctl.templates.render import Renderer, RenderError

ASKED_AT_ONCE = 50
ASKED_FOR = timedelta(minutes=2)
"""How long an inquiry is left to the worker that took it."""
ASK_AGAIN = timedelta(seconds=30)
"""When the provider could not be reached."""

log = logging.getLogger("notifyctl.delivery")


@dataclass(frozen=True, slots=True)
class DoubtResolution:
    """What becomes of the message, or when to ask again."""

    result: AttemptResult | None
    action: AuditAction | None = None
    again_at: datetime | None = None


class Reconciler:
    """Used by one thread."""

    def __init__(
        self, *, lookups: Mapping[Channel, Lookup], database: Database, clock: Clock, keys: KeyRing, owner: str
    ) -> None:
        self._lookups = lookups
        self._database = database
        self._clock = clock
        self._keys = keys
        self._owner = owner
        self._renderer = Renderer()

    def run(self) -> int:
        """Asks about messages that are due for it. Returns how many were asked about; call again while it is not 0.

        One over which this stumbles stays in doubt, for a person to look at, and is tried again after ASKED_FOR.
        Raises DatabaseError.
        """
        with self._database.transaction() as session:
            now = self._clock()
            taken = in_doubt_store.take(
                session, self._lookups.keys(), now=now, again_at=now + ASKED_FOR, most=ASKED_AT_ONCE
            )
        unanswered: dict[Channel, str] = {}
        for message_id in taken:
            try:
                unanswered |= self._inquire(message_id)
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001  it is about this one, and the others wait
                errors.report(log, "doubt cannot be settled", error, message_id=message_id)
                with self._database.transaction() as session:
                    quarantine_store.make_readable(session, message_id, self._clock())  # a person has to look at it
        for channel, answer in unanswered.items():
            log.warning("provider gives no answer about doubts", extra={"channel": channel, "answer": answer})
        return len(taken)

    def _inquire(self, message_id: str) -> dict[Channel, str]:
        """What its provider said in the place of an answer, by channel; empty where it answered."""
        with self._database.read() as session:
            message = in_doubt_store.get(session, message_id)
            if message is None:
                return {}  # an answer or a receipt was first
            template = template_store.by_key(session, [message.template_key])[message.template_key]
        finding = self._ask(message)
        self._record(message, template, finding)
        if isinstance(finding, Unavailable) and finding.code:
            return {message.channel: f"{finding.code}: {finding.detail}"}
        return {}

    def _ask(self, message: DoubtfulMessage) -> LookupResult:
        lookup = self._lookups[message.channel]
        try:
            text = self._text(message)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  as where it is sent
            why = str(error) if isinstance(error, NotifyctlError) else errors.describe(error)
            return CannotTell(f"what was sent cannot be made again to compare it: {why}")

        def held_elsewhere(ids: Collection[str]) -> set[str]:
            with self._database.read() as session:
                return in_doubt_store.held_elsewhere(session, ids, message_id=message.id)

        if not PROVIDERS[message.channel].keeps_our_id and self._is_ambiguous(message):
            return Unavailable("", "another message to the same number is on its way")
        doubt = UncertainSend(message.id, message.recipient, text, age=self._clock() - message.last_attempt_at)
        return lookup.find(doubt, held_elsewhere=held_elsewhere)

    def _is_ambiguous(self, message: DoubtfulMessage) -> bool:
        """An SMS is recognised by its text: one that is being sent right now might be taken for this one."""
        with self._database.read() as session:
            return in_doubt_store.is_being_sent_to(session, message.recipient_hash, but_not=message.id)

    def _text(self, message: DoubtfulMessage) -> str:
        if PROVIDERS[message.channel].keeps_our_id:
            return ""  # found by its id alone
        context = context_of(self._keys, message)
        pinned = (message.template_key, message.template_version)
        with self._database.read() as session:
            source = template_store.sources(session, [pinned]).get(pinned)
        if source is None:
            raise RenderError(f"version {message.template_version} of {message.template_key} is gone from the store")
        return self._renderer.render(source, context).text

    def _record(self, message: DoubtfulMessage, template: Template, finding: LookupResult) -> None:
        with self._database.transaction() as session:
            now = self._clock()
            if isinstance(finding, LookupHit) and self._was_taken(session, message, finding.provider_message_id):
                finding = Unavailable("", "another message took what was found")
            finding = _without_secrets(finding, message, template)
            resolution = settle(message, template.on_doubt, finding, self._lookups[message.channel].search_delay, now)
            result = resolution.result
            if result is None or resolution.action is None:
                in_doubt_store.postpone(session, message.id, again_at=resolution.again_at or now + ASK_AGAIN)
                return
            if not in_doubt_store.settle(session, result):
                return
            details = to_details(result) | _detail(finding)
            entries = [self._entry(message, resolution.action, details, now)]
            if result.status in (MessageStatus.SENT, MessageStatus.DELIVERED) and template.audit_sent:
                entries.append(self._entry(message, AuditAction(template.audit_sent), message.metadata or {}, now))
            audit_log.write_many(session, entries)
            if template.sensitive and result.status in FINAL:
                payload_store.erase_payloads(session, [message.id])
            if isinstance(finding, LookupHit) and finding.bounce and finding.bounce.suppress:
                suppress(
                    session,
                    self._keys,
                    message.channel,
                    message.recipient,
                    reason=finding.bounce.suppress,
                    actor=message.provider,
                    now=now,
                    acted_at=finding.bounced_at or known_since(finding.bounce.reason, message.last_attempt_at),
                    attempted_at=message.last_attempt_at,
                )
        log.info("doubt settled", extra={"message_id": message.id, "status": result.status, "channel": message.channel})

    def _was_taken(self, session: Session, message: DoubtfulMessage, provider_message_id: str) -> bool:
        if PROVIDERS[message.channel].keeps_our_id:
            return False
        in_doubt_store.lock_provider_message_id(session, provider_message_id)
        return bool(in_doubt_store.held_elsewhere(session, [provider_message_id], message_id=message.id))

    def _entry(
        self, message: DoubtfulMessage, action: AuditAction, details: Mapping[str, object], now: datetime
    ) -> audit_log.NewAuditRow:
        return audit_log.for_message(action, message, actor=self._owner, now=now, details=details)


def _without_secrets(finding: LookupResult, message: DoubtfulMessage, template: Template) -> LookupResult:
    match finding:
        case CannotTell(detail=detail):
            return CannotTell(kept_words(detail, message.recipient, sensitive=template.sensitive))
        case LookupHit(bounce=Rejected() as bounce):
            detail = kept_words(bounce.detail, message.recipient, sensitive=template.sensitive)
            return replace(finding, bounce=replace(bounce, detail=detail))
    return finding


def settle(
    message: DoubtfulMessage, on_doubt: OnDoubt, finding: LookupResult, search_delay: timedelta, now: datetime
) -> DoubtResolution:
    """Pure."""
    match finding:
        case LookupHit():
            return _settled_by_provider(message, finding, now)
        case LookupMiss():
            believed_at = message.last_attempt_at + search_delay
            if now < believed_at:
                return DoubtResolution(None, again_at=believed_at)
            return _sent_again(message, now)
        case CannotTell():
            if on_doubt is OnDoubt.RESEND:
                return _sent_again(message, now)
            held = _result(message)(
                status=MessageStatus.FAILED,
                reason=FailureReason.IN_DOUBT_HELD,
                error=finding.detail,
                finished_at=now,
            )
            return DoubtResolution(held, AuditAction.NOTIFICATION_FAILED)
        case Unavailable():
            return DoubtResolution(None, again_at=now + max(ASK_AGAIN, finding.retry_after or ASK_AGAIN))
        case _:
            assert_never(finding)


def _settled_by_provider(message: DoubtfulMessage, hit: LookupHit, now: datetime) -> DoubtResolution:
    result = partial(_result(message), provider_message_id=hit.provider_message_id, sent_at=message.last_attempt_at)
    if hit.bounce is not None:
        bounced = result(
            status=MessageStatus.BOUNCED,
            reason=hit.bounce.reason,
            error_code=hit.bounce.code,
            error=hit.bounce.detail,
            finished_at=now,
        )
        return DoubtResolution(bounced, AuditAction.NOTIFICATION_BOUNCED)
    if hit.delivered:
        delivered = result(status=MessageStatus.DELIVERED, delivered_at=now, finished_at=now)
        return DoubtResolution(delivered, AuditAction.NOTIFICATION_DELIVERED)
    return DoubtResolution(result(status=MessageStatus.SENT), AuditAction.NOTIFICATION_SENT)


def _sent_again(message: DoubtfulMessage, now: datetime) -> DoubtResolution:
    """It counts as a failed attempt, with the backoff of one."""
    result = _result(message)
    due = next_attempt(message.channel, attempts=message.attempts, now=now)
    if due is not None:
        queued = result(status=MessageStatus.QUEUED, next_attempt_at=due)
        return DoubtResolution(queued, AuditAction.NOTIFICATION_RETRY_SCHEDULED)
    reason = FailureReason.PROVIDER_UNAVAILABLE
    failed = result(status=MessageStatus.FAILED, reason=reason, error=message.error, finished_at=now)
    return DoubtResolution(failed, AuditAction.NOTIFICATION_FAILED)


def _result(message: DoubtfulMessage) -> "partial[AttemptResult]":
    return partial(AttemptResult, id=message.id, lease_generation=message.lease_generation)


def _detail(finding: LookupResult) -> dict[str, str]:
    match finding:
        case LookupHit():
            return {"detail": "the provider was asked and has it"}
        case LookupMiss():
            return {"detail": "the provider was asked and does not have it"}
        case CannotTell(detail=detail):
            return {"detail": f"the provider was asked and cannot tell: {detail}"}
    return {}
