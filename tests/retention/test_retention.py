"""What is old goes, and nothing that is still to be sent, counted or verified."""

import json
import logging
import threading
from datetime import datetime, timedelta
from itertools import count as count_up
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import col, select, update

from notifyctl.audit import seal as audit_seal
from notifyctl.audit.chain import SealKeys, parse_head
from notifyctl.audit.verify import ProblemKind
from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import lift, suppress
from notifyctl.delivery.receipts import store as receipt_store
from notifyctl.models.audit import AuditLog
from notifyctl.models.enums import AuditAction, Channel, JobOutcome, MessageStatus, StripeEventStatus, SuppressionReason
from notifyctl.models.message import FINAL, MessageLog, MessagePayload
from notifyctl.models.operations import JobRun
from notifyctl.models.receipt import ReceiptInquiry
from notifyctl.models.stripe_event import StripeEvent
from notifyctl.orchestrator.message_store import requeue
from notifyctl.orchestrator.requests import Queued
from notifyctl.otp.one_time_codes import OneTimeCodes
from notifyctl.retention.retention import Removed, Retention, RetentionReport, ages, count
from tests.support.audit_log import ask, insert_row, keys_of, row_ids, seal, sealed_log, sql, verify, write_rows
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import REMINDER, WELCOME, send
from tests.support.otp_codes import PHONE, VERIFY, sent_code, sms
from tests.support.runtimes import open_shared
from tests.support.settings import SECRET, make_settings

DAY = timedelta(days=1)
NEW_KEY = "9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f2468"


def run(runtime: Runtime, later: timedelta = timedelta(), **more: Any) -> RetentionReport:
    """As it would be after so long a time."""

    def clock() -> datetime:
        return runtime.clock() + later

    return Retention(runtime.database, runtime.settings, clock, actor="test", pausing=False, **more).run()


def removed(runtime: Runtime, later: timedelta) -> Removed:
    """Counts first: a dry run says what a run does."""
    with runtime.database.read() as session:
        expected = count(session, runtime.settings, runtime.clock() + later)
    outcome = run(runtime, later)
    assert outcome.removed == expected
    assert outcome.audit_problem is None
    return outcome.removed


def a_message(runtime: Runtime, reference: str, **fields: Any) -> str:
    decision = send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER | {"item_reference": reference})
    assert isinstance(decision, Queued)
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).where(col(MessageLog.id) == decision.message_id).values(**fields))
    return decision.message_id


def messages_in_every_status(runtime: Runtime) -> dict[MessageStatus, str]:
    a_client(runtime)
    return {status: a_message(runtime, status, status=status) for status in MessageStatus}


def having_payload(runtime: Runtime) -> set[str]:
    with runtime.database.read() as session:
        return set(session.exec(select(MessagePayload.message_id)).all())


def message_ids(runtime: Runtime) -> set[str]:
    with runtime.database.read() as session:
        return set(session.exec(select(MessageLog.id)).all())


def test_values_go_early_and_messages_late_and_what_is_not_final_stays(runtime: Runtime) -> None:
    ids = messages_in_every_status(runtime)
    final = {ids[status] for status in FINAL}
    waiting = set(ids.values()) - final
    assert removed(runtime, 13 * DAY) == Removed()
    assert removed(runtime, 15 * DAY).contexts == len(final)
    assert having_payload(runtime) == waiting
    assert message_ids(runtime) == set(ids.values())
    assert removed(runtime, 399 * DAY).messages == 0
    assert removed(runtime, 402 * DAY).messages == len(final)
    assert message_ids(runtime) == waiting
    assert having_payload(runtime) == waiting
    assert removed(runtime, 4_000 * DAY).messages == 0


def test_age_is_counted_from_the_end_of_a_message(runtime: Runtime) -> None:
    a_client(runtime)
    a_message(runtime, "1", status=MessageStatus.FAILED, finished_at=runtime.clock() + 10 * DAY)
    assert removed(runtime, 20 * DAY).contexts == 0
    assert removed(runtime, 25 * DAY).contexts == 1


