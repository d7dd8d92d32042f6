"""One message, as nearly all are asked for: what the gates need to know of it, and its rows, in few statements.

What gate_facts and message_store do for many, as text for the driver: to put a statement together would cost more than
to run it.
"""

import json
from collections.abc import Sequence
from functools import cache

from sqlmodel import Session

from notifyctl.audit.log import NewAuditRow
from notifyctl.db import bulk
from notifyctl.models.client import AddressedClient
from notifyctl.models.enums import MessageStatus, ProvisioningStatus, SubscriptionStatus
from notifyctl.models.message import IDEMPOTENCY_INDEX, IS_COUNTED_CODE, NOT_COUNTED_BY_RATE
from notifyctl.models.template import Template
from notifyctl.orchestrator.gate_facts import Known, RateWindow, Rule, rule_of
from notifyctl.orchestrator.message_store import KeyedMessage, Row
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.templates.store import from_one, in_one

_CLIENT = ", ".join(f"c.{name}" for name in AddressedClient._fields)
_KNOWN = "c.id = :client_id AND c.erased_at IS NULL"
_LOCKED = f"(SELECT * FROM client AS c WHERE {_KNOWN} FOR NO KEY UPDATE)"  # noqa: S608  our own words


def template_and_client(
    session: Session, request: SendRequest, *, lock: bool
) -> tuple[dict[str, Template], dict[str, AddressedClient]]:
    """By key and by id; empty for what is unknown. With `lock`, others who send to the client wait for our commit."""
    dialect = bulk.dialect(session)
    statement = _template_and_client(dialect, lock and dialect != "sqlite")
    asked = {"template_key": request.template_key, "client_id": request.client_id}
    rows = bulk.run(session, statement, asked)
    if not rows:
        return {}, {}
    row = rows[0]
    template, client = from_one(row[0]), _client(row[1:])
    return {template.template_key: template}, {client.id: client} if client else {}


@cache
def _template_and_client(dialect: str, lock: bool) -> str:
    client, is_it = (_LOCKED, "true") if lock else ("client", _KNOWN)
    return f"""
        SELECT {in_one(dialect)}, {_CLIENT}
        FROM notification_template AS t
        JOIN notification_template_version AS v ON v.template_key = t.template_key AND v.version = t.version
        LEFT JOIN {client} AS c ON {is_it}
        WHERE t.template_key = :template_key
    """  # noqa: S608  our own words


def _client(row: Sequence[object]) -> AddressedClient | None:
    client = AddressedClient.of(row)
    return client and client._replace(
        provisioning_status=ProvisioningStatus(client.provisioning_status),
        subscription_status=SubscriptionStatus(client.subscription_status),
        sms_enabled=bool(client.sms_enabled),
    )


_RECIPIENT = "message_log.recipient_hash = :recipient_hash"
_COUNTED = f"""
    message_log.created_at > :since AND message_log.template_key = :template_key
    AND message_log.rate_subject = :rate_subject
    AND message_log.status NOT IN ({", ".join(f"'{status}'" for status in NOT_COUNTED_BY_RATE)})
"""
_IN_WINDOW = {
    Rule.CLIENT: f"message_log.client_id = :client_id AND {_COUNTED}",
    Rule.RECIPIENT: f"{_RECIPIENT} AND message_log.client_id IS NULL AND {_COUNTED}",
    Rule.CODE: f"{_RECIPIENT} AND message_log.created_at > :since AND {IS_COUNTED_CODE}",
}


def known(
    session: Session,
    channel: str,
    recipient_hash: str | None,
    *,
    idempotency_key: str | None,
    stripe_event: str | None,
    window: RateWindow | None,
) -> Known:
    """To be asked once the locks are held, so that what others have committed meanwhile counts."""
    asked: dict[str, object] = {"channel": channel, "recipient_hash": recipient_hash, "stripe_event": stripe_event}
    asked["idempotency_key"] = idempotency_key
    if window is not None:
        asked |= {"client_id": window.client_id, "template_key": window.template_key}
        asked |= {"rate_subject": window.rate_subject, "since": window.since}
    rule = None if window is None else rule_of(window)
    statement = _known(recipient_hash is not None, idempotency_key is not None, stripe_event is not None, rule)
    reason, sends, is_verified, *earlier = bulk.run(session, statement, asked)[0]
    return Known(
        earlier=_by_key(idempotency_key or "", *earlier) if earlier else {},
        suppressed={(channel, str(recipient_hash)): reason} if reason else {},
        verified=[stripe_event] if stripe_event and is_verified else [],
        sends=[] if window is None else [sends],
    )


