"""What becomes of a message by what its provider, or something in the provider's place, answered."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.in_doubt import Reconciler
from notifyctl.delivery.receipts.apply import Result, apply
from notifyctl.models.enums import Channel
from notifyctl.providers.receipts import Receipt, ReceiptEvent
from notifyctl.providers.registry import build_lookups
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, REMINDER_SMS, RESET, WELCOME, message, send
from tests.support.scripted_server import Reply, ScriptedServer

POSTMARK_ID = "38360f97-ff7f-44b2-bcd1-5ea94ff2af00"
DELAYED = {
    "Message": "Message accepted, but delivery may be delayed.",
    "MessageID": POSTMARK_ID,
    "SubmittedAt": "2024-08-05T02:03:37.0951168Z",
    "To": "acme@client.example",
}
NOTHING_FOUND = Reply(200, {"TotalCount": 0, "Messages": []})
MAILS = {"WELCOME_EMAIL": WELCOME, "PASSWORD_RESET": RESET}
TEXTS = {"COMPLIANCE_EXPIRY_REMINDER_SMS": REMINDER_SMS, "OTP_CODE_SMS": CODE}


@pytest.fixture
def sandbox() -> Iterator[ScriptedServer]:
    """In the place of both providers."""
    with ScriptedServer(NOTHING_FOUND) as server:
        yield server


@pytest.fixture
def ask(runtime: Runtime) -> Iterator[Callable[[], int]]:
    lookups = build_lookups(runtime.settings, list(Channel))
    reconciler = Reconciler(
        lookups=lookups, database=runtime.database, clock=runtime.clock, keys=runtime.keys, owner="reconciler"
    )
    yield reconciler.run
    for lookup in lookups.values():
        lookup.close()


def sent(runtime: Runtime, template: str) -> str:
    a_client(runtime)
    if template == "OTP_CODE_SMS":
        decision = send(runtime, template, CODE, recipient="+4915112345678")
    else:
        decision = send(runtime, template, (MAILS | TEXTS)[template])
    return str(decision.message_id)


@pytest.mark.parametrize("template", MAILS)
def test_an_id_without_a_code_is_an_acceptance_and_is_kept(
    runtime: Runtime,
    sandbox: ScriptedServer,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    ask: Callable[[], int],
    template: str,
) -> None:
    message_id = sent(runtime, template)
    sandbox.follow(Reply(200, [DELAYED]), NOTHING_FOUND)
    working = dispatcher()
    drain(working)
    for _ in range(3):
        ask()
        clock.ahead += timedelta(minutes=11)
        drain(working)
    row = message(runtime, message_id)
    assert (row.status, row.provider_message_id, row.attempts) == ("SENT", POSTMARK_ID, 1)
    assert len(sandbox.requests) == 1


def test_an_acceptance_without_an_id_is_one_and_its_receipt_brings_the_id(
    runtime: Runtime, sandbox: ScriptedServer, dispatcher: MakeDispatcher, ask: Callable[[], int]
) -> None:
    message_id = sent(runtime, "PASSWORD_RESET")
    sandbox.follow(Reply(200, [{"ErrorCode": 0, "Message": "OK"}]), NOTHING_FOUND)
    drain(dispatcher())
    assert ask() == 0
    row = message(runtime, message_id)
    assert (row.status, row.provider_message_id) == ("SENT", None)
    delivery = Receipt(
        "postmark", Channel.EMAIL, ReceiptEvent.DELIVERED, "d1", message_id=message_id, provider_message_id=POSTMARK_ID
    )
    with runtime.database.transaction() as session:
        assert apply(session, runtime.keys, delivery, now=runtime.clock()) is Result.APPLIED
    assert message(runtime, message_id).status == "DELIVERED"


@pytest.mark.parametrize("template", [*MAILS, *TEXTS])
def test_a_redirect_fails_the_message_and_says_where_it_came_from(
    runtime: Runtime,
    sandbox: ScriptedServer,
    dispatcher: MakeDispatcher,
    ask: Callable[[], int],
    template: str,
) -> None:
    message_id = sent(runtime, template)
    sandbox.follow(Reply(301, "", {"Location": "https://127.0.0.1:8443/elsewhere"}))
    drain(dispatcher(Channel.EMAIL if template in MAILS else Channel.SMS))
    assert ask() == 0
    row = message(runtime, message_id)
    setting = "POSTMARK_API_URL" if template in MAILS else "TWILIO_API_URL"
    assert (row.status, row.reason, row.error_code) == ("FAILED", "ACCOUNT_PROBLEM", "HTTP_301")
    for named in (sandbox.url, "https://127.0.0.1:8443/elsewhere", "nothing was accepted", setting):
        assert named in row.error


@pytest.mark.parametrize("template", [*MAILS, *TEXTS])
def test_a_login_page_beside_200_leaves_the_message_in_doubt_until_the_provider_itself_is_asked(
    runtime: Runtime,
    sandbox: ScriptedServer,
    clock: TurnableClock,
    dispatcher: MakeDispatcher,
    ask: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
    template: str,
) -> None:
    message_id = sent(runtime, template)
    sandbox.follow(Reply(200, "<title>Sign in</title>"))
    drain(dispatcher(Channel.EMAIL if template in MAILS else Channel.SMS))
    for _ in range(3):
        ask()
        clock.ahead += timedelta(minutes=5)
    row = message(runtime, message_id)
    assert (row.status, row.error_code) == ("IN_DOUBT", "UNREADABLE_ANSWER")
    assert "Sign in" in row.error
    assert sandbox.url in row.error
    told = [record.answer for record in caplog.records if record.msg == "provider gives no answer about doubts"]
    assert len(told) == 3
    assert all(sandbox.url in answer for answer in told)


def test_the_words_of_a_provider_about_a_secret_are_still_kept_without_it(
    runtime: Runtime, sandbox: ScriptedServer, dispatcher: MakeDispatcher
) -> None:
    message_id = sent(runtime, "OTP_CODE_SMS")
    words: dict[str, Any] = {
        "code": 21617,
        "message": f"Body 'Your code is {CODE['code']} https://x.example/r' is long",
    }
    sandbox.follow(Reply(400, words))
    drain(dispatcher(Channel.SMS))
    row = message(runtime, message_id)
    assert row.status == "FAILED"
    assert CODE["code"] not in row.error
    assert "x.example" not in row.error
