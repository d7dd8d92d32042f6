import json
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import suppress
from notifyctl.doctor import settings_checks, store_checks
from notifyctl.doctor.check import CheckContext, CheckResult, CheckStatus
from notifyctl.doctor.doctor import examine, mend
from notifyctl.models.audit import AuditLog
from notifyctl.models.enums import AuditAction, Channel, MessageStatus, SuppressionReason
from notifyctl.models.message import MessageLog
from notifyctl.operations import breakers
from tests.support.audit_log import sql
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import RESET, WELCOME, a_worker, send
from tests.support.processes import Environment
from tests.support.settings import SECRET, make_settings

NEW_KEY = "9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f2468"
COMPLETE = {
    "public_base_url": "https://notify.acme.example",
    "postmark_webhook_token": "sandbox-token",
    "stripe_webhook_secret": "whsec_1",
    "ops_alert_email": "ops@acme.example",
    "login_url": "https://app.acme.example/login",
    "otp_allowed_countries": "DE,AT",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def installation(runtime: Runtime) -> Iterator[CheckContext]:
    """Everything in order, on the database of `runtime`."""
    made = install(runtime)
    a_worker(runtime)
    file = made.database_file
    if file:
        file.chmod(0o600)
    yield made
    made.database.close()


def install(runtime: Runtime, **settings: Any) -> CheckContext:
    url = runtime.settings.database_url
    return CheckContext(make_settings(database_url=url, **COMPLETE, **settings), Path(".env"))


def findings(installation: CheckContext) -> dict[str, CheckResult]:
    found = examine(
        installation, offline=settings_checks.OFFLINE, schema=store_checks.SCHEMA, stored=store_checks.STORED
    )
    return {item.check: item.result for item in found}


def offline(**settings: Any) -> dict[str, CheckResult]:
    installation = CheckContext(make_settings(**{**COMPLETE, **settings}), Path(".env"))
    found = examine(installation, offline=settings_checks.OFFLINE, schema=(), stored=())
    return {item.check: item.result for item in found}


def a_message(runtime: Runtime, **fields: Any) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).where(col(MessageLog.id) == message_id).values(**fields))


def test_an_installation_in_order_has_no_findings(installation: CheckContext) -> None:
    assert {check: finding.problem for check, finding in findings(installation).items() if finding.problem} == {}


@pytest.mark.parametrize(
    ("settings", "check", "status", "problem"),
    [
        ({"postmark_server_token": None}, "email", CheckStatus.FAIL, "POSTMARK_SERVER_TOKEN not set"),
        ({"email_sender": None}, "email", CheckStatus.FAIL, "EMAIL_SENDER not set"),
        (
            {"email_sender": "Acme <a..b@acme.example>"},
            "email",
            CheckStatus.FAIL,
            "EMAIL_SENDER: email address 'a..b@acme",
        ),
        ({"twilio_from_number": None}, "sms", CheckStatus.FAIL, "TWILIO_FROM_NUMBER not set"),
        ({"sms_enabled": False, "twilio_auth_token": None}, "sms", CheckStatus.OK, "SMS_ENABLED is false"),
        (
            {"stripe_webhook_secret": (), "stripe_api_key": "sk_live_1"},
            "webhooks",
            CheckStatus.WARN,
            "STRIPE_WEBHOOK_SECRET not set",
        ),
        (
            {"stripe_webhook_secret": (), "stripe_api_key": None},
            "webhooks",
            CheckStatus.OK,
            "Stripe is not set up: STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET are not set",
        ),
        ({"public_base_url": None}, "webhooks", CheckStatus.WARN, "PUBLIC_BASE_URL not set"),
        (
            {"ops_alert_email": None},
            "alert addresses",
            CheckStatus.WARN,
            "OPS_ALERT_EMAIL, ADMIN_ALERT_EMAILS not set",
        ),
        (
            {"ops_alert_email": "ops..x@acme.example"},
            "alert addresses",
            CheckStatus.FAIL,
            "OPS_ALERT_EMAIL: email address",
        ),
        ({"ops_alert_sms_number": "0151 1234567"}, "alert addresses", CheckStatus.FAIL, "OPS_ALERT_SMS_NUMBER: phone"),
        ({"login_url": None}, "welcome mail", CheckStatus.OK, "LOGIN_URL is not set"),
        ({"otp_allowed_countries": ""}, "otp countries", CheckStatus.WARN, "OTP_ALLOWED_COUNTRIES is empty"),
        ({"notification_plan_registry": Path("none.toml")}, "plan registry", CheckStatus.FAIL, "cannot be read"),
    ],
)
def test_a_setting_that_would_hurt_is_found(
    settings: dict[str, Any], check: str, status: CheckStatus, problem: str
) -> None:
    found = offline(**settings)
    assert found[check].status is status
    assert problem in found[check].problem
    others = {name for name, finding in found.items() if finding.status is not CheckStatus.OK}
    assert others <= {check}