def _by_key(key: str, message_id: str | None, fingerprint: str = "", status: str = "") -> dict[str, KeyedMessage]:
    return {key: KeyedMessage(key, message_id, fingerprint, MessageStatus(status))} if message_id else {}


@cache
def _known(has_recipient: bool, has_key: bool, has_event: bool, rule: Rule | None) -> str:
    sends = f"(SELECT count(*) FROM message_log WHERE {_IN_WINDOW[rule]})" if rule else "0"  # noqa: S608  our own words
    is_verified = "(SELECT verified FROM stripe_event WHERE id = :stripe_event)" if has_event else "false"
    reason = "(SELECT reason FROM suppression WHERE channel = :channel AND recipient_hash = :recipient_hash)"
    facts = f"SELECT {reason if has_recipient else 'NULL'}, {sends}, {is_verified}"
    if not has_key:
        return facts
    keyed = f"SELECT * FROM message_log WHERE idempotency_key = :idempotency_key AND {IDEMPOTENCY_INDEX}"  # noqa: S608  our own words
    with_key = f"{facts}, CAST(keyed.id AS text), keyed.fingerprint, keyed.status"
    return f"{with_key} FROM (SELECT 1) AS here LEFT JOIN ({keyed}) AS keyed ON true"


_NOT_SUPPRESSED = "NOT EXISTS (SELECT 1 FROM suppression WHERE channel = :by AND recipient_hash = :to)"
"""With names of its own: PostgreSQL wants one type for each."""
_PAYLOAD = ("message_id", "context", "sealed", "key_id")
_AUDIT = ("message_id", "client_id", "created_at", "action", "actor", "metadata")


def write(
    session: Session, message: Row, payload: Row | None, audit: NewAuditRow, *, unless_suppressed: bool = False
) -> bool:
    """A new message with its payload, if it has one, and the audit row of its acceptance.

    False, and nothing is written, when its idempotency key is taken; on PostgreSQL this waits for a transaction that
    is about to take it. So it is `unless_suppressed` where its recipient is.
    """
    has_key, has_payload = message["idempotency_key"] is not None, payload is not None
    values = {**message, **(payload or {}), "message_id": message["id"], "action": audit.action, "actor": audit.actor}
    values |= {"message_metadata": _json(message["metadata"]), "metadata": _json(audit.metadata)}
    values |= {"by": message["channel"], "to": message["recipient_hash"]}
    first, *more = _inserts(bulk.dialect(session), tuple(message), has_key, has_payload, unless_suppressed)
    if not bulk.run(session, first, values):
        return False
    for statement in more:
        bulk.run(session, statement, values)
    return True


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))


@cache
def _inserts(
    dialect: str, names: Sequence[str], has_key: bool, has_payload: bool, unless_suppressed: bool
) -> Sequence[str]:
    """On PostgreSQL one statement, which is a round trip less for each of the others; SQLite takes one row in each."""
    given = ["message_metadata" if name == "metadata" else name for name in names]
    unless_known = f"ON CONFLICT (idempotency_key) WHERE {IDEMPOTENCY_INDEX} DO NOTHING" if has_key else ""
    condition = _NOT_SUPPRESSED if unless_suppressed else "true"
    message = f"{_insert('message_log', names)} SELECT {_bound(given)} WHERE {condition} {unless_known} RETURNING id"
    rows = {"message_payload": _PAYLOAD, "audit_log": _AUDIT} if has_payload else {"audit_log": _AUDIT}
    if dialect == "sqlite":
        return [message, *(f"{_insert(into, columns)} VALUES ({_bound(columns)})" for into, columns in rows.items())]
    *others, last = (f"{_insert(into, names)} SELECT {_bound(names)} FROM new" for into, names in rows.items())  # noqa: S608  our own words
    together = "".join(f", other AS ({other})" for other in others)
    return [f"WITH new AS ({message}){together} {last} RETURNING id"]


def _insert(into: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {into} ({', '.join(columns)})"


def _bound(names: Sequence[str]) -> str:
    return ", ".join(f":{name}" for name in names)
