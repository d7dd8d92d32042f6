from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from notifyctl.bootstrap import open_runtime
from notifyctl.retention.erasure import erase_client
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import all_messages
from tests.support.settings import make_settings

FIELDS: dict[str, Any] = {
    "name": "Acme GmbH",
    "email": "Anna@ACME.example",
    "phone_e164": "+49 151 12345678",
    "timezone": "Europe/Berlin",
    "locale": "de-DE",
    "plan": "PRO",
    "provisioning_status": "IN_PROGRESS",
    "subscription_status": "active",
    "sms_enabled": True,
    "stripe_customer_id": "cus_9",
}


def _audits(api: Api) -> list[Any]:
    with api.runtime.database.read() as session:
        return list(
            session.execute(text("SELECT actor, client_id FROM audit_log WHERE action = 'CLIENT_UPDATED'")).all()
        )


def test_a_client_that_is_new_is_created_and_its_row_answered(api: Api, keeper: str) -> None:
    answer = api.put("/api/clients/acme", keeper, json=FIELDS)
    row = answer.json()
    moments = {name: row.pop(name) for name in ("created_at", "updated_at")}

    assert answer.status_code == 200
    assert row == FIELDS | {"id": "acme", "email": "Anna@acme.example", "phone_e164": "+4915112345678"}
    assert all(moment.endswith("Z") for moment in moments.values())
    assert [tuple(found) for found in _audits(api)] == [("key:keeper", "acme")]


def test_a_locale_is_kept_in_one_form_however_the_caller_writes_it(api: Api, keeper: str) -> None:
    for written in ("de_at", "de-AT", "de_AT.UTF-8", "de_AT@euro"):
        assert api.put("/api/clients/acme", keeper, json={"locale": written}).json()["locale"] == "de-AT"
        api.put("/api/clients/acme", keeper, json={"locale": None})
    refused = api.put("/api/clients/acme", keeper, json={"locale": "xx"})
    assert (refused.status_code, refused.json()["message"]) == (
        422, "locale: is no language that is known; send it as de, de-AT or zh-Hant-TW",
    )  # fmt: skip


def test_an_empty_object_makes_a_client_with_nothing_given(api: Api, keeper: str) -> None:
    row = api.put("/api/clients/acme", keeper, json={}).json()

    assert (row["provisioning_status"], row["subscription_status"], row["sms_enabled"]) == ("PENDING", "none", False)


def test_a_field_that_is_left_out_stays_and_null_or_an_empty_text_clears(api: Api, keeper: str) -> None:
    api.put("/api/clients/acme", keeper, json=FIELDS)
    cleared = {"name": "", "email": None, "locale": None, "plan": "", "sms_enabled": None, "provisioning_status": None}
    row = api.put("/api/clients/acme", keeper, json=cleared).json()

    assert (row["name"], row["email"], row["locale"], row["plan"]) == ("", None, "en", None)
    assert (row["sms_enabled"], row["provisioning_status"]) == (False, "PENDING")
    assert (row["phone_e164"], row["timezone"], row["stripe_customer_id"]) == (
        "+4915112345678", "Europe/Berlin", "cus_9",
    )  # fmt: skip


def test_access_that_is_set_up_is_announced_in_the_same_transaction(api: Api, app: FastAPI, keeper: str) -> None:
    url = api.runtime.settings.database_url
    opened = open_runtime(make_settings(database_url=url, login_url="https://cloud.example/login"))
    app.state.runtime = opened
    api.put("/api/clients/acme", keeper, json=FIELDS)
    api.put("/api/clients/acme", keeper, json={"provisioning_status": "COMPLETED"})
    opened.close()

    with api.runtime.database.read() as session:
        found = [(row.template_key, row.client_id, row.status) for row in all_messages(session)]
    assert found == [("WELCOME_EMAIL", "acme", "QUEUED")]


def test_the_same_again_changes_and_audits_nothing(api: Api, keeper: str) -> None:
    first = api.put("/api/clients/acme", keeper, json=FIELDS).json()
    second = api.put("/api/clients/acme", keeper, json=FIELDS).json()

    assert first == second
    assert len(_audits(api)) == 1