def test_a_name_that_is_no_setting_is_told_with_the_one_that_was_meant(installation: CheckContext) -> None:
    Path(".env").write_text("POSTMARK_SERVER_TOKN=x\nTZ=UTC\n")
    finding = settings_checks.names_of_settings(installation)
    assert finding.status is CheckStatus.WARN
    assert finding.problem == (
        ".env line 1: POSTMARK_SERVER_TOKN is no setting of notifyctl and has no effect; did you mean"
        " POSTMARK_SERVER_TOKEN?; .env line 2: TZ is no setting of notifyctl and has no effect"
    )


def test_one_secret_for_two_purposes_is_a_warning() -> None:
    shared = make_settings().otp_pepper
    assert offline(notification_secret_key=shared)["secrets"].status is CheckStatus.WARN


def test_files_that_others_can_read_are_mended_with_an_audit_row(installation: CheckContext, runtime: Runtime) -> None:
    Path(".env").write_text("")
    Path(".env").chmod(0o644)
    (found,) = examine(installation, offline=(settings_checks.env_file_mode,), schema=(), stored=())
    assert (found.result.status, found.result.remedy) == (CheckStatus.WARN, "chmod 600 .env")
    mended = mend(installation, found, actor="test", now=runtime.clock())
    assert (mended.result.status, mended.result.remedy) == (CheckStatus.OK, "mended: chmod 600 .env")
    assert stat.S_IMODE(Path(".env").stat().st_mode) == 0o600
    with runtime.database.read() as session:
        (row,) = session.exec(select(AuditLog).where(AuditLog.action == AuditAction.OPERATOR_ACTION)).all()
    assert row.details == {"command": "doctor --fix", "check": "env file mode", "done": "chmod 600 .env"}


def test_a_sqlite_file_that_others_can_read_is_found_and_mended(tmp_path: Path) -> None:
    file = tmp_path / "own.db"
    file.write_bytes(b"")
    file.chmod(0o640)
    finding = offline(database_url=f"sqlite:///{file}")["database file mode"]
    assert finding.problem == f"others can read {file}"
    assert finding.mend is not None
    finding.mend(Session())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_template_that_differs_from_its_file_is_found(installation: CheckContext, runtime: Runtime) -> None:
    other = install(runtime, otp_ttl_seconds=300)
    finding = findings(other)["templates"]
    assert finding.status is CheckStatus.WARN
    assert finding.problem == "OTP_CODE_SMS differ between the files and the store"
    other.database.close()


def test_a_key_that_suppressions_need_is_missed_when_it_is_dropped(
    installation: CheckContext, runtime: Runtime
) -> None:
    for address in ("ann@acme.example", "bob@acme.example"):
        with runtime.database.transaction() as session:
            suppress(
                session, runtime.keys, Channel.EMAIL, address,
                reason=SuppressionReason.COMPLAINT, actor="postmark", now=runtime.clock(),
            )  # fmt: skip
    assert findings(installation)["secret keys in use"] == CheckResult()
    finding = keys_in_use(runtime, NEW_KEY)
    assert finding.status is CheckStatus.FAIL
    assert finding.problem == (
        f"NOTIFICATION_SECRET_KEY lacks the key of 2 suppressions (key {runtime.keys.ids[0]}):"
        " these people would be written to again"
    )
    assert "put the old key back" in finding.remedy
    assert keys_in_use(runtime, f"{NEW_KEY},{SECRET}") == CheckResult()


def test_a_key_that_waiting_messages_are_sealed_with_is_missed(installation: CheckContext, runtime: Runtime) -> None:
    a_client(runtime)
    message_id = send(runtime, "PASSWORD_RESET", RESET).message_id
    finding = keys_in_use(runtime, NEW_KEY)
    assert finding.status is CheckStatus.FAIL
    assert "1 waiting message (key" in finding.problem
    with runtime.database.transaction() as session:
        done = update(MessageLog).where(col(MessageLog.id) == message_id).values(status=MessageStatus.SENT)
        session.execute(done)
    assert keys_in_use(runtime, NEW_KEY) == CheckResult()


def keys_in_use(runtime: Runtime, secret_key: str) -> CheckResult:
    with closing(install(runtime, notification_secret_key=secret_key)) as installation:
        return findings(installation)["secret keys in use"]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_server_that_confirms_what_a_crash_takes_back_is_a_warning(runtime: Runtime) -> None:
    url = make_url(runtime.settings.database_url)
    hasty = url.update_query_dict({"options": "-csynchronous_commit=off"}).render_as_string(hide_password=False)
    for database_url, problem in (
        (runtime.settings.database_url, ""),
        (hasty, "synchronous_commit off: a crash of the server loses messages that were accepted"),
    ):
        with closing(CheckContext(make_settings(database_url=database_url), Path(".env"))) as context:
            assert store_checks.durability(context).problem == problem


