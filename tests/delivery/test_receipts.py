"""Receipts applied to messages: each moves only what it may, and tells of it once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import lift, suppress
from notifyctl.delivery.receipts import store
from notifyctl.delivery.receipts.apply import Result
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.models.enums import Channel, MessageStatus, SuppressionReason
from notifyctl.orchestrator.explain import explain_message
from notifyctl.providers.receipts import Ignored, Receipt, Release
from notifyctl.retention.erasure import erase_client
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, WELCOME, actions, message, send
from tests.support.receipts import (
    ADDRESS,
    PHONE,
    a_code,
    a_complaint,
    a_receipt,
    an_email,
    put,
    receive,
    rows,
    status_of,
    suppressed,
)

HARD = {"suppress": SuppressionReason.HARD_BOUNCE}


def last_entry(runtime: Runtime, message_id: str) -> Any:
    with runtime.database.read() as session:
        return audit_log.of_message(session, message_id)[-1]


def sentence(runtime: Runtime, message_id: str) -> str:
    with runtime.database.read() as session:
        trail = audit_log.of_message(session, message_id)
    return explain_message(message(runtime, message_id), trail, now=runtime.clock(), workers=1).sentence


def test_a_delivery_ends_the_message(runtime: Runtime) -> None:
    message_id = an_email(runtime, error="an old word", error_code="100")
    happened = datetime(2026, 3, 2, 11, 59, 58, tzinfo=UTC)

    assert receive(
        runtime, a_receipt(message_id, detail=f"250 OK {ADDRESS}", happened_at=happened)
    ) == [Result.APPLIED]  # fmt: skip

    row = message(runtime, message_id)
    assert (row.status, row.reason, row.error, row.error_code) == ("DELIVERED", None, None, None)
    assert row.delivered_at == row.finished_at
    assert row.delivered_at > row.sent_at
    entry = last_entry(runtime, message_id)
    assert (entry.action, entry.actor, entry.client_id) == ("NOTIFICATION_DELIVERED", "postmark", "acme")
    assert entry.metadata == {"detail": "250 OK <recipient>", "happened_at": "2026-03-02T11:59:58.000Z"}
    assert sentence(runtime, message_id).startswith("It arrived: Postmark reported delivery at ")


def test_a_bounce_ends_the_message_with_its_reason_and_suppresses_the_address(runtime: Runtime) -> None:
    message_id = an_email(runtime)

    receive(runtime, a_receipt(message_id, "BOUNCED", detail=f"550 {ADDRESS} unknown", **HARD))

    row = message(runtime, message_id)
    assert (row.status, row.reason, row.error_code) == ("BOUNCED", "RECIPIENT_INVALID", "HardBounce")
    assert row.error == "550 <recipient> unknown"
    assert row.finished_at
    assert row.delivered_at is None
    assert actions(runtime, message_id)[-2:] == ["SUPPRESSION_ADDED", "NOTIFICATION_BOUNCED"]
    assert last_entry(runtime, message_id).metadata == {
        "reason": "RECIPIENT_INVALID", "error_code": "HardBounce", "error": "550 <recipient> unknown",
    }  # fmt: skip
    assert sentence(runtime, message_id).endswith("(Postmark HardBounce, RECIPIENT_INVALID: 550 <recipient> unknown).")
    (kept,) = rows(runtime, "suppression")
    assert (kept.channel, kept.address, kept.reason, kept.source) == ("EMAIL", ADDRESS, "HARD_BOUNCE", "postmark")
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_log"))
    assert send(runtime, "WELCOME_EMAIL", WELCOME).reason == "SUPPRESSED"


def test_a_bounce_may_follow_a_delivery_and_never_the_other_way_round(runtime: Runtime) -> None:
    one, other = an_email(runtime, client_id="one"), an_email(runtime, client_id="other")
    delivered, bounced = (lambda found: a_receipt(found)), (lambda found: a_receipt(found, "BOUNCED"))

    assert receive(runtime, delivered(one), bounced(one)) == [Result.APPLIED, Result.APPLIED]
    assert receive(runtime, bounced(other), delivered(other)) == [Result.APPLIED, Result.NOTHING_NEW]

    for message_id in (one, other):
        row = message(runtime, message_id)
        assert (row.status, row.delivered_at) == ("BOUNCED", None)


def test_a_complaint_suppresses_and_leaves_the_message_delivered(runtime: Runtime) -> None:
    message_id = an_email(runtime, "DELIVERED")
    before = message(runtime, message_id)

    assert receive(runtime, a_complaint(message_id)) == [Result.APPLIED]

    assert message(runtime, message_id) == before
    assert suppressed(runtime) == {ADDRESS: "COMPLAINT"}
    assert actions(runtime, message_id)[-1] == "SUPPRESSION_ADDED"
    assert "client.example" not in str(rows(runtime, "audit_log"))


def test_a_receipt_told_twice_is_written_once(runtime: Runtime) -> None:
    message_id = an_email(runtime)
    receive(runtime, a_receipt(message_id, "BOUNCED", **HARD))
    before = (message(runtime, message_id), rows(runtime, "audit_log"))

    assert receive(runtime, a_receipt(message_id, "BOUNCED", **HARD)) == [Result.NOTHING_NEW]

    assert (message(runtime, message_id), rows(runtime, "audit_log")) == before


@pytest.mark.parametrize("status", ["IN_DOUBT", "FAILED"])
@pytest.mark.parametrize(
    ("event", "becomes", "told"),
    [
        ("SENT", "SENT", ["NOTIFICATION_SENT", "OTP_SENT"]),
        ("DELIVERED", "DELIVERED", ["NOTIFICATION_SENT", "OTP_SENT", "NOTIFICATION_DELIVERED"]),
        ("BOUNCED", "BOUNCED", ["NOTIFICATION_SENT", "OTP_SENT", "NOTIFICATION_BOUNCED"]),
    ],
)
def test_a_receipt_settles_a_doubt(runtime: Runtime, status: str, event: str, becomes: str, told: list[str]) -> None:
    message_id = a_code(runtime, status, reason="IN_DOUBT_HELD" if status == "FAILED" else None, error="cut")
    attempted_at = message(runtime, message_id).last_attempt_at

    assert receive(
        runtime, a_receipt(message_id, event, channel=Channel.SMS, provider_message_id="SM1")
    ) == [Result.APPLIED]  # fmt: skip

    row = message(runtime, message_id)
    assert (row.status, row.provider_message_id, row.sent_at) == (becomes, "SM1", attempted_at)
    assert (row.finished_at is None) == (becomes == "SENT")
    assert row.reason == ("RECIPIENT_INVALID" if becomes == "BOUNCED" else None)
    assert row.error == ("no such mailbox" if becomes == "BOUNCED" else None)
    assert (row.next_attempt_at, row.lease_until) == (None, None)
    assert actions(runtime, message_id)[-len(told) :] == told
    assert rows(runtime, "message_payload") == []


def test_a_callback_that_sms_left_settles_nothing_twice(runtime: Runtime) -> None:
    message_id = a_code(runtime, "IN_DOUBT")
    arrived = [a_receipt(message_id, event, channel=Channel.SMS) for event in ("DELIVERED", "SENT", "SENT")]

    assert receive(runtime, *arrived) == [Result.APPLIED, Result.NOTHING_NEW, Result.NOTHING_NEW]
    assert actions(runtime, message_id).count("OTP_SENT") == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("FAILED", "PROVIDER_UNAVAILABLE"), ("FAILED", None), ("BLOCKED", "SUPPRESSED"), ("EXPIRED", None),
        ("CANCELED", None), ("BOUNCED", "UNKNOWN"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("event", ["SENT", "DELIVERED", "BOUNCED"])
def test_what_is_final_stays_as_it_is(runtime: Runtime, status: str, reason: str | None, event: str) -> None:
    message_id = an_email(runtime, status, reason=reason)
    before = message(runtime, message_id)

    assert receive(runtime, a_receipt(message_id, event)) == [Result.NOTHING_NEW]

    assert message(runtime, message_id) == before
    assert rows(runtime, "early_receipt") == []


@pytest.mark.parametrize("status", ["QUEUED", "DEFERRED_THROTTLED", "SENDING", "RETRY_SCHEDULED"])
@pytest.mark.parametrize("event", ["SENT", "DELIVERED", "BOUNCED"])
def test_what_overtakes_our_own_record_is_kept_without_an_address(runtime: Runtime, status: str, event: str) -> None:
    message_id = an_email(runtime, status)
    before = message(runtime, message_id)

    assert receive(runtime, a_receipt(message_id, event, recipient=ADDRESS)) == [Result.EARLY]

    assert message(runtime, message_id) == before
    assert len(rows(runtime, "early_receipt")) == 1
    assert "client.example" not in str(rows(runtime, "early_receipt"))


def test_every_status_is_either_final_for_a_receipt_or_too_early_or_open() -> None:
    tested = {"FAILED", "BLOCKED", "EXPIRED", "CANCELED", "BOUNCED", "QUEUED", "DEFERRED_THROTTLED", "SENDING",
              "RETRY_SCHEDULED", "IN_DOUBT", "SENT", "DELIVERED"}  # fmt: skip
    assert tested == set(MessageStatus)


def test_a_message_is_found_by_the_providers_id_alone(runtime: Runtime) -> None:
    email, code = an_email(runtime), a_code(runtime)
    for message_id, channel in ((email, Channel.EMAIL), (code, Channel.SMS)):
        known = message(runtime, message_id).provider_message_id
        assert receive(runtime, a_receipt(None, channel=channel, provider_message_id=known)) == [Result.APPLIED]
        assert status_of(runtime, message_id) == "DELIVERED"


def test_the_fate_of_another_copy_does_not_count_but_what_it_says_of_the_address_does(runtime: Runtime) -> None:
    message_id = an_email(runtime)

    assert receive(
        runtime,
        a_receipt(message_id, provider_message_id="pm-first"),
        a_receipt(message_id, "BOUNCED", provider_message_id="pm-first", **HARD),
    ) == [Result.IGNORED, Result.IGNORED]

    assert status_of(runtime, message_id) == "SENT"
    assert suppressed(runtime) == {ADDRESS: "HARD_BOUNCE"}


def test_a_receipt_of_the_other_channel_is_of_no_message(runtime: Runtime) -> None:
    message_id = a_code(runtime)
    assert receive(runtime, a_receipt(message_id, channel=Channel.EMAIL)) == [Result.EARLY]
    assert status_of(runtime, message_id) == "SENT"


def test_an_sms_id_that_another_message_took_is_not_recorded_twice(runtime: Runtime) -> None:
    """An inquiry took the SMS for the other's, which had the same text: the callback knows better, but too late."""
    taken = a_code(runtime, provider_message_id="SM1")
    message_id = a_code(runtime, "IN_DOUBT")
    told = [
        a_receipt(message_id, event, channel=Channel.SMS, provider_message_id="SM1") for event in ("SENT", "DELIVERED")
    ]

    assert receive(runtime, *told) == [Result.APPLIED, Result.APPLIED]

    row = message(runtime, message_id)
    assert (row.status, row.provider_message_id) == ("DELIVERED", None)
    assert message(runtime, taken).provider_message_id == "SM1"


