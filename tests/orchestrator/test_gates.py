from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest
from sqlalchemy import event, text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import suppress
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.enums import (
    BlockReason,
    Channel,
    MessageStatus,
    ProvisioningStatus,
    SubscriptionStatus,
    SuppressionReason,
)
from notifyctl.orchestrator import gates
from notifyctl.orchestrator.gates import GATES, Facts, Gate, GateOutcome, unpack
from notifyctl.orchestrator.requests import Blocked, Duplicate, Queued, SendRequest
from tests.support.clients import a_client
from tests.support.messages import CODE, REMINDER, REMINDER_SMS, RESET, SPIKE, WELCOME, actions, message, send
from tests.support.runtimes import open_shared


@pytest.mark.parametrize("status", [status for status in ProvisioningStatus if status != "COMPLETED"])
def test_welcome_email_is_blocked_before_provisioning_is_completed(
    runtime: Runtime, status: ProvisioningStatus
) -> None:
    a_client(runtime, provisioning_status=status)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(decision, Blocked)
    assert decision.reason is BlockReason.PROVISIONING_INCOMPLETE
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason) == ("BLOCKED", "PROVISIONING_INCOMPLETE")
    assert actions(runtime, decision.message_id) == ["NOTIFICATION_BLOCKED"]


def test_welcome_email_is_queued_once_provisioning_is_completed(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status=ProvisioningStatus.COMPLETED)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(decision, Queued)
    assert actions(runtime, decision.message_id) == ["NOTIFICATION_QUEUED"]


def test_compliance_reminder_sms_is_allowed_for_pro_and_denied_for_solo(runtime: Runtime) -> None:
    a_client(runtime, "pro", plan="PRO")
    a_client(runtime, "solo", plan="SOLO")
    allowed = send(runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS, client_id="pro")
    denied = send(runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS, client_id="solo")
    assert isinstance(allowed, Queued)
    assert isinstance(denied, Blocked)
    assert denied.reason is BlockReason.PLAN_FEATURE_MISSING
    assert denied.detail == "plan SOLO has no feature sms_reminders"


