"""Removing what the other tables know of a client."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, tuple_, update
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.compliance import ComplianceItem
from notifyctl.models.enums import Audience
from notifyctl.models.message import FINAL, MessageLog, MessagePayload
from notifyctl.models.suppression import Suppression

_message = table(MessageLog)
_payload = table(MessagePayload)
_suppression = table(Suppression)
_compliance = table(ComplianceItem)


Addresses = Collection[tuple[str, str]]
"""(channel, hash) of the client's own addresses."""


def to_addresses_alone(session: Session, own: Addresses) -> list[str]:
    """Ids of messages to these addresses that name no client (one-time codes) and are not final."""
    statement = select(_message.c.id).where(_is_to_address_alone(own), _message.c.status.not_in(FINAL))
    return list(session.execute(statement).scalars())


def delete_payloads(session: Session, client_id: str, own: Addresses) -> int:
    final = select(_message.c.id).where(*_is_final(client_id, own))
    return session.exec(delete(_payload).where(_payload.c.message_id.in_(final))).rowcount


def clear_messages(session: Session, client_id: str, own: Addresses) -> int:
    """The provider's words go too: they quote the address that it could not reach."""
    telling = or_(_message.c.recipient.is_not(None), _message.c.subject.is_not(None), _message.c.error.is_not(None))
    statement = update(_message).where(*_is_final(client_id, own), telling)
    return session.exec(statement.values(recipient=None, subject=None, error=None)).rowcount


def count_in_flight(session: Session, client_id: str) -> int:
    """Messages that a worker holds, or that may have gone out: they need their address until it is known."""
    statement = select(func.count()).select_from(_message)
    unsettled = statement.where(_message.c.client_id == client_id, _message.c.status.not_in(FINAL))
    return int(session.execute(unsettled).scalar_one())


def clear_suppressions(session: Session, client_id: str, own: Addresses) -> int:
    """Of its addresses, and of those that its messages went to.

    The rows stay, and with them the hash that blocks. Notes go, since they quote bounces.
    """
    key = tuple_(_suppression.c.channel, _suppression.c.recipient_hash)
    ever = select(_message.c.channel, _message.c.recipient_hash).where(_message.c.client_id == client_id)
    statement = update(_suppression).where(
        or_(key.in_(ever), key.in_(sorted(own))), _suppression.c.address.is_not(None)
    )
    return session.exec(statement.values(address=None, note=None)).rowcount


def delete_compliance_items(session: Session, client_id: str) -> int:
    return session.exec(delete(_compliance).where(_compliance.c.client_id == client_id)).rowcount


def _is_final(client_id: str, own: Addresses) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return or_(_message.c.client_id == client_id, _is_to_address_alone(own)), _message.c.status.in_(FINAL)


def _is_to_address_alone(own: Addresses) -> ColumnElement[bool]:
    address = tuple_(_message.c.channel, _message.c.recipient_hash)
    return and_(_message.c.client_id.is_(None), _message.c.audience == Audience.CLIENT, address.in_(sorted(own)))