def test_words_of_a_sensitive_message_keep_no_code_and_no_link(runtime: Runtime) -> None:
    message_id = a_code(runtime)
    words = f"Your code is {CODE['code']}, see https://app.example/t0k3n, sent to {PHONE}"

    receive(runtime, a_receipt(message_id, "BOUNCED", channel=Channel.SMS, detail=words))

    kept = message(runtime, message_id).error
    assert kept == "Your code is [digits], see [link] sent to <recipient>"
    assert CODE["code"] not in str(rows(runtime, "audit_log"))


def test_of_an_erased_client_no_word_and_no_address_comes_back(runtime: Runtime) -> None:
    message_id = an_email(runtime)
    with runtime.database.transaction() as session:
        erase_client(session, runtime.keys, "acme", actor="test", now=runtime.clock())

    receive(runtime, a_receipt(message_id, "BOUNCED", detail="Acme has no box", recipient=ADDRESS, **HARD))

    row = message(runtime, message_id)
    assert (row.status, row.error, row.recipient) == ("BOUNCED", None, None)
    assert suppressed(runtime) == {None: "HARD_BOUNCE"}
    assert send(runtime, "COMPLIANCE_SLA_ALERT", SLA, recipient=ADDRESS).reason == "SUPPRESSED"


SLA = {"subject": "Late", "details": "One item", "count": 1}


