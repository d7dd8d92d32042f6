"""One channel of one worker: claim, send, record.

Two transactions in plain sight around each call, none open during it. The claim is the journal of intent: it is
committed before the call, so a message that is still SENDING when its lease has run out may have gone out.
What one turn records and what it claims next share a commit.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlmodel import Session

from notifyctl.clock import Clock
from notifyctl.delivery import outcomes
from notifyctl.delivery.outcomes import Attempt, Outcome
from notifyctl.errors import NotifyctlError
from notifyctl.models.message import FailureReason, MessageStatus
from notifyctl.models.template import Channel, Template, TemplateSource
from notifyctl.orchestrator import gates
from notifyctl.orchestrator.orchestrator import client_facts, plan_has_feature
from notifyctl.orchestrator.plans import PlanRegistry
from notifyctl.orchestrator.render import Renderer
from notifyctl.orchestrator.sealing import KeyRing, Sealed
from notifyctl.orchestrator.suppressions import suppress
from notifyctl.providers.base import Answer, OutboundMessage, Rejected, Sender
from notifyctl.store import audit, facts, outbox, templates
from notifyctl.store.database import Database

LEASE = timedelta(seconds=90)
"""Longer than the slowest provider call: start-up refuses a time-out that is not well below it."""

log = logging.getLogger("notifyctl.delivery")


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A locked row that may go, with what is needed to send it."""

    message: Any
    template: Template


