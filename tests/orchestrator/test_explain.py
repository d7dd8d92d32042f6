from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from notifyctl.models.enums import AuditAction, BlockReason, Channel, FailureReason, MessageStatus
from notifyctl.orchestrator.explain import explain_message
from notifyctl.orchestrator.gates import PASSED_WHEN
from notifyctl.orchestrator.holds import Hold

ID = "01a224e4-8e97-725c-974c-d2711396a9b5"
RETRY = "`notifyctl messages retry 1396a9b5`"
REVEALED = "`notifyctl messages show 1396a9b5 --reveal`"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DOWN = {"error_code": "100", "error": "The API is down for maintenance."}
INACTIVE = {"error_code": "406", "error": "Inactive.", "reason": "RECIPIENT_OPTED_OUT"}


def a_message(**fields: Any) -> Any:
    nothing = dict.fromkeys(("reason", "error", "error_code", "sent_at", "delivered_at", "finished_at", "expires_at"))
    values = {"created_at": NOON - timedelta(minutes=3), "provider": "postmark", "attempts": 1, "next_attempt_at": None}
    ids = {"id": ID, "channel": Channel.EMAIL, "template_key": "WELCOME_EMAIL", "client_id": "acme"}
    return SimpleNamespace(**(nothing | values | ids | {"lease_owner": "host:7:ab"} | fields))


SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "queued": ({}, "It has waited for a worker for 3 min."),
    "deferred": (
        {"status": "DEFERRED_THROTTLED", "next_attempt_at": NOON},
        "It waits for room in its channel's minute; its turn is forecast for 2026-03-02 12:00:00Z.",
    ),
    "retry": (
        {"status": "RETRY_SCHEDULED", "next_attempt_at": NOON, **DOWN},
        "Not sent yet: 1 attempt failed for now (Postmark 100: The API is down for maintenance);"
        " the next is due at 2026-03-02 12:00:00Z.",
    ),
    "sending": ({"status": "SENDING"}, "A worker is sending it (attempt 1, host:7:ab)."),
    "in doubt": (
        {"status": "IN_DOUBT", "provider": "twilio", "error": "The connection was cut"},
        "It may have gone out (The connection was cut). Nothing is sent again before Twilio was asked.",
    ),
    "sent": (
        {"status": "SENT", "sent_at": NOON, "attempts": 2},
        "Postmark accepted it at 2026-03-02 12:00:00Z (attempt 2); no receipt yet.",
    ),
    "delivered": (
        {"status": "DELIVERED", "delivered_at": NOON},
        "It arrived: Postmark reported delivery at 2026-03-02 12:00:00Z.",
    ),
    "bounced": (
        {"status": "BOUNCED", "finished_at": NOON, "reason": "RECIPIENT_INVALID"},
        "It did not arrive: Postmark reported a bounce at 2026-03-02 12:00:00Z (RECIPIENT_INVALID).",
    ),
    "failed": (
        {"status": "FAILED", "attempts": 4, **INACTIVE},
        "It was not delivered: after 4 attempts it failed for good (Postmark 406, RECIPIENT_OPTED_OUT: Inactive).",
    ),
    "failed and erased": (
        {"status": "FAILED"},
        "It was not delivered: after 1 attempt it failed for good (no cause is known).",
    ),
    "blocked": (
        {"status": "BLOCKED", "reason": "SMS_DISABLED", "error": "SMS_ENABLED is false", "provider": None},
        "It was not sent: the gate SMS_DISABLED refused (SMS_ENABLED is false).",
    ),
    "blocked and erased": (
        {"status": "BLOCKED", "reason": "SMS_DISABLED"},
        "It was not sent: the gate SMS_DISABLED refused.",
    ),
    "expired": (
        {"status": "EXPIRED", "expires_at": NOON},
        "It was not sent: its send-by time 2026-03-02 12:00:00Z passed first.",
    ),
    "canceled": (
        {"status": "CANCELED", "finished_at": NOON},
        "It was not sent: it was withdrawn at 2026-03-02 12:00:00Z.",
    ),
}