def test_a_hard_bounce_of_nobody_we_know_suppresses_all_the_same(runtime: Runtime) -> None:
    stranger = a_receipt(None, "BOUNCED", provider_message_id="pm-x", recipient="ANN@Client.EXAMPLE", **HARD)

    assert receive(runtime, stranger) == [Result.EARLY]

    assert suppressed(runtime) == {"ANN@client.example": "HARD_BOUNCE"}


@pytest.mark.parametrize("recipient", [None, "", "no address", "+49", "a@b@c", "x" * 400])
def test_an_address_that_is_none_suppresses_nobody(runtime: Runtime, recipient: str | None) -> None:
    assert receive(runtime, a_complaint(None, provider_message_id=None, recipient=recipient)) == [Result.IGNORED]
    assert rows(runtime, "suppression") == []


def stop(sid: str = "SM-stop", number: str = PHONE) -> Receipt:
    return Receipt(
        "twilio", Channel.SMS, a_receipt(None, "REFUSED").event, sid,
        suppress=SuppressionReason.OPTED_OUT, recipient=number,
    )  # fmt: skip


def start(sid: str = "SM-start") -> Release:
    return Release("twilio", Channel.SMS, sid, PHONE, reason=SuppressionReason.OPTED_OUT)


def test_stop_blocks_the_next_sms_and_start_frees_it(runtime: Runtime) -> None:
    assert receive(runtime, stop()) == [Result.APPLIED]
    assert send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).reason == "SUPPRESSED"
    assert receive(runtime, start()) == [Result.APPLIED]
    assert send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).status == "QUEUED"
    told = [row.action for row in rows(runtime, "audit_log") if row.action.startswith("SUPPRESSION")]
    assert told == ["SUPPRESSION_ADDED", "SUPPRESSION_REMOVED"]


