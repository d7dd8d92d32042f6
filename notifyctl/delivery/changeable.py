"""The gates whose answer can change since acceptance, asked of messages that are stored."""

from collections.abc import Sequence
from typing import Protocol

from sqlmodel import Session

from notifyctl.models.enums import Channel
from notifyctl.models.template import Template
from notifyctl.orchestrator import gates
from notifyctl.orchestrator.gates import Verdict
from notifyctl.orchestrator.orchestrator import plan_has_feature
from notifyctl.orchestrator.plans import PlanRegistry
from notifyctl.orchestrator.sealing import KeyRing
from notifyctl.store import facts
from notifyctl.store.messages import AddressedClient


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
    reasons = facts.suppressed(session, {key for under_each in hashes.values() for key in under_each})
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
