import logging
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import inspect, text

from notifyctl.audit import log as audit_log
from notifyctl.http import api_keys
from notifyctl.models.enums import AuditAction, Scope
from tests.support.api import Api

LOGS = "/api/admin/message-logs"
OPEN = ("/healthz", "/readyz")
"""Without a key."""
SIGNED = "/api/webhooks/"
"""By the provider that calls."""


def _protected(app: FastAPI) -> list[tuple[str, str]]:
    return [
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if path not in OPEN and not path.startswith(SIGNED)
    ] + [("GET", "/openapi.json"), ("GET", "/docs")]


def test_nothing_is_answered_without_a_key_but_probes_and_signed_webhooks(api: Api, app: FastAPI) -> None:
    asked = _protected(app)
    answers = [api.ask(method, path.replace("{", "").replace("}", "")) for method, path in asked]

    assert len(asked) >= 7
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {'Bearer realm="notifyctl"'}


def test_a_key_is_asked_for_before_anything_is_said_about_the_body(api: Api) -> None:
    answer = api.post("/api/notifications", data=b"{", headers={"Content-Type": "application/json"})

    assert answer.status_code == 401


def test_whatever_is_wrong_with_a_key_the_answer_is_the_same_bytes(api: Api, admin: str) -> None:
    gone = api.key(Scope.ADMIN, name="expired", expires_at=api.runtime.clock() - timedelta(seconds=1))
    revoked = api.key(Scope.ADMIN, name="revoked")
    _revoke(api, "revoked")
    wrong: list[dict[str, Any]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {admin}"},
        {"Authorization": admin},
        {"Authorization": f"Bearer {gone}"},
        {"Authorization": f"Bearer {revoked}"},
        {"Authorization": f"Bearer {admin}x"},
        {"Authorization": f"Bearer {admin[:-1]}"},
        {"Authorization": f"Bearer {admin.upper()}"},
        {"Authorization": "Bearer nfy_0000000000_" + "x" * 43},
        {"Authorization": "Bearer nfy__x"},
        {"Authorization": "Bearer nfy"},
        {"Authorization": "Bearer " + "a" * 5_000},
        {"Authorization": b"Bearer \xff\xfe\x80"},
        {"Authorization": "Bearer n\u00e4fy_1_2".encode()},
        {"Cookie": f"key={admin}", "X-Api-Key": admin},
    ]
    answers = [api.get(LOGS, headers=headers) for headers in wrong]

    assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
    assert len({tuple(sorted(name for name in answer.headers)) for answer in answers}) == 1
    assert answers[0].json() == {"error": "unauthorized", "message": "A valid API key is needed."}
    assert api.get(LOGS, admin).status_code == 200


def test_two_keys_at_once_are_none(api: Api, admin: str) -> None:
    import http.client

    connection = http.client.HTTPConnection(api.url.removeprefix("http://"))
    connection.putrequest("GET", LOGS)
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {admin}")
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()

    assert status == 401


@pytest.mark.parametrize("name", ["token", "access_token", "key", "api_key"])
def test_a_key_in_the_address_is_not_looked_at(api: Api, admin: str, name: str) -> None:
    assert api.get(f"/openapi.json?{name}={admin}").status_code == 401


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.OTP, {"/api/otp/send", "/api/otp/verify"}),
        (Scope.SEND, {"/api/notifications", "/api/notifications/{message_id}"}),
        (Scope.CLIENTS, {"/api/clients/{client_id}"}),
        (Scope.READ, {"/api/notifications/{message_id}", LOGS, f"{LOGS}/{{message_id}}"}),
    ],
    ids=lambda value: value if isinstance(value, Scope) else "",
)
def test_a_key_opens_only_what_its_scope_says(api: Api, app: FastAPI, scope: Scope, allowed: set[str]) -> None:
    key, admin = api.key(scope), api.key(Scope.ADMIN, name="admin")
    found = {path for method, path in _protected(app) if api.ask(method, path, key).status_code != 403}
    refused_admin = {path for method, path in _protected(app) if api.ask(method, path, admin).status_code == 403}

    known = {path for path in found if path.startswith(("/api/otp", "/api/notifications", "/api/clients", LOGS))}
    assert known == allowed
    assert "/openapi.json" not in found
    assert not refused_admin


