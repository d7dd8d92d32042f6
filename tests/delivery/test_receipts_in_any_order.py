"""Whatever order and however often receipts come in, and however many at once: the end is the same."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.delivery import in_doubt_store
from notifyctl.delivery.in_doubt import Reconciler
from notifyctl.delivery.receipts import apply
from notifyctl.delivery.receipts.apply import Result, retry_early_receipts
from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.providers.receipts import Receipt
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Sandbox
from tests.support.audit_log import sql
from tests.support.clocks import TurnableClock
from tests.support.messages import CODE, actions, message, send
from tests.support.receipts import a_code, a_complaint, a_receipt, an_email, put, receive, rows, suppressed

HARD = {"suppress": SuppressionReason.HARD_BOUNCE}
TIMES = ("last_attempt_at", "sent_at", "delivered_at", "finished_at")
many_orders = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def outcome(runtime: Runtime, message_id: str) -> Any:
    """All there is to see afterwards, with the times as set or not set.

    Of two reasons to suppress an address the first is kept, whichever that is.
    """
    row = message(runtime, message_id)._asdict()
    shown = {name: row[name] is not None if name in TIMES else row[name] for name in row}
    trail = Counter(action for action in actions(runtime, message_id) if action != "NOTIFICATION_DELIVERED")
    return shown, trail, set(suppressed(runtime)), rows(runtime, "message_payload")


def start_over(runtime: Runtime, message_id: str, status: str) -> None:
    put(runtime, message_id, status, sent_at=None, delivered_at=None, finished_at=None, error=None, error_code=None)
    emptied = [f"DELETE FROM {table}" for table in ("suppression", "seen_event", "early_receipt")]
    sql(runtime, *emptied, "DELETE FROM audit_log WHERE action != 'NOTIFICATION_QUEUED'")


def told(message_id: str, channel: Channel, *, bounces: bool) -> list[Receipt]:
    kinds = ["SENT", "DELIVERED"] + (["BOUNCED"] if bounces else [])
    made = [a_receipt(message_id, kind, channel=channel, **(HARD if kind == "BOUNCED" else {})) for kind in kinds]
    return [*made, a_complaint(message_id, channel=channel)]


@st.composite
def deliveries(draw: st.DrawFn, of: Sequence[Receipt]) -> list[Receipt]:
    """Each at least once, in any order."""
    more = draw(st.lists(st.sampled_from(of), max_size=len(of)))
    return draw(st.permutations([*of, *more]))


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize(
    ("channel", "status"), [(Channel.EMAIL, "SENT"), (Channel.SMS, "IN_DOUBT"), (Channel.SMS, "SENDING")]
)
@pytest.mark.parametrize("bounces", [True, False], ids=["bounced", "delivered"])
@many_orders
@given(data=st.data())
def test_any_order_and_any_doubling_ends_the_same(
    runtime: Runtime, channel: Channel, bounces: bool, status: str, data: st.DataObject
) -> None:
    found = rows(runtime, "message_log")
    make = an_email if channel is Channel.EMAIL else a_code
    message_id = str(found[0].id) if found else make(runtime, status)
    of = told(message_id, channel, bounces=bounces)
    start_over(runtime, message_id, status)
    apply_all(runtime, message_id, status, of)
    expected = outcome(runtime, message_id)

    start_over(runtime, message_id, status)
    apply_all(runtime, message_id, status, data.draw(deliveries(of)))

    assert outcome(runtime, message_id) == expected
    assert expected[0]["status"] == ("BOUNCED" if bounces else "DELIVERED")


def apply_all(runtime: Runtime, message_id: str, status: str, in_order: Sequence[Receipt]) -> None:
    """A message that is being sent is recorded as sent when half of them have come."""
    half = len(in_order) // 2 if status == "SENDING" else len(in_order)
    receive(runtime, *in_order[:half])
    if status == "SENDING":
        put(runtime, message_id, "SENT")
        receive(runtime, *in_order[half:])
        while retry_early_receipts(runtime.database, runtime.keys, runtime.clock()):
            pass


@pytest.fixture
def databases(database_url: str) -> Iterator[list[Database]]:
    opened = [Database(database_url) for _ in range(8)]
    yield opened
    for database in opened:
        database.close()


@pytest.mark.parametrize("status", ["SENT", "IN_DOUBT"])
def test_one_receipt_that_comes_many_times_at_once_is_applied_once(
    runtime: Runtime, databases: list[Database], status: str
) -> None:
    message_id = a_code(runtime, status)
    bounce = a_receipt(message_id, "BOUNCED", channel=Channel.SMS, suppress=SuppressionReason.OPTED_OUT)
    ready = Barrier(len(databases))

    def work(database: Database) -> Result:
        ready.wait()
        return apply.receive(database, runtime.keys, bounce, now=runtime.clock())

    with ThreadPoolExecutor(len(databases)) as pool:
        results = Counter(pool.map(work, databases))

    assert results == {Result.APPLIED: 1, Result.NOTHING_NEW: len(databases) - 1}
    counted = Counter(actions(runtime, message_id))
    assert counted["NOTIFICATION_BOUNCED"] == counted["SUPPRESSION_ADDED"] == 1
    assert counted["OTP_SENT"] == (1 if status == "IN_DOUBT" else 0)


@pytest.mark.parametrize("channel", list(Channel))
def test_all_the_receipts_of_a_message_at_once_end_as_one_after_the_other_would(
    runtime: Runtime, databases: list[Database], channel: Channel
) -> None:
    for number in range(8):
        if channel is Channel.SMS:
            message_id = a_code(runtime, "IN_DOUBT", recipient=f"+4915112345{number:03}")
        else:
            message_id = an_email(runtime, "IN_DOUBT", client_id=f"c{number}")
        of = told(message_id, channel, bounces=True) * 2
        ready = Barrier(len(of))

        def work(pair: tuple[Database, Receipt], ready: Barrier = ready) -> None:
            ready.wait()
            apply.receive(pair[0], runtime.keys, pair[1], now=runtime.clock())

        with ThreadPoolExecutor(len(of)) as pool:
            list(pool.map(work, zip(databases, of, strict=True)))

        assert message(runtime, message_id).status == "BOUNCED"
        counted = Counter(actions(runtime, message_id))
        assert counted["NOTIFICATION_BOUNCED"] == counted["NOTIFICATION_SENT"] == 1


def test_a_receipt_waits_for_whoever_decides_about_the_same_sms(runtime: Runtime, databases: list[Database]) -> None:
    """An inquiry is about to take the SMS for another message of the same text: no two may have one id."""
    message_id, other = (a_code(runtime, "IN_DOUBT") for _ in range(2))
    called_back = a_receipt(message_id, "SENT", channel=Channel.SMS, provider_message_id="SM1")
    with ThreadPoolExecutor(1) as pool:
        with databases[0].transaction() as session:
            session.execute(text("SELECT 1"))  # SQLite begins, and locks, with the first statement
            in_doubt_store.lock_provider_message_id(session, "SM1")
            told = pool.submit(apply.receive, databases[1], runtime.keys, called_back, now=runtime.clock())
            sleep(0.3)  # it would be done by now if nothing held it up
            values = {"id": other, "sid": "SM1"}
            session.execute(text("UPDATE message_log SET provider_message_id = :sid WHERE id = :id"), values)
        assert told.result() is Result.APPLIED
    row = message(runtime, message_id)
    assert (row.status, row.provider_message_id) == ("SENT", None)


def test_a_receipt_and_an_inquiry_at_the_same_moment_settle_a_doubt_once(
    runtime: Runtime, clock: TurnableClock, sandbox: Sandbox, databases: list[Database]
) -> None:
    """Both lock the id that the provider gave, and then the message."""
    lookups = build_lookups(runtime.settings, [Channel.SMS])
    asking = Reconciler(
        lookups=lookups, database=databases[0], clock=clock, keys=runtime.keys, owner="reconciler"
    )  # fmt: skip
    for number in range(8):
        phone = f"+4915112345{number:03}"
        message_id = send(runtime, "OTP_CODE_SMS", CODE, recipient=phone).message_id
        sid = sent_by_hand(runtime, sandbox, message_id, phone)
        put(runtime, message_id, "IN_DOUBT", provider="twilio")
        called_back = a_receipt(message_id, "SENT", channel=Channel.SMS, provider_message_id=sid)
        ready = Barrier(2)

        def ask(ready: Barrier = ready) -> None:
            ready.wait()
            asking.run()

        def tell(ready: Barrier = ready, receipt: Receipt = called_back) -> None:
            ready.wait()
            apply.receive(databases[1], runtime.keys, receipt, now=runtime.clock())

        with ThreadPoolExecutor(2) as pool:
            for done in (pool.submit(ask), pool.submit(tell)):
                done.result()

        row = message(runtime, message_id)
        assert row.provider_message_id == sid
        assert row.status in ("SENT", "DELIVERED")  # by the time of the inquiry it may have arrived
        assert Counter(actions(runtime, message_id))["OTP_SENT"] == 1
        assert len(sandbox.messages()) == number + 1
        clock.ahead += timedelta(seconds=1)
    for lookup in lookups.values():
        lookup.close()


def sent_by_hand(runtime: Runtime, sandbox: Sandbox, message_id: str, phone: str) -> str:
    """The SMS as the worker would have sent it, whose answer was lost. Returns its SID."""
    from notifyctl.providers.registry import build_senders
    from notifyctl.worker.worker import make_dispatcher
    from tests.support.delivery import drain

    sender = build_senders(runtime.settings, [Channel.SMS], 1)[Channel.SMS]
    drain(make_dispatcher(runtime, Channel.SMS, sender, "worker-1"))
    sender.close()
    with runtime.database.transaction() as session:
        sealed = runtime.keys.seal(dict(CODE), message_id=message_id)
        values = {"id": message_id, "sealed": sealed.text, "key_id": sealed.key_id}
        session.execute(
            text("INSERT INTO message_payload (message_id, sealed, key_id) VALUES (:id, :sealed, :key_id)"), values
        )
    sql(runtime, "DELETE FROM audit_log")
    (arrival,) = [found for found in sandbox.messages() if found.to == phone]
    return arrival.id
