"""One message over which everything stumbles: it fails, or stays for a person, and the others go on.

What makes it so is written into the store behind the program's back, as a careless repair by hand or another version
may have done it; or it is an operator's own template that a certain value is too much for.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.delivery import outbox
from notifyctl.delivery.claims import LEASE
from notifyctl.delivery.in_doubt import Reconciler
from notifyctl.delivery.receipts.apply import retry_early_receipts
from notifyctl.delivery.receipts.missing import ask_missing
from notifyctl.health import latencies
from notifyctl.models.enums import Channel
from notifyctl.operations import limits
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.providers.contract import Lookup
from notifyctl.providers.registry import build_lookups
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, REMINDER_SMS, RESET, WELCOME, actions, message, send

SMS_TEMPLATE = "COMPLIANCE_EXPIRY_REMINDER_SMS"
TOO_MUCH = "a petabyte name"
"""10 to the power of its length is more bytes than there are."""
GREEDY = "{% if client_name|length == 15 %}{{ 'x' * 10 ** client_name|length }}{% endif %}Hello"
BOTTOMLESS = (
    "{% macro down(n) %}{{ down(n + 1) }}{% endmacro %}{% if client_name|length == 15 %}{{ down(1) }}{% endif %}Hello"
)
GREEDY_END = "{% if item_name|length == 15 %}{{ 'x' * 10 ** item_name|length }}{% endif %}"
Poison = Callable[[Runtime, str], None]


def execute(runtime: Runtime, statement: str, **values: object) -> None:
    with runtime.database.transaction() as session:
        session.execute(text(statement), values)


def set_body(runtime: Runtime, template_key: str, body: str) -> None:
    where = "WHERE template_key = :key"
    execute(runtime, f"UPDATE notification_template_version SET text_body = :body {where}", key=template_key, body=body)


def on_message(assignment: str) -> Poison:
    return lambda runtime, message_id: execute(
        runtime, f"UPDATE message_log SET {assignment} WHERE id = :id", id=message_id
    )


def on_payload(assignment: str) -> Poison:
    return lambda runtime, message_id: execute(
        runtime, f"UPDATE message_payload SET {assignment} WHERE message_id = :id", id=message_id
    )


def without_its_version(runtime: Runtime, message_id: str) -> None:
    execute(runtime, "UPDATE message_log SET template_version = 99 WHERE id = :id", id=message_id)


def without_its_template(runtime: Runtime, message_id: str) -> None:
    execute(runtime, "UPDATE message_log SET template_key = 'GONE' WHERE id = :id", id=message_id)


def without_an_end(runtime: Runtime, message_id: str) -> None:
    moment = "yesterday" if runtime.database.is_sqlite else "infinity"
    execute(runtime, "UPDATE message_log SET expires_at = :moment WHERE id = :id", moment=moment, id=message_id)


def with_unreadable_metadata(runtime: Runtime, message_id: str) -> None:
    """PostgreSQL keeps nothing that is no JSON; there it is of another shape, which is borne."""
    value = "{half" if runtime.database.is_sqlite else "[1, 2]"
    execute(runtime, "UPDATE message_log SET metadata = :value WHERE id = :id", value=value, id=message_id)


def welcome_all(runtime: Runtime, count: int = 5, **names: str) -> list[str]:
    """Oldest first, so that the first ones are claimed first."""
    with runtime.database.transaction() as session:
        found = runtime.orchestrator.send_many(
            session,
            [
                SendRequest(
                    template_key="WELCOME_EMAIL",
                    client_id=f"c{number}",
                    context=WELCOME | {"client_name": names.get(f"c{number}", "Acme")},
                )
                for number in range(count)
            ],
        )
    return [decision.message_id for decision in found]


@pytest.fixture
def clients(runtime: Runtime) -> None:
    for number in range(5):
        a_client(runtime, f"c{number}")


@pytest.mark.parametrize("body", [GREEDY, BOTTOMLESS], ids=["no memory for it", "no end to it"])
def test_a_value_that_a_template_cannot_bear_fails_its_message_alone(
    runtime: Runtime, clients: None, dispatcher: MakeDispatcher, body: str
) -> None:
    set_body(runtime, "WELCOME_EMAIL", body)
    first, bad, *others = welcome_all(runtime, c1=TOO_MUCH)
    drain(dispatcher())
    row = message(runtime, bad)
    assert (row.status, row.reason) == ("FAILED", "RENDER_ERROR")
    assert TOO_MUCH not in row.error
    assert {message(runtime, found).status for found in (first, *others)} == {"SENT"}
    assert actions(runtime, bad) == ["NOTIFICATION_QUEUED", "NOTIFICATION_FAILED"]


def with_text_that_is_none(column: str) -> Poison:
    """Bytes that are no UTF-8; PostgreSQL lets nothing like it in, and there it is an address that is none."""

    def poison(runtime: Runtime, message_id: str) -> None:
        value = "CAST(x'ff41' AS TEXT)" if runtime.database.is_sqlite else "'GONE'"
        execute(runtime, f"UPDATE message_log SET {column} = {value} WHERE id = :id", id=message_id)

    return poison


def with_a_count_that_is_none(column: str) -> Poison:
    def poison(runtime: Runtime, message_id: str) -> None:
        value = "'many'" if runtime.database.is_sqlite else str(2**31 - 1)
        execute(runtime, f"UPDATE message_log SET {column} = {value} WHERE id = :id", id=message_id)

    return poison


POISONS = {
    "attempts beyond counting": with_a_count_that_is_none("attempts"),
    "a generation beyond counting": with_a_count_that_is_none("lease_generation"),
    "a version beyond counting": with_a_count_that_is_none("template_version"),
    "a template key that is no text": with_text_that_is_none("template_key"),
    "a context that is no JSON": on_payload("context = '{half'"),
    "a context that is no object": on_payload("context = '[1, 2]'"),
    "a context that is a number": on_payload("context = '7'"),
    "a version that is gone": without_its_version,
    "a template that is gone": without_its_template,
    "a time that is none": without_an_end,
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
def test_what_cannot_be_used_fails_alone(
    runtime: Runtime, clients: None, dispatcher: MakeDispatcher, poison: Poison
) -> None:
    bad, *others = welcome_all(runtime)
    poison(runtime, bad)
    drain(dispatcher())
    row = message(runtime, bad)
    assert (row.status, row.reason) == ("FAILED", "RENDER_ERROR")
    assert row.error
    assert {message(runtime, found).status for found in others} == {"SENT"}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("column", ["recipient", "client_id", "template_key"])
def test_text_that_is_none_fails_alone_and_is_taken_out_of_the_lists(
    runtime: Runtime, clients: None, dispatcher: MakeDispatcher, column: str
) -> None:
    bad, *others = welcome_all(runtime)
    with_text_that_is_none(column)(runtime, bad)
    execute(runtime, "UPDATE message_log SET created_at = 'yesterday' WHERE id = :id", id=bad)
    drain(dispatcher())
    assert {message(runtime, found).status for found in others} == {"SENT"}
    row = message(runtime, bad)
    assert (row.status, row.reason) == ("FAILED", "RENDER_ERROR")
    assert not getattr(row, column)


def test_a_time_that_is_none_leaves_the_others_their_latencies(
    runtime: Runtime, clients: None, dispatcher: MakeDispatcher
) -> None:
    bad, *_ = welcome_all(runtime)
    drain(dispatcher())
    moment = "yesterday" if runtime.database.is_sqlite else "-infinity"
    execute(runtime, "UPDATE message_log SET created_at = :moment WHERE id = :id", moment=moment, id=bad)
    now = runtime.clock()
    with runtime.database.read() as session:
        found = latencies.sent(session, now - timedelta(hours=1), now + timedelta(hours=1))[Channel.EMAIL]
    assert found.messages == 5
    assert found.seconds[50] < 60


def test_a_claim_that_would_never_end_becomes_a_doubt(runtime: Runtime, clients: None) -> None:
    bad, *_ = welcome_all(runtime)
    execute(runtime, "UPDATE message_log SET status = 'SENDING', attempts = 1 WHERE id = :id", id=bad)
    with runtime.database.transaction() as session:
        outbox.expire_leases(session, runtime.clock())
    assert message(runtime, bad).status == "IN_DOUBT"


def test_a_forecast_that_is_none_holds_up_no_deferral(
    runtime: Runtime, clients: None, dispatcher: MakeDispatcher, clock: TurnableClock
) -> None:
    bad, *others = welcome_all(runtime)
    moment = "zero" if runtime.database.is_sqlite else "infinity"
    deferred = "UPDATE message_log SET status = 'DEFERRED_THROTTLED', next_attempt_at = :moment WHERE id = :id"
    execute(runtime, deferred, moment=moment, id=bad)
    with runtime.database.transaction() as session:
        limits.set_per_minute(session, Channel.EMAIL, 3, actor="test", now=runtime.clock())
    drain(dispatcher())
    found = [message(runtime, one).status for one in others]
    assert sorted(found) == ["DEFERRED_THROTTLED"] * 3 + ["SENT"]


def test_metadata_that_is_unreadable_holds_nobody_up(
    runtime: Runtime, clients: None, dispatcher: MakeDispatcher
) -> None:
    bad, *others = welcome_all(runtime)
    with_unreadable_metadata(runtime, bad)
    drain(dispatcher())
    assert {message(runtime, found).status for found in others} == {"SENT"}
    assert message(runtime, bad).status == ("FAILED" if runtime.database.is_sqlite else "SENT")


def test_a_sealed_context_that_does_not_open_fails_alone_and_is_erased(
    runtime: Runtime, dispatcher: MakeDispatcher
) -> None:
    a_client(runtime)
    ids = [send(runtime, "PASSWORD_RESET", RESET).message_id for _ in range(3)]
    on_payload("sealed = 'AAAA'")(runtime, ids[0])
    on_payload("key_id = 'another'")(runtime, ids[1])
    drain(dispatcher())
    assert [message(runtime, found).status for found in ids] == ["FAILED", "FAILED", "SENT"]
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_payload")).scalar_one() == 0


def test_what_was_accepted_is_sent_though_its_audit_action_is_unknown(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher
) -> None:
    execute(runtime, "UPDATE notification_template SET audit_sent = 'NO_SUCH' WHERE template_key = 'OTP_CODE_SMS'")
    ids = [send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+491511234567{n}").message_id for n in range(3)]
    drain(dispatcher(Channel.SMS))
    assert [message(runtime, found).status for found in ids] == ["SENT"] * 3
    assert all(message(runtime, found).provider_message_id for found in ids)
    assert len(sandbox.messages()) == 3


@pytest.fixture
def lookups(runtime: Runtime) -> Iterator[dict[Channel, Lookup]]:
    made = build_lookups(runtime.settings, list(Channel))
    yield dict(made)
    for lookup in made.values():
        lookup.close()


def in_doubt(runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, names: list[str]) -> list[str]:
    """SMS whose answers were lost on the way back, all of one template."""
    ids = []
    for number, name in enumerate(names):
        a_client(runtime, f"r{number}", phone_e164=f"+491511234567{number}")
        context = REMINDER_SMS | {"item_name": name}
        ids.append(send(runtime, SMS_TEMPLATE, context, client_id=f"r{number}").message_id)
    sandbox.set_faults(Channel.SMS, Faults((Fault("accept-then-cut"),)))
    drain(dispatcher(Channel.SMS))
    sandbox.clear_faults()
    assert {message(runtime, found).status for found in ids} == {"IN_DOUBT"}
    return ids


def with_a_greedy_end(runtime: Runtime, _message_id: str) -> None:
    """The others' texts stay what they were."""
    where = "WHERE template_key = :key"
    statement = f"UPDATE notification_template_version SET text_body = text_body || :more {where}"
    execute(runtime, statement, more=GREEDY_END, key=SMS_TEMPLATE)


