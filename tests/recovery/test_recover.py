"""What is asked of the providers for a store that has forgotten, and what it knows afterwards."""

from datetime import datetime, timedelta
from time import sleep
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.errors import DatabaseError, IdempotencyConflict
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.operations import store_state
from notifyctl.operations.witness import MARK_SECONDS, Witness
from notifyctl.orchestrator.requests import Blocked, Duplicate
from notifyctl.recovery import store as recovery_store
from notifyctl.recovery.records import RecoverySummary
from notifyctl.recovery.recover import NotYet, Recovery
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.command_line import CommandLine
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, REMINDER, WELCOME, actions, message, send
from tests.support.otp_codes import VERIFY, sent_code, wrong
from tests.support.stripe_history import happened, on_books
from tests.support.stripe_world import mails, statuses

PHONE, OTHER = "+4915112345678", "+4915112345679"
WAITS_AGAIN = (
    "UPDATE message_log SET status = 'QUEUED', attempts = 0, lease_generation = 0, lease_owner = NULL,"
    " lease_until = NULL, next_attempt_at = created_at, last_attempt_at = NULL, provider = NULL,"
    " provider_message_id = NULL, sent_at = NULL"
)


@pytest.fixture
def before(runtime: Runtime, clock: TurnableClock) -> datetime:
    """A moment ago, by the clock."""
    moment = runtime.clock()
    clock.ahead += timedelta(seconds=1)
    return moment


def execute(runtime: Runtime, statement: str) -> None:
    with runtime.database.transaction() as session:
        session.execute(text(statement))


def recover(runtime: Runtime, since: datetime, **how: Any) -> RecoverySummary:
    with runtime.database.transaction() as session:
        recovery_store.mark_restored(session, since, "restored", now=runtime.clock())
    result = recovery(runtime).run(**how)
    assert isinstance(result, RecoverySummary)
    return result


def recovery(runtime: Runtime, owner: str = "worker-9") -> Recovery:
    return Recovery(
        runtime.settings,
        runtime.database,
        runtime.clock,
        runtime.keys,
        owner,
        replay_stripe=runtime.replay_stripe,
    )


def test_what_went_out_is_settled_and_what_did_not_is_sent(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, before: datetime
) -> None:
    a_client(runtime)
    mail = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    code = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    payloads = "INSERT INTO message_payload SELECT * FROM kept"
    execute(runtime, "CREATE TABLE kept AS SELECT * FROM message_payload")
    for channel in Channel:
        drain(dispatcher(channel))
    execute(runtime, "DELETE FROM message_payload")
    execute(runtime, payloads)
    execute(runtime, "DROP TABLE kept")
    execute(runtime, WAITS_AGAIN)
    waiting = send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER).message_id
    summary = recover(runtime, before)
    assert summary.settled == {"SENT": 2}
    assert not summary.added
    for message_id, address in ((mail, "acme@client.example"), (code, PHONE)):
        row = message(runtime, message_id)
        (arrived,) = arrivals(sandbox, address)
        assert (row.status, row.provider_message_id, row.attempts) == ("SENT", arrived.id, 1)
    assert actions(runtime, code)[-2:] == ["NOTIFICATION_SENT", "OTP_SENT"]
    assert message(runtime, waiting).status == "QUEUED"
    for channel in Channel:
        drain(dispatcher(channel))
    assert message(runtime, waiting).status == "SENT"
    assert len(arrivals(sandbox, PHONE)) == 1


def test_two_codes_with_one_text_to_one_number_take_one_record_each(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, before: datetime
) -> None:
    first = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    execute(runtime, "CREATE TABLE kept AS SELECT * FROM message_payload")
    drain(dispatcher(Channel.SMS))
    execute(runtime, "INSERT INTO message_payload SELECT * FROM kept")
    execute(runtime, "DROP TABLE kept")
    execute(runtime, WAITS_AGAIN)
    second = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    assert recover(runtime, before).settled == {"SENT": 1}
    assert [message(runtime, each).status for each in (first, second)] == ["SENT", "QUEUED"]


