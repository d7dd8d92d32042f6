"""What a worker takes from the queue: as much as slots, budget, breaker and pauses allow, asked again at the gates."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.clients.plans import PlanRegistry
from notifyctl.delivery import outbox, outcomes, requeue, result_store
from notifyctl.delivery.lookout import Lookout
from notifyctl.delivery.outbox import QUEUES, DueMessage, Queue
from notifyctl.delivery.outcomes import Attempt, DeliveryOutcome
from notifyctl.delivery.pace.allowance import Allowance
from notifyctl.delivery.pace.breaker import Breaker, BreakerDecision
from notifyctl.delivery.result_store import DeferrableMessage
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, Lane, MessageStatus
from notifyctl.models.template import Template
from notifyctl.operations import pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator import payload_store
from notifyctl.orchestrator.holds import QuietHours
from notifyctl.providers.registry import PROVIDERS
from notifyctl.templates import store as template_store
from notifyctl.text.durations import iso

DEFERRED_AT_ONCE = 500
LEASE = timedelta(seconds=45)
"""Longer than the slowest provider call."""


_Message = TypeVar("_Message", DueMessage, DeferrableMessage)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the gates need besides the store, and when BULK is held."""

    keys: KeyRing
    plans: PlanRegistry
    sms_enabled: bool
    quiet: QuietHours


class Claim(NamedTuple):
    """A locked row that may go, with what is needed to send it."""

    message: DueMessage
    template: Template

    def attempt(self, at: datetime) -> Attempt:
        """The one that the claim has counted already."""
        assert self.message.recipient is not None
        return Attempt(
            message_id=self.message.id,
            channel=self.message.channel,
            template_key=self.message.template_key,
            client_id=self.message.client_id,
            recipient=self.message.recipient,
            attempts=self.message.attempts + 1,
            lease_generation=self.message.lease_generation + 1,
            sensitive=self.template.sensitive,
            audit_sent=self.template.audit_sent,
            metadata=self.message.metadata,
            attempted_at=at,
        )


@dataclass(slots=True)
class QueueSnapshot:
    """What was seen without a lock."""

    due: Mapping[Queue, int]
    paused: tuple[PauseScope, ...]
    decision: BreakerDecision
    slots: Mapping[Lane, int]
    since: Mapping[Queue, datetime]
    """Where the look began, and the claim begins; empty where that was the beginning of each queue."""


@dataclass(slots=True)
class ClaimBatch:
    claimed: list[Claim] = field(default_factory=list)
    refused: list[DeliveryOutcome] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    """Of those claimed, in their order."""
    deferred: int = 0
    put_off: int = 0
    """To the end of their clients' quiet hours."""


