"""The sandbox reports what it was sent as the providers would, to a real server."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.receipts.apply import retry_early_receipts
from notifyctl.models.enums import Channel
from notifyctl.models.message import WAITING
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Receipts, Sandbox
from notifyctl.worker.worker import make_dispatcher
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.delivery import drain
from tests.support.messages import CODE, WELCOME, actions, message, send
from tests.support.receipts import PHONE, rows, status_of, suppressed
from tests.support.webhooks import POSTMARK, open_for_webhooks

TOKEN = "w3bh00k-token"
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def runtime(database_url: str, url: str, sandbox: Sandbox) -> Iterator[Runtime]:
    apis = {"postmark_api_url": sandbox.url, "twilio_api_url": sandbox.url}
    opened = open_for_webhooks(database_url, url, postmark_webhook_token=TOKEN, **apis)
    yield opened
    opened.close()


def listen(sandbox: Sandbox, api: Api, **more: Any) -> None:
    sandbox.set_receipts(Receipts(url=api.url + POSTMARK, token=TOKEN, **({"delay": AT_ONCE} | more)))


def deliver(runtime: Runtime, channel: Channel) -> None:
    """All that waits. A worker that the machine holds up gives back what it has claimed."""
    sender = build_senders(runtime.settings, [channel], 10)[channel]
    working = make_dispatcher(runtime, channel, sender, "worker-1")
    try:
        while any(row.channel == channel and row.status in WAITING for row in rows(runtime, "message_log")):
            drain(working)
    finally:
        sender.close()


def settle(sandbox: Sandbox, runtime: Runtime) -> None:
    assert sandbox.receipts_settled()
    while retry_early_receipts(runtime.database, runtime.keys, runtime.clock()):
        pass
    assert sandbox.receipt_counts.failed == 0, sandbox.receipt_counts


def test_an_email_and_an_sms_are_reported_delivered(api: Api, sandbox: Sandbox) -> None:
    listen(sandbox, api)
    a_client(api.runtime)
    email = send(api.runtime, "WELCOME_EMAIL", WELCOME).message_id
    code = send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    for channel in Channel:
        deliver(api.runtime, channel)
    settle(sandbox, api.runtime)
    assert [status_of(api.runtime, found) for found in (email, code)] == ["DELIVERED", "DELIVERED"]
    assert actions(api.runtime, code)[-1] == "NOTIFICATION_DELIVERED"


def test_bounces_complaints_doubles_and_disorder_all_end_right(api: Api, sandbox: Sandbox) -> None:
    listen(sandbox, api, delay=(0.0, 0.3), bounced=0.3, doubled=0.5, reordered=0.5, seed=3)
    a_client(api.runtime, "angry", email="complaint@client.example")
    send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id="angry")
    for number in range(20):
        a_client(api.runtime, f"c{number}")
        send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}")
        send(api.runtime, "OTP_CODE_SMS", CODE, recipient=f"+49151123456{number:02}")
    for channel in Channel:
        deliver(api.runtime, channel)
    settle(sandbox, api.runtime)

    expected = {
        arrival.id: "BOUNCED" if arrival.bounce not in ("", "SpamComplaint") else "DELIVERED"
        for arrival in sandbox.messages()
    }
    found = {row.provider_message_id: row.status for row in rows(api.runtime, "message_log")}
    assert found == expected
    assert {"BOUNCED", "DELIVERED"} == set(found.values())
    told = Counter(row.message_id for row in rows(api.runtime, "audit_log") if row.action in (
        "NOTIFICATION_DELIVERED", "NOTIFICATION_BOUNCED"))  # fmt: skip
    assert set(told.values()) == {1}
    assert suppressed(api.runtime)["complaint@client.example"] == "COMPLAINT"
    assert rows(api.runtime, "early_receipt") == []


def test_a_password_in_the_url_is_the_token(api: Api, sandbox: Sandbox) -> None:
    url = api.url.replace("//", f"//postmark:{TOKEN}@") + POSTMARK
    sandbox.set_receipts(Receipts(url=url, delay=AT_ONCE))
    a_client(api.runtime)
    email = send(api.runtime, "WELCOME_EMAIL", WELCOME).message_id
    deliver(api.runtime, Channel.EMAIL)
    settle(sandbox, api.runtime)
    assert status_of(api.runtime, email) == "DELIVERED"


def test_a_person_who_answers_stop_gets_no_more_until_start(api: Api, sandbox: Sandbox) -> None:
    listen(sandbox, api)
    send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE)
    deliver(api.runtime, Channel.SMS)

    assert sandbox.reply(PHONE, "stop") == 200
    assert send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).reason == "SUPPRESSED"
    assert sandbox.reply(PHONE, "START") == 200
    assert send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).status == "QUEUED"


def test_stop_also_holds_back_what_is_waiting_already(api: Api, sandbox: Sandbox) -> None:
    listen(sandbox, api)
    send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE)
    deliver(api.runtime, Channel.SMS)
    waiting = send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).message_id
    sandbox.reply(PHONE, "STOP")
    deliver(api.runtime, Channel.SMS)
    row = message(api.runtime, waiting)
    assert (row.status, row.reason) == ("BLOCKED", "SUPPRESSED")


def test_a_lost_answer_is_settled_by_the_callback_alone(api: Api, sandbox: Sandbox) -> None:
    listen(sandbox, api)
    code = send(api.runtime, "OTP_CODE_SMS", CODE, recipient="+15005552301").message_id
    deliver(api.runtime, Channel.SMS)
    settle(sandbox, api.runtime)
    row = message(api.runtime, code)
    (arrival,) = sandbox.messages()
    assert (row.status, row.provider_message_id) == ("DELIVERED", arrival.id)
    assert "OTP_SENT" in actions(api.runtime, code)
    assert rows(api.runtime, "message_payload") == []