def test_with_a_message_goes_what_belongs_to_it_and_its_key_can_be_used_again(runtime: Runtime) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="once").message_id
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).values(status=MessageStatus.DELIVERED))
        receipt_store.ask_again_at(session, {message_id: runtime.clock()})
    removed(runtime, 402 * DAY)
    with runtime.database.read() as session:
        assert session.exec(select(ReceiptInquiry)).all() == []
    assert having_payload(runtime) == set()
    assert send(runtime, "WELCOME_EMAIL", WELCOME, idempotency_key="once").message_id != message_id


def test_what_there_was_no_time_for_is_left_to_the_next_run(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifyctl.retention.retention.ROWS_AT_FIRST", 7)
    monkeypatch.setattr("notifyctl.db.batches.MOST", 7)
    a_client(runtime)
    for number in range(30):
        a_message(runtime, str(number), status=MessageStatus.SENT)
    asked = count_up()
    few = run(runtime, 500 * DAY, stopping=lambda: next(asked) >= 2)
    assert (few.removed.contexts, few.removed.messages) == (14, 0)
    rest = run(runtime, 500 * DAY)
    assert (rest.removed.contexts, rest.removed.messages) == (16, 30)
    assert message_ids(runtime) == set()


def test_batches_go_on_where_the_last_one_ended(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifyctl.retention.retention.ROWS_AT_FIRST", 7)
    messages_in_every_status(runtime)
    for number in range(20):
        a_message(runtime, str(number), status=MessageStatus.SENT)
    assert removed(runtime, 500 * DAY) == Removed(contexts=20 + len(FINAL), messages=20 + len(FINAL))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_message_that_is_being_queued_again_keeps_its_values(runtime: Runtime) -> None:
    ids = messages_in_every_status(runtime)
    failed = ids[MessageStatus.FAILED]
    with runtime.database.transaction() as session:
        assert requeue(session, [failed], now=runtime.clock())
        run(runtime, 500 * DAY)
    assert failed in message_ids(runtime)
    assert failed in having_payload(runtime)


def test_a_rate_window_is_not_shortened(runtime: Runtime) -> None:
    """Whatever the settings say: the template counts what it has sent in 500 days."""
    settings = runtime.settings.model_copy(update={"notification_retention_message_days": 30})
    with runtime.database.read() as session:
        assert ages(session, settings).messages == 31 * DAY, "the longest is that of the expiry windows"
    sql(runtime, f"UPDATE notification_template SET rate_limit_window_seconds = {500 * 86_400}"
        " WHERE template_key = 'WELCOME_EMAIL'")  # fmt: skip
    with runtime.database.read() as session:
        age = ages(session, settings)
    assert age.messages == 501 * DAY
    assert age.audit_rows == 730 * DAY
    endless = settings.model_copy(update={"otp_send_rate_limit": "3/99999d"})
    with runtime.database.read() as session:
        age = ages(session, endless)
    assert age.messages == age.codes == age.audit_rows == 36_500 * DAY


def test_audit_rows_are_kept_as_long_as_messages(runtime: Runtime) -> None:
    settings = runtime.settings.model_copy(update={"notification_retention_audit_days": 30})
    with runtime.database.read() as session:
        assert ages(session, settings).audit_rows == 400 * DAY


def test_codes_go_and_what_their_phone_has_failed_stays(runtime: Runtime) -> None:
    runtime.otp.send(PHONE, VERIFY)
    runtime.otp.verify(PHONE, VERIFY, "000000")
    failed = "SELECT failed_count, consecutive_failures FROM otp_subject"
    before = ask(runtime, failed)
    assert removed(runtime, 29 * DAY).codes == 0
    assert removed(runtime, 31 * DAY).codes == 1
    assert ask(runtime, failed) == before
    assert len(before) == 1


def test_a_phone_goes_with_its_last_code_unless_there_is_something_to_remember(runtime: Runtime) -> None:
    subjects = "SELECT count(*) FROM otp_subject"
    codes = {number: sent_code(runtime, f"+4915112345{number}") for number in range(100, 105)}
    runtime.otp.verify("+4915112345101", VERIFY, codes[101])
    for number, wrong_ones in ((102, 1), (103, 5)):
        for _ in range(wrong_ones):
            runtime.otp.verify(f"+4915112345{number}", VERIFY, "x")
    sql(runtime, "UPDATE otp_subject SET hard_locked_at = locked_until WHERE locked_until IS NOT NULL")
    assert removed(runtime, 29 * DAY).phones == 0
    one_time_codes(runtime, runtime.settings, lambda: runtime.clock() + 20 * DAY).send("+4915112345104", VERIFY)

    assert removed(runtime, 31 * DAY).phones == 2  # 100 and 101
    assert ask(runtime, subjects) == [(3,)]
    assert removed(runtime, 51 * DAY).phones == 1  # 104
    assert removed(runtime, 4_000 * DAY).phones == 0
    assert ask(runtime, subjects) == [(2,)]


def test_a_phone_that_asks_for_a_code_while_its_row_goes_has_both_afterwards(runtime: Runtime) -> None:
    sent_code(runtime)
    sql(runtime, "DELETE FROM otp_challenge")
    later = one_time_codes(runtime, runtime.settings, lambda: runtime.clock() + 60 * DAY)
    sending = threading.Thread(target=later.send, args=(PHONE, VERIFY))

    @event.listens_for(runtime.database.engine, "after_cursor_execute")
    def ask_meanwhile(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "otp_subject" in statement and "LIMIT" in statement and sending.ident is None:
            sending.start()  # waits for the row, or on SQLite for the database

    assert run(runtime, 60 * DAY).removed.phones == 1
    sending.join()
    assert ask(runtime, "SELECT count(*) FROM otp_subject") == [(1,)]
    assert later.status(PHONE).live


def test_a_code_counts_in_its_window_after_a_run_of_retention(runtime: Runtime) -> None:
    """Three within 40 days, and codes are to be kept for one: the fourth is refused all the same."""
    changes = {
        "otp_send_rate_limit": "3/40d",
        "notification_retention_otp_days": 1,
        "notification_retention_message_days": 30,
    }
    settings = runtime.settings.model_copy(update=changes)
    for _ in range(3):
        one_time_codes(runtime, settings, runtime.clock).send(PHONE, VERIFY)
    sql(runtime, "UPDATE message_log SET status = 'SENT'")
    sql(runtime, f"UPDATE notification_template SET rate_limit_window_seconds = {40 * 86_400}"
        " WHERE template_key = 'OTP_CODE_SMS'")  # fmt: skip

    def later() -> datetime:
        return runtime.clock() + 39 * DAY

    Retention(runtime.database, settings, later, actor="test", pausing=False).run()
    one_time_codes(runtime, settings, later).send(PHONE, VERIFY)
    assert sms(runtime)["RATE_LIMITED"] == 1


def one_time_codes(runtime: Runtime, settings: Any, clock: Any) -> OneTimeCodes:
    opened = open_shared(settings, clock=clock)
    return OneTimeCodes(settings=settings, database=runtime.database, keys=opened.keys, plans=opened.plans, clock=clock)


def a_stripe_event(runtime: Runtime, status: StripeEventStatus, number: int = 0) -> str:
    now = runtime.clock().replace(microsecond=0)
    event_id = f"evt_{status.lower()}_{number}"
    event = StripeEvent(
        id=event_id, type="invoice.paid", created=now, livemode=True, verified=True, body=b"{}", status=status,
        received_at=now,
    )  # fmt: skip
    with runtime.database.transaction() as session:
        session.add(event)
    return event_id


def test_bodies_of_settled_stripe_events_go_and_the_events_stay(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifyctl.retention.retention.ROWS_AT_FIRST", 2)
    for number in range(3):
        for status in StripeEventStatus:
            a_stripe_event(runtime, status, number)
    assert removed(runtime, 89 * DAY).stripe_bodies == 0
    assert removed(runtime, 91 * DAY).stripe_bodies == 6
    left = ask(runtime, "SELECT DISTINCT status FROM stripe_event WHERE length(body) > 0")
    assert {row.status for row in left} == {"RECEIVED", "UNMATCHED", "FAILED"}
    assert len(ask(runtime, "SELECT id FROM stripe_event")) == 15
    assert removed(runtime, 91 * DAY).stripe_bodies == 0


def test_seen_events_are_kept_as_long_as_messages(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        receipt_store.see(session, "postmark:1:hash", runtime.clock())
    assert removed(runtime, 399 * DAY).seen_events == 0
    assert removed(runtime, 401 * DAY).seen_events == 1


def test_releases_are_kept_as_long_as_messages_and_what_is_suppressed_for_ever(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        for address in ("ann@acme.example", "bob@acme.example"):
            why = {"reason": SuppressionReason.OPTED_OUT, "actor": "postmark", "now": runtime.clock()}
            suppress(session, runtime.keys, Channel.EMAIL, address, **why)
        lift(session, runtime.keys, Channel.EMAIL, "ann@acme.example", actor="cli", now=runtime.clock())
    assert removed(runtime, 399 * DAY).releases == 0
    assert removed(runtime, 401 * DAY).releases == 1
    assert len(ask(runtime, "SELECT * FROM suppression")) == 1
    assert ask(runtime, "SELECT * FROM suppression_release") == []


def test_old_runs_of_jobs_go_but_not_the_last_ones(runtime: Runtime) -> None:
    now = runtime.clock()
    for number in range(4):
        a_run(runtime, "retention", now + timedelta(seconds=number), JobOutcome.DONE)
    a_run(runtime, "retention", now + timedelta(seconds=9), JobOutcome.FAILED)
    assert removed(runtime, 13 * DAY).job_runs == 0
    assert removed(runtime, 15 * DAY).job_runs == 3
    assert len(ask(runtime, "SELECT id FROM job_run")) == 2


def a_run(runtime: Runtime, name: str, at: datetime, outcome: JobOutcome) -> None:
    run = JobRun(name=name, due_at=at, worker="w", outcome=outcome, started_at=at, finished_at=at)
    with runtime.database.transaction() as session:
        session.add(run)


def test_each_run_leaves_an_audit_row_with_its_counts(runtime: Runtime) -> None:
    messages_in_every_status(runtime)
    run(runtime, 15 * DAY)
    with runtime.database.read() as session:
        row = session.exec(select(AuditLog).order_by(col(AuditLog.id).desc())).first()
    assert row is not None
    assert (row.action, row.actor) == (AuditAction.OPERATOR_ACTION, "test")
    assert row.details == {"command": "retention", "removed": {"contexts": len(FINAL)}}


def an_old_log(runtime: Runtime) -> None:
    """Three seals that are old enough to go, and two that are not."""
    write_rows(runtime, 30)
    ids = row_ids(runtime)
    for number in range(1, 6):
        sealed_at = runtime.clock() - (731 * DAY if number <= 3 else timedelta())
        last = ids[number * len(ids) // 5 - 1]
        seal_at(runtime, sealed_at, last)
    assert verify(runtime).is_good
    assert verify(runtime).seals == 5


def seal_at(runtime: Runtime, sealed_at: datetime, last_id: int) -> None:
    audit_seal.seal_up_to(last_id, runtime.database, keys_of(runtime), lambda: sealed_at, lambda: False)


def test_audit_rows_go_as_whole_seals_from_the_beginning_and_the_rest_verifies(runtime: Runtime) -> None:
    an_old_log(runtime)
    before = row_ids(runtime)
    head = verify(runtime).head
    third = ask(runtime, "SELECT * FROM audit_seal WHERE id = 3")[0]
    gone = removed(runtime, timedelta()).audit_rows
    assert gone == len([row_id for row_id in before if row_id <= third.last_audit_id]) > 0
    assert [row.id for row in ask(runtime, "SELECT id FROM audit_seal ORDER BY id")] == [4, 5]
    checkpoint = ask(runtime, "SELECT * FROM audit_checkpoint")[0]
    assert (checkpoint.seal_id, checkpoint.digest, checkpoint.rows_removed) == (3, third.digest, gone)
    report = verify(runtime, head)
    assert report.is_good
    assert report.rows == len(before) - gone
    assert verify(runtime, parse_head(f"3:{third.digest}")).is_good
    assert removed(runtime, timedelta()).audit_rows == 0
    seal(runtime)
    assert verify(runtime, head).is_good


def test_the_newest_seal_stays_however_old_it_is(runtime: Runtime) -> None:
    sealed_log(runtime)
    assert removed(runtime, 3_000 * DAY).audit_rows > 0
    assert [row.id for row in ask(runtime, "SELECT id FROM audit_seal")] == [4]
    last = row_ids(runtime)[-1]
    write_rows(runtime, 1)
    assert row_ids(runtime)[-1] > last, "no id is given twice"
    seal(runtime)
    assert verify(runtime).is_good


def test_each_step_of_a_removal_leaves_a_log_that_verifies(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifyctl.audit.prune.ROWS_AT_FIRST", 1)
    sealed_log(runtime, seals=5)
    seen = []

    def stopping() -> bool:
        report = verify(runtime)
        assert report.problems == []
        seen.append(report.seals)
        return False

    run(runtime, 3_000 * DAY, stopping=stopping)
    assert {5, 4, 3, 2, 1} <= set(seen)


def test_what_does_not_verify_is_not_removed_and_the_rest_is(runtime: Runtime) -> None:
    an_old_log(runtime)
    messages_in_every_status(runtime)
    row_id = row_ids(runtime)[2]
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_id)
    before = row_ids(runtime)
    outcome = run(runtime, 15 * DAY)
    assert outcome.audit_problem is not None
    assert (outcome.audit_problem.kind, outcome.audit_problem.row) == (ProblemKind.ROW_CHANGED, row_id)
    assert (outcome.removed.audit_rows, outcome.removed.contexts) == (0, len(FINAL))
    assert row_ids(runtime)[:-1] == before
    assert ask(runtime, "SELECT * FROM audit_checkpoint") == []


def test_a_problem_behind_what_is_removed_holds_nothing_up(runtime: Runtime) -> None:
    an_old_log(runtime)
    row_id = row_ids(runtime)[-2]
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_id)
    assert run(runtime).removed.audit_rows > 0
    assert [problem.row for problem in verify(runtime).problems] == [row_id]


def test_a_beginning_that_somebody_else_has_removed_is_found(runtime: Runtime) -> None:
    an_old_log(runtime)
    second = ask(runtime, "SELECT * FROM audit_seal WHERE id = 2")[0]
    sql(runtime, "DELETE FROM audit_seal WHERE id <= 2", "DELETE FROM audit_log WHERE id <= :id",
        id=second.last_audit_id)  # fmt: skip
    assert verify(runtime).problems[0].text == "seals 1 to 2 are missing"
    columns = {"seal_id": 2, "last_audit_id": second.last_audit_id, "digest": second.digest, "rows_removed": 9}
    for mac in (second.mac, "0" * 64):
        sql(runtime, "DELETE FROM audit_checkpoint")
        sql(
            runtime,
            "INSERT INTO audit_checkpoint VALUES"
            " (:seal_id, :last_audit_id, :digest, :rows_removed, '2026-03-02 12:00:00.000000', :key_id, :mac)",
            **columns, key_id=second.key_id, mac=mac,
        )  # fmt: skip
        assert [problem.kind for problem in verify(runtime).problems] == [ProblemKind.CHECKPOINT_FORGED]


def test_removed_rows_that_come_back_are_found(runtime: Runtime) -> None:
    an_old_log(runtime)
    sql(runtime, "CREATE TABLE kept AS SELECT * FROM audit_seal")
    run(runtime)
    insert_row(runtime, 2)
    problem = verify(runtime).problems[0]
    assert (problem.kind, problem.row) == (ProblemKind.ROW_INSERTED, 2)
    sql(runtime, "DELETE FROM audit_log WHERE id = 2", "INSERT INTO audit_seal SELECT * FROM kept WHERE id = 2")
    assert verify(runtime).problems[0].text == "seal 2 is there, though everything up to seal 3 was removed"


def test_a_checkpoint_that_was_moved_is_found(runtime: Runtime) -> None:
    an_old_log(runtime)
    run(runtime)
    fourth = ask(runtime, "SELECT * FROM audit_seal WHERE id = 4")[0]
    sql(runtime, "UPDATE audit_checkpoint SET seal_id = 4, last_audit_id = :last, digest = :digest",
        "DELETE FROM audit_seal WHERE id = 4", "DELETE FROM audit_log WHERE id <= :last",
        last=fourth.last_audit_id, digest=fourth.digest)  # fmt: skip
    assert [problem.kind for problem in verify(runtime).problems] == [ProblemKind.CHECKPOINT_FORGED]


def test_a_head_from_before_the_checkpoint_cannot_be_compared_any_more(runtime: Runtime) -> None:
    an_old_log(runtime)
    digest = ask(runtime, "SELECT digest FROM audit_seal WHERE id = 2")[0].digest
    assert verify(runtime, parse_head(f"2:{digest}")).is_good
    run(runtime)
    problem = verify(runtime, parse_head(f"2:{digest}")).problems[0]
    assert "seal 2, is not in the chain any more: export a newer one" in problem.text


def test_a_checkpoint_gets_the_new_key_while_both_are_there(runtime: Runtime) -> None:
    an_old_log(runtime)
    run(runtime)
    both = make_settings(database_url=runtime.settings.database_url, notification_secret_key=f"{NEW_KEY},{SECRET}")
    Retention(runtime.database, both, runtime.clock, actor="test", pausing=False).run()
    keys = SealKeys(both.notification_secret_key)
    audit_seal.seal(runtime.database, keys, runtime.clock)
    only_new = make_settings(notification_secret_key=NEW_KEY)
    assert verify(runtime, keys=SealKeys(only_new.notification_secret_key)).is_good


def test_rows_can_be_removed_whose_key_is_gone_if_a_later_seal_vouches_for_them(runtime: Runtime) -> None:
    an_old_log(runtime)
    write_rows(runtime)
    both = make_settings(database_url=runtime.settings.database_url, notification_secret_key=f"{NEW_KEY},{SECRET}")
    audit_seal.seal(runtime.database, SealKeys(both.notification_secret_key), runtime.clock)
    only_new = make_settings(database_url=runtime.settings.database_url, notification_secret_key=NEW_KEY)
    outcome = Retention(runtime.database, only_new, runtime.clock, actor="test", pausing=False).run()
    assert outcome.audit_problem is None
    assert outcome.removed.audit_rows > 0
    assert verify(runtime, keys=SealKeys(only_new.notification_secret_key)).is_good


def test_rows_that_nobody_vouches_for_are_not_removed(runtime: Runtime) -> None:
    an_old_log(runtime)
    only_new = make_settings(database_url=runtime.settings.database_url, notification_secret_key=NEW_KEY)
    outcome = Retention(runtime.database, only_new, runtime.clock, actor="test", pausing=False).run()
    assert outcome.audit_problem is not None
    assert (outcome.audit_problem.kind, outcome.removed.audit_rows) == (ProblemKind.KEY_MISSING, 0)


def test_two_who_remove_at_once_remove_everything_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifyctl.audit.prune.ROWS_AT_FIRST", 1)
    sealed_log(runtime, seals=8)
    with runtime.database.read() as session:
        expected = count(session, runtime.settings, runtime.clock() + 3_000 * DAY).audit_rows
    outcomes: list[RetentionReport] = []
    threads = [threading.Thread(target=lambda: outcomes.append(run(runtime, 3_000 * DAY))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome.removed.audit_rows for outcome in outcomes) == expected
    assert ask(runtime, "SELECT rows_removed FROM audit_checkpoint")[0].rows_removed == expected
    assert verify(runtime).problems == []


def test_writers_go_on_while_rows_are_removed(runtime: Runtime) -> None:
    an_old_log(runtime)
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            write_rows(runtime, 2)
            seal(runtime)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    run(runtime)
    stop.set()
    thread.join()
    seal(runtime)
    assert verify(runtime).problems == []
    assert verify(runtime).unsealed.rows == 0


def test_a_dry_run_prints_counts_and_changes_nothing(runtime: Runtime, notifyctl: CommandLine) -> None:
    an_old_log(runtime)
    before = ask(runtime, "SELECT * FROM audit_log ORDER BY id")
    ran = notifyctl("retention", "--dry-run", "--format", "json")
    assert ran.code == 0
    found = {row["what"]: row for row in json.loads(ran.out)}
    assert found["audit_rows"]["count"] > 0
    assert found["audit_rows"]["older_than_days"] == 730
    assert found["messages"] == {"what": "messages", "older_than_days": 400, "count": 0}
    assert ask(runtime, "SELECT * FROM audit_log ORDER BY id") == before


def test_a_dry_run_that_stops_counting_says_so(
    runtime: Runtime, notifyctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("retention.store", "cli.admin.jobs"):
        monkeypatch.setattr(f"notifyctl.{module}.COUNTED_AT_MOST", 2)
    for number in range(100, 103):
        sent_code(runtime, f"+4915112345{number}")
    long_ago = "'2020-01-01 00:00:00.000000'"
    sql(runtime, f"UPDATE otp_challenge SET created_at = {long_ago}, expires_at = {long_ago}")
    ran = notifyctl("retention", "--dry-run", "--format", "json")
    assert {row["what"]: row["count"] for row in json.loads(ran.out)}["codes"] == 2
    assert ran.err == "Counting stops at 2: there may be more.\n"


def test_a_long_run_says_how_far_it_is(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("notifyctl.retention.retention.TOLD_EVERY_SECONDS", 0)
    an_old_log(runtime)
    messages_in_every_status(runtime)
    with caplog.at_level(logging.INFO, "notifyctl.retention"):
        run(runtime, 500 * DAY)
    told = {record.what: record.removed for record in caplog.records if record.message == "retention goes on"}
    assert told["contexts"] == told["messages"] == len(FINAL)
    assert told["audit_rows"] > 0


def test_the_command_is_a_run_of_the_job(runtime: Runtime, notifyctl: CommandLine) -> None:
    ran = notifyctl("retention")
    assert (ran.code, ran.out) == (0, "nothing is old enough to be removed\n")
    assert [(row.name, row.outcome) for row in ask(runtime, "SELECT * FROM job_run")] == [("retention", "DONE")]
    an_old_log(runtime)
    rows = len([row for row in ask(runtime, "SELECT row_count FROM audit_seal WHERE id <= 3") for _ in range(row[0])])
    ran = notifyctl("jobs", "run", "retention")
    assert (ran.code, ran.out) == (0, f"removed {rows} audit rows\n")


def test_the_job_fails_where_audit_rows_do_not_verify(runtime: Runtime, notifyctl: CommandLine) -> None:
    an_old_log(runtime)
    sql(runtime, "DELETE FROM audit_log WHERE id = :id", id=row_ids(runtime)[2])
    ran = notifyctl("retention")
    assert ran.code == 1
    assert "no audit row was removed, since row " in ran.err
    assert "was deleted; see `notifyctl audit verify`" in ran.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("CONTEXT_DAYS", "0"), ("MESSAGE_DAYS", "29"), ("AUDIT_DAYS", "x"), ("STRIPE_BODY_DAYS", "36501")],
)
def test_an_age_that_would_hurt_is_refused(runtime: Runtime, notifyctl: CommandLine, name: str, value: str) -> None:
    ran = notifyctl("retention", "--dry-run", **{f"NOTIFICATION_RETENTION_{name}": value})
    assert (ran.code, f"NOTIFICATION_RETENTION_{name}" in ran.err) == (2, True)