def test_an_answer_told_twice_does_not_undo_what_was_said_since(runtime: Runtime) -> None:
    """Twilio's signature has no time in it: an old START that someone recorded must not undo a STOP."""
    receive(runtime, stop("SM1"), start("SM2"), stop("SM1"))
    assert suppressed(runtime) == {}
    receive(runtime, stop("SM3"), start("SM2"))
    assert suppressed(runtime) == {PHONE: "OPTED_OUT"}


def test_a_bounce_told_again_does_not_undo_what_an_operator_lifted(runtime: Runtime) -> None:
    message_id = an_email(runtime)
    receive(runtime, a_receipt(message_id, "BOUNCED", **HARD))
    with runtime.database.transaction() as session:
        lift(session, runtime.keys, Channel.EMAIL, ADDRESS, actor="operator", now=runtime.clock())

    receive(runtime, a_receipt(message_id, "BOUNCED", **HARD))

    assert suppressed(runtime) == {}


@pytest.mark.parametrize("reason", [SuppressionReason.MANUAL, SuppressionReason.HARD_BOUNCE])
def test_start_lifts_only_what_stop_was_for(runtime: Runtime, reason: SuppressionReason) -> None:
    with runtime.database.transaction() as session:
        suppress(session, runtime.keys, Channel.SMS, PHONE, reason=reason, actor="operator", now=runtime.clock())

    assert receive(runtime, start()) == [Result.NOTHING_NEW]

    assert suppressed(runtime) == {PHONE: reason}