@pytest.mark.parametrize(("fields", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_a_status_is_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    message = a_message(**{"status": MessageStatus.QUEUED, **fields})
    assert explain_message(message, [], now=NOON, workers=1).sentence == sentence


def test_every_status_has_a_sentence() -> None:
    assert {fields.get("status", "QUEUED") for fields, _ in SENTENCES.values()} == set(MessageStatus)


NEXT_STEPS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "waits": ({}, {}, ""),
    "held": (
        {"status": "DEFERRED_THROTTLED"},
        {"held_by": [Hold("quiet hours"), Hold("a pause", "`notifyctl resume --channel SMS` lets it go")]},
        "`notifyctl resume --channel SMS` lets it go",
    ),
    "suppressed": (
        {"status": "FAILED", **INACTIVE},
        {"suppressed": "INACTIVE"},
        "Its address is suppressed now (INACTIVE). When that is over: `notifyctl suppressions remove EMAIL ADDRESS`,"
        f" with the address that {REVEALED} shows; then {RETRY}.",
    ),
    "failed too late": (
        {"status": "FAILED", "expires_at": NOON},
        {"suppressed": "INACTIVE"},
        "Its send-by time has passed: send it anew, if it is still of use.",
    ),
    "an outage": (
        {"status": "FAILED", "reason": "PROVIDER_UNAVAILABLE"},
        {},
        f"Once `notifyctl health` says that the provider is up again: {RETRY}.",
    ),
    "no such number": (
        {"status": "FAILED", "reason": "RECIPIENT_INVALID", "channel": Channel.SMS},
        {},
        "Find out the right address, `notifyctl clients set acme --phone NUMBER`, and send it anew: this one keeps its"
        " address.",
    ),
    "bounced": (
        {"status": "BOUNCED", "reason": "RECIPIENT_INVALID"},
        {},
        "Find out the right address, `notifyctl clients set acme --email ADDRESS`, and send it anew.",
    ),
    "refused": (
        {"status": "BLOCKED", "reason": "TEMPLATE_DISABLED"},
        {},
        "To lift that: `notifyctl templates enable WELCOME_EMAIL`. Then send it anew: what is BLOCKED stays so.",
    ),
    "refused by a setting": (
        {"status": "BLOCKED", "reason": "SMS_DISABLED", "error": "SMS_ENABLED is false"},
        {},
        "To lift that: SMS_ENABLED=true. Then send it anew: what is BLOCKED stays so.",
    ),
    "refused for good reason": ({"status": "BLOCKED", "reason": "RATE_LIMITED"}, {}, ""),
    "delivered": ({"status": "DELIVERED"}, {}, ""),
}


@pytest.mark.parametrize(("fields", "facts", "step"), NEXT_STEPS.values(), ids=NEXT_STEPS)
def test_what_to_do_about_it(fields: dict[str, Any], facts: dict[str, Any], step: str) -> None:
    message = a_message(**{"status": MessageStatus.QUEUED, **fields})
    assert explain_message(message, [], now=NOON, workers=1, **facts).next_step == step


def test_every_reason_of_a_failure_has_something_to_do() -> None:
    for reason in FailureReason:
        message = a_message(status=MessageStatus.FAILED, reason=reason)
        assert "`notifyctl " in explain_message(message, [], now=NOON, workers=1).next_step, reason


@pytest.mark.parametrize("status", [MessageStatus.QUEUED, MessageStatus.DEFERRED_THROTTLED])
def test_what_is_held_waits_neither_for_a_worker_nor_for_its_minute(status: MessageStatus) -> None:
    held = [Hold("a pause of channel EMAIL (maintenance)")]
    message = a_message(status=status, next_attempt_at=NOON - timedelta(minutes=1))
    found = explain_message(message, [], now=NOON, workers=1, held_by=held)
    assert found.sentence == "It has waited for 3 min; held by a pause of channel EMAIL (maintenance)."


STEPS: dict[str, tuple[AuditAction, dict[str, Any], str]] = {
    "accepted": (AuditAction.NOTIFICATION_QUEUED, {"template_key": "X", "passed": ["TEMPLATE_DISABLED"]}, ""),
    "refused": (
        AuditAction.NOTIFICATION_BLOCKED,
        {
            "reason": "SUPPRESSED",
            "refusals": {"SUPPRESSED": "the recipient is suppressed (MANUAL)", "RATE_LIMITED": "x"},
        },
        "SUPPRESSED: the recipient is suppressed (MANUAL)",
    ),
    "a retry the same day": (
        AuditAction.NOTIFICATION_RETRY_SCHEDULED,
        {"attempt": 1, "seconds": 0.006, "next_attempt_at": "2026-03-02T12:00:30+00:00", **DOWN},
        "attempt 1, code 100: The API is down for maintenance; next attempt 12:00:30Z; 6 ms",
    ),
    "a retry the next day": (
        AuditAction.NOTIFICATION_RETRY_SCHEDULED,
        {"attempt": 1, "seconds": 2.0, "next_attempt_at": "2026-03-03T00:00:10+00:00"},
        "attempt 1; next attempt 2026-03-03 00:00:10Z; 2 s",
    ),
    "a failure": (
        AuditAction.NOTIFICATION_FAILED,
        {"attempt": 4, "seconds": 0.012, **INACTIVE},
        "attempt 4, RECIPIENT_OPTED_OUT, code 406: Inactive; 12 ms",
    ),
    "accepted by the provider": (
        AuditAction.NOTIFICATION_SENT,
        {"attempt": 2, "seconds": 0.0, "provider_message_id": "pm-1"},
        "attempt 2; Postmark's id pm-1; 0 ms",
    ),
    "throttled": (
        AuditAction.NOTIFICATION_THROTTLED,
        {"per_minute_limit": 60, "next_attempt_at": "2026-03-02T12:00:30+00:00"},
        "60 a minute are sent; next attempt 12:00:30Z",
    ),
    "asked about": (
        AuditAction.NOTIFICATION_FAILED,
        {"reason": "IN_DOUBT_HELD", "error": "Connection cut.", "detail": "the provider was asked and cannot tell"},
        "IN_DOUBT_HELD: Connection cut; the provider was asked and cannot tell",
    ),
    "a receipt": (
        AuditAction.NOTIFICATION_DELIVERED,
        {"detail": "smtp;250 OK", "happened_at": "2026-03-02T11:59:58+00:00"},
        "smtp;250 OK",
    ),
    "a late receipt": (
        AuditAction.NOTIFICATION_BOUNCED,
        {
            "reason": "RECIPIENT_INVALID",
            "error_code": "HardBounce",
            "error": "smtp;550 no such mailbox",
            "happened_at": "2026-03-02T09:30:00+00:00",
        },
        "RECIPIENT_INVALID, code HardBounce: smtp;550 no such mailbox; it happened at 09:30:00Z",
    ),
    "a complaint": (
        AuditAction.SUPPRESSION_ADDED,
        {"channel": "EMAIL", "recipient_hash": "0f", "reason": "COMPLAINT"},
        "COMPLAINT",
    ),
    "an operator": (AuditAction.OPERATOR_ACTION, {"detail": "queued again"}, "queued again; by w"),
    "erased": (AuditAction.NOTIFICATION_CANCELED, {"cause": "the client was erased"}, "the client was erased; by w"),
    "nothing known": (AuditAction.NOTIFICATION_SENT, {}, ""),
}


@pytest.mark.parametrize(("action", "details", "text"), STEPS.values(), ids=STEPS)
def test_a_step_of_the_timeline(action: AuditAction, details: dict[str, Any], text: str) -> None:
    row = SimpleNamespace(created_at=NOON, action=action, actor="w", metadata=details)
    (step,) = explain_message(a_message(status=MessageStatus.SENT), [row], now=NOON, workers=1).steps
    assert (step.at, step.action, step.detail) == (NOON, action, text)


def test_each_gate_says_what_holds_when_it_lets_a_message_through() -> None:
    assert list(PASSED_WHEN) == list(BlockReason)
    assert len(set(PASSED_WHEN.values())) == len(BlockReason)