def test_a_key_may_have_several_scopes(api: Api) -> None:
    key = api.key(Scope.READ, Scope.OTP)

    assert api.get(LOGS, key).status_code == 200
    assert api.post("/api/otp/send", key).status_code == 422
    assert api.post("/api/notifications", key).json() == {
        "error": "forbidden",
        "message": "This needs a key with the scope send.",
    }


def test_who_may_send_may_not_write_the_facts_that_the_gates_go_by(api: Api, sender: str) -> None:
    facts = {"provisioning_status": "COMPLETED", "plan": "PRO", "sms_enabled": True}
    refused = api.put("/api/clients/acme", sender, json=facts)

    assert (refused.status_code, refused.json()) == (
        403,
        {"error": "forbidden", "message": "This needs a key with the scope clients."},
    )
    assert api.put("/api/clients/acme", api.key(Scope.SEND, Scope.CLIENTS), json=facts).status_code == 200
    with api.runtime.database.read() as session:
        actors = session.execute(text("SELECT actor FROM audit_log WHERE action = 'CLIENT_UPDATED'")).scalars().all()
    assert actors == ["key:backend"]


def test_the_audit_log_says_whose_key_asked_for_a_code_and_tried_one(api: Api) -> None:
    key = api.key(Scope.OTP, name="shop")
    asked = {"phone_number": "+4915112345678", "action": "PHONE_VERIFY"}
    for _ in range(2):
        api.post("/api/otp/send", key, json=asked)
    api.post("/api/otp/verify", key, json=asked | {"code": "x"})

    with api.runtime.database.read() as session:
        found = session.execute(text("SELECT action, actor FROM audit_log WHERE action != 'TEMPLATE_SEEDED'")).all()
    actors = {actor for action, actor in found if action != "API_KEY_CREATED"}
    assert {"OTP_SEND_REQUESTED", "OTP_VERIFY_FAILED", "NOTIFICATION_CANCELED"} <= {action for action, _ in found}
    assert actors == {"key:shop"}


def test_a_revoked_key_opens_nothing_from_the_next_request_on(api: Api, admin: str) -> None:
    before = api.get(LOGS, admin).status_code
    _revoke(api, "admin")

    assert (before, api.get(LOGS, admin).status_code) == (200, 401)


def test_a_key_is_nowhere_in_the_database(api: Api, admin: str) -> None:
    secret = admin.split("_", 2)[2]
    with api.runtime.database.read() as session:
        for table in inspect(api.runtime.database.engine).get_table_names():
            for row in session.execute(text(f"SELECT * FROM {table}")):
                assert secret not in str(row)


def test_making_and_revoking_a_key_is_audited_with_its_name_and_scopes(api: Api, admin: str) -> None:
    _revoke(api, "admin")
    with api.runtime.database.read() as session:
        rows = session.execute(text("SELECT action FROM audit_log WHERE action LIKE 'API_KEY%' ORDER BY id")).scalars()
        assert list(rows) == [AuditAction.API_KEY_CREATED, AuditAction.API_KEY_REVOKED]
        assert audit_log.of_message(session, "00000000-0000-0000-0000-000000000000") == []


def test_every_refusal_is_logged_with_its_cause_and_without_the_key(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    reader = api.key(Scope.READ, name="reader")
    old = api.key(Scope.READ, name="old", expires_at=api.runtime.clock() - timedelta(seconds=1))
    with caplog.at_level(logging.WARNING, "notifyctl.http"):
        api.get(LOGS)
        api.get(LOGS, f"{reader}x")
        api.get(LOGS, old)
        api.post("/api/notifications", reader)
    lines = [vars(record) for record in caplog.records]

    assert [(line["msg"], line.get("cause"), line.get("key")) for line in lines] == [
        ("key refused", "none presented", None),
        ("key refused", "unknown", None),
        ("key refused", "expired", "old"),
        ("key lacks the scope", None, "reader"),
    ]
    assert lines[0]["peer"] == "127.0.0.1"
    assert (lines[3]["needs"], lines[3]["route"]) == ("send", "/api/notifications")
    assert not any(secret.split("_", 2)[2] in str(line) for secret in (reader, old) for line in lines)


def _revoke(api: Api, name: str) -> None:
    with api.runtime.database.transaction() as session:
        api_keys.revoke(session, name, actor="test", now=api.runtime.clock())
