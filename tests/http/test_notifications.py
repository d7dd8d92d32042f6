import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import requests
from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.http.server import create_app
from notifyctl.models.enums import ProvisioningStatus, Scope
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import CODE, RESET, SPIKE, WELCOME, message

SEND = "/api/notifications"


def _welcome(**more: Any) -> dict[str, Any]:
    return {"template_key": "WELCOME_EMAIL", "client_id": "acme", "context": WELCOME, **more}


def test_a_message_that_may_go_is_taken_and_queued(api: Api, sender: str) -> None:
    a_client(api.runtime)
    answer = api.post(SEND, sender, json=_welcome(idempotency_key="welcome:acme"))

    taken = answer.json()
    assert answer.status_code == 202
    assert taken == {
        "id": taken["id"], "status": "QUEUED", "reason": None, "detail": None, "duplicate_of": None,
    }  # fmt: skip
    row = message(api.runtime, taken["id"])
    assert (row.status, row.source, row.idempotency_key) == ("QUEUED", "http", "welcome:acme")


def test_a_message_that_a_gate_refuses_is_taken_as_blocked(api: Api, sender: str) -> None:
    a_client(api.runtime, provisioning_status=ProvisioningStatus.PENDING)
    answer = api.post(SEND, sender, json=_welcome())

    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["reason"]) == ("BLOCKED", "PROVISIONING_INCOMPLETE")


def test_a_refusal_says_in_words_what_is_wrong(api: Api, sender: str) -> None:
    a_client(api.runtime)
    context = {"client_nam": "Acme", "login_url": "https://cloud.example"}
    answer = api.post(SEND, sender, json=_welcome(context=context)).json()
    assert answer["reason"] == "CONTEXT_INVALID"
    assert "client_name is missing" in answer["detail"]
    assert "client_nam is unknown" in answer["detail"]
    assert answer["detail"] == message(api.runtime, answer["id"]).error


def test_a_client_that_is_not_known_blocks_its_message(api: Api, sender: str) -> None:
    assert api.post(SEND, sender, json=_welcome(client_id="nobody")).json()["reason"] == "CLIENT_UNKNOWN"


def test_an_address_that_is_no_clients_can_be_written_to(api: Api, admin: str) -> None:
    asked = {"template_key": "OPS_ALERT_SMS", "recipient": "+49 151 12345678", "context": SPIKE}
    taken = api.post(SEND, admin, json=asked).json()

    assert message(api.runtime, taken["id"]).recipient == "+4915112345678"


def test_the_same_key_again_gets_the_first_message_back(api: Api, sender: str) -> None:
    a_client(api.runtime)
    first = api.post(SEND, sender, json=_welcome(idempotency_key="k")).json()
    second = api.post(SEND, sender, json=_welcome(idempotency_key="k"))

    assert second.status_code == 202
    assert second.json() == {
        "id": first["id"], "status": "QUEUED", "reason": None, "detail": None, "duplicate_of": first["id"],
    }  # fmt: skip


def test_twenty_requests_at_once_with_one_key_make_one_message(api: Api, sender: str) -> None:
    a_client(api.runtime)
    barrier = Barrier(20)

    def ask(_number: int) -> requests.Response:
        barrier.wait(30)
        headers = {"Authorization": f"Bearer {sender}"}
        return requests.post(f"{api.url}{SEND}", json=_welcome(idempotency_key="k"), headers=headers, timeout=60)

    with ThreadPoolExecutor(20) as pool:
        answers = [answer.json() for answer in pool.map(ask, range(20))]

    assert len({answer["id"] for answer in answers}) == 1
    assert sum(answer["duplicate_of"] is None for answer in answers) == 1


