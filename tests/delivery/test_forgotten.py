"""A database that goes back in time under a worker: what the worker has sent, it knows by itself."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.delivery import memory as sending_memory
from notifyctl.delivery.claims import LEASE
from notifyctl.delivery.memory import SendingMemory
from notifyctl.delivery.outcomes import Attempt
from notifyctl.models.enums import Channel, Lane
from notifyctl.providers.contract import Accepted, Unknown
from notifyctl.sandbox import Fault, Faults, Sandbox
from tests.support.clients import a_client
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import CODE, RESET, WELCOME, actions, audit_details, message, send

PHONE = "+4915112345678"
Forget = Callable[[], None]


@pytest.fixture(autouse=True, params=(sending_memory.PACKED_AT_ONCE, 1, 2))
def _packed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is kept, the same is known."""
    monkeypatch.setattr(sending_memory, "PACKED_AT_ONCE", request.param)


@pytest.fixture
def forget(runtime: Runtime) -> Forget:
    """All messages are as they were when they were accepted, as if nothing had been committed since."""

    def go_back() -> None:
        with runtime.database.transaction() as session:
            session.execute(
                text(
                    "UPDATE message_log SET status = 'QUEUED', attempts = 0, lease_generation = 0, lease_owner = NULL,"
                    " lease_until = NULL, next_attempt_at = created_at, last_attempt_at = NULL, provider = NULL,"
                    " provider_message_id = NULL, sent_at = NULL, subject = NULL"
                )
            )

    return go_back


def test_what_was_recorded_and_forgotten_is_recorded_again_and_not_sent(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    working = dispatcher()
    drain(working)
    before = message(runtime, message_id)
    forget()
    drain(working)
    assert len(arrivals(sandbox, "acme@client.example")) == 1
    row = message(runtime, message_id)
    assert (row.status, row.provider_message_id, row.attempts) == ("SENT", before.provider_message_id, 1)


def test_what_is_being_sent_is_not_sent_beside_itself(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("latency", ms=(300, 300)),)))
    phones = [f"+4915112345{number:03}" for number in range(20)]
    ids = [send(runtime, "OTP_CODE_SMS", CODE, recipient=phone).message_id for phone in phones]
    working = dispatcher(Channel.SMS, concurrency=40)
    assert working.turn(claiming=True, timeout=0) == 20
    forget()
    assert working.turn(claiming=True, timeout=0) == 20
    drain(working)
    assert [len(arrivals(sandbox, phone)) for phone in phones] == [1] * 20
    assert {message(runtime, message_id).status for message_id in ids} == {"SENT"}


def test_nor_beside_another_loop_of_the_same_worker(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    a_client(runtime)
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("latency", ms=(300, 300)),)))
    message_id = send(runtime, "PASSWORD_RESET", RESET).message_id
    shared = SendingMemory()
    urgent, every = dispatcher(lanes=(Lane.URGENT,), memory=shared), dispatcher(memory=shared)
    assert urgent.turn(claiming=True, timeout=0) == 1
    forget()
    assert every.turn(claiming=True, timeout=0) == 1
    assert every.is_idle
    drain(urgent)
    assert len(arrivals(sandbox, "acme@client.example")) == 1
    row = message(runtime, message_id)
    assert (row.status, row.reason) == ("SENT", None)


def test_an_answer_for_a_row_that_waits_again_is_recorded(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    message_id = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    working = dispatcher(Channel.SMS)
    assert working.turn(claiming=True, timeout=0) == 1
    forget()
    while not working.is_idle:
        working.turn(claiming=False, timeout=5)
    row = message(runtime, message_id)
    (sms,) = arrivals(sandbox, PHONE)
    assert (row.status, row.attempts, row.provider, row.provider_message_id) == ("SENT", 1, "twilio", sms.id)
    assert row.last_attempt_at <= row.sent_at
    assert actions(runtime, message_id) == ["NOTIFICATION_QUEUED", "NOTIFICATION_SENT", "OTP_SENT"]
    told = "the database had forgotten it; the worker that sent it had not"
    assert audit_details(runtime, message_id)[1]["detail"] == told
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_payload")).scalar_one() == 0


def test_what_may_have_gone_out_is_in_doubt_again_and_not_sent(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("accept-then-cut", times=1),)))
    message_id = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    working = dispatcher(Channel.SMS)
    drain(working)
    assert message(runtime, message_id).status == "IN_DOUBT"
    forget()
    drain(working)
    assert message(runtime, message_id).status == "IN_DOUBT"
    assert len(arrivals(sandbox, PHONE)) == 1


def test_what_is_known_is_written_again_and_what_is_gone_is_counted(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    known = SendingMemory()
    drain(dispatcher(memory=known))

    def write_again() -> int:
        with runtime.database.transaction() as session:
            now = runtime.clock()
            return known.write_again(session, "worker-1", now=now, lease_until=now + LEASE)

    assert write_again() == 0
    forget()
    assert (write_again(), message(runtime, message_id).status, write_again()) == (1, "SENT", 0)
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_payload"))
        session.execute(text("DELETE FROM message_log"))
    assert write_again() == 1


def test_what_is_being_sent_is_written_again_under_its_lease(
    runtime: Runtime, sandbox: Sandbox, dispatcher: MakeDispatcher, forget: Forget
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("latency", ms=(300, 300)),)))
    message_id = send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    known = SendingMemory()
    working = dispatcher(Channel.SMS, memory=known)
    working.turn(claiming=True, timeout=0)
    forget()
    with runtime.database.transaction() as session:
        now = runtime.clock()
        assert known.write_again(session, "worker-1", now=now, lease_until=now + LEASE) == 1
    row = message(runtime, message_id)
    assert (row.status, row.lease_owner, row.lease_until, row.attempts) == ("SENDING", "worker-1", now + LEASE, 1)
    drain(working)
    assert message(runtime, message_id).status == "SENT"


def test_the_memory_has_an_end(runtime: Runtime, dispatcher: MakeDispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending_memory, "MOST", 3)
    ids = [send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+491511234567{n}").message_id for n in range(5)]
    known = SendingMemory()
    drain(dispatcher(Channel.SMS, memory=known))
    heard, dialling = known.everything()
    assert len({item.attempt.message_id for item in heard} & set(ids)) == 3
    assert not dialling


def test_what_is_packed_is_what_was_heard() -> None:
    known, at = SendingMemory(), datetime(2026, 3, 1, tzinfo=UTC)
    attempt = Attempt("m0", Channel.EMAIL, "WELCOME", "c1", "a@b.example", 1, 2, True, "OTP_SENT", {"n": 1}, "Hi", at)
    heard = [
        (attempt._replace(message_id="m1"), Accepted("p1")),
        (attempt._replace(message_id="m2", metadata=None), Unknown("TIMEOUT", "no answer", is_ours=True)),
        (attempt._replace(message_id="m3", attempts=2), Accepted(None)),
        (attempt._replace(message_id="m1", attempts=3), Accepted("p4")),
    ]
    for one, result in heard:
        known.hear(one, result)
    assert [(item.attempt, item.result) for item in known.everything()[0]] == heard[1:]
    assert [known.recall(one) for one, _ in heard[1:]] == [result for _, result in heard[1:]]
