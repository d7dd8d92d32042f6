"""The worker's loop body against the sandbox, over real HTTP, on both databases."""

from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import suppress
from notifyctl.delivery import outbox
from notifyctl.delivery.claims import LEASE
from notifyctl.delivery.outbox import Queue
from notifyctl.errors import DatabaseError
from notifyctl.models.enums import Channel, Lane, MessageStatus, SuppressionReason
from notifyctl.orchestrator.requests import Blocked
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, REMINDER, REMINDER_SMS, RESET, WELCOME, actions, audit_details, message, send


def test_an_email_reaches_the_provider_with_its_id_tag_and_addresses(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, "ada")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="ada")
    drain(dispatcher())
    (mail,) = arrivals(sandbox, "ada@client.example")
    assert mail.metadata == {"message_id": decision.message_id}
    assert (mail.tag, mail.stream, mail.reply_to) == ("WELCOME_EMAIL", "outbound", "support@acme.example")
    assert str(mail.sender) == '"Acme" <hello@acme.example>'
    assert WELCOME["login_url"] in mail.text
    assert WELCOME["login_url"] in mail.html
    row = message(runtime, decision.message_id)
    assert (row.status, row.attempts, row.provider, row.provider_message_id) == (
        "SENT",
        1,
        "postmark",
        mail.id,
    )
    assert row.subject == mail.subject
    assert row.sent_at is not None
    assert row.lease_until is None
    assert actions(runtime, decision.message_id) == ["NOTIFICATION_QUEUED", "NOTIFICATION_SENT"]


def test_a_one_time_code_is_sent_erased_and_audited_as_such(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000001", metadata={"action": "PHONE_VERIFY"})
    with runtime.database.read() as session:
        sealed = session.execute(text("SELECT context, sealed, key_id FROM message_payload")).one()
    assert sealed.context is None
    assert sealed.sealed
    assert CODE["code"] not in sealed.sealed
    drain(dispatcher(Channel.SMS))
    (sms,) = arrivals(sandbox, "+4915110000001")
    assert CODE["code"] in sms.text
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_payload")).scalar_one() == 0
    assert actions(runtime, decision.message_id) == ["NOTIFICATION_QUEUED", "NOTIFICATION_SENT", "OTP_SENT"]


def test_a_busy_provider_is_tried_again_after_the_backoff_and_the_message_arrives_once(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, email="busy-2@twice.example")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    working = dispatcher()
    drain(working)
    row = message(runtime, decision.message_id)
    assert (row.status, row.error_code, row.attempts) == ("RETRY_SCHEDULED", "100", 1)
    assert timedelta(seconds=29) < row.next_attempt_at - clock() <= timedelta(seconds=30)
    drain(working)
    assert message(runtime, decision.message_id).attempts == 1
    clock.ahead += timedelta(seconds=31)
    drain(working)
    clock.ahead += timedelta(minutes=2, seconds=1)
    drain(working)
    row = message(runtime, decision.message_id)
    assert (row.status, row.attempts, row.error_code, row.error) == ("SENT", 3, None, None)
    assert len(arrivals(sandbox, "busy-2@twice.example")) == 1
    assert actions(runtime, decision.message_id) == [
        "NOTIFICATION_QUEUED", "NOTIFICATION_RETRY_SCHEDULED", "NOTIFICATION_RETRY_SCHEDULED", "NOTIFICATION_SENT",
    ]  # fmt: skip
    told = [details["next_attempt_at"] for details in audit_details(runtime, decision.message_id)[1:3]]
    assert [moment[-1] for moment in told] == ["Z", "Z"]


@pytest.mark.parametrize(
    ("channel", "attempts"),
    [(Channel.EMAIL, 4), (Channel.SMS, 3)],
    ids=["three retries for email", "two for SMS"],
)
def test_a_message_fails_when_its_retries_are_used_up(
    runtime: Runtime,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    channel: Channel,
    attempts: int,
) -> None:
    a_client(runtime, email="busy-99@always.example", phone_e164="+15005551099", plan="PRO")
    template, context = ("WELCOME_EMAIL", WELCOME) if channel is Channel.EMAIL else (
        "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS,
    )  # fmt: skip
    decision = send(runtime, template, context)
    working = dispatcher(channel)
    for _ in range(6):
        drain(working)
        clock.ahead += timedelta(minutes=11)
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.attempts) == ("FAILED", "PROVIDER_UNAVAILABLE", attempts)
    assert row.finished_at is not None


