"""Receipts that come before our own record of the sending: kept, tried again, and dropped after five minutes."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.delivery.receipts.apply import KEPT_FOR, Result, retry_early_receipts
from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.providers.registry import build_senders
from notifyctl.worker.worker import Worker
from tests.support.clocks import TurnableClock
from tests.support.messages import CODE, actions, message, send
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

UNKNOWN = "019cae51-7b2a-7d31-9c53-2b6f0c1d7a55"


def retry(runtime: Runtime) -> int:
    return retry_early_receipts(runtime.database, runtime.keys, runtime.clock())


def test_it_is_applied_once_the_sending_is_recorded(runtime: Runtime) -> None:
    message_id = an_email(runtime, "SENDING")
    receive(runtime, a_receipt(message_id))
    assert retry(runtime) == 0
    assert status_of(runtime, message_id) == "SENDING"

    put(runtime, message_id, "SENT")

    assert retry(runtime) == 1
    assert status_of(runtime, message_id) == "DELIVERED"
    assert rows(runtime, "early_receipt") == []
    assert retry(runtime) == 0


def test_it_is_applied_by_the_providers_id_once_that_is_recorded(runtime: Runtime) -> None:
    message_id = an_email(runtime, "SENDING")
    receive(runtime, a_receipt(None, provider_message_id="pm-1"))
    put(runtime, message_id, "SENT", provider_message_id="pm-1")
    assert retry(runtime) == 1
    assert status_of(runtime, message_id) == "DELIVERED"


def test_it_settles_a_message_whose_answer_was_lost(runtime: Runtime) -> None:
    message_id = a_code(runtime, "SENDING")
    told = [a_receipt(message_id, event, channel=Channel.SMS) for event in ("SENT", "DELIVERED")]
    assert receive(runtime, *told) == [Result.EARLY, Result.EARLY]
    put(runtime, message_id, "IN_DOUBT")
    assert retry(runtime) == 2
    assert status_of(runtime, message_id) == "DELIVERED"
    assert actions(runtime, message_id)[-3:] == ["NOTIFICATION_SENT", "OTP_SENT", "NOTIFICATION_DELIVERED"]


def test_it_is_dropped_when_it_has_waited_for_five_minutes(
    runtime: Runtime, clock: TurnableClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receive(runtime, a_receipt(UNKNOWN), a_receipt(None, provider_message_id="pm-x"), a_receipt(UNKNOWN, "BOUNCED"))
    clock.ahead += KEPT_FOR - timedelta(seconds=30)
    retry(runtime)
    assert len(rows(runtime, "early_receipt")) == 3

    clock.ahead += timedelta(seconds=31)
    retry(runtime)
    retry(runtime)

    assert rows(runtime, "early_receipt") == []
    (line,) = [record for record in caplog.records if "dropped" in record.message]
    assert line.count == 3


def test_one_that_can_be_applied_at_last_is_not_dropped_however_old_it_is(
    runtime: Runtime, clock: TurnableClock
) -> None:
    message_id = an_email(runtime, "SENDING")
    receive(runtime, a_receipt(message_id))
    put(runtime, message_id, "SENT")
    clock.ahead += timedelta(hours=1)
    assert retry(runtime) == 1
    assert status_of(runtime, message_id) == "DELIVERED"


def test_one_that_brings_nothing_is_forgotten_at_once(runtime: Runtime) -> None:
    message_id = an_email(runtime, "SENDING")
    receive(runtime, a_receipt(message_id))
    put(runtime, message_id, "FAILED", reason="PROVIDER_UNAVAILABLE")
    assert retry(runtime) == 0
    assert rows(runtime, "early_receipt") == []


def test_a_message_that_waits_to_be_sent_again_keeps_its_receipt_waiting(runtime: Runtime) -> None:
    message_id = an_email(runtime, "QUEUED")
    receive(runtime, a_receipt(message_id))
    assert retry(runtime) == 0
    assert len(rows(runtime, "early_receipt")) == 1


def test_an_early_hard_bounce_suppresses_at_once_and_only_once(runtime: Runtime) -> None:
    message_id = an_email(runtime, "SENDING")
    bounce = a_receipt(message_id, "BOUNCED", suppress=SuppressionReason.HARD_BOUNCE, recipient=ADDRESS)
    receive(runtime, bounce)
    assert suppressed(runtime) == {ADDRESS: "HARD_BOUNCE"}
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM suppression"))

    put(runtime, message_id, "SENT")
    assert retry(runtime) == 1

    assert suppressed(runtime) == {}


def test_a_complaint_without_an_address_waits_for_its_message(runtime: Runtime) -> None:
    known = a_complaint(None, provider_message_id="pm-1")
    assert receive(runtime, known) == [Result.EARLY]
    an_email(runtime, provider_message_id="pm-1")
    assert retry(runtime) == 1
    assert suppressed(runtime) == {ADDRESS: "COMPLAINT"}


def test_what_another_version_kept_is_dropped_and_holds_up_nothing(runtime: Runtime) -> None:
    for _ in range(2):
        receive(runtime, a_receipt(UNKNOWN))
    message_id = an_email(runtime, "SENDING")
    receive(runtime, a_receipt(message_id))
    odd = '{"event": "TELEPORTED"}'
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE early_receipt SET receipt = :odd WHERE message_id = :id"),
                        {"odd": odd, "id": UNKNOWN})  # fmt: skip
        session.execute(text("UPDATE early_receipt SET message_id = :id"), {"id": message_id})
    put(runtime, message_id, "SENT")
    assert retry(runtime) == 1
    assert rows(runtime, "early_receipt") == []


@pytest.fixture
def databases(database_url: str) -> Iterator[list[Database]]:
    """Four workers, each with a connection of its own."""
    opened = [Database(database_url) for _ in range(4)]
    yield opened
    for database in opened:
        database.close()


def test_workers_that_retry_at_once_apply_each_receipt_once(runtime: Runtime, databases: list[Database]) -> None:
    ids = [a_code(runtime, "SENDING", recipient=f"+49151123456{number:02}") for number in range(12)]
    for message_id in ids:
        receive(runtime, *[a_receipt(message_id, channel=Channel.SMS)] * 2)  # the provider says it twice
        put(runtime, message_id, "IN_DOUBT")
    ready = Barrier(len(databases))

    def work(database: Database) -> int:
        ready.wait()
        return retry_early_receipts(database, runtime.keys, runtime.clock())

    with ThreadPoolExecutor(len(databases)) as pool:
        applied = sum(pool.map(work, databases))

    assert applied == len(ids)
    for message_id in ids:
        assert status_of(runtime, message_id) == "DELIVERED"
        assert actions(runtime, message_id).count("NOTIFICATION_DELIVERED") == 1
        assert actions(runtime, message_id).count("OTP_SENT") == 1
    assert rows(runtime, "early_receipt") == []


def test_the_kept_receipt_of_a_message_that_goes_out_again_is_of_another_copy(runtime: Runtime) -> None:
    """In doubt, not found, queued again: the first copy's receipt comes when the second is on record."""
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE)
    receive(runtime, a_receipt(decision.message_id, "BOUNCED", channel=Channel.SMS, provider_message_id="SM-first"))
    put(runtime, decision.message_id, "SENT", provider_message_id="SM-second")
    assert retry(runtime) == 0
    assert message(runtime, decision.message_id).status == "SENT"
    assert rows(runtime, "early_receipt") == []


def test_a_worker_applies_what_was_kept(runtime: Runtime) -> None:
    message_id = an_email(runtime, "SENDING")
    receive(runtime, a_receipt(message_id))
    put(runtime, message_id, "SENT")
    Worker(runtime, build_senders(runtime.settings, [Channel.EMAIL], 1), once=True).run()
    assert status_of(runtime, message_id) == "DELIVERED"