def test_clients_with_an_unknown_plan_are_counted(installation: CheckContext, runtime: Runtime) -> None:
    for client_id, plan in (("a", "GOLD"), ("b", "GOLD"), ("c", "PRO"), ("d", None)):
        a_client(runtime, client_id, plan=plan)
    assert "GOLD (2);" in findings(installation)["plans of clients"].problem


def test_a_lease_that_ran_out_is_found(installation: CheckContext, runtime: Runtime) -> None:
    past = runtime.clock() - timedelta(seconds=1)
    a_message(runtime, status=MessageStatus.SENDING, lease_until=past)
    found = findings(installation)
    assert (found["leases"].status, found["due messages"].status) == (CheckStatus.WARN, CheckStatus.OK)
    assert found["leases"].problem.startswith("1 message is held")


def test_messages_long_overdue_fail(installation: CheckContext, runtime: Runtime) -> None:
    a_message(runtime, next_attempt_at=runtime.clock() - timedelta(seconds=240))
    assert findings(installation)["due messages"].status is CheckStatus.OK
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).values(next_attempt_at=runtime.clock() - timedelta(seconds=301)))
    assert findings(installation)["due messages"].status is CheckStatus.FAIL


def test_what_waits_for_its_minute_while_others_go_out_is_not_overdue(
    installation: CheckContext, runtime: Runtime
) -> None:
    now = runtime.clock()
    forecast = now - timedelta(seconds=400)
    a_message(runtime, status=MessageStatus.DEFERRED_THROTTLED, next_attempt_at=forecast, throttled_at=forecast)
    assert findings(installation)["due messages"].status is CheckStatus.FAIL, "nothing goes out"
    a_client(runtime, "other")
    sent = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="other").message_id
    with runtime.database.transaction() as session:
        values = {"status": MessageStatus.SENT, "sent_at": now, "next_attempt_at": None}
        session.execute(update(MessageLog).where(col(MessageLog.id) == sent).values(**values))
    assert findings(installation)["due messages"].status is CheckStatus.OK


def test_what_waits_for_a_provider_that_is_down_is_no_workers_fault(
    installation: CheckContext, runtime: Runtime
) -> None:
    now = runtime.clock()
    a_message(runtime, next_attempt_at=now - timedelta(seconds=400))
    with runtime.database.transaction() as session:
        breakers.open_(session, Channel.EMAIL, reason="503", now=now, probe_at=now)
    found = findings(installation)["due messages"]
    assert (found.status, found.problem) == (CheckStatus.WARN, "EMAIL: its provider is taken for down (503)")
    assert found.remedy.startswith("look at status.postmarkapp.com; ")
    assert "worker" not in found.remedy


def test_webhooks_that_have_fallen_silent_are_found(installation: CheckContext, runtime: Runtime) -> None:
    sent = runtime.clock() - timedelta(hours=2)
    a_message(runtime, status=MessageStatus.SENT, sent_at=sent, next_attempt_at=None)
    assert "any of 1 EMAIL sent" in findings(installation)["receipts"].problem
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).values(status=MessageStatus.DELIVERED))
    assert findings(installation)["receipts"].status is CheckStatus.OK


def test_with_the_database_down_the_other_checks_go_on(tmp_path: Path) -> None:
    down = CheckContext(make_settings(database_url="postgresql://u:hunter2@127.0.0.1:1/x"), tmp_path / ".env")
    found = findings(down)
    assert found["database"].status is CheckStatus.FAIL
    assert "cannot be used" in found["database"].problem
    assert "hunter2" not in found["database"].problem
    assert found["email"].status is CheckStatus.OK
    assert {found[name].problem for name in ("schema", "clock", "templates", "receipts")} == {"not checked"}


def test_a_database_file_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    file = tmp_path / "none.db"
    found = findings(CheckContext(make_settings(database_url=f"sqlite:///{file}"), tmp_path / ".env"))
    assert found["database"].remedy == "run `notifyctl db upgrade`"
    assert not file.exists()


def test_a_check_that_breaks_is_a_finding_of_its_own(installation: CheckContext) -> None:
    def broken(_: CheckContext) -> CheckResult:
        raise ZeroDivisionError("by zero")

    (found,) = examine(installation, offline=(broken,), schema=(), stored=())
    assert found.result == CheckResult(CheckStatus.FAIL, "unexpected ZeroDivisionError: by zero")


def test_the_command_exits_1_when_something_fails_and_0_on_warnings(notifyctl: CommandLine) -> None:
    warned = notifyctl("doctor", "--format", "json")
    rows = {row["check"]: row["status"] for row in json.loads(warned.out)}
    assert rows["templates"] == "warn"
    assert warned.code == 0
    failed = notifyctl("doctor", "--format", "json", EMAIL_SENDER="")
    assert failed.code == 1
    assert failed.err == f"notifyctl: 1 of {len(rows)} checks failed: email\n"