@pytest.mark.parametrize("client_id", ["tenant/7", "ä-ö", "a+b", "x" * 200, "%", "..;"])
def test_any_id_that_the_command_line_takes_is_taken(api: Api, keeper: str, client_id: str) -> None:
    answer = api.put(f"/api/clients/{quote(client_id, safe='')}", keeper, json={})

    assert (answer.status_code, answer.json()["id"]) == (200, client_id)


@pytest.mark.parametrize("client_id", ["", "%20", "a%20b", "%00", "x" * 201, "%C2%85", "%ff"])
def test_an_id_that_cannot_be_kept_is_422(api: Api, keeper: str, client_id: str) -> None:
    assert api.put(f"/api/clients/{client_id}", keeper, json={}).status_code == 422


UNFIT: list[dict[str, Any]] = [
    {"email": "c4n4ry.example"},
    {"email": "c4n4ry\n@acme.example"},
    {"email": 17},
    {"phone_e164": "c4n4ry"},
    {"phone_e164": "0151 12345678"},
    {"plan": "c4n4ry"},
    {"timezone": "c4n4ry/Berlin"},
    {"timezone": "../../etc/passwd"},
    {"locale": "c4n4ry"},
    {"locale": "xx"},
    {"name": "c4n4ry\r\nBcc: x"},
    {"name": "c4n4ry\u0000"},
    {"name": "x" * 201},
    {"provisioning_status": "c4n4ry"},
    {"subscription_status": "ACTIVE"},
    {"sms_enabled": "yes"},
    {"sms_enabled": 1},
    {"stripe_customer_id": "c4n4ry x"},
    {"erased_at": None},
    {"id": "other"},
]


def test_a_value_that_cannot_be_kept_is_422_by_its_fields_name(api: Api, keeper: str) -> None:
    answers = [(next(iter(field)), api.put("/api/clients/acme", keeper, json=field)) for field in UNFIT]

    assert {answer.status_code for _, answer in answers} == {422}
    assert [name for name, answer in answers if not answer.json()["message"].startswith(f"{name}: ")] == []
    assert "c4n4ry" not in "".join(answer.text for _, answer in answers)
    with api.runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM client")).scalar_one() == 0


def test_a_plan_that_is_none_is_answered_with_those_there_are(api: Api, keeper: str) -> None:
    messages = [api.put("/api/clients/acme", keeper, json={"plan": plan}).json()["message"] for plan in ("pro", "GOLD")]

    assert messages == [
        "plan: is unknown; did you mean PRO? It is one of SOLO, PRO", "plan: is unknown; it is one of SOLO, PRO",
    ]  # fmt: skip


def test_a_body_that_is_no_json_is_no_empty_change(api: Api, keeper: str) -> None:
    headers = {"Content-Type": "application/json"}
    answers = [api.put("/api/clients/acme", keeper, data=body, headers=headers) for body in (b"\x00", b"{", b"[[1]")]

    assert {answer.status_code for answer in answers} == {422}
    assert all(answer.json()["message"].startswith("body: is not JSON") for answer in answers)
    with api.runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM client")).scalar_one() == 0


def test_every_field_that_is_wrong_is_named(api: Api, keeper: str) -> None:
    message = api.put("/api/clients/acme", keeper, json={"email": "x", "plan": "x", "timezone": "x"}).json()["message"]

    assert [part.split(":")[0] for part in message.split("; ") if ":" in part] == ["email", "timezone", "plan"]


def test_a_stripe_customer_of_another_client_is_a_conflict_that_does_not_tell_whose(api: Api, keeper: str) -> None:
    a_client(api.runtime, "bolt", stripe_customer_id="cus_9")
    answer = api.put("/api/clients/acme", keeper, json={"stripe_customer_id": "cus_9"})

    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
    assert "bolt" not in answer.text


def test_an_erased_client_takes_nothing_any_more(api: Api, keeper: str) -> None:
    a_client(api.runtime)
    with api.runtime.database.transaction() as session:
        erase_client(session, api.runtime.keys, "acme", actor="test", now=api.runtime.clock())
    answer = api.put("/api/clients/acme", keeper, json={"name": "Acme"})

    assert (answer.status_code, answer.json()["error"]) == (409, "client_erased")
