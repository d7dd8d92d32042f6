"""What other processes, other transactions and other people do at the worst moment."""

from datetime import timedelta
from threading import Thread

import psycopg
import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db.wakeup import Watcher
from notifyctl.delivery import outbox
from notifyctl.delivery.claims import LEASE
from notifyctl.errors import DatabaseError
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.models.message import may_become
from notifyctl.orchestrator import message_store, payload_store
from notifyctl.orchestrator.requests import Duplicate, Queued, SendRequest
from notifyctl.retention.erasure import erase_client
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, RESET, WELCOME, code_pipe, message, send

postgresql_only = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@postgresql_only
def test_keyed_sends_go_on_once_the_server_has_made_a_generic_plan(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        for number in range(30):
            request = SendRequest(
                template_key="OTP_CODE_SMS",
                recipient=f"+491511234{number:04}",
                context=CODE,
                idempotency_key=f"k{number}",
            )
            assert isinstance(code_pipe(runtime).send(session, request), Queued)
            assert isinstance(code_pipe(runtime).send(session, request), Duplicate)


@postgresql_only
def test_a_frozen_transaction_neither_blocks_the_end_of_leases_nor_lives_for_ever(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    for number in range(2):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+4915112345{number:03}")
    assert dispatcher(Channel.SMS, "gone").turn(claiming=True, timeout=0) == 2
    clock.ahead += LEASE + timedelta(seconds=1)
    with runtime.database.transaction() as frozen:
        held = frozen.execute(text("SELECT id FROM message_log LIMIT 1 FOR UPDATE")).scalar_one()
        with runtime.database.transaction() as session:
            ended = [row.id for row in outbox.expire_leases(session, clock())]
        assert len(ended) == 1
        assert str(held) not in ended
        assert frozen.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "30s"
        assert frozen.execute(text("SHOW lock_timeout")).scalar_one() == "20s"


def test_a_message_erased_between_the_choice_and_the_retry_is_left_alone(
    runtime: Runtime, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime, "erased")
    a_client(runtime, "other")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="erased")
    other = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="other")
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'FAILED' WHERE client_id = 'erased'"))
        erase_client(session, runtime.keys, "erased", actor="test", now=runtime.clock())
        assert message_store.requeue(session, [decision.message_id], now=runtime.clock()) == []
        session.execute(text("UPDATE message_log SET status = 'QUEUED' WHERE client_id = 'erased'"))
        session.execute(text("UPDATE message_log SET next_attempt_at = created_at"))
    drain(dispatcher())
    assert message(runtime, decision.message_id).status == "BLOCKED"
    assert message(runtime, other.message_id).status == "SENT"


def test_a_claim_that_its_worker_forgot_runs_out_although_the_worker_lives(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    forgetful = dispatcher(Channel.SMS, "alive")
    assert forgetful.turn(claiming=True, timeout=0) == 1
    for held in (forgetful.held_ids(), []):
        clock.ahead += timedelta(seconds=30)
        with runtime.database.transaction() as session:
            outbox.renew_leases(session, "alive", held, clock() + LEASE)
            assert not outbox.expire_leases(session, clock())
    clock.ahead += timedelta(seconds=30)
    with runtime.database.transaction() as session:
        assert [row.id for row in outbox.expire_leases(session, clock())] == [decision.message_id]


def test_a_page_of_refused_messages_does_not_look_like_the_end_of_the_queue(
    runtime: Runtime, dispatcher: MakeDispatcher
) -> None:
    for number in range(12):
        send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+4915112345{number:03}")
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET expires_at = created_at WHERE recipient < '+4915112345010'"))
    drain(dispatcher(Channel.SMS, concurrency=5))
    with runtime.database.read() as session:
        found = session.execute(text("SELECT status, count(*) FROM message_log GROUP BY 1 ORDER BY 1")).all()
    assert [tuple(row) for row in found] == [("EXPIRED", 10), ("SENT", 2)]


@postgresql_only
def test_the_watch_says_so_when_its_connection_is_lost(runtime: Runtime, postgres: str) -> None:
    watcher = Watcher(runtime.database)
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    with pytest.raises(DatabaseError):
        watcher.wait(5)
    watcher.close()


@postgresql_only
def test_the_clock_needs_no_connection_of_the_pool(runtime: Runtime) -> None:
    clock = type(runtime.database.clock)(runtime.database)
    with runtime.database.engine.connect(), runtime.database.engine.connect():
        held = [runtime.database.engine.connect() for _ in range(22)]
        assert clock() <= clock()
        for connection in held:
            connection.close()


@postgresql_only
def test_a_bulk_send_to_thousands_of_numbers_takes_few_locks(runtime: Runtime) -> None:
    requests = [
        SendRequest(template_key="OTP_CODE_SMS", recipient=f"+4915{number:09}", context=CODE) for number in range(2_000)
    ]
    with runtime.database.transaction() as session:
        code_pipe(runtime).send_many(session, requests)
        locks = session.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar_one()
    assert locks <= 1_024


def test_an_urgent_single_send_gets_its_turn_beside_a_busy_writer(runtime: Runtime) -> None:
    stop = False
    # One row: two that write many, each in another order, would be each other's deadlock.
    statement = text("UPDATE notification_template SET description = '.' WHERE template_key = 'OTP_CODE_SMS'")

    def write() -> None:
        while not stop:
            with runtime.database.transaction() as session:
                session.execute(statement)

    writers = [Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(20):
            assert isinstance(send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+4915112345{number:03}"), Queued)
    finally:
        stop = True
        for writer in writers:
            writer.join()


def test_a_canceled_secret_is_erased(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "PASSWORD_RESET", RESET)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    with runtime.database.transaction() as session:
        moved = message_store.cancel_waiting(
            session, message_store.MessageFilter(client_id="acme"), now=runtime.clock()
        )
        payload_store.erase_sealed(session, [row.id for row in moved])
        kept = session.execute(text("SELECT sealed FROM message_payload")).all()
    assert [row.sealed for row in kept] == [None]


def test_a_client_erased_while_its_message_was_accepted_leaves_nothing_on_the_row(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE client SET erased_at = created_at"))
    drain(dispatcher())
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.recipient) == ("BLOCKED", "CLIENT_UNKNOWN", None)
    assert not arrivals(sandbox, "acme@client.example")
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_payload")).scalar_one() == 0


def test_a_waiting_message_whose_context_was_erased_is_canceled_and_the_next_one_goes(
    runtime: Runtime, dispatcher: MakeDispatcher
) -> None:
    erased = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_payload"))
    sound = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345679")
    drain(dispatcher(Channel.SMS))
    row = message(runtime, erased.message_id)
    assert (row.status, row.reason, row.attempts) == ("CANCELED", None, 0)
    assert may_become(MessageStatus.QUEUED, row.status)
    assert message(runtime, sound.message_id).status == "SENT"
