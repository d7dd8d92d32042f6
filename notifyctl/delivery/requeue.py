"""What the gates say of stored messages now: of those that wait, and of FAILED ones that are to be queued again."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.clients.plans import PlanRegistry
from notifyctl.keyring import KeyRing
from notifyctl.models.client import AddressedClient
from notifyctl.models.enums import AuditAction, BlockReason, Channel
from notifyctl.models.template import Template
from notifyctl.orchestrator import gate_facts, gates, message_store
from notifyctl.orchestrator.explain import how_to_lift
from notifyctl.orchestrator.gates import Verdict
from notifyctl.orchestrator.message_store import FailedMessage, MessageFilter
from notifyctl.orchestrator.orchestrator import plan_has_feature
from notifyctl.templates import store as template_store


class AcceptedMessage(Protocol):
    """Any row of a message that has its client with it."""

    @property
    def id(self) -> str: ...

    @property
    def client_id(self) -> str | None: ...

    @property
    def recipient(self) -> str | None: ...

    @property
    def client(self) -> AddressedClient | None: ...


def suppressed(
    session: Session, keys: KeyRing, channel: Channel, messages: Sequence[AcceptedMessage]
) -> dict[str, str]:
    """Message id -> reason. Asked under every secret key: the suppression may be older than the message's hash."""
    hashes = {
        message.id: keys.recipient_hashes(channel, message.recipient)
        for message in messages
        if message.recipient is not None
    }
    reasons = gate_facts.suppressed(session, {key for under_each in hashes.values() for key in under_each})
    here = {key: reason for (where, key), reason in reasons.items() if where == channel}
    return {message_id: here[key] for message_id, under_each in hashes.items() for key in under_each if key in here}


def refusal(
    message: AcceptedMessage, template: Template, suppressed_as: str | None, *, plans: PlanRegistry, sms_enabled: bool
) -> Verdict | None:
    """The first gate that would refuse it now."""
    return gates.asked_again(
        gates.Facts(
            template=template,
            client_id=message.client_id,
            client=message.client,
            sms_enabled=sms_enabled,
            plan_has_feature=plan_has_feature(plans, message.client, template),
            suppressed=suppressed_as,
        )
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why messages cannot be queued again. `gate` is the one that would refuse them, None where no gate is asked."""

    why: str
    gate: BlockReason | None = None
    remedy: str = ""
    """What lifts it, as a command where there is one; empty where nothing does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Of the FAILED messages that match. What is refused stays FAILED, and can be queued again later."""

    ids: Sequence[str]
    refused: Mapping[Refusal, int]
    """How many, those that a gate refuses last."""
    by_template: Mapping[str, int]
    """Of those that would be queued."""
    oldest_at: datetime | None
    """When the first of them was accepted."""


class Requeue:
    """`sms_enabled` is SMS_ENABLED, for the whole installation."""

    def __init__(self, keys: KeyRing, plans: PlanRegistry, *, sms_enabled: bool) -> None:
        self._keys = keys
        self._plans = plans
        self._sms_enabled = sms_enabled

    def choose(self, session: Session, criteria: MessageFilter, now: datetime) -> Choice:
        """Asks the gates that a worker asks again before it sends. Writes nothing."""
        by_obstacle = message_store.retryable(session, criteria, now=now)
        waiting_again: list[FailedMessage] = []
        refused: dict[BlockReason, list[FailedMessage]] = {}
        for part in _parts(by_obstacle.pop("", [])):
            for message, gate in self._verdicts(session, part):
                waiting_again.append(message) if gate is None else refused.setdefault(gate, []).append(message)
        for_good = {Refusal(why): len(ids) for why, ids in by_obstacle.items()}
        by_gate = Counter[Refusal]()
        for gate in BlockReason:
            for message in refused.get(gate, []):
                by_gate[self._refusal(gate, message, refused[gate])] += 1
        return Choice(
            ids=[message.id for message in waiting_again],
            refused=for_good | dict(by_gate),
            by_template=Counter(message.template_key for message in waiting_again),
            oldest_at=min((message.created_at for message in waiting_again), default=None),
        )

    def queue(self, session: Session, ids: Collection[str], *, actor: str, now: datetime) -> int:
        """Those of `ids` that nothing refuses by now wait for a worker again, each with an audit row. How many."""
        choice = self.choose(session, MessageFilter(ids=ids), now)
        moved = message_store.requeue(session, choice.ids, now=now)
        details = {"detail": "queued again"}
        entries = [
            audit_log.for_message(AuditAction.OPERATOR_ACTION, message, actor=actor, now=now, details=details)
            for message in moved
        ]
        audit_log.write_many(session, entries)
        return len(moved)

    def _verdicts(self, session: Session, ids: Sequence[str]) -> Iterator[tuple[FailedMessage, BlockReason | None]]:
        failed = message_store.with_clients(session, ids)
        templates = template_store.by_key(session, {message.template_key for message in failed})
        on_record: dict[str, str] = {}
        for channel in Channel:
            ours = [message for message in failed if message.channel == channel]
            on_record |= suppressed(session, self._keys, channel, ours)
        for message in failed:
            template = templates.get(message.template_key)
            if template is None:  # nobody can say what it would be
                yield message, BlockReason.TEMPLATE_DISABLED
                continue
            verdict = refusal(
                message,
                template,
                on_record.get(message.id),
                plans=self._plans,
                sms_enabled=self._sms_enabled,
            )
            yield message, verdict.gate if verdict else None

    def _refusal(self, gate: BlockReason, message: FailedMessage, refused_alike: Sequence[FailedMessage]) -> Refusal:
        """The same for all that one command lifts; `refused_alike` are all that the gate refuses."""
        clients = {other.client_id for other in refused_alike}
        remedy = how_to_lift(
            gate,
            channel=message.channel,
            template_key=message.template_key,
            client_id=message.client_id if len(clients) == 1 else None,
            by_setting=not self._sms_enabled,
        )
        return Refusal(f"refused by {gate}", gate, remedy)


def _parts(ids: Sequence[str], most: int = 1_000) -> Iterator[Sequence[str]]:
    return (ids[first : first + most] for first in range(0, len(ids), most))