REFUSALS: dict[str, tuple[BlockReason, str, dict[str, Any], dict[str, Any], str]] = {
    "a template that is off": (
        BlockReason.TEMPLATE_DISABLED, "OPS_ALERT_SMS", {}, {"context": SPIKE, "recipient": "+12025550143"}, "disabled",
    ),
    "billing that is not from Stripe": (
        BlockReason.BILLING_ONLY_FROM_STRIPE, "PAYMENT_FAILED", {}, {"context": {}}, "verified Stripe event",
    ),
    "billing with a made-up event": (
        BlockReason.BILLING_ONLY_FROM_STRIPE, "PAYMENT_FAILED", {},
        {"context": {}, "source": "stripe", "source_ref": "evt_invented"}, "verified Stripe event",
    ),
    "a client nobody knows": (
        BlockReason.CLIENT_UNKNOWN, "WELCOME_EMAIL", {}, {"context": WELCOME, "client_id": "zenith"}, "zenith",
    ),
    "an address where a client is needed": (
        BlockReason.CLIENT_UNKNOWN, "WELCOME_EMAIL", {},
        {"context": WELCOME, "recipient": "x@y.example"}, "needs a client",
    ),
    "a missing variable": (
        BlockReason.CONTEXT_INVALID, "WELCOME_EMAIL", {}, {"context": {"client_name": "Acme"}}, "login_url",
    ),
    "an unknown variable": (
        BlockReason.CONTEXT_INVALID, "WELCOME_EMAIL", {}, {"context": WELCOME | {"colour": "red"}}, "colour",
    ),
    "a variable of the wrong type": (
        BlockReason.CONTEXT_INVALID, "PASSWORD_RESET", {},
        {"context": RESET | {"valid_minutes": "soon"}}, "valid_minutes",
    ),
    "a client without an address": (
        BlockReason.RECIPIENT_MISSING, "WELCOME_EMAIL", {"email": None}, {"context": WELCOME}, "no email address",
    ),
    "an admin template for a client": (
        BlockReason.RECIPIENT_MISSING, "PROVISIONING_FAILED_ADMIN", {},
        {"context": {"client_id": "acme", "client_name": "Acme", "detail": "x"}}, "never to a client",
    ),
    "a broken address": (
        BlockReason.RECIPIENT_INVALID, "WELCOME_EMAIL", {"email": "acme@"}, {"context": WELCOME}, "acme@",
    ),
    "a number that is none": (
        BlockReason.RECIPIENT_INVALID, "OTP_CODE_SMS", {}, {"context": CODE, "recipient": "0800-CALL"}, "0800-CALL",
    ),
    "no consent to SMS": (
        BlockReason.SMS_DISABLED, "COMPLIANCE_EXPIRY_REMINDER_SMS", {"sms_enabled": False},
        {"context": REMINDER_SMS}, "consented",
    ),
    "a subscription that ended": (
        BlockReason.SUBSCRIPTION_INACTIVE, "COMPLIANCE_EXPIRY_REMINDER",
        {"subscription_status": SubscriptionStatus.CANCELED}, {"context": REMINDER}, "canceled",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_gate_refuses(runtime: Runtime, case: tuple[Any, ...]) -> None:
    reason, template, client, request, words = case
    a_client(runtime, **client)
    decision = send(runtime, template, **request)
    assert isinstance(decision, Blocked)
    assert decision.reason is reason
    assert words in decision.detail
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.next_attempt_at) == ("BLOCKED", reason.value, None)


def test_a_country_outside_the_list_gets_no_code(runtime: Runtime) -> None:
    settings = runtime.settings.model_copy(update={"otp_allowed_countries": ("DE",)})
    strict = replace(runtime, settings=settings)
    french = send(strict, "OTP_CODE_SMS", CODE, recipient="+33612345678")
    german = send(strict, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    assert isinstance(french, Blocked)
    assert french.reason is BlockReason.COUNTRY_NOT_ALLOWED
    assert isinstance(german, Queued)


def test_sms_enabled_false_blocks_every_sms(runtime: Runtime) -> None:
    quiet = replace(runtime, settings=runtime.settings.model_copy(update={"sms_enabled": False}))
    decision = send(quiet, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    assert isinstance(decision, Blocked)
    assert decision.reason is BlockReason.SMS_DISABLED


def test_a_suppressed_recipient_is_refused_also_after_the_secret_key_was_rotated(runtime: Runtime) -> None:
    a_client(runtime)
    with runtime.database.transaction() as session:
        suppress(
            session, runtime.keys, Channel.EMAIL, "acme@client.example",
            reason=SuppressionReason.COMPLAINT, actor="test", now=runtime.clock(),
        )  # fmt: skip
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(decision, Blocked)
    assert decision.reason is BlockReason.SUPPRESSED
    new_key = type(runtime.settings.notification_secret_key[0])("9e" * 10 + "7c5b3a1f" * 5)
    keys = (new_key, *runtime.settings.notification_secret_key)
    rotated = open_shared(runtime.settings.model_copy(update={"notification_secret_key": keys}))
    again = send(rotated, "WELCOME_EMAIL", WELCOME)
    rotated.close()
    assert isinstance(again, Blocked)
    assert again.reason is BlockReason.SUPPRESSED


def test_one_without_a_rate_is_written_unless_its_address_is_suppressed_or_its_key_is_taken(runtime: Runtime) -> None:
    """That is asked by the statement that writes it, and not by one before."""
    a_client(runtime)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE notification_template SET rate_limit_window_seconds = NULL"))
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(runtime.database.engine, "before_cursor_execute", note)
    queued = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k")
    event.remove(runtime.database.engine, "before_cursor_execute", note)
    assert isinstance(queued, Queued)
    assert len(asked) == (4 if runtime.database.is_sqlite else 2)

    again = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="k")
    assert again == Duplicate(queued.message_id, MessageStatus.QUEUED)
    with runtime.database.transaction() as session:
        suppress(
            session, runtime.keys, Channel.EMAIL, "acme@client.example",
            reason=SuppressionReason.COMPLAINT, actor="test", now=runtime.clock(),
        )  # fmt: skip
    refused = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(refused, Blocked)
    assert [one.gate for one in refused.verdicts if one.outcome is GateOutcome.REFUSED] == [BlockReason.SUPPRESSED]
    assert actions(runtime, refused.message_id) == ["NOTIFICATION_BLOCKED"]
    assert actions(runtime, queued.message_id) == ["NOTIFICATION_QUEUED", "NOTIFICATION_DUPLICATE"]


def test_the_first_refusal_decides_and_all_verdicts_are_kept(runtime: Runtime) -> None:
    a_client(runtime, provisioning_status=ProvisioningStatus.PENDING, email=None)
    decision = send(runtime, "WELCOME_EMAIL", {})
    assert isinstance(decision, Blocked)
    refused = [verdict.gate for verdict in decision.verdicts if verdict.outcome is GateOutcome.REFUSED]
    assert refused == [
        BlockReason.CONTEXT_INVALID, BlockReason.RECIPIENT_MISSING, BlockReason.PROVISIONING_INCOMPLETE,
    ]  # fmt: skip
    with runtime.database.read() as session:
        (row,) = audit_log.of_message(session, decision.message_id)
    assert unpack(row.metadata) == decision.verdicts


class Later(StrEnum):
    """A gate that notifyctl does not have yet."""

    MOON_IS_FULL = "MOON_IS_FULL"


def insert_a_gate(monkeypatch: pytest.MonkeyPatch, question: Callable[[Facts], str | None]) -> None:
    """In the middle, before SMS_DISABLED."""
    place = [gate.reason for gate in GATES].index(BlockReason.SMS_DISABLED)
    gate = Gate(Later.MOON_IS_FULL, question, "moon not full")  # type: ignore[arg-type]
    monkeypatch.setattr(gates, "GATES", (*GATES[:place], gate, *GATES[place:]))


def stored_outcomes(runtime: Runtime, message_id: str) -> dict[str, tuple[str, str]]:
    with runtime.database.read() as session:
        (row,) = audit_log.of_message(session, message_id)
    return {verdict.gate.value: (verdict.outcome.value, verdict.detail) for verdict in unpack(row.metadata)}


BY_POSITION = {
    "refusals": {
        "SMS_DISABLED": "client acme has not consented to SMS", "PLAN_FEATURE_MISSING": "plan SOLO has no feature x",
    },
    "gates": "+-++++-x-+x++",
}  # fmt: skip
BY_NAME = {
    "refusals": BY_POSITION["refusals"],
    "passed": [
        "TEMPLATE_DISABLED", "CLIENT_UNKNOWN", "CONTEXT_INVALID", "RECIPIENT_MISSING", "RECIPIENT_INVALID",
        "SUBSCRIPTION_INACTIVE", "SUPPRESSED", "RATE_LIMITED",
    ],
}  # fmt: skip


def test_a_row_with_a_mark_for_each_gate_says_the_same_as_one_with_their_names() -> None:
    assert unpack(BY_POSITION) == unpack(BY_NAME)
    outcomes = {verdict.gate.value: verdict.outcome.value for verdict in unpack(BY_POSITION)}
    assert outcomes.items() >= {
        "TEMPLATE_DISABLED": "passed", "BILLING_ONLY_FROM_STRIPE": "not asked", "CLIENT_UNKNOWN": "passed",
        "CONTEXT_INVALID": "passed", "RECIPIENT_MISSING": "passed", "RECIPIENT_INVALID": "passed",
        "COUNTRY_NOT_ALLOWED": "not asked", "SMS_DISABLED": "refused", "PROVISIONING_INCOMPLETE": "not asked",
        "SUBSCRIPTION_INACTIVE": "passed", "PLAN_FEATURE_MISSING": "refused", "SUPPRESSED": "passed",
        "RATE_LIMITED": "passed",
    }.items()  # fmt: skip


@pytest.mark.parametrize("details", [BY_POSITION, BY_NAME], ids=["by position", "by name"])
def test_a_gate_inserted_in_the_middle_shifts_no_verdict_written_before(
    monkeypatch: pytest.MonkeyPatch, details: dict[str, object]
) -> None:
    before = unpack(details)
    insert_a_gate(monkeypatch, lambda _: None)
    after = unpack(details)
    assert [verdict for verdict in after if verdict.gate in BlockReason] == list(before)
    assert [(one.gate.value, one.outcome) for one in after if one not in before] == [
        ("MOON_IS_FULL", GateOutcome.NOT_ASKED)
    ]


def test_a_gate_inserted_in_the_middle_is_asked_and_its_verdict_stored(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_client(runtime)
    a_client(runtime, "northwind")
    before = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(before, Queued)
    verdicts = stored_outcomes(runtime, before.message_id)
    insert_a_gate(monkeypatch, lambda facts: "the moon is full" if facts.client_id == "acme" else None)
    assert stored_outcomes(runtime, before.message_id) == {**verdicts, "MOON_IS_FULL": ("not asked", "")}
    refused = send(runtime, "PASSWORD_RESET", RESET)
    assert isinstance(refused, Blocked)
    assert (message(runtime, refused.message_id).reason, refused.detail) == ("MOON_IS_FULL", "the moon is full")
    assert stored_outcomes(runtime, refused.message_id)["MOON_IS_FULL"] == ("refused", "the moon is full")
    passed = send(runtime, "PASSWORD_RESET", RESET, client_id="northwind")
    assert isinstance(passed, Queued)
    assert stored_outcomes(runtime, passed.message_id)["MOON_IS_FULL"] == ("passed", "")


def test_what_no_gate_has_said_has_no_verdicts() -> None:
    assert unpack({}) == unpack({"template_key": "X", "idempotency_key": "k", "refusals": {}}) == ()


def test_a_gate_that_is_no_longer_there_is_left_out() -> None:
    assert unpack(BY_NAME | {"passed": [*BY_NAME["passed"], "MOON_IS_FULL"]}) == unpack(BY_NAME)


def test_a_value_of_a_sensitive_context_never_reaches_the_audit_or_the_row(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "PASSWORD_RESET", RESET | {"valid_minutes": "s3cret-value"})
    send(runtime, "PASSWORD_RESET", RESET)
    with runtime.database.read() as session:
        kept = [str(row) for table in ("message_log", "audit_log", "message_payload")
                for row in session.execute(text(f"SELECT * FROM {table}"))]  # fmt: skip
    assert len(kept) > 2
    assert not any("s3cret-value" in row or "t0k3n" in row for row in kept)


def test_a_refused_rate_names_its_window_as_people_do(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    again = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(again, Blocked)
    assert again.detail == "1 of at most 1 send in the last 24 h"


def test_a_decision_is_short_in_a_log(runtime: Runtime) -> None:
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert "Verdict" not in repr(decision)
    assert decision.message_id in repr(decision)


def test_an_unknown_template_is_the_callers_error_and_leaves_nothing(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="NO_SUCH"):
        send(runtime, "NO_SUCH", {})
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_log")).scalar_one() == 0


@pytest.mark.parametrize("who", [{}, {"client_id": "acme", "recipient": "a@b.example"}], ids=["nobody", "both"])
def test_a_request_names_either_a_client_or_a_recipient(who: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="either client_id or recipient"):
        SendRequest(template_key="WELCOME_EMAIL", **who)


def test_a_caller_that_rolls_back_has_sent_nothing(runtime: Runtime) -> None:
    a_client(runtime)

    def send_and_fail() -> None:
        request = SendRequest(template_key="WELCOME_EMAIL", client_id="acme", context=WELCOME)
        with runtime.database.transaction() as session:
            runtime.orchestrator.send(session, request)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        send_and_fail()
    with runtime.database.read() as session:
        for table in ("message_log", "message_payload"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


def test_a_preview_shows_every_verdict_and_writes_nothing(runtime: Runtime) -> None:
    a_client(runtime, plan="SOLO")
    request = SendRequest(template_key="COMPLIANCE_EXPIRY_REMINDER_SMS", client_id="acme", context=REMINDER_SMS)
    with runtime.database.read() as session:
        decision = runtime.orchestrator.preview(session, request)
    assert isinstance(decision, Blocked)
    assert len(decision.verdicts) == len(BlockReason)
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_log")).scalar_one() == 0