class Claimer:
    """Used by one thread."""

    def __init__(
        self,
        lookout: Lookout,
        allowance: Allowance,
        breaker: Breaker,
        rules: Rules,
        owner: str,
        *,
        lanes: Collection[Lane] = tuple(Lane),
    ) -> None:
        self.channel = lookout.channel
        self.lookout = lookout
        self._lanes = lanes
        self.allowance = allowance
        self.breaker = breaker
        self._rules = rules
        self._owner = owner

    def snapshot(self, session: Session, now: datetime, free: int) -> QueueSnapshot | None:
        """None when there is nothing to claim and nothing to defer."""
        held, row = pauses.with_breaker(session, self.channel)
        decision = self.breaker.read(row, now)
        if decision is BreakerDecision.NONE:
            return None
        paused = tuple(map(pauses.scope_of, held))
        if any(
            scope.channel in (None, self.channel) and not (scope.template_key or scope.client_id) for scope in paused
        ):
            return None
        most = 1 if decision is BreakerDecision.PROBE else free
        since, seen = self.lookout.look(session, now=now, most=most, paused=paused)
        due = {queue: count for queue, count in seen.items() if queue.lane in self._lanes}
        if not due:
            return None
        slots = self.allowance.slots(most, _by_lane(due))
        snapshot = QueueSnapshot(due, paused, decision, slots, since)
        if any(queue.status is not MessageStatus.DEFERRED_THROTTLED for queue in due):
            return snapshot
        # Everything that is due was deferred before: a lock is worth it only if the budget has something now.
        self.allowance.read(session)
        return snapshot if self.allowance.has_room_for(slots) else None

    def try_one(self, session: Session, queue: Queue, message_id: str, now: datetime) -> Sequence[Claim]:
        """All that is done about a message until it is claimed; raises what that stumbles over. To be rolled back."""
        due = outbox.lock_one(session, self.channel, queue, message_id, now=now)
        awake = self._put_off_quiet(session, due, now, ClaimBatch()) if queue.lane is Lane.BULK else due
        claimed, refused = self._ask_again(session, awake, now)
        result_store.close_unclaimed(session, [outcome.result for outcome in refused])
        self._claim(session, claimed, now)
        for claim in claimed:
            claim.attempt(now)
        return claimed

    def claim(self, session: Session, now: datetime, snapshot: QueueSnapshot) -> ClaimBatch:
        """Locks, asks the gates again, and claims; what found no token is deferred."""
        batch = ClaimBatch()
        if snapshot.decision is BreakerDecision.PROBE and not self.breaker.start_probe(session, now):
            return batch
        if not self.allowance.takes_ahead or self.allowance.is_short_of(snapshot.slots):
            self.allowance.take(session, snapshot.slots)
        for queue in QUEUES:
            if queue in snapshot.due:
                self._take_from(session, queue, now, snapshot, batch)
        self.allowance.put_back(session)
        for lane in Lane:
            if self._is_out_of_tokens(lane, snapshot, batch):
                self._defer(session, lane, now, snapshot, batch)
        return batch

    def _take_from(
        self, session: Session, queue: Queue, now: datetime, snapshot: QueueSnapshot, batch: ClaimBatch
    ) -> None:
        """Refusals need no token, so a queue is asked again until its tokens are used or it is empty."""
        slots = snapshot.slots[queue.lane] - sum(item.message.lane is queue.lane for item in batch.claimed)
        ahead = 0
        while (most := min(slots, self.allowance.tokens(queue.lane))) > 0:
            wanted = max(most, ahead)
            due = outbox.lock_due(
                session,
                self.channel,
                queue,
                now=now,
                most=wanted,
                paused=snapshot.paused,
                since=snapshot.since.get(queue),
            )
            awake = self._put_off_quiet(session, due, now, batch) if queue.lane is Lane.BULK else due
            claimed, refused = self._ask_again(session, awake[:most], now)
            result_store.close_unclaimed(session, [outcome.result for outcome in refused])
            payload_store.forget(session, [outcome.result.id for outcome in refused if outcome.has_no_client])
            self._claim(session, claimed, now)
            self.allowance.use(queue.lane, len(claimed))
            batch.claimed += claimed
            batch.attempts += [item.attempt(now) for item in claimed]
            batch.refused += refused
            slots -= len(claimed)
            if len(due) < wanted or ahead:
                return
            if len(awake) < len(due):
                # A quiet client may have left a backlog, which must not be walked through by the handful.
                ahead = DEFERRED_AT_ONCE

    def _put_off_quiet(
        self, session: Session, messages: Sequence[_Message], now: datetime, batch: ClaimBatch
    ) -> Sequence[_Message]:
        """Returns those that may go. The others came into their client's quiet hours by a retry or the throttle."""
        ends = self._rules.quiet.ends(now, (message.timezone for message in messages if message.timezone is not None))
        if not ends:
            return messages
        quiet = {message.id: ends[message.timezone] for message in messages if message.timezone in ends}
        result_store.put_off(session, quiet)
        batch.put_off += len(quiet)
        return [message for message in messages if message.id not in quiet]

    def _claim(self, session: Session, claimed: Sequence[Claim], now: datetime) -> None:
        if not claimed:
            return
        outbox.claim(
            session,
            [item.message.id for item in claimed],
            owner=self._owner,
            provider=PROVIDERS[self.channel].name,
            now=now,
            lease_until=now + LEASE,
        )

    def _ask_again(
        self, session: Session, messages: Sequence[DueMessage], now: datetime
    ) -> tuple[list[Claim], list[DeliveryOutcome]]:
        if not messages:
            return [], []
        templates = template_store.by_key(session, {message.template_key for message in messages})
        suppressed = requeue.suppressed(session, self._rules.keys, self.channel, messages)
        claimed: list[Claim] = []
        refused: list[DeliveryOutcome] = []
        for message in messages:
            template = templates[message.template_key]
            refusal = self._refusal(message, template, suppressed.get(message.id), now)
            if refusal is None:
                claimed.append(Claim(message, template))
            else:
                refused.append(refusal)
        return claimed, refused

    def _refusal(
        self, message: DueMessage, template: Template, suppressed: str | None, now: datetime
    ) -> DeliveryOutcome | None:
        if message.expires_at is not None and message.expires_at <= now:
            detail = "its send-by time had passed before it could be sent"
            return outcomes.of_refusal(message, MessageStatus.EXPIRED, None, detail, actor=self._owner, now=now)
        verdict = requeue.refusal(
            message, template, suppressed, plans=self._rules.plans, sms_enabled=self._rules.sms_enabled
        )
        if verdict is not None:
            status, gate = MessageStatus.BLOCKED, verdict.gate
            return outcomes.of_refusal(message, status, gate, verdict.detail, actor=self._owner, now=now)
        if message.recipient is None or (message.context is None and message.sealed is None):
            detail = "its address or its context was erased while it waited"
            return outcomes.of_refusal(message, MessageStatus.CANCELED, None, detail, actor=self._owner, now=now)
        return None

    def _is_out_of_tokens(self, lane: Lane, snapshot: QueueSnapshot, batch: ClaimBatch) -> bool:
        if lane is Lane.BULK and batch.put_off:
            return False  # there may be more of these, and they are not what the minute is too full for
        claimed = sum(item.message.lane is lane for item in batch.claimed)
        return (
            snapshot.decision is BreakerDecision.FREE
            and claimed < snapshot.slots[lane]
            and self.allowance.was_short(lane)
        )

    def _defer(self, session: Session, lane: Lane, now: datetime, snapshot: QueueSnapshot, batch: ClaimBatch) -> None:
        """Once for each deferral: what is deferred already is left as it is."""
        last = result_store.last_forecast(session, self.channel, lane, now)
        forecasts: dict[str, datetime] = {}
        entries: list[audit_log.NewAuditRow] = []
        for status in (MessageStatus.RETRY_SCHEDULED, MessageStatus.QUEUED):
            most = DEFERRED_AT_ONCE - len(forecasts)
            queue = Queue(lane, status)
            due: Sequence[DeferrableMessage] = result_store.lock_due(
                session,
                self.channel,
                queue,
                now=now,
                most=most,
                paused=snapshot.paused,
                since=snapshot.since.get(queue),
            )
            if lane is Lane.BULK:
                due = self._put_off_quiet(session, due, now, batch)
            for message in due:
                turn = self.allowance.forecast(len(forecasts), after=last)
                forecasts[message.id] = turn
                entries.append(self._deferral(message, turn, now))
        if forecasts:
            result_store.defer(session, forecasts, now=now)
            audit_log.write_many(session, entries)
            batch.deferred += len(forecasts)

    def _deferral(self, message: DeferrableMessage, turn: datetime, now: datetime) -> audit_log.NewAuditRow:
        details = {"next_attempt_at": iso(turn), "per_minute_limit": self.allowance.budget.limit}
        return audit_log.for_message(
            AuditAction.NOTIFICATION_THROTTLED, message, actor=self._owner, now=now, details=details
        )


def _by_lane(due: Mapping[Queue, int]) -> dict[Lane, int]:
    waiting = dict.fromkeys(Lane, 0)
    for queue, count in due.items():
        waiting[queue.lane] += count
    return waiting
