"""What follows when a client's provisioning becomes COMPLETED or FAILED."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.alerts.provisioning import FEW, NAMED, NO_ADMINS, NO_LOGIN_URL, Announced, announce
from notifyctl.bootstrap import Runtime
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientChange
from notifyctl.orchestrator import message_store
from tests.support.alerts import ADMIN, OPS, alerts, some_clients
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings

WELCOME, FAILED = "WELCOME_EMAIL", "PROVISIONING_FAILED_ADMIN"
LOGIN = "https://cloud.example/login"


def provision(runtime: Runtime, status: str, client_id: str = "acme", **more: Any) -> Announced:
    settings = runtime.settings.model_copy(update=more.pop("settings", {}))
    with runtime.database.transaction() as session:
        change = ClientChange(client_id, {"provisioning_status": status} | more.pop("values", {}))
        written = set_clients(session, [change], actor="test", now=runtime.clock())
        return announce(session, runtime.orchestrator, settings, written.transitions, **more)


def test_a_client_whose_provisioning_is_completed_is_welcomed(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="IN_PROGRESS")
    assert provision(runtime, "COMPLETED") == Announced(welcomed=1)
    welcome = (WELCOME, "acme@client.example", {"client_name": "Acme", "login_url": LOGIN})
    assert alerts(runtime, WELCOME) == [welcome]


def test_completed_again_is_no_news(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="COMPLETED")
    assert provision(runtime, "COMPLETED", values={"name": "Acme Ltd"}) == Announced()


def test_the_admins_hear_of_a_failure_each_in_a_mail_of_their_own(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="IN_PROGRESS")
    people = {"admin_alert_emails": (ADMIN, OPS)}
    assert provision(runtime, "FAILED", detail="quota exceeded", settings=people) == Announced(alerted=2)
    context = {"client_id": "acme", "client_name": "Acme", "detail": "quota exceeded"}
    assert alerts(runtime, FAILED) == [(FAILED, ADMIN, context), (FAILED, OPS, context)]


def test_without_admins_it_goes_to_the_operators(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="PENDING")
    provision(runtime, "FAILED", settings={"admin_alert_emails": ()})
    assert alerts(runtime, FAILED) == [(FAILED, OPS, {"client_id": "acme", "client_name": "Acme"})]


def test_many_failures_of_one_call_are_one_mail_that_names_the_first(runtime: Runtime) -> None:
    few, many = some_clients(runtime, FEW, prefix="few"), some_clients(runtime, NAMED + 2, prefix="many")
    assert fail(runtime, few).alerted == FEW
    assert fail(runtime, many, detail="the host is gone").alerted == 1
    *_, (_, recipient, context) = alerts(runtime, FAILED)
    named = "\n".join(f"{client_id} {client_id.capitalize()}" for client_id in many[:NAMED])
    assert (recipient, context["client_id"]) == (ADMIN, f"many0 and {NAMED + 1} more")
    assert context["detail"] == f"the host is gone\n{named}\n… and 2 more"
    assert fail(runtime, many) == Announced(), "what failed before has not become FAILED"


def test_the_mail_about_many_is_not_held_back_by_the_one_about_its_first_client(runtime: Runtime) -> None:
    many = some_clients(runtime, FEW + 1, prefix="many")
    fail(runtime, many[:1])
    provision(runtime, "PENDING", many[0])
    assert fail(runtime, many) == Announced(alerted=1)


def fail(runtime: Runtime, ids: list[str], **more: Any) -> Announced:
    with runtime.database.transaction() as session:
        changes = [ClientChange(client_id, {"provisioning_status": "FAILED"}) for client_id in ids]
        written = set_clients(session, changes, actor="test", now=runtime.clock())
        return announce(session, runtime.orchestrator, runtime.settings, written.transitions, **more)


def test_an_import_sums_up_over_all_of_its_file(
    runtime: Runtime, notifyctl: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifyctl.cli.clients.clients.CHUNK", 2)
    ids = some_clients(runtime, FEW + 1)
    file = tmp_path / "clients.csv"
    file.write_text("\n".join(["id,provisioning_status", *(f"{client_id},FAILED" for client_id in ids)]) + "\n")
    ran = notifyctl("clients", "import", str(file), ADMIN_ALERT_EMAILS=ADMIN)
    assert (ran.code, ran.err) == (0, "Queued: 1 PROVISIONING_FAILED_ADMIN.\n")


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_a_client_that_was_not_known_before_is_not_announced(runtime: Runtime, status: str) -> None:
    assert provision(runtime, status, client_id="new") == Announced()


@pytest.mark.parametrize("status", ["PENDING", "IN_PROGRESS"])
def test_other_changes_are_not_announced(runtime: Runtime, status: str) -> None:
    a_client(runtime, provisioning_status="COMPLETED")
    assert provision(runtime, status) == Announced()


def test_what_is_not_set_is_said_and_no_message_is_made(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="PENDING")
    assert provision(runtime, "COMPLETED", settings={"login_url": None}) == Announced(warnings=(NO_LOGIN_URL,))
    nobody = {"admin_alert_emails": (), "ops_alert_email": None}
    assert provision(runtime, "FAILED", settings=nobody) == Announced(warnings=(NO_ADMINS,))
    assert _count(runtime) == 0


def test_a_refusal_is_on_record_and_said(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="PENDING", email=None)
    found = provision(runtime, "COMPLETED")
    assert found.warnings == ("WELCOME_EMAIL was refused by RECIPIENT_MISSING; look at its message",)
    assert _count(runtime) == 1


def test_before_the_templates_are_seeded_clients_can_be_written(database_url: str) -> None:
    runtime = open_shared(make_settings(database_url=database_url, login_url=LOGIN))
    a_client(runtime, provisioning_status="PENDING")
    assert provision(runtime, "COMPLETED").warnings == (
        "no WELCOME_EMAIL is sent: there is no such template, run `notifyctl templates seed`",
    )
    runtime.close()


def test_what_is_rolled_back_was_not_announced(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status="PENDING")
    with runtime.database.transaction() as session:
        change = ClientChange("acme", {"provisioning_status": "COMPLETED"})
        written = set_clients(session, [change], actor="test", now=runtime.clock())
        assert announce(session, runtime.orchestrator, runtime.settings, written.transitions).welcomed == 1
        session.rollback()
    assert _count(runtime) == 0


def test_the_command_announces_in_the_same_transaction(runtime: Runtime, notifyctl: CommandLine) -> None:
    a_client(runtime, provisioning_status="PENDING")
    ran = notifyctl("clients", "set", "acme", "--provisioning", "completed", LOGIN_URL=LOGIN)
    assert (ran.code, ran.err) == (0, "Client acme changed.\nQueued: 1 WELCOME_EMAIL.\n")
    ran = notifyctl("clients", "set", "acme", "--provisioning", "FAILED", OPS_ALERT_EMAIL=OPS)
    assert (ran.code, ran.err) == (0, "Client acme changed.\nQueued: 1 PROVISIONING_FAILED_ADMIN.\n")


def test_the_command_warns_where_no_page_is_set(runtime: Runtime, notifyctl: CommandLine) -> None:
    a_client(runtime, provisioning_status="PENDING")
    ran = notifyctl("clients", "set", "acme", "--provisioning", "COMPLETED")
    assert ran.code == 0
    assert ran.err.splitlines()[1] == f"Warning: {NO_LOGIN_URL}."


def test_an_import_announces_known_clients_alone(runtime: Runtime, notifyctl: CommandLine, tmp_path: Path) -> None:
    a_client(runtime, "known", provisioning_status="PENDING")
    a_client(runtime, "broken", provisioning_status="PENDING")
    file = tmp_path / "clients.csv"
    rows = ["known,k@client.example,COMPLETED", "broken,b@client.example,FAILED", "new,n@client.example,COMPLETED"]
    file.write_text("\n".join(["id,email,provisioning_status", *rows]) + "\n")
    ran = notifyctl("clients", "import", str(file), LOGIN_URL=LOGIN, ADMIN_ALERT_EMAILS=f"{ADMIN},{OPS}")
    assert ran.code == 0
    assert ran.err == "Queued: 1 WELCOME_EMAIL.\nQueued: 2 PROVISIONING_FAILED_ADMIN.\n"
    with runtime.database.read() as session:
        found = message_store.find(session, message_store.MessageFilter(template_key=WELCOME), limit=10)
    assert [row.client_id for row in found] == ["known"]


def _count(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM message_log")).scalar_one())