def test_the_command_mends_what_it_can(notifyctl: CommandLine) -> None:
    Path(".env").write_text("")
    Path(".env").chmod(0o644)
    ran = notifyctl("doctor", "--fix", "--format", "json")
    rows = {row["check"]: row for row in json.loads(ran.out)}
    assert rows["env file mode"] == {
        "check": "env file mode",
        "status": "ok",
        "problem": "others can read .env",
        "remedy": "mended: chmod 600 .env",
    }


def test_the_command_lists_the_faults_of_the_settings(notifyctl: CommandLine) -> None:
    ran = notifyctl("doctor", "--format", "json", OTP_PEPPER="short", HTTP_PORT="0")
    assert ran.code == 1
    assert [row["problem"].split()[0] for row in json.loads(ran.out)] == ["OTP_PEPPER", "HTTP_PORT"]


def test_nothing_is_mended_that_cannot_be_audited(notifyctl: CommandLine, environment: Environment) -> None:
    Path(".env").write_text("")
    Path(".env").chmod(0o644)
    ran = notifyctl("doctor", "--fix", "--format", "json", DATABASE_URL="postgresql://u@127.0.0.1:1/x")
    assert "Nothing was mended" in ran.err
    assert stat.S_IMODE(Path(".env").stat().st_mode) == 0o644


LOWERED = {
    "dropped": ("DROP TRIGGER audit_log_no_delete", "DROP TRIGGER audit_log_no_delete ON audit_log"),
    "of a seal": ("DROP TRIGGER audit_seal_no_update", "DROP TRIGGER audit_seal_no_update ON audit_seal"),
    "switched off": ("", "ALTER TABLE audit_log DISABLE TRIGGER audit_log_no_truncate"),
    "by the name only": (
        "DROP TRIGGER audit_log_no_update; CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log"
        " BEGIN SELECT 1; END",
        "DROP TRIGGER audit_log_no_update ON audit_log; CREATE TRIGGER audit_log_no_update BEFORE UPDATE OF actor"
        " ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()",
    ),
    "hollow": (
        "",
        "CREATE OR REPLACE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
    ),
    "for replicas": ("", "ALTER TABLE audit_seal ENABLE REPLICA TRIGGER audit_seal_no_delete"),
}


@pytest.mark.parametrize("statements", LOWERED.values(), ids=LOWERED.keys())
def test_a_gap_in_what_protects_the_audit_log_is_found_and_mended(
    installation: CheckContext, runtime: Runtime, statements: tuple[str, str]
) -> None:
    on_sqlite, on_postgresql = statements
    lowering = on_sqlite if runtime.database.is_sqlite else on_postgresql
    assert findings(installation)["audit triggers"] == CheckResult()
    if not lowering:
        return
    with runtime.database.transaction() as session:
        for statement in lowering.split("; ", 1) if runtime.database.is_sqlite else [lowering]:
            session.connection().exec_driver_sql(statement)

    (found,) = examine(installation, offline=(store_checks.audit_triggers,), schema=(), stored=())
    assert found.result.status is CheckStatus.FAIL
    assert re.findall(r"audit_\w+_no_\w+", f"{lowering} audit_log_no_update")[0] in found.result.problem
    assert "doctor --fix" in found.result.remedy
    mended = mend(installation, found, actor="test", now=runtime.clock())
    assert mended.result.status is CheckStatus.OK
    assert findings(installation)["audit triggers"] == CheckResult()
    with pytest.raises(IntegrityError, match="append-only"), runtime.database.transaction() as session:
        session.execute(text("UPDATE audit_log SET actor = actor"))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_who_may_not_make_the_triggers_again_is_told(installation: CheckContext, runtime: Runtime) -> None:
    sql(
        runtime,
        "DROP TRIGGER audit_log_no_update ON audit_log",
        "DROP ROLE IF EXISTS notifyctl_app",
        "CREATE ROLE notifyctl_app LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO notifyctl_app",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO notifyctl_app",
    )
    url = runtime.database.url.set(username="notifyctl_app", drivername="postgresql")
    other = replace(
        installation,
        settings=installation.settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)}),
    )
    try:
        (found,) = examine(other, offline=(store_checks.audit_triggers,), schema=(), stored=())
        finding = mend(other, found, actor="test", now=runtime.clock()).result
    finally:
        other.close()
        sql(runtime, "DROP OWNED BY notifyctl_app", "DROP ROLE notifyctl_app")

    assert finding.status is CheckStatus.FAIL
    assert "not mended: " in finding.problem
    assert "refuses that to its role: must be owner" in finding.problem
