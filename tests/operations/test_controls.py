"""What a host application may set without the command line: pauses and limits, each change with its audit row."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlmodel import Session, col, select

from notifyctl.bootstrap import Runtime
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.audit import AuditLog
from notifyctl.models.enums import AuditAction, Channel
from notifyctl.operations import controls, limits
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator import cancel
from notifyctl.orchestrator.message_store import MessageFilter
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send

SMS = PauseScope(channel=Channel.SMS)
WELCOMES = PauseScope(template_key="WELCOME_EMAIL")


def written(session: Session, *actions: AuditAction) -> Sequence[Any]:
    rows = session.exec(select(AuditLog).where(col(AuditLog.action).in_(actions)).order_by(col(AuditLog.id)))
    return [(row.action, row.actor, row.details) for row in rows]


def test_a_pause_names_the_command_that_lets_it_go_as_it_is_typed() -> None:
    assert WELCOMES.command("resume") == "notifyctl resume --template WELCOME_EMAIL"
    narrow = PauseScope(channel=Channel.SMS, client_id="acme & sons")
    assert narrow.command("resume") == "notifyctl resume --channel SMS --client 'acme & sons'"


def test_a_pause_is_kept_once_and_on_record_until_it_is_resumed(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    now = runtime.clock()
    with runtime.database.transaction() as session:
        assert controls.pause(session, WELCOMES, reason="wrong link", actor="host", now=now) == 1
        assert controls.pause(session, WELCOMES, reason="again", actor="host", now=now) is None
    with runtime.database.read() as session:
        (active,) = controls.active_pauses(session)
    assert (active.template, active.channel, active.held, active.reason) == ("WELCOME_EMAIL", None, 1, "wrong link")
    with runtime.database.transaction() as session:
        assert controls.resume(session, WELCOMES, actor="host", now=now) == 1
        with pytest.raises(NotFound, match="nothing is held by template WELCOME_EMAIL"):
            controls.resume(session, WELCOMES, actor="host", now=now)
        assert written(session, AuditAction.PAUSED, AuditAction.RESUMED) == [
            (AuditAction.PAUSED, "host", {"scope": "template WELCOME_EMAIL", "reason": "wrong link"}),
            (AuditAction.RESUMED, "host", {"scope": "template WELCOME_EMAIL"}),
        ]


@pytest.mark.parametrize(
    ("scope", "reason", "error"),
    [
        (SMS, " ", InvalidInput),
        (PauseScope(), "why", InvalidInput),
        (PauseScope(template_key="NOPE"), "why", NotFound),
        (PauseScope(client_id="nobody"), "why", NotFound),
    ],
    ids=["no reason", "no scope", "unknown template", "unknown client"],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_pause_that_makes_no_sense_writes_nothing(
    runtime: Runtime, scope: PauseScope, reason: str, error: type[Exception]
) -> None:
    with runtime.database.transaction() as session:
        with pytest.raises(error):
            controls.pause(session, scope, reason=reason, actor="host", now=runtime.clock())
        assert controls.active_pauses(session) == []
        assert written(session, AuditAction.PAUSED) == []


def test_a_limit_wins_until_it_is_reset_and_both_are_on_record(runtime: Runtime) -> None:
    now = runtime.clock()
    with runtime.database.transaction() as session:
        controls.set_limit(session, Channel.SMS, 7, actor="host", now=now)
        assert limits.per_minute(session, Channel.SMS) == 7
        controls.reset_limit(session, Channel.SMS, actor="host", now=now)
        assert limits.per_minute(session, Channel.SMS) is None
        with pytest.raises(NotFound, match="no limit is set for SMS"):
            controls.reset_limit(session, Channel.SMS, actor="host", now=now)
        assert written(session, AuditAction.LIMIT_CHANGED) == [
            (AuditAction.LIMIT_CHANGED, "host", {"channel": "SMS", "per_minute_limit": 7}),
            (AuditAction.LIMIT_CHANGED, "host", {"channel": "SMS", "per_minute_limit": None}),
        ]


def test_an_operators_cancel_takes_what_waits(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    wanted = MessageFilter(template_key="WELCOME_EMAIL")
    with runtime.database.transaction() as session:
        assert cancel.count_waiting(session, wanted) == 1
        assert cancel.cancel_messages(session, wanted, actor="host", now=runtime.clock()) == 1
        assert cancel.count_waiting(session, wanted) == 0
        assert written(session, AuditAction.NOTIFICATION_CANCELED) == [
            (AuditAction.NOTIFICATION_CANCELED, "host", {"detail": "withdrawn by an operator"})
        ]