def test_what_is_gone_is_written_anew_counts_for_its_rate_and_is_explained(
    runtime: Runtime, dispatcher: MakeDispatcher, before: datetime, notifyctl: CommandLine
) -> None:
    a_client(runtime)
    gone = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE)
    for channel in Channel:
        drain(dispatcher(channel))
    execute(runtime, "DELETE FROM message_payload")
    execute(runtime, "DELETE FROM message_log")
    assert recover(runtime, before).added == {"EMAIL": 1, "SMS": 1}
    row = message(runtime, gone)
    assert (row.status, row.client_id, row.source, row.metadata) == ("SENT", "acme", "recovered", {"recovered": True})
    again = send(runtime, "WELCOME_EMAIL", WELCOME)
    assert isinstance(again, Blocked)
    assert again.reason == "RATE_LIMITED"
    told = notifyctl("messages", "explain", str(gone)).out
    assert "the database had forgotten it, and its provider was asked" in told
    assert recover(runtime, before).added == {}


def forget_messages(runtime: Runtime) -> None:
    for table in ("message_payload", "message_log"):
        execute(runtime, f"DELETE FROM {table}")


def test_the_key_of_a_forgotten_email_is_held_again(
    runtime: Runtime, dispatcher: MakeDispatcher, before: datetime
) -> None:
    a_client(runtime)
    first = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="welcome acme")
    drain(dispatcher(Channel.EMAIL))
    forget_messages(runtime)
    recover(runtime, before)
    again = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="welcome acme")
    assert again == Duplicate(first.message_id, MessageStatus.SENT)
    with pytest.raises(IdempotencyConflict):
        send(runtime, "WELCOME_EMAIL", WELCOME | {"client_name": "Other"}, idempotency_key="welcome acme")


def test_who_repeats_a_forgotten_request_before_it_is_recovered_sends_no_second_email(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, before: datetime
) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="welcome acme")
    drain(dispatcher(Channel.EMAIL))
    forget_messages(runtime)
    again = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="welcome acme").message_id
    summary = recover(runtime, before)
    assert (summary.settled, summary.added) == ({"SENT": 1}, {})
    (arrived,) = arrivals(sandbox, "acme@client.example")
    row = message(runtime, again)
    assert (row.status, row.provider_message_id) == ("SENT", arrived.id)


def test_a_key_that_another_request_has_taken_since_stays_with_it(
    runtime: Runtime, dispatcher: MakeDispatcher, before: datetime
) -> None:
    a_client(runtime)
    gone = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="welcome").message_id
    drain(dispatcher(Channel.EMAIL))
    forget_messages(runtime)
    a_client(runtime, "other", email="other@client.example")
    other = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="other", idempotency_key="welcome").message_id
    assert recover(runtime, before).added == {"EMAIL": 1}
    rows = [message(runtime, each) for each in (gone, other)]
    assert [(row.status, row.idempotency_key) for row in rows] == [("SENT", None), ("QUEUED", "welcome")]


def test_a_phone_that_was_sent_a_code_meanwhile_starts_locked(
    runtime: Runtime, dispatcher: MakeDispatcher, clock: TurnableClock, before: datetime
) -> None:
    runtime.otp.send(PHONE, VERIFY)
    drain(dispatcher(Channel.SMS))
    for table in ("otp_challenge", "otp_subject", "message_payload", "message_log"):
        execute(runtime, f"DELETE FROM {table}")
    assert recover(runtime, before).phones_locked == 1
    assert runtime.otp.status(PHONE).is_locked
    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)
    clock.ahead += timedelta(seconds=runtime.settings.otp_lockout_seconds)
    assert not runtime.otp.status(PHONE).is_locked


