"""What `import notifyctl` offers to a host application. docs/python.md shows all of it at work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, cast

from sqlmodel import Session

from notifyctl.alerts.provisioning import announce
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.clients import clients
from notifyctl.clients.fields import COLUMN_OF, ClientFields
from notifyctl.delivery.requeue import Requeue
from notifyctl.errors import (
    ConfigurationError,
    DatabaseError,
    IdempotencyConflict,
    InvalidInput,
    NotFound,
    NotifyctlError,
    WrongSchema,
)
from notifyctl.models.enums import BlockReason, Channel, MessageStatus, OtpAction
from notifyctl.operations.controls import pause, reset_limit, resume, set_limit
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator.cancel import cancel_messages as cancel
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate, Queued, SendRequest
from notifyctl.settings import Settings, load_settings
from notifyctl.templates.context import kind_of
from notifyctl.text.choices import meant_among

__all__ = [  # noqa: RUF022  in the order of docs/python.md
    # Opening
    "Runtime", "Settings", "load_settings", "open_runtime",
    # Sending
    "SendRequest", "Decision", "Queued", "Blocked", "Duplicate", "BlockReason", "MessageStatus",
    # Clients
    "set_clients", "ClientValues", "ClientsSet",
    # One-time codes
    "OtpAction",
    # What operators do
    "pause", "resume", "PauseScope", "set_limit", "reset_limit", "Channel", "cancel", "retry_failed", "MessageFilter",
    # Errors
    "NotifyctlError", "InvalidInput", "ConfigurationError", "NotFound", "IdempotencyConflict", "DatabaseError",
    "WrongSchema",
]  # fmt: skip


class ClientValues(TypedDict, total=False):
    """What to write on a client. What is left out stays as it is; None or an empty text clears."""

    name: str | None
    email: str | None
    phone: str | None
    plan: str | None
    provisioning_status: str | None
    subscription_status: str | None
    sms_enabled: bool | None
    timezone: str | None
    locale: str | None
    stripe_customer_id: str | None


@dataclass(frozen=True, slots=True)
class ClientsSet:
    created: int
    changed: int
    unchanged: int
    welcomed: int
    """WELCOME_EMAIL messages queued, for clients whose provisioning became COMPLETED."""
    alerted: int
    """Messages to the admins queued, about clients whose provisioning became FAILED."""
    warnings: tuple[str, ...]
    """Why one of these was not queued, each cause once."""


def set_clients(
    runtime: Runtime, session: Session, values_by_id: Mapping[str, ClientValues], *, actor: str
) -> ClientsSet:
    """Creates and changes clients, audits it, and queues what their provisioning sets off, in the caller's transaction.

    `actor` is for the audit log. Raises InvalidInput that names every value that cannot be kept.
    """
    fields = ClientFields(runtime.plans, runtime.settings.otp_default_region)
    changes, faults = [], []
    for client_id, values in values_by_id.items():
        change, wrong = fields.read(client_id, _texts(client_id, values))
        changes.append(change)
        faults += [f"client {client_id!r}: {fault}" for fault in wrong]
    if faults:
        raise InvalidInput(*faults)
    result = clients.set_clients(session, changes, actor=actor, now=runtime.clock())
    announced = announce(session, runtime.orchestrator, runtime.settings, result.transitions)
    return ClientsSet(
        result.created, result.changed, result.unchanged, announced.welcomed, announced.alerted, announced.warnings
    )


def _texts(client_id: str, values: ClientValues) -> dict[str, str]:
    if not isinstance(cast(object, client_id), str):
        raise InvalidInput(f"a client's id must be a string, got {kind_of(client_id)}")
    if unknown := sorted(values.keys() - COLUMN_OF.keys()):
        known = meant_among(unknown[0], COLUMN_OF, f"there are {', '.join(COLUMN_OF)}")
        raise InvalidInput(f"client {client_id!r}: no field {', '.join(unknown)}{known}")
    fields = cast(Mapping[str, str | bool | None], values)
    return {name: "" if value is None else str(value) for name, value in fields.items()}


def retry_failed(runtime: Runtime, session: Session, criteria: MessageFilter, *, actor: str) -> int:
    """Queues FAILED messages again, but for those that a gate would refuse now. How many were queued."""
    requeue = Requeue(runtime.keys, runtime.plans, sms_enabled=runtime.settings.sms_enabled)
    choice = requeue.choose(session, criteria, runtime.clock())
    return requeue.queue(session, choice.ids, actor=actor, now=runtime.clock())