class Dispatcher:
    """Used by one thread. What it holds in memory is only what is on the way; everything else is in the store."""

    def __init__(
        self,
        *,
        channel: Channel,
        sender: Sender,
        database: Database,
        clock: Clock,
        keys: KeyRing,
        plans: PlanRegistry,
        sms_enabled: bool,
        owner: str,
    ) -> None:
        self.channel = channel
        self._sender = sender
        self._database = database
        self._clock = clock
        self._keys = keys
        self._plans = plans
        self._sms_enabled = sms_enabled
        self._owner = owner
        self._renderer = Renderer()
        self._sources: dict[tuple[str, int], TemplateSource] = {}
        self._attempts: dict[str, Attempt] = {}
        self._answers: list[Answer] = []

    @property
    def is_idle(self) -> bool:
        """Nothing is on the way and every answer is recorded."""
        return not self._attempts

    def turn(self, *, claiming: bool, timeout: float) -> int:
        """Waits up to `timeout` seconds for answers, records them, claims what fits and sends it.

        Returns how many messages it claimed. Raises DatabaseError when the store is gone; answers not yet recorded
        are kept for the next turn.
        """
        self._answers += self._sender.collect(timeout)
        free = self._sender.free if claiming else 0
        if not self._answers and not (free and self._anything_due()):
            return 0
        started = monotonic()
        with self._database.transaction() as session:
            now = self._clock()
            self._record(session, now)
            claimed = self._claim(session, now, free) if free else []
        for answer in self._answers:
            self._attempts.pop(answer.message_id, None)
        self._answers = []
        self._send(claimed, started)
        return len(claimed)

    def _anything_due(self) -> bool:
        """Asked without a lock, so that an idle worker never stands in a writer's way."""
        with self._database.read() as session:
            return outbox.anything_due(session, self.channel, now=self._clock())

    def _record(self, session: Session, now: datetime) -> None:
        found = [
            outcomes.of_answer(self._attempts[answer.message_id], answer, actor=self._owner, now=now)
            for answer in self._answers
        ]
        if not found:
            return
        written = outbox.record(session, self._owner, [outcome.row for outcome in found])
        kept = [outcome for outcome in found if outcome.row["id"] in written]
        if lost := len(found) - len(kept):
            log.warning("answers came after the lease was lost", extra={"channel": self.channel, "count": lost})
        self._settle(session, kept, now)

    def _settle(self, session: Session, kept: Sequence[Outcome], now: datetime) -> None:
        audit.write_many(session, [entry for outcome in kept for entry in outcome.entries])
        outbox.erase_payloads(session, [outcome.row["id"] for outcome in kept if outcome.erase])
        for outcome in kept:
            if outcome.suppress is not None:
                suppress(
                    session,
                    self._keys,
                    self.channel,
                    self._attempts[outcome.row["id"]].recipient,
                    reason=outcome.suppress,
                    actor=self._sender.provider,
                    now=now,
                )

    def _claim(self, session: Session, now: datetime, limit: int) -> list[_Claimed]:
        due = outbox.lock_due(session, self.channel, now=now, limit=limit)
        if not due:
            return []
        known = templates.by_key(session, {message.template_key for message in due})
        suppressed = self._suppressed(session, due)
        claimed: list[_Claimed] = []
        refused: list[Outcome] = []
        for message in due:
            template = known[message.template_key]
            refusal = self._refusal(message, template, suppressed.get(message.id), now)
            if refusal is None:
                claimed.append(_Claimed(message, template))
            else:
                refused.append(refusal)
        outbox.close_unclaimed(session, [outcome.row for outcome in refused])
        self._settle(session, refused, now)
        if claimed:
            outbox.claim(
                session,
                [item.message.id for item in claimed],
                owner=self._owner,
                provider=self._sender.provider,
                now=now,
                lease_until=now + LEASE,
            )
            wanted = {(item.message.template_key, item.message.template_version) for item in claimed}
            if missing := wanted - self._sources.keys():
                self._sources |= templates.sources(session, missing)
        return claimed

    def _suppressed(self, session: Session, due: Sequence[Any]) -> dict[str, str]:
        """Message id -> reason. Asked under every secret key: the suppression may be older than the message's hash."""
        hashes = {message.id: self._keys.recipient_hashes(self.channel, message.recipient) for message in due}
        found = facts.suppressed(session, {key for keys in hashes.values() for key in keys})
        reasons = {key: reason for (channel, key), reason in found.items() if channel == self.channel}
        return {message_id: reasons[key] for message_id, keys in hashes.items() for key in keys if key in reasons}

    def _refusal(self, message: Any, template: Template, suppressed: str | None, now: datetime) -> Outcome | None:
        if message.expires_at is not None and message.expires_at <= now:
            detail = "its send-by time had passed before it could be sent"
            return outcomes.of_refusal(message, MessageStatus.EXPIRED, None, detail, actor=self._owner, now=now)
        client = client_facts(message.client_id, message) if message.known_client_id is not None else None
        verdict = gates.asked_again(
            gates.Facts(
                template=template,
                client_id=message.client_id,
                client=client,
                sms_enabled=self._sms_enabled,
                plan_has_feature=plan_has_feature(self._plans, client, template),
                suppressed=suppressed,
            )
        )
        if verdict is None:
            return None
        return outcomes.of_refusal(
            message, MessageStatus.BLOCKED, verdict.gate, verdict.detail, actor=self._owner, now=now
        )

    def _send(self, claimed: Sequence[_Claimed], started: float) -> None:
        outbound: list[OutboundMessage] = []
        for item in claimed:
            attempt = _attempt(item)
            self._attempts[attempt.message_id] = attempt
            try:
                message = self._render(item)
            except NotifyctlError as error:
                rejected = Rejected(FailureReason.RENDER_ERROR, "", str(error))
                self._answers.append(Answer(attempt.message_id, rejected, 0.0))
                continue
            if not item.template.sensitive:
                self._attempts[attempt.message_id] = replace(attempt, subject=message.subject)
            outbound.append(message)
        if monotonic() - started < LEASE.total_seconds() / 3:
            self._sender.submit(outbound)
        else:
            # We were suspended between the claim and now, and others may hold these messages already.
            self._abandon([message.message_id for message in outbound])

    def _abandon(self, ids: Sequence[str]) -> None:
        for message_id in ids:
            del self._attempts[message_id]
        with self._database.transaction() as session:
            outbox.give_back(session, self._owner, self._clock(), ids)

    def _render(self, item: _Claimed) -> OutboundMessage:
        message = item.message
        if message.sealed is not None:
            context = self._keys.open(Sealed(message.key_id, message.sealed), message_id=message.id)
        else:
            context = json.loads(message.context or "{}")
        content = self._renderer.render(self._sources[message.template_key, message.template_version], context)
        return OutboundMessage(
            message_id=message.id,
            template_key=message.template_key,
            recipient=message.recipient,
            text=content.text,
            subject=content.subject,
            html=content.html,
        )


def _attempt(item: _Claimed) -> Attempt:
    message, template = item.message, item.template
    return Attempt(
        message_id=message.id,
        channel=message.channel,
        template_key=message.template_key,
        client_id=message.client_id,
        recipient=message.recipient,
        attempts=message.attempts + 1,
        lease_generation=message.lease_generation + 1,
        sensitive=template.sensitive,
        audit_sent=template.audit_sent,
        metadata=message.metadata,
    )