def test_a_code_that_lived_in_the_forgotten_time_ends_and_its_message_is_withdrawn(
    runtime: Runtime, before: datetime
) -> None:
    code = sent_code(runtime)
    summary = recover(runtime, before)
    assert summary.phones_locked == 1
    assert not runtime.otp.verify(PHONE, VERIFY, code)
    with runtime.database.read() as session:
        assert session.execute(text("SELECT status FROM message_log")).scalars().all() == ["CANCELED"]


def test_nothing_is_verified_or_sent_while_recovery_is_needed(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, before: datetime
) -> None:
    code = sent_code(runtime)
    with runtime.database.transaction() as session:
        recovery_store.mark_restored(session, before, "restored", now=runtime.clock())
    with pytest.raises(DatabaseError, match="is to be recovered before any code is tried"):
        runtime.otp.verify(PHONE, VERIFY, code)
    with pytest.raises(DatabaseError, match="is to be recovered before any code is tried"):
        runtime.otp.send(OTHER, VERIFY)
    assert dispatcher(Channel.SMS).turn(claiming=True, timeout=0) == 0
    assert not sandbox.messages()


def test_a_process_that_has_counted_guesses_notices_that_they_are_forgotten(runtime: Runtime, before: datetime) -> None:
    code = sent_code(runtime)
    assert not runtime.otp.verify(PHONE, VERIFY, wrong(code))
    execute(runtime, "UPDATE otp_subject SET failed_count = 0, consecutive_failures = 0")
    forget_the_last_audit_row(runtime)
    with pytest.raises(DatabaseError, match="is to be recovered"):
        runtime.otp.verify(PHONE, VERIFY, code)
    with runtime.database.read() as session:
        found = store_state.forgotten(session)
    assert found is not None
    assert found.is_proven


def test_what_is_written_after_the_loss_does_not_hide_it(runtime: Runtime, before: datetime) -> None:
    """A worker records late answers before it claims again, and by then the store may have more rows than it lost."""
    witness = Witness(runtime.database, runtime.clock)
    witness.examine()

    def write(phone: str) -> None:
        send(runtime, "OTP_CODE_SMS", CODE, recipient=phone)
        with runtime.database.transaction() as session:
            seen = witness.newest(session, at_once=False)
        witness.keep(seen)

    write(PHONE)
    forget_the_last_audit_row(runtime)
    sleep(MARK_SECONDS)
    write(OTHER)
    found = witness.examine().forgotten
    assert found is not None
    assert found.is_proven


def forget_the_last_audit_row(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        if runtime.database.is_sqlite:
            triggers = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
            for trigger in triggers:
                session.execute(text(f"DROP TRIGGER {trigger}"))
        else:
            session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("DELETE FROM audit_log WHERE id = (SELECT max(id) FROM audit_log)"))


def test_who_asked_for_no_more_meanwhile_is_suppressed_again(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, before: datetime
) -> None:
    a_client(runtime)
    send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE)
    drain(dispatcher(Channel.SMS))
    sandbox.suppress("acme@client.example")
    sandbox.reply(PHONE, "STOP", url="http://127.0.0.1:9/nobody-listens")
    assert recover(runtime, before).suppressed == 2
    assert send(runtime, "WELCOME_EMAIL", WELCOME).reason == "SUPPRESSED"
    assert recover(runtime, before).suppressed == 0


def test_the_minute_counts_as_used_by_what_the_provider_has_got(
    runtime: Runtime, dispatcher: MakeDispatcher, before: datetime
) -> None:
    for number in range(60):
        a_client(runtime, f"c{number}")
        send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}")
    drain(dispatcher(Channel.EMAIL))
    sent = count(runtime, "SENT")
    execute(runtime, WAITS_AGAIN)
    execute(runtime, "DELETE FROM notification_outbound_budget")
    summary = recover(runtime, before)
    assert summary.lately == {Channel.EMAIL: sent}
    drain(dispatcher(Channel.EMAIL))
    assert count(runtime, "SENT") <= 60


