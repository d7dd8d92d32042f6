import json
from datetime import date
from typing import Any

import pytest
from sqlmodel import Session, col, select, update

from notifyctl.bootstrap import Runtime
from notifyctl.clients import store as client_store
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientChange
from notifyctl.clients.suppressions import suppress
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.alerts import ComplianceItem
from notifyctl.models.audit import AuditLog
from notifyctl.models.client import Client
from notifyctl.models.enums import AuditAction, Channel, MessageStatus, SuppressionReason
from notifyctl.models.message import WAITING, MessageLog, MessagePayload, predecessors
from notifyctl.models.receipt import Suppression
from notifyctl.retention.erasure import Erased, erase_client
from notifyctl.text.masking import mask
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, REMINDER, WELCOME, actions, send

EMAIL, PHONE = "acme@client.example", "+4915112345678"


def erase(runtime: Runtime, client_id: str = "acme") -> Erased:
    with runtime.database.transaction() as session:
        return erase_client(session, runtime.keys, client_id, actor="test", now=runtime.clock())


def a_message(runtime: Runtime, **fields: Any) -> str:
    """A welcome mail to client acme, then written over with `fields`."""
    return _written_over(runtime, send(runtime, "WELCOME_EMAIL", WELCOME).message_id, **fields)


def another_message(runtime: Runtime, reference: str, **fields: Any) -> str:
    decision = send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER | {"item_reference": reference})
    return _written_over(runtime, decision.message_id, **fields)


def _written_over(runtime: Runtime, message_id: str, **fields: Any) -> str:
    if fields:
        with runtime.database.transaction() as session:
            session.execute(update(MessageLog).where(col(MessageLog.id) == message_id).values(**fields))
    return message_id


def message(runtime: Runtime, message_id: str) -> MessageLog:
    with runtime.database.read() as session:
        found = session.get(MessageLog, message_id)
        assert found is not None
        return found


def payloads(session: Session) -> set[str]:
    return {payload.message_id for payload in session.exec(select(MessagePayload))}


def everything_stored(runtime: Runtime) -> str:
    """All rows of all tables that can hold a person's data, as text."""
    with runtime.database.read() as session:
        tables = (Client, MessageLog, MessagePayload, Suppression, AuditLog, ComplianceItem)
        return "\n".join(str(row.model_dump()) for table in tables for row in session.exec(select(table)))


def test_nothing_is_left_that_tells_who_it_was(runtime: Runtime) -> None:
    a_client(runtime, name="Acme Sole Trader", stripe_customer_id="cus_acme")
    a_message(
        runtime,
        status=MessageStatus.FAILED,
        subject="Welcome, Acme Sole Trader",
        error=f"Illegal email address '{EMAIL}'",
    )
    with runtime.database.transaction() as session:
        for channel, address in ((Channel.EMAIL, EMAIL), (Channel.SMS, PHONE)):
            suppress(
                session,
                runtime.keys,
                channel,
                address,
                reason=SuppressionReason.HARD_BOUNCE,
                actor="postmark",
                now=runtime.clock(),
                note=f"550 {address}",
            )
    assert EMAIL in everything_stored(runtime)
    erase(runtime)
    left = everything_stored(runtime)
    for personal in (EMAIL, PHONE, "Acme Sole Trader", "cus_acme"):
        assert personal not in left


@pytest.mark.parametrize("status", [MessageStatus.DELIVERED, MessageStatus.QUEUED])
def test_of_a_code_to_its_phone_which_names_no_client_the_number_goes_as_well(
    runtime: Runtime, status: MessageStatus
) -> None:
    a_client(runtime)
    code = _written_over(runtime, send(runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id, status=status)
    alert = {"summary": "x"}
    others = [
        _written_over(runtime, send(runtime, key, context, recipient=to).message_id, status=MessageStatus.SENT)
        for key, context, to in (("OTP_CODE_SMS", CODE, "+4915187654321"), ("OPS_ALERT_SMS", alert, PHONE))
    ]
    erase(runtime)

    kept = message(runtime, code)
    assert (kept.recipient, kept.recipient_hash is None) == (None, False)
    assert kept.status == (MessageStatus.CANCELED if status is MessageStatus.QUEUED else status)
    assert [message(runtime, other).recipient for other in others] == ["+4915187654321", PHONE]
    with runtime.database.read() as session:
        assert code not in payloads(session)


def test_the_row_its_states_and_the_hashes_stay(runtime: Runtime) -> None:
    a_client(runtime)
    sent = a_message(runtime, status=MessageStatus.DELIVERED)
    before = message(runtime, sent)
    erase(runtime)
    with runtime.database.read() as session:
        client = client_store.get(session, "acme")
    assert client is not None
    assert (client.plan, client.provisioning_status) == ("PRO", "COMPLETED")
    assert (client.sms_enabled, client.erased_at) == (False, client.updated_at)
    after = message(runtime, sent)
    assert (after.recipient, after.subject) == (None, None)
    assert after.recipient_hash == before.recipient_hash
    assert after.status == MessageStatus.DELIVERED


def test_a_suppression_keeps_blocking_after_its_address_is_gone(runtime: Runtime) -> None:
    a_client(runtime)
    with runtime.database.transaction() as session:
        suppress(
            session,
            runtime.keys,
            Channel.EMAIL,
            EMAIL,
            reason=SuppressionReason.COMPLAINT,
            actor="postmark",
            now=runtime.clock(),
        )
    assert erase(runtime).suppressions_cleared == 1
    a_client(runtime, "beta", email=EMAIL)
    blocked = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="beta")
    assert message(runtime, blocked.message_id).reason == "SUPPRESSED"