@pytest.mark.parametrize(
    "other",
    [{"client_id": "bolt"}, {"context": WELCOME | {"client_name": "Bolt"}}, {"template_key": "PASSWORD_RESET"}],
    ids=["another client", "another context", "another template"],
)
def test_a_key_that_belongs_to_another_message_is_a_conflict(api: Api, sender: str, other: dict[str, Any]) -> None:
    a_client(api.runtime)
    a_client(api.runtime, "bolt", phone_e164=None)
    first = api.post(SEND, sender, json=_welcome(idempotency_key="k")).json()
    answer = api.post(SEND, sender, json=_welcome(idempotency_key="k") | other)

    assert (answer.status_code, answer.json()["error"]) == (409, "idempotency_conflict")
    assert first["id"] in answer.json()["message"]


def test_a_blocked_message_does_not_use_up_its_key(api: Api, sender: str) -> None:
    blocked = api.post(SEND, sender, json=_welcome(idempotency_key="k")).json()
    a_client(api.runtime)
    taken = api.post(SEND, sender, json=_welcome(idempotency_key="k")).json()

    assert (blocked["status"], taken["status"], taken["duplicate_of"]) == ("BLOCKED", "QUEUED", None)


def test_an_unknown_template_is_not_found_and_leaves_nothing(api: Api, sender: str) -> None:
    answer = api.post(SEND, sender, json=_welcome(template_key="NO_SUCH"))

    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_template")
    assert answer.json()["message"] == "There is no template NO_SUCH."
    misspelt = api.post(SEND, sender, json=_welcome(template_key="WELCOM_EMAIL"))
    assert misspelt.json()["message"] == "There is no template WELCOM_EMAIL; did you mean WELCOME_EMAIL?"
    strange = api.post(SEND, sender, json=_welcome(template_key="<b>s3cret</b>"))
    assert strange.json()["message"] == "There is no template (a strange name)."
    with api.runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_log")).scalar_one() == 0


@pytest.mark.parametrize(
    "context",
    [{}, {"client_name": 1}, WELCOME | {"more": 1}, {"\ud800": "\udfff"}, {"client_name": "\x00", "login_url": {}}],
    ids=["nothing", "a number", "an unknown name", "surrogates", "NUL"],
)
def test_a_context_that_does_not_fit_blocks_its_message(api: Api, sender: str, context: dict[str, Any]) -> None:
    a_client(api.runtime)
    answer = api.post(SEND, sender, json=_welcome(context=context, idempotency_key="k"))

    assert (answer.status_code, answer.json()["reason"]) == (202, "CONTEXT_INVALID")


def test_no_caller_can_pass_for_stripe(api: Api, admin: str) -> None:
    a_client(api.runtime)
    context = {"client_name": "Acme", "plan_name": "Pro"}
    asked = {"template_key": "SUBSCRIPTION_CONFIRMED", "client_id": "acme", "context": context}

    assert api.post(SEND, admin, json=asked).json()["reason"] == "BILLING_ONLY_FROM_STRIPE"
    for field in ("source", "source_ref", "metadata", "objections", "actor"):
        assert api.post(SEND, admin, json=asked | {field: "stripe"}).status_code == 422


def test_alarms_are_not_for_everyone_who_may_send(api: Api) -> None:
    asked = {"template_key": "OPS_ALERT_SMS", "recipient": "+4915112345678", "context": SPIKE}
    found = {
        scope
        for scope in Scope
        if api.post(SEND, api.key(scope, Scope.SEND, name=scope), json=asked).status_code == 202
    }

    assert found == {Scope.ADMIN}


def test_the_audit_log_names_the_key_that_asked(api: Api, sender: str) -> None:
    a_client(api.runtime)
    taken = api.post(SEND, sender, json=_welcome()).json()

    with api.runtime.database.read() as session:
        assert [row.actor for row in audit_log.of_message(session, taken["id"])] == ["key:sender"]


def test_what_became_of_a_message_is_told_with_its_recipient_masked(
    api: Api, sender: str, reader: str, admin: str
) -> None:
    a_client(api.runtime)
    message_id = api.post(SEND, sender, json=_welcome()).json()["id"]
    seen = {key: api.get(f"{SEND}/{message_id}", key).json() for key in (sender, reader, admin)}

    assert seen[sender] == seen[reader] == seen[admin] | {"recipient": "a***@client.example"}
    assert seen[admin]["recipient"] == "acme@client.example"
    assert seen[sender]["status"] == "QUEUED"
    assert seen[sender]["created_at"].endswith("Z")
    assert len(seen[sender]["created_at"]) == len("2026-03-02T12:00:00.000Z")


