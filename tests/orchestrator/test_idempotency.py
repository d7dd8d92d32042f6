import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.errors import IdempotencyConflict
from notifyctl.models.enums import AuditAction, BlockReason, MessageStatus
from notifyctl.orchestrator.requests import Blocked, Duplicate, Queued, SendRequest
from notifyctl.settings import Settings
from tests.support.clients import a_client
from tests.support.clocks import NOON
from tests.support.messages import REMINDER, RESET, WELCOME, actions, message, send
from tests.support.runtimes import open_shared
from tests.support.templates import seed_templates

REMINDERS = "COMPLIANCE_EXPIRY_REMINDER"


def test_the_same_key_gets_the_first_message_back(runtime: Runtime) -> None:
    a_client(runtime)
    first = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k")
    second = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k")
    assert isinstance(first, Queued)
    assert second == Duplicate(first.message_id, MessageStatus.QUEUED)
    assert actions(runtime, first.message_id) == ["NOTIFICATION_QUEUED", "NOTIFICATION_DUPLICATE"]


@pytest.mark.parametrize(
    "other",
    [
        ("PASSWORD_RESET", RESET, "acme"),
        ("WELCOME_EMAIL", WELCOME | {"client_name": "Other"}, "acme"),
        ("WELCOME_EMAIL", WELCOME, "other"),
    ],
    ids=["another template", "another context", "another recipient"],
)
def test_the_same_key_for_another_message_is_an_error(runtime: Runtime, other: tuple[str, dict[str, str], str]) -> None:
    a_client(runtime)
    a_client(runtime, "other")
    send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k")
    template, context, client = other
    with pytest.raises(IdempotencyConflict, match="'k' belongs to message"):
        send(runtime, template, context, client_id=client, idempotency_key="k")