DOUBTFUL = {
    "no memory for its text": with_a_greedy_end,
    "a context that is no JSON": on_payload("context = '{half'"),
    "a version that is gone": without_its_version,
}


@pytest.mark.parametrize("poison", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_a_doubt_whose_text_cannot_be_made_is_held_and_the_next_ones_are_settled(
    runtime: Runtime,
    sandbox: Sandbox,
    dispatcher: MakeDispatcher,
    clock: TurnableClock,
    lookups: dict[Channel, Lookup],
    poison: Poison,
) -> None:
    bad, *others = in_doubt(runtime, sandbox, dispatcher, [TOO_MUCH, "Trade licence", "Trade licence"])
    poison(runtime, bad)
    reconcile(runtime, clock, lookups)
    row = message(runtime, bad)
    assert (row.status, row.reason) == ("FAILED", "IN_DOUBT_HELD")
    assert "cannot be made again" in row.error
    assert {message(runtime, found).status for found in others} == {"SENT"}
    assert len(sandbox.messages()) == 3


@pytest.mark.parametrize("poison", [without_its_template, with_unreadable_metadata, without_an_end])
def test_a_doubt_that_cannot_be_read_stays_for_a_person_and_the_next_ones_are_settled(
    runtime: Runtime,
    sandbox: Sandbox,
    dispatcher: MakeDispatcher,
    clock: TurnableClock,
    lookups: dict[Channel, Lookup],
    poison: Poison,
) -> None:
    bad, *others = in_doubt(runtime, sandbox, dispatcher, ["Trade licence"] * 3)
    poison(runtime, bad)
    reconcile(runtime, clock, lookups)
    assert {message(runtime, found).status for found in others} == {"SENT"}
    with runtime.database.read() as session:
        status = session.execute(text("SELECT status FROM message_log WHERE id = :id"), {"id": bad}).scalar_one()
    assert status in ("IN_DOUBT", "SENT")
    assert message(runtime, bad).id == bad  # it can be looked at
    assert len(sandbox.messages()) == 3


def reconcile(runtime: Runtime, clock: TurnableClock, lookups: dict[Channel, Lookup]) -> None:
    clock.ahead += timedelta(minutes=1)
    reconciler = Reconciler(
        lookups=lookups, database=runtime.database, clock=runtime.clock, keys=runtime.keys, owner="reconciler"
    )
    while reconciler.run():
        pass


def test_a_lost_worker_s_lease_ends_though_its_message_is_unreadable(
    runtime: Runtime, dispatcher: MakeDispatcher, clock: TurnableClock
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    assert dispatcher(Channel.SMS, "gone").turn(claiming=True, timeout=0) == 1
    with_unreadable_metadata(runtime, decision.message_id)
    clock.ahead += LEASE + timedelta(seconds=1)
    with runtime.database.transaction() as session:
        assert [row.id for row in outbox.expire_leases(session, clock())] == [decision.message_id]


def test_a_missing_receipt_that_cannot_be_recorded_is_left_and_the_others_are_settled(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, clock: TurnableClock, lookups: dict[Channel, Lookup]
) -> None:
    a_client(runtime)
    ids = [send(runtime, "PASSWORD_RESET", RESET).message_id for _ in range(3)]
    drain(dispatcher())
    assert {message(runtime, found).status for found in ids} == {"SENT"}
    with_unreadable_metadata(runtime, ids[0])
    clock.ahead += timedelta(hours=1, seconds=10)
    sandbox._state.clock = clock
    asked = ask_missing(runtime.database, runtime.clock, runtime.keys, lookups)
    assert (asked.asked, asked.settled) == ((3, 2) if runtime.database.is_sqlite else (3, 3))
    assert {message(runtime, found).status for found in ids[1:]} == {"DELIVERED"}


KEPT: list[Any] = [{}, [], "text", 7, {"provider": 7, "channel": "SMS", "event": "DELIVERED"}]


@pytest.mark.parametrize("receipt", KEPT, ids=str)
def test_a_kept_receipt_that_nobody_can_read_holds_up_no_other(
    runtime: Runtime, dispatcher: MakeDispatcher, receipt: Any
) -> None:
    decision = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    drain(dispatcher(Channel.SMS))
    sid = message(runtime, decision.message_id).provider_message_id
    sound = {"provider": "twilio", "channel": "SMS", "event": "DELIVERED", "event_id": "e1", "provider_message_id": sid}
    for kept in (receipt, sound):
        execute(
            runtime,
            "INSERT INTO early_receipt (provider, message_id, receipt, received_at)"
            " SELECT 'twilio', id, :receipt, created_at FROM message_log",
            receipt=json.dumps(kept),
        )
    retry_early_receipts(runtime.database, runtime.keys, runtime.clock())
    assert message(runtime, decision.message_id).status == "DELIVERED"