def test_the_values_of_a_message_are_never_shown(api: Api, admin: str, sender: str) -> None:
    a_client(api.runtime)
    asked = {"template_key": "PASSWORD_RESET", "client_id": "acme", "context": RESET}
    message_id = api.post(SEND, sender, json=asked).json()["id"]
    shown = api.get(f"{SEND}/{message_id}", admin).text + api.get(f"/api/admin/message-logs/{message_id}", admin).text

    assert "t0k3n" not in shown
    assert "context" not in shown
    assert "fingerprint" not in shown


@pytest.mark.parametrize("path", [SEND, "/api/admin/message-logs"])
def test_a_message_that_is_not_there_is_not_found(api: Api, admin: str, path: str) -> None:
    answer = api.get(f"{path}/0198c7b2-0000-7000-8000-000000000000", admin)
    garbage = [api.get(f"{path}/{text}", admin).status_code for text in ("1", "%00", "%ff", "x" * 3_000, "a'b")]

    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    assert set(garbage) == {422}


def test_a_message_is_in_the_language_that_the_caller_names(api: Api) -> None:
    asked = {
        "template_key": "OPS_ALERT_NOTIFICATION_SPIKE", "recipient": "ops@acme.example", "locale": "en_US",
    }  # fmt: skip
    key = api.key(Scope.ADMIN)
    answer = api.post(SEND, key, json=asked)
    assert answer.status_code == 202
    shown = api.get(f"{SEND}/{answer.json()['id']}", key).json()
    assert (shown["template_version"], shown["language"]) == (1, "en")
    strange = api.post(SEND, key, json=asked | {"locale": "c4n4ry"})
    assert (strange.status_code, strange.json()["error"]) == (422, "invalid_request")
    assert strange.json()["message"].startswith("locale is no language that is known")
    assert "c4n4ry" not in strange.text


@pytest.mark.parametrize("scope", [Scope.SEND, Scope.ADMIN])
def test_no_scope_sends_a_test_of_a_template(api: Api, scope: Scope) -> None:
    """It says whatever it is told, to anybody."""
    asked = {"template_key": "TEMPLATE_TEST_SMS", "recipient": "+4915112345678", "context": {"text": "Win!"}}
    answer = api.post(SEND, api.key(scope), json=asked)
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize("scopes", [[Scope.SEND], [Scope.OTP, Scope.SEND], [Scope.ADMIN], list(Scope)], ids=str)
def test_no_scope_sends_a_code_here(api: Api, scopes: list[Scope]) -> None:
    asked = {"template_key": "OTP_CODE_SMS", "recipient": "+4915112345678", "context": CODE}
    answer = api.post(SEND, api.key(*scopes), json=asked)

    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    assert "POST /api/otp/send" in answer.json()["message"]
    with api.runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_log")).scalar_one() == 0


@pytest.mark.parametrize(("locale", "fits"), [("de-AT", 202), ("zh_Hant_TW", 202), ("de_DE.UTF-8", 202), ("0", 422)])
def test_the_document_says_of_what_form_a_locale_is(api: Api, locale: str, fits: int) -> None:
    """So that a client made from the document is told before it asks, and is not told so of what would be taken."""
    document = create_app(api.runtime).openapi()
    form = document["components"]["schemas"]["SendToAddress"]["properties"]["locale"]["anyOf"][0]["pattern"]
    assert bool(re.search(form, locale)) == (fits == 202)
    asked = {"template_key": "OPS_ALERT_NOTIFICATION_SPIKE", "recipient": "ops@acme.example", "locale": locale}
    assert api.post(SEND, api.key(Scope.ADMIN), json=asked).status_code == fits
