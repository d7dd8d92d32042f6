"""What is done every day reads what it is about, however many messages have been sent before."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.delivery import in_doubt_store, outbox, quarantine_store
from notifyctl.delivery.receipts import store as receipts_store
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.http import api_keys
from notifyctl.http.server import create_app
from notifyctl.models.enums import Channel, MessageStatus, Scope
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.recovery import store as recovery_store
from notifyctl.retention.retention import Retention, count
from tests.support.api import serving
from tests.support.audit_log import sql
from tests.support.big_store import SPAN, Size, fill
from tests.support.clients import a_client
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, REMINDER, send
from tests.support.receipts import a_receipt, receive
from tests.support.work import Work, watched

HISTORY = 20_000
FEW = {"sqlite": 2 * HISTORY, "postgresql": HISTORY // 20}
"""Steps, of which a row takes three at least; and rows."""

Do = Callable[[Runtime], object]


@pytest.fixture
def grown(runtime: Runtime) -> Runtime:
    fill(runtime, Size(HISTORY, waiting=40, in_last_hour=60), runtime.clock())
    a_client(runtime)
    return runtime


def assert_few(runtime: Runtime, works: list[Work]) -> None:
    assert works
    most = FEW["sqlite" if runtime.database.is_sqlite else "postgresql"]
    too_much = {
        f"{work.read} read by {' '.join(work.statement.split())} -- {work.plan}" for work in works if work.read > most
    }
    assert not too_much, "\n\n".join(sorted(too_much))


def test_a_message_is_accepted_sent_and_confirmed(grown: Runtime, dispatcher: MakeDispatcher) -> None:
    worker = dispatcher()
    with watched(grown.database) as works:
        for number in range(12):  # often enough for a statement to be prepared, and planned for all values
            context = REMINDER | {"item_reference": str(number)}
            send(grown, "COMPLIANCE_EXPIRY_REMINDER", context, idempotency_key=f"key-{number}")
        drain(worker)
        with grown.database.read() as session:
            sent = message_store.find(session, MessageFilter(client_id="acme"), limit=20)
        for row in sent:
            receipts = [a_receipt(row.id, provider_message_id=row.provider_message_id)]
            receipts.append(a_receipt(None, "BOUNCED", provider_message_id=row.provider_message_id))
            receive(grown, *receipts)
    assert {row.status for row in sent} == {MessageStatus.SENT}
    assert_few(grown, works)


def test_what_is_known_by_its_id_is_found_by_its_id(grown: Runtime, dispatcher: MakeDispatcher) -> None:
    """By its statistics nobody is being sent, and an index of those is free; it is full of all that ever were, while
    somebody's snapshot is held."""
    if grown.database.is_sqlite:
        pytest.skip("SQLite keeps nothing for old readers")
    worker = dispatcher()
    contexts = [REMINDER | {"item_reference": str(number)} for number in range(3)]
    ids = [send(grown, "COMPLIANCE_EXPIRY_REMINDER", context).message_id for context in contexts]
    with grown.database.transaction() as session:
        session.execute(text("ANALYZE message_log"))
    with watched(grown.database) as works:
        drain(worker)
        with grown.database.transaction() as session:
            outbox.give_back(session, "nobody", grown.clock(), ids)
            outbox.renew_leases(session, "nobody", ids, grown.clock())
            in_doubt_store.get(session, ids[0])
            in_doubt_store.postpone(session, ids[0], again_at=grown.clock())
            in_doubt_store.settle(session, AttemptResult(id=ids[0], lease_generation=9, status=MessageStatus.SENT))
            quarantine_store.fail(session, ids[0], reason="INTERNAL_ERROR", error="", now=grown.clock())
            message_store.set_due(session, ids[0], grown.clock())
            receipts_store.move(session, AttemptResult(id=ids[0], status=MessageStatus.DELIVERED))
            recovery_store.open_by_id(session, ids)
    by_id = [
        work for work in works if "message_log" in work.plan and re.search(r"message_log\.id (=|IN)", work.statement)
    ]
    assert len(by_id) > 10
    assert [work for work in by_id if "message_log_pkey" not in work.plan or "ix_message_log" in work.plan] == []


FILTERS: dict[str, Callable[[Runtime], dict[str, Any]]] = {
    "none": lambda runtime: {},
    **{status: (lambda runtime, status=status: {"status": status}) for status in MessageStatus},
    "reason": lambda runtime: {"reason": "CLIENT_UNKNOWN"},
    "channel": lambda runtime: {"channel": Channel.SMS},
    "template": lambda runtime: {"template_key": "OPS_ALERT_SMS"},
    "client": lambda runtime: {"client_id": "c7"},
    "recipient": lambda runtime: {"recipient_hashes": ["0" * 32]},
    "since": lambda runtime: {"since": runtime.clock() - timedelta(hours=2)},
    "until": lambda runtime: {"until": runtime.clock() - timedelta(days=600)},
}


def test_messages_are_listed(grown: Runtime) -> None:
    with watched(grown.database) as works, grown.database.read() as session:
        for criteria in FILTERS.values():
            for _ in range(12):
                message_store.find(session, MessageFilter(**criteria(grown)), limit=50)
    assert_few(grown, works)


def test_messages_of_a_channel_that_has_next_to_none_are_listed(grown: Runtime) -> None:
    sql(grown, "UPDATE message_log SET channel = 'EMAIL', template_key = 'WELCOME_EMAIL' WHERE channel = 'SMS'")
    code = send(grown, "OTP_CODE_SMS", CODE, recipient="+4915112345678").message_id
    seldom = MessageFilter(channel=Channel.SMS)
    with watched(grown.database) as works, grown.database.read() as session:
        assert [row.id for row in message_store.find(session, seldom, limit=50)] == [code]
        assert message_store.find(session, seldom, limit=50, before=code) == []
        often = message_store.find(session, MessageFilter(channel=Channel.EMAIL), limit=50)
        assert often == message_store.find(session, MessageFilter(), limit=51)[1:], "the newest one is the code"
    assert_few(grown, works)


def test_a_message_is_explained(grown: Runtime) -> None:
    with watched(grown.database) as works, grown.database.read() as session:
        [row] = message_store.find(session, MessageFilter(client_id="c7"), limit=1)
        assert len(audit_log.of_message(session, row.id)) == 2
    assert_few(grown, works)


FIGURES = ("summary", "timeseries", "recent")


def test_figures_are_read(grown: Runtime) -> None:
    with grown.database.transaction() as session:
        key = api_keys.create(session, "reader", [Scope.READ], actor="test", now=grown.clock(), expires_at=None)
    with watched(grown.database) as works, serving(create_app(grown)) as url:
        for path in ("/metrics", *(f"/api/admin/notification-health/{name}" for name in FIGURES)):
            for _ in range(7):
                answer = requests.get(f"{url}{path}", headers={"Authorization": f"Bearer {key}"}, timeout=30)
                assert answer.status_code == 200, path
    assert_few(grown, works)


def test_a_month_is_counted_and_removed(grown: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifyctl.retention.retention.ROWS_AT_FIRST", 200)
    monkeypatch.setattr("notifyctl.db.batches.MOST", 200)
    ages = {"notification_retention_message_days": SPAN.days - 30, "notification_retention_audit_days": SPAN.days}
    settings = grown.settings.model_copy(update=ages)
    with watched(grown.database) as works:
        with grown.database.read() as session:
            expected = count(session, settings, grown.clock()).messages
        removed = Retention(grown.database, settings, grown.clock, actor="test", pausing=False).run().removed
    assert removed.messages == expected > 600
    assert_few(grown, works)