def test_a_blocked_message_does_not_use_up_its_key(runtime: Runtime) -> None:
    a_client(runtime, email=None)
    assert isinstance(send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k"), Blocked)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE client SET email = 'acme@client.example'"))
    assert isinstance(send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k"), Queued)
    assert isinstance(send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k"), Duplicate)


def test_one_bulk_send_recognises_its_own_doubles(runtime: Runtime) -> None:
    a_client(runtime)
    request = SendRequest(template_key="PASSWORD_RESET", client_id="acme", context=RESET, idempotency_key="k")
    with runtime.database.transaction() as session:
        first, second = runtime.orchestrator.send_many(session, [request, request])
    assert isinstance(first, Queued)
    assert second == Duplicate(first.message_id, MessageStatus.QUEUED)


def test_send_many_decides_like_send_for_each_in_turn(runtime: Runtime) -> None:
    for name in ("a", "b", "c"):
        a_client(runtime, name, email=None if name == "b" else f"{name}@client.example")
    requests = [SendRequest(template_key="WELCOME_EMAIL", client_id=name, context=WELCOME) for name in "abcaz"]
    with runtime.database.transaction() as session:
        decisions = runtime.orchestrator.send_many(session, requests)
    reasons = [decision.reason if isinstance(decision, Blocked) else None for decision in decisions]
    assert reasons == [
        None, BlockReason.RECIPIENT_MISSING, None, BlockReason.RATE_LIMITED, BlockReason.CLIENT_UNKNOWN,
    ]  # fmt: skip


def reminders(*clients: str, metadata: dict[str, Any] | None = None, template: str = REMINDERS) -> list[SendRequest]:
    """One for each of many items, which are the clients' in turn."""
    return [
        SendRequest(
            template_key=template,
            client_id=clients[number % len(clients)],
            context=REMINDER | {"item_reference": f"TL-{number}"},
            idempotency_key=f"k{number:03}",
            metadata=metadata,
        )
        for number in range(bulk.MANY + 1)
    ]


@pytest.mark.parametrize(
    "requests",
    [
        reminders("acme"),
        reminders("acme", "nobody", "mute"),
        reminders("acme", metadata={"campaign": "spring", "wave": 1}),
        reminders("acme", metadata={"wave": 1})[:90] + reminders("acme", metadata={"wave": True})[90:],
        reminders("acme", template=REMINDERS)[:50] + reminders("acme", template="WELCOME_EMAIL")[50:],
    ],
    ids=["alike", "some refused", "with metadata", "with metadata of two types", "two templates"],
)
def test_what_many_messages_share_is_written_as_if_each_had_come_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, requests: list[SendRequest]
) -> None:
    runtime = open_shared(settings, clock=lambda: NOON)
    seed_templates(runtime)
    a_client(runtime)
    a_client(runtime, "mute", email=None)
    found = []
    for many in (len(requests) + 1, bulk.MANY):
        monkeypatch.setattr(bulk, "MANY", many)
        with runtime.database.transaction() as session:
            runtime.orchestrator.send_many(session, requests)
            found.append(_written(session))
            session.rollback()
    runtime.close()
    assert len(found[0][0]) == len(requests)
    assert found[1] == found[0]


def _written(session: Session) -> tuple[list[dict[str, Any]], ...]:
    """All but the ids, which are other ones each time, and how JSON is spelled."""
    statements = (
        "SELECT * FROM message_log ORDER BY idempotency_key",
        "SELECT action, actor, client_id, metadata, created_at FROM audit_log WHERE message_id IS NOT NULL ORDER BY id",
        "SELECT payload.context FROM message_payload AS payload"
        " JOIN message_log ON message_log.id = payload.message_id ORDER BY idempotency_key",
    )
    found = ([dict(row) for row in session.execute(text(statement)).mappings()] for statement in statements)
    return tuple(
        [{name: _plain(value) for name, value in row.items() if name != "id"} for row in rows] for rows in found
    )


def _plain(value: Any) -> Any:
    value = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
    return repr(sorted(value.items())) if isinstance(value, dict) else value  # 1 equals True


def test_rows_that_have_everything_in_common_are_all_written(runtime: Runtime) -> None:
    entry = audit_log.entry(AuditAction.OPERATOR_ACTION, actor="same", now=runtime.clock(), details={"a": None})
    with runtime.database.transaction() as session:
        audit_log.write_many(session, [entry] * bulk.MANY)
        same = session.execute(text("SELECT count(*) FROM audit_log WHERE actor = 'same'")).scalar_one()
    assert same == bulk.MANY


def test_a_window_rolls_and_counts_by_its_subject(runtime: Runtime) -> None:
    a_client(runtime)
    assert isinstance(send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER), Queued)
    again = send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER)
    assert isinstance(again, Blocked)
    assert again.reason is BlockReason.RATE_LIMITED
    other = REMINDER | {"item_reference": "TL-21"}
    assert isinstance(send(runtime, "COMPLIANCE_EXPIRY_REMINDER", other), Queued)
    with runtime.database.transaction() as session:
        moved = runtime.clock() - timedelta(hours=24, seconds=1)
        session.execute(text("UPDATE message_log SET created_at = :at"), {"at": _stored(runtime, moved)})
    assert isinstance(send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER), Queued)


def _stored(runtime: Runtime, moment: object) -> object:
    return str(moment).replace("+00:00", "") if runtime.database.is_sqlite else moment


@pytest.mark.parametrize("status", ["BLOCKED", "FAILED", "EXPIRED", "CANCELED"])
def test_what_was_not_sent_does_not_use_up_the_window(runtime: Runtime, status: str) -> None:
    a_client(runtime)
    first = send(runtime, "WELCOME_EMAIL", WELCOME)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = :status"), {"status": status})
    assert isinstance(send(runtime, "WELCOME_EMAIL", WELCOME), Queued)
    assert message(runtime, first.message_id).status == status


def test_three_password_links_an_hour_and_no_fourth(runtime: Runtime) -> None:
    a_client(runtime)
    decisions = [send(runtime, "PASSWORD_RESET", RESET) for _ in range(4)]
    assert [isinstance(decision, Queued) for decision in decisions] == [True, True, True, False]