def test_an_inactive_mailbox_fails_at_once_is_suppressed_and_not_written_to_again(
    runtime: Runtime, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, email="inactive@dead.example")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    drain(dispatcher())
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.error_code, row.attempts) == (
        "FAILED",
        "RECIPIENT_OPTED_OUT",
        "406",
        1,
    )
    assert "inactive@dead.example" not in row.error
    again = send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER)
    assert isinstance(again, Blocked)
    assert again.reason == "SUPPRESSED"
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM audit_log WHERE action = 'SUPPRESSION_ADDED'")).scalar_one()


def test_one_bad_message_neither_holds_up_nor_fails_its_batch(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    for name in ("one", "reject", "two"):
        a_client(runtime, name, email=f"{name}@batch.example")
    decisions = [send(runtime, "WELCOME_EMAIL", WELCOME, client_id=name) for name in ("one", "reject", "two")]
    calls = sandbox.calls
    drain(dispatcher())
    statuses = [message(runtime, decision.message_id).status for decision in decisions]
    assert statuses == ["SENT", "FAILED", "SENT"]
    assert sandbox.calls == calls + 1


CHANGES = {
    "the template was disabled": ("UPDATE notification_template SET enabled = false", "TEMPLATE_DISABLED"),
    "provisioning was taken back": (
        "UPDATE client SET provisioning_status = 'FAILED'",
        "PROVISIONING_INCOMPLETE",
    ),
    "the client was erased": ("UPDATE client SET erased_at = created_at", "CLIENT_UNKNOWN"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES.keys())
def test_a_gate_that_closed_since_acceptance_stops_the_message(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, change: str, reason: str
) -> None:
    a_client(runtime, "late")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="late")
    before = len(arrivals(sandbox, "late@client.example"))
    with runtime.database.transaction() as session:
        session.execute(text(change))
    drain(dispatcher())
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.attempts) == ("BLOCKED", reason, 0)
    assert len(arrivals(sandbox, "late@client.example")) == before
    assert actions(runtime, decision.message_id) == ["NOTIFICATION_QUEUED", "NOTIFICATION_BLOCKED"]


def test_an_address_suppressed_since_acceptance_stops_the_message(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, "Late")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="Late")
    with runtime.database.transaction() as session:
        suppress(
            session, runtime.keys, Channel.EMAIL, "late@client.example",
            reason=SuppressionReason.COMPLAINT, actor="test", now=runtime.clock(),
        )  # fmt: skip
    drain(dispatcher())
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.attempts) == ("BLOCKED", "SUPPRESSED", 0)
    assert not sandbox.messages()


def test_a_message_past_its_send_by_time_expires_unsent_and_its_secret_is_erased(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, "slow")
    decision = send(runtime, "PASSWORD_RESET", RESET, client_id="slow")
    clock.ahead += timedelta(hours=1, seconds=1)
    drain(dispatcher())
    row = message(runtime, decision.message_id)
    assert (row.status, row.attempts) == ("EXPIRED", 0)
    assert not arrivals(sandbox, "slow@client.example")
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_payload")).scalar_one() == 0


def test_urgent_messages_leave_first(runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher) -> None:
    a_client(runtime, "queue")
    send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER, client_id="queue")
    send(runtime, "WELCOME_EMAIL", WELCOME, client_id="queue")
    send(runtime, "PASSWORD_RESET", RESET, client_id="queue")
    drain(dispatcher())
    tags = [mail.tag for mail in arrivals(sandbox, "queue@client.example")]
    assert tags == ["PASSWORD_RESET", "WELCOME_EMAIL", "COMPLIANCE_EXPIRY_REMINDER"]


def test_a_version_pinned_at_acceptance_is_what_goes_out(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, "pinned")
    send(runtime, "WELCOME_EMAIL", WELCOME, client_id="pinned")
    with runtime.database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO notification_template_version (template_key, version, content_hash, subject, text_body,"
                " html_body, variables, example, flags, created_at) SELECT template_key, 2, 'x', 'Changed', 'Changed',"
                " 'Changed', variables, example, flags, created_at FROM notification_template_version"
                " WHERE template_key = 'WELCOME_EMAIL'"
            )
        )
        session.execute(text("UPDATE notification_template SET version = 2 WHERE template_key = 'WELCOME_EMAIL'"))
    drain(dispatcher())
    (mail,) = arrivals(sandbox, "pinned@client.example")
    assert mail.subject != "Changed"