def test_a_suppression_of_an_earlier_address_loses_it_too(runtime: Runtime) -> None:
    a_client(runtime)
    a_message(runtime, status=MessageStatus.BOUNCED)
    with runtime.database.transaction() as session:
        suppress(
            session,
            runtime.keys,
            Channel.EMAIL,
            EMAIL,
            reason=SuppressionReason.HARD_BOUNCE,
            actor="postmark",
            now=runtime.clock(),
        )
        change = ClientChange("acme", {"email": "new@client.example"})
        set_clients(session, [change], actor="test", now=runtime.clock())
    assert erase(runtime).suppressions_cleared == 1
    assert EMAIL not in everything_stored(runtime)


def test_only_what_a_worker_may_still_claim_is_canceled(runtime: Runtime) -> None:
    assert {*WAITING, MessageStatus.SENDING} == set(predecessors(MessageStatus.CANCELED))
    a_client(runtime)
    waiting = [another_message(runtime, f"ref-{status}", status=status) for status in WAITING]
    held = another_message(runtime, "held", status=MessageStatus.SENDING)
    erased = erase(runtime)
    assert (erased.messages_canceled, erased.messages_in_flight) == (len(waiting), 1)
    for message_id in waiting:
        found = message(runtime, message_id)
        assert (found.status, found.recipient, found.next_attempt_at) == (MessageStatus.CANCELED, None, None)
        assert found.finished_at is not None
        assert actions(runtime, message_id)[-1] == "NOTIFICATION_CANCELED"
    assert message(runtime, held).status == MessageStatus.SENDING


def test_a_message_on_its_way_keeps_what_it_needs_until_erased_again(runtime: Runtime) -> None:
    a_client(runtime)
    doubtful = a_message(runtime, status=MessageStatus.IN_DOUBT)
    erase(runtime)
    assert message(runtime, doubtful).recipient == EMAIL
    with runtime.database.read() as session:
        assert payloads(session) == {doubtful}
    _written_over(runtime, doubtful, status=MessageStatus.SENT)
    again = erase(runtime)
    assert (again.messages_cleared, again.payloads_deleted, again.messages_in_flight) == (1, 1, 0)
    assert EMAIL not in everything_stored(runtime)


def test_other_clients_are_left_as_they_are(runtime: Runtime) -> None:
    a_client(runtime)
    a_client(runtime, "beta")
    kept = send(runtime, "WELCOME_EMAIL", WELCOME, client_id="beta").message_id
    erase(runtime)
    found = message(runtime, kept)
    assert (found.status, found.recipient) == (MessageStatus.QUEUED, "beta@client.example")
    with runtime.database.read() as session:
        beta = client_store.get(session, "beta")
        assert payloads(session) == {kept}
    assert beta is not None
    assert beta.erased_at is None


def test_its_compliance_items_go_so_that_nobody_is_alerted_about_them(runtime: Runtime) -> None:
    a_client(runtime)
    now = runtime.clock()
    with runtime.database.transaction() as session:
        session.add(
            ComplianceItem(
                client_id="acme",
                name="Licence of Ann",
                reference="L-1",
                expires_on=date(2026, 4, 1),
                created_at=now,
                updated_at=now,
            )
        )
    assert erase(runtime).compliance_items_deleted == 1


def test_the_erasure_is_audited_with_counts(runtime: Runtime) -> None:
    a_client(runtime)
    a_message(runtime)
    erase(runtime)
    with runtime.database.read() as session:
        (row,) = session.exec(select(AuditLog).where(AuditLog.action == AuditAction.CLIENT_ERASED)).all()
    assert (row.client_id, row.actor) == ("acme", "test")
    assert row.details == {
        "messages_canceled": 1,
        "messages_cleared": 1,
        "payloads_deleted": 1,
        "suppressions_cleared": 0,
        "compliance_items_deleted": 0,
        "stripe_events_blanked": 0,
        "messages_in_flight": 0,
    }


def test_an_erased_client_takes_no_new_data(runtime: Runtime) -> None:
    a_client(runtime)
    erase(runtime)
    change = ClientChange("acme", {"email": EMAIL})
    with runtime.database.transaction() as session, pytest.raises(InvalidInput, match="'acme' was erased"):
        set_clients(session, [change], actor="test", now=runtime.clock())


def test_an_unknown_client_cannot_be_erased(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="no client 'nobody'"):
        erase(runtime, "nobody")


def test_the_command_needs_a_yes_where_it_cannot_ask_and_prints_what_went(notifyctl: CommandLine) -> None:
    notifyctl("clients", "set", "acme", "--email", EMAIL)
    unsure = notifyctl("clients", "erase", "acme")
    assert unsure.code == 2
    assert "--yes" in unsure.err
    assert f"To be erased: {mask(EMAIL)}, and the addresses and values of 0 messages.\n" in unsure.err
    assert json.loads(notifyctl("clients", "show", "acme", "-f", "json").out)["email"] == EMAIL
    sure = notifyctl("clients", "erase", "acme", "--yes", "--format", "json")
    assert (sure.code, sure.err) == (0, "")
    assert json.loads(sure.out)["messages_canceled"] == 0
    shown = json.loads(notifyctl("clients", "show", "acme", "-f", "json").out)
    assert (shown["email"], shown["erased_at"] is not None) == (None, True)
    again = notifyctl("clients", "erase", "acme", "--yes")
    assert again.err.startswith("Client 'acme' was erased already, at 20")


def test_the_command_refuses_an_unknown_client_before_it_asks(notifyctl: CommandLine) -> None:
    ran = notifyctl("clients", "erase", "nobody")
    assert ran.code == 4
