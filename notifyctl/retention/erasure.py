"""Erasing a client: personal data goes, the history stays under its id and the keyed hashes."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.billing import store as event_store
from notifyctl.billing import subscription_store
from notifyctl.clients import store as client_store
from notifyctl.clients.store import ClientRow
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, Channel
from notifyctl.orchestrator import message_store
from notifyctl.retention import store as retention_store


@dataclass(frozen=True, slots=True)
class Erased:
    messages_canceled: int
    messages_cleared: int
    payloads_deleted: int
    suppressions_cleared: int
    compliance_items_deleted: int
    stripe_events_blanked: int
    messages_in_flight: int
    """A worker holds them or they are in doubt: erase again once they are settled."""


def erase_client(session: Session, keys: KeyRing, client_id: str, *, actor: str, now: datetime) -> Erased:
    """A second call removes what was in flight at the first. Raises NotFound for an unknown id."""
    client = client_store.require(session, client_id)
    hashes, customer_id = _hashes(keys, client), client.stripe_customer_id
    client_store.erase(session, client_id, now)
    canceled = _cancel(session, message_store.MessageFilter(client_id=client_id), client_id, actor, now)
    codes = message_store.MessageFilter(ids=retention_store.to_addresses_alone(session, hashes))
    canceled += _cancel(session, codes, client_id, actor, now)
    erased = Erased(
        messages_canceled=canceled,
        payloads_deleted=retention_store.delete_payloads(session, client_id, hashes),
        messages_cleared=retention_store.clear_messages(session, client_id, hashes),
        suppressions_cleared=retention_store.clear_suppressions(session, client_id, hashes),
        compliance_items_deleted=retention_store.delete_compliance_items(session, client_id),
        stripe_events_blanked=event_store.blank_of_client(session, client_id, customer_id),
        messages_in_flight=retention_store.count_in_flight(session, client_id),
    )
    subscription_store.forget_customer(session, client_id)
    audit_log.write(
        session, AuditAction.CLIENT_ERASED, actor=actor, now=now, client_id=client_id, details=asdict(erased)
    )
    return erased


def _cancel(session: Session, criteria: message_store.MessageFilter, client_id: str, actor: str, now: datetime) -> int:
    canceled = message_store.cancel_waiting(session, criteria, now=now)
    entries = [
        audit_log.entry(
            AuditAction.NOTIFICATION_CANCELED,
            actor=actor,
            now=now,
            client_id=client_id,
            message_id=message.id,
            details={"cause": "the client was erased"},
        )
        for message in canceled
    ]
    audit_log.write_many(session, entries)
    return len(canceled)


def _hashes(keys: KeyRing, client: ClientRow) -> list[tuple[str, str]]:
    addresses = ((Channel.EMAIL, client.email), (Channel.SMS, client.phone_e164))
    return [
        (channel.value, recipient_hash)
        for channel, address in addresses
        if address
        for recipient_hash in keys.recipient_hashes(channel.value, address)
    ]