@pytest.mark.parametrize(("source", "is_lifted"), [("postmark", True), ("ann", False)])
def test_a_reactivation_lifts_only_what_the_provider_said(runtime: Runtime, source: str, is_lifted: bool) -> None:
    reason = SuppressionReason.HARD_BOUNCE
    with runtime.database.transaction() as session:
        suppress(session, runtime.keys, Channel.EMAIL, ADDRESS, reason=reason, actor=source, now=runtime.clock())

    receive(runtime, Release("postmark", Channel.EMAIL, "r1", ADDRESS, happened_at=runtime.clock()))

    assert (suppressed(runtime) == {}) == is_lifted


def test_a_reactivation_that_comes_late_leaves_a_later_suppression(runtime: Runtime) -> None:
    then = runtime.clock() - timedelta(minutes=10)
    receive(runtime, a_complaint(an_email(runtime)))

    receive(runtime, Release("postmark", Channel.EMAIL, "r1", ADDRESS, happened_at=then))

    assert suppressed(runtime) == {ADDRESS: "COMPLAINT"}


def test_what_is_ignored_writes_nothing(runtime: Runtime) -> None:
    assert receive(runtime, Ignored("postmark", "an open")) == [Result.IGNORED]
    assert rows(runtime, "seen_event") == rows(runtime, "early_receipt") == []


def test_a_real_send_is_settled_by_its_receipt(runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    while status_of(runtime, decision.message_id) == "QUEUED":
        drain(dispatcher())
    (mail,) = sandbox.messages()

    assert receive(
        runtime, a_receipt(mail.metadata["message_id"], provider_message_id=mail.id)
    ) == [Result.APPLIED]  # fmt: skip

    assert status_of(runtime, decision.message_id) == "DELIVERED"
    assert actions(runtime, decision.message_id) == [
        "NOTIFICATION_QUEUED",
        "NOTIFICATION_SENT",
        "NOTIFICATION_DELIVERED",
    ]


def test_a_message_that_an_operator_queued_again_has_only_the_fate_of_its_new_copy(runtime: Runtime) -> None:
    message_id = an_email(runtime, "FAILED", reason="IN_DOUBT_HELD")
    put(runtime, message_id, "SENT", provider_message_id="pm-second")

    receive(runtime, a_receipt(message_id, "BOUNCED", provider_message_id="pm-first"))

    assert status_of(runtime, message_id) == "SENT"


@pytest.mark.parametrize("target", [MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.BOUNCED])
def test_the_statement_itself_moves_only_what_may_go_there(runtime: Runtime, target: MessageStatus) -> None:
    """Whatever was read before: somebody else may have moved the message since."""
    message_id = an_email(runtime)
    moved = set()
    for status in MessageStatus:
        for reason in (None, "IN_DOUBT_HELD"):
            put(runtime, message_id, status, reason=reason)
            with runtime.database.transaction() as session:
                if store.move(session, AttemptResult(id=message_id, status=target)):
                    moved.add(f"{status} {reason or ''}".strip())
    held = {"IN_DOUBT", "IN_DOUBT IN_DOUBT_HELD", "FAILED IN_DOUBT_HELD"}
    sent, delivered = {"SENT", "SENT IN_DOUBT_HELD"}, {"DELIVERED", "DELIVERED IN_DOUBT_HELD"}
    assert moved == held | {"SENT": set(), "DELIVERED": sent, "BOUNCED": sent | delivered}[target]