def test_a_context_that_cannot_be_opened_fails_that_message_alone(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    broken = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000002")
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_payload SET key_id = 'gone'"))
    sound = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000003")
    drain(dispatcher(Channel.SMS))
    row = message(runtime, broken.message_id)
    assert (row.status, row.reason) == ("FAILED", "RENDER_ERROR")
    assert "gone" in row.error
    assert message(runtime, sound.message_id).status == "SENT"


def test_of_what_is_accepted_at_last_no_earlier_failure_is_told(runtime: Runtime, dispatcher: MakeDispatcher) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    with runtime.database.transaction() as session:
        failed = "status = 'RETRY_SCHEDULED', reason = 'UNKNOWN', error_code = '406', error = 'later'"
        session.execute(text(f"UPDATE message_log SET {failed}"))
    drain(dispatcher())
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.error_code, row.error, row.next_attempt_at) == ("SENT", None, None, None, None)
    assert row.provider_message_id


def test_two_workers_never_claim_the_same_message(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    for number in range(30):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+49151200000{number:02}")
    first, second = dispatcher(Channel.SMS, "worker-1"), dispatcher(Channel.SMS, "worker-2")
    while True:
        claimed = first.turn(claiming=True, timeout=0.1) + second.turn(claiming=True, timeout=0.1)
        if not claimed and first.is_idle and second.is_idle:
            break
    assert all(len(arrivals(sandbox, f"+49151200000{number:02}")) == 1 for number in range(30))


def test_a_message_whose_worker_vanished_is_in_doubt_and_not_sent_again(
    runtime: Runtime, clock: TurnableClock, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000004")
    with runtime.database.transaction() as session:
        now = clock()
        queue = Queue(Lane.URGENT, MessageStatus.QUEUED)
        (due,) = outbox.lock_due(session, Channel.SMS, queue, now=now, most=10)
        outbox.claim(session, [due.id], owner="gone", provider="twilio", now=now, lease_until=now + LEASE)
    working = dispatcher(Channel.SMS)
    drain(working)
    assert message(runtime, decision.message_id).status == "SENDING"
    clock.ahead += LEASE + timedelta(seconds=1)
    with runtime.database.transaction() as session:
        assert [row.id for row in outbox.expire_leases(session, clock())] == [decision.message_id]
    drain(working)
    assert message(runtime, decision.message_id).status == "IN_DOUBT"
    assert not arrivals(sandbox, "+4915110000004")


def test_a_worker_that_lost_its_claim_cannot_overwrite_the_others_outcome(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000005")
    sleepy = dispatcher(Channel.SMS, "sleepy")
    assert sleepy.turn(claiming=True, timeout=0) == 1
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'QUEUED', lease_owner = NULL"))
    other = dispatcher(Channel.SMS, "other")
    drain(other)
    taken = message(runtime, decision.message_id)
    drain(sleepy)
    after = message(runtime, decision.message_id)
    assert (after.status, after.lease_owner) == ("SENT", "other")
    assert after.provider_message_id == taken.provider_message_id
    assert actions(runtime, decision.message_id).count("NOTIFICATION_SENT") == 1


def test_an_answer_that_comes_after_the_doubt_still_settles_it(runtime: Runtime, dispatcher: MakeDispatcher) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000006")
    slow = dispatcher(Channel.SMS)
    assert slow.turn(claiming=True, timeout=0) == 1
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'IN_DOUBT'"))
    drain(slow)
    assert message(runtime, decision.message_id).status == "SENT"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_answers_are_kept_while_the_database_is_away(
    runtime: Runtime, postgres: str, dispatcher: MakeDispatcher
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915110000007")
    working = dispatcher(Channel.SMS)
    assert working.turn(claiming=True, timeout=0) == 1
    name = runtime.database.url.database
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        for _ in range(3):
            with pytest.raises(DatabaseError):
                working.turn(claiming=True, timeout=5)
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    drain(working)
    assert message(runtime, decision.message_id).status == "SENT"