def count(runtime: Runtime, status: str) -> int:
    statement = text("SELECT count(*) FROM message_log WHERE status = :status")
    with runtime.database.read() as session:
        return int(session.execute(statement, {"status": status}).scalar_one())


def test_a_dry_run_tells_and_changes_nothing(
    runtime: Runtime, dispatcher: MakeDispatcher, before: datetime, sandbox: Sandbox, notifyctl: CommandLine
) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    drain(dispatcher(Channel.EMAIL))
    execute(runtime, WAITS_AGAIN)
    urls = {"POSTMARK_API_URL": sandbox.url, "TWILIO_API_URL": sandbox.url, "IN_DOUBT_SEARCH_DELAY_SECONDS": "0"}
    ran = notifyctl("db", "recover", "--since", "1h", "--dry-run", "--format", "json", **urls)
    assert ran.code == 0
    assert '"SENT": 1' in ran.out
    assert message(runtime, message_id).status == "QUEUED"
    ran = notifyctl("db", "recover", "--since", "1h", "--format", "json", **urls)
    assert (ran.code, '"SENT": 1' in ran.out) == (0, True)
    assert "Not to be had from anybody" in ran.err
    assert message(runtime, message_id).status == "SENT"
    ran = notifyctl("db", "recover", **urls)
    assert "has not gone back in time, as far as anybody knows" in ran.err


def test_a_provider_that_does_not_answer_keeps_everything_stopped(
    runtime: Runtime, before: datetime, notifyctl: CommandLine
) -> None:
    ran = notifyctl("db", "recover", "--since", "1h", IN_DOUBT_SEARCH_DELAY_SECONDS="0")
    assert ran.code == 6
    assert "nothing is sent before this is recovered: no answer from a provider" in ran.err
    told = notifyctl("health", "--format", "json").out
    assert '"RECOVERY_NEEDED"' in told
    assert "CRITICAL" in notifyctl("monitor").out
    assert "an operator says so" in notifyctl("doctor").out


def test_only_one_recovers_at_a_time(runtime: Runtime, before: datetime) -> None:
    with runtime.database.transaction() as session:
        now = runtime.clock()
        recovery_store.mark_restored(session, before, "restored", now=now)
        assert store_state.take(session, "another", now=now, until=now + timedelta(minutes=1))
    assert recovery(runtime).run() == NotYet("another process recovers it")


def test_stripes_events_are_fetched_and_their_mails_not_written_twice(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, before: datetime
) -> None:
    a_client(runtime, plan=None, subscription_status="none")
    sandbox.stripe.api_key = "sk_live_1"
    on_books(sandbox, happened("purchase", runtime.clock()))
    assert len(list(runtime.replay_stripe(before, "stripe"))) == 3
    drain(dispatcher(Channel.EMAIL))
    (confirmed,) = mails(runtime)
    for table in ("message_payload", "message_log", "stripe_event", "stripe_subscription", "stripe_invoice"):
        execute(runtime, f"DELETE FROM {table}")
    execute(runtime, "UPDATE client SET plan = NULL, subscription_status = 'none'")
    summary = recover(runtime, before)
    assert (summary.stripe_events, summary.has_stripe) == (3, True)
    assert mails(runtime) == [confirmed]
    assert statuses(runtime) == {"PROCESSED": 3}
    drain(dispatcher(Channel.EMAIL))
    assert len(arrivals(sandbox, "acme@client.example")) == 1


def test_stripe_that_refuses_to_answer_stops_nothing_and_is_told(
    runtime: Runtime, sandbox: Sandbox, before: datetime
) -> None:
    sandbox.stripe.api_key = "sk_live_another"
    summary = recover(runtime, before)
    assert (summary.stripe_events, summary.has_stripe) == (0, False)
    with runtime.database.read() as session:
        assert store_state.forgotten(session) is None
