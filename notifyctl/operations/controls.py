"""What operators set while everything runs: pauses and limits, each change with its audit row."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import AuditAction, Channel
from notifyctl.models.template import NotificationTemplate
from notifyctl.operations import limits, pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.text.choices import member, no_client, no_template

_template = table(NotificationTemplate)


class ActivePause(NamedTuple):
    channel: str | None
    template: str | None
    client: str | None
    held: int
    """How many waiting messages."""
    reason: str
    by: str
    since: datetime


def active_pauses(session: Session) -> list[ActivePause]:
    """Oldest first."""
    return [
        ActivePause(
            channel=row.channel,
            template=row.template_key,
            client=row.client_id,
            held=pauses.held(session, pauses.scope_of(row)),
            reason=row.reason,
            by=row.actor,
            since=row.created_at,
        )
        for row in pauses.everything(session)
    ]


def pause(session: Session, scope: PauseScope, *, reason: str, actor: str, now: datetime) -> int | None:
    """How many waiting messages it holds; None when just this is paused already, and its first reason is kept.

    Raises NotFound for a template or client that is not there, InvalidInput without a reason.
    """
    _require_known(session, scope)
    if not reason.strip():
        raise InvalidInput("a pause has no reason; say why, for those who will ask")
    if not pauses.add(session, scope, reason=reason, actor=actor, now=now):
        return None
    details = {"scope": str(scope), "reason": reason}
    audit_log.write(session, AuditAction.PAUSED, actor=actor, now=now, client_id=scope.client_id, details=details)
    return pauses.held(session, scope)


def pause_everything(session: Session, *, reason: str, actor: str, now: datetime) -> int:
    """Channel by channel, as `resume` lifts it. How many waiting messages that holds."""
    for channel in Channel:
        pause(session, PauseScope(channel=channel), reason=reason, actor=actor, now=now)
    return sum(pauses.held(session, PauseScope(channel=channel)) for channel in Channel)


def resume(session: Session, scope: PauseScope, *, actor: str, now: datetime) -> int:
    """How many waiting messages it held. Raises NotFound when there is no pause of just this."""
    _require_known(session, scope)
    held = pauses.held(session, scope)
    if not pauses.remove(session, scope):
        raise NotFound(f"nothing is held by {scope}; `notifyctl pause` without options lists what is")
    details = {"scope": str(scope)}
    audit_log.write(session, AuditAction.RESUMED, actor=actor, now=now, client_id=scope.client_id, details=details)
    return held


def _require_known(session: Session, scope: PauseScope) -> None:
    if not (scope.channel or scope.template_key or scope.client_id):
        raise InvalidInput("a pause is of nothing; name a channel, a template or a client")
    if scope.channel:
        member(Channel, scope.channel, "channel")
    if scope.template_key and session.get(NotificationTemplate, scope.template_key) is None:
        raise no_template(scope.template_key, session.execute(select(_template.c.template_key)).scalars())
    if scope.client_id and session.get(Client, scope.client_id) is None:
        raise no_client(scope.client_id, ())


def set_limit(session: Session, channel: Channel, per_minute: int, *, actor: str, now: datetime) -> None:
    """For all workers at once; it wins over the environment. Raises InvalidInput for less than one message a minute."""
    channel = member(Channel, channel, "channel")
    if per_minute < 1:
        raise InvalidInput(f"a limit is at least 1 a minute, got {per_minute:,}; to hold {channel} back, pause it")
    limits.set_per_minute(session, channel, per_minute, actor=actor, now=now)
    _audit_limit(session, channel, per_minute, actor=actor, now=now)


def reset_limit(session: Session, channel: Channel, *, actor: str, now: datetime) -> None:
    """Back to the environment's. Raises NotFound when that is in force already."""
    channel = member(Channel, channel, "channel")
    if not limits.reset(session, channel):
        raise NotFound(f"no limit is set for {channel}; the environment's is in force already")
    _audit_limit(session, channel, None, actor=actor, now=now)


def _audit_limit(session: Session, channel: Channel, per_minute: int | None, *, actor: str, now: datetime) -> None:
    details = {"channel": channel.value, "per_minute_limit": per_minute}
    audit_log.write(session, AuditAction.LIMIT_CHANGED, actor=actor, now=now, details=details)
