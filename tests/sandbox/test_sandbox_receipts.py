import json
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
from twilio.request_validator import RequestValidator

from notifyctl.clock import system_clock
from notifyctl.models.enums import Channel
from notifyctl.sandbox import Receipts, Sandbox

ACCOUNT = "AC" + "0" * 32
AUTH_TOKEN = "the-account's-token"
AT_ONCE = (0.0, 0.0)


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))


@dataclass
class Receiver:
    """Whoever gets the receipts: keeps them in the order in which they came, and answers with `status`."""

    url: str
    status: int = 200
    got: list[Got] = field(default_factory=list)

    def statuses(self) -> list[str]:
        return [got.form["MessageStatus"] for got in self.got]

    def kinds(self) -> list[str]:
        return [got.json.get("Type", got.json["RecordType"]) for got in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    connections: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(Got(self.path, dict(self.headers), body))
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = False  # so that leaving the block waits for them

        def process_request(self, request: Any, client_address: Any) -> None:
            connections.append(request)
            super().process_request(request, client_address)

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield receiver
        server.shutdown()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()


def send_email(sandbox: Sandbox, to: str = "ada@client.example") -> str:
    email = {
        "From": "Acme <hello@acme.example>", "To": to, "Subject": "Welcome", "TextBody": "Hello",
        "Tag": "WELCOME_EMAIL", "Metadata": {"message_id": "m1"}, "MessageStream": "outbound",
    }  # fmt: skip
    answer = requests.post(f"{sandbox.url}/email", json=email, headers={"X-Postmark-Server-Token": "any"}, timeout=5)
    return str(answer.json()["MessageID"])


def send_sms(sandbox: Sandbox, callback: str | None, to: str = "+14155550123") -> str:
    form = {"To": to, "MessagingServiceSid": "MG1", "Body": "Your code is 123456."}
    if callback:
        form["StatusCallback"] = callback
    url = f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    return str(requests.post(url, data=form, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["sid"])


def test_a_delivery_is_posted_in_postmarks_words(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_receipts(Receipts(url=f"{receiver.url}/api/webhooks/postmark", token="secret", delay=(0.05, 0.05)))
    before = system_clock()

    message_id = send_email(sandbox)

    assert sandbox.receipts_settled()
    (got,) = receiver.got
    assert got.path == "/api/webhooks/postmark"
    assert got.headers["X-Postmark-Token"] == "secret"
    assert got.headers["Content-Type"] == "application/json"
    delivered_at = got.json["DeliveredAt"]
    assert before < datetime.fromisoformat(delivered_at) < before + timedelta(seconds=10)
    assert got.json == {
        "RecordType": "Delivery",
        "MessageStream": "outbound",
        "ServerID": 1,
        "MessageID": message_id,
        "Recipient": "ada@client.example",
        "Tag": "WELCOME_EMAIL",
        "Metadata": {"message_id": "m1"},
        "DeliveredAt": delivered_at,
        "Details": "smtp;250 2.0.0 OK: kept by the sandbox",
    }
    assert (sandbox.receipt_counts.posted, sandbox.receipt_counts.failed) == (1, 0)


def test_the_user_and_password_of_the_url_become_basic_authentication(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_receipts(Receipts(url=receiver.url.replace("//", "//postmark:p%40ss@"), delay=AT_ONCE))

    send_email(sandbox)

    assert sandbox.receipts_settled()
    scheme, _, credentials = receiver.got[0].headers["Authorization"].partition(" ")
    assert (scheme, b64decode(credentials)) == ("Basic", b"postmark:p@ss")
    assert "X-Postmark-Token" not in receiver.got[0].headers


@pytest.mark.parametrize(
    ("recipient", "kinds", "inactive"),
    [
        ("bounce@a.test", ["HardBounce"], True),
        ("softbounce+ada@a.test", ["SoftBounce"], False),
        ("complaint@a.test", ["Delivery", "SpamComplaint"], True),
    ],
)
def test_a_magic_address_bounces_after_it_was_accepted(
    sandbox: Sandbox, receiver: Receiver, recipient: str, kinds: list[str], inactive: bool
) -> None:
    sandbox.set_receipts(Receipts(url=receiver.url, delay=AT_ONCE))

    message_id = send_email(sandbox, recipient)

    assert sandbox.receipts_settled()
    assert sorted(receiver.kinds()) == sorted(kinds)
    (bounce,) = [got.json for got in receiver.got if got.json["RecordType"] != "Delivery"]
    assert bounce["RecordType"] == ("SpamComplaint" if "complaint" in recipient else "Bounce")
    assert (bounce["MessageID"], bounce["Email"], bounce["Inactive"]) == (message_id, recipient, inactive)
    assert bounce["Metadata"] == {"message_id": "m1"}
    assert isinstance(bounce["ID"], int)
    assert datetime.fromisoformat(bounce["BouncedAt"]).tzinfo is not None


def test_an_sms_is_called_back_as_sent_and_as_delivered_with_twilios_signature(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.set_receipts(Receipts(delay=(0.1, 0.1)))
    callback = f"{receiver.url}/api/webhooks/twilio/status?message_id=m1"

    sid = send_sms(sandbox, callback)

    assert sandbox.receipts_settled()
    assert receiver.statuses() == ["sent", "delivered"]
    assert [got.path for got in receiver.got] == ["/api/webhooks/twilio/status?message_id=m1"] * 2
    assert receiver.got[1].form == {
        "SmsSid": sid,
        "SmsStatus": "delivered",
        "MessageSid": sid,
        "MessageStatus": "delivered",
        "To": "+14155550123",
        "From": "+15005550006",
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "MessagingServiceSid": "MG1",
    }
    for got in receiver.got:
        signature = got.headers["X-Twilio-Signature"]
        assert RequestValidator(AUTH_TOKEN).validate(callback, got.form, signature)
        assert not RequestValidator("another").validate(callback, got.form, signature)


def test_a_magic_number_is_undelivered_with_its_code_in_the_receipt_and_in_a_lookup(receiver: Receiver) -> None:
    clock = [datetime(2026, 3, 2, 12, 0, tzinfo=UTC)]
    with Sandbox(clock=lambda: clock[0]) as sandbox:
        sandbox.set_receipts(Receipts(delay=(0.05, 0.05)))
        sid = send_sms(sandbox, f"{receiver.url}/", to="+15005730005")
        assert sandbox.receipts_settled()
        clock[0] += timedelta(seconds=5)
        url = f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json"
        looked_up = requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()
        page = requests.get(f"{sandbox.url}/inbox/{sid}", timeout=5).text

    assert receiver.statuses() == ["sent", "undelivered"]
    assert receiver.got[1].form["ErrorCode"] == "30005"
    assert "ErrorCode" not in receiver.got[0].form
    assert (looked_up["status"], looked_up["error_code"]) == ("undelivered", 30005)
    assert "Bounced (30005)" in page


def test_a_bounce_is_also_told_by_postmarks_details(receiver: Receiver) -> None:
    clock = [datetime(2026, 3, 2, 12, 0, tzinfo=UTC)]
    with Sandbox(clock=lambda: clock[0]) as sandbox:
        message_id = send_email(sandbox, "bounce@a.test")
        clock[0] += timedelta(seconds=5)
        url = f"{sandbox.url}/messages/outbound/{message_id}/details"
        details = requests.get(url, headers={"X-Postmark-Server-Token": "any"}, timeout=5).json()

    assert [(event["Type"], event["Recipient"]) for event in details["MessageEvents"]] == [("Bounced", "bounce@a.test")]


def test_a_bounce_is_looked_up_by_the_id_that_the_webhook_and_the_details_give(receiver: Receiver) -> None:
    clock = [datetime(2026, 3, 2, 12, 0, tzinfo=UTC)]
    with Sandbox(clock=lambda: clock[0]) as sandbox:
        sandbox.set_receipts(Receipts(url=receiver.url, delay=AT_ONCE))
        message_id = send_email(sandbox, "softbounce@a.test")
        assert sandbox.receipts_settled()
        told = receiver.got[0].json
        url, token = f"{sandbox.url}/bounces/{told['ID']}", {"X-Postmark-Server-Token": "any"}
        too_early = requests.get(url, headers=token, timeout=5)
        clock[0] += timedelta(seconds=5)
        looked_up = requests.get(url, headers=token, timeout=5).json()
        details = requests.get(f"{sandbox.url}/messages/outbound/{message_id}/details", headers=token, timeout=5).json()
        unknown = requests.get(f"{sandbox.url}/bounces/7", headers=token, timeout=5)
        nobody = requests.get(url, timeout=5)

    assert (looked_up["Type"], looked_up["Email"], looked_up["Inactive"]) == ("SoftBounce", "softbounce@a.test", False)
    assert looked_up.keys() == told.keys() - {"RecordType", "Metadata"}
    assert details["MessageEvents"][0]["Details"]["BounceID"] == str(told["ID"])
    for refused in (too_early, unknown):
        assert (refused.status_code, refused.json()["ErrorCode"]) == (422, 407)
    assert nobody.status_code == 401


def test_a_person_answers_where_the_sms_is_called_back_and_twilio_signs_it(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    base = f"{receiver.url}/behind/a/proxy"
    send_sms(sandbox, f"{base}/api/webhooks/twilio/status?message_id=m1")

    assert sandbox.reply("+14155550123", "Stop it, grüße", sid="SM7") == 200

    (got,) = receiver.got
    assert got.path == "/behind/a/proxy/api/webhooks/twilio/inbound"
    assert got.form == {
        "ToCountry": "US",
        "SmsMessageSid": "SM7",
        "NumMedia": "0",
        "SmsSid": "SM7",
        "SmsStatus": "received",
        "Body": "Stop it, grüße",
        "To": "+15005550006",
        "NumSegments": "1",
        "MessageSid": "SM7",
        "AccountSid": ACCOUNT,
        "From": "+14155550123",
        "ApiVersion": "2010-04-01",
        "MessagingServiceSid": "MG1",
    }
    url = f"{base}/api/webhooks/twilio/inbound"
    assert RequestValidator(AUTH_TOKEN).validate(url, got.form, got.headers["X-Twilio-Signature"])


def test_a_person_answers_over_http(sandbox: Sandbox, receiver: Receiver) -> None:
    send_sms(sandbox, None)
    asked = {"from": "+14155550123", "text": "STOP", "opt_out_type": "STOP", "url": f"{receiver.url}/inbound"}

    answer = requests.post(f"{sandbox.url}/replies", json=asked, timeout=5)

    assert (answer.status_code, answer.json()) == (200, {"answered": 200})
    (got,) = receiver.got
    assert (got.path, got.form["OptOutType"]) == ("/inbound", "STOP")
    away = requests.post(f"{sandbox.url}/replies", json=asked | {"url": "http://127.0.0.1:9/"}, timeout=5)
    assert away.json() == {"answered": 0}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"from": "+14155550123", "text": "STOP"}, "no SMS with a StatusCallback went to '+14155550123'"),
        ({"from": "+1", "text": "STOP", "url": "http://127.0.0.1:9/"}, "nobody has sent an SMS yet"),
        ({"from": "+1", "txt": "STOP"}, "txt: unknown; the fields are from, opt_out_type, sid, text, url"),
        ({"from": 1}, "every field must be a string"),
        ([], "the body must be a JSON object"),
    ],
)
def test_an_answer_that_goes_nowhere_is_refused(sandbox: Sandbox, asked: Any, words: str) -> None:
    answer = requests.post(f"{sandbox.url}/replies", json=asked, timeout=5)
    assert answer.status_code == 400
    assert words in answer.json()["message"]


def test_nothing_is_posted_unless_asked_for_or_without_an_address_to_post_to(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    send_sms(sandbox, f"{receiver.url}/")
    sandbox.set_receipts(Receipts(delay=AT_ONCE))
    send_email(sandbox)
    send_sms(sandbox, None)
    assert sandbox.receipts_settled()
    sandbox.clear_receipts()
    send_sms(sandbox, f"{receiver.url}/")

    assert receiver.got == []
    assert sandbox.receipt_counts.posted == 0


def test_the_shares_of_bounced_and_doubled_are_drawn_and_the_seed_draws_them_again(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    def drill() -> list[str]:
        receiver.got.clear()
        sandbox.clear()
        for number in range(60):
            send_email(sandbox, f"u{number}@a.test")
        assert sandbox.receipts_settled()
        return sorted(f"{got.json.get('Email', got.json.get('Recipient'))} {kind}"
                      for got, kind in zip(receiver.got, receiver.kinds(), strict=True))  # fmt: skip

    sandbox.set_receipts(Receipts(url=receiver.url, delay=AT_ONCE, bounced=0.5, doubled=0.5, seed=4))
    first = drill()

    assert 70 < len(first) < 110
    assert len(set(first)) == 60
    assert 15 < sum(not line.endswith("Delivery") for line in set(first)) < 45
    assert drill() == first


def test_reordered_callbacks_come_the_wrong_way_round(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_receipts(Receipts(delay=(0.1, 0.1), reordered=1.0))

    send_sms(sandbox, f"{receiver.url}/")

    assert sandbox.receipts_settled()
    assert receiver.statuses() == ["delivered", "sent"]


def test_a_message_whose_answer_was_lost_has_its_receipts_all_the_same(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_receipts(Receipts(delay=(0.05, 0.05)))

    with pytest.raises(requests.ConnectionError):
        send_sms(sandbox, f"{receiver.url}/", to="+15005552300")

    assert sandbox.receipts_settled()
    assert receiver.statuses() == ["sent", "delivered"]


def test_what_cannot_be_posted_is_counted_and_stops_nothing(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_receipts(Receipts(delay=AT_ONCE))
    for callback in ("http://127.0.0.1:1/", "not a URL", "http://ümlaut.test/\n", "file:///etc/passwd"):
        send_sms(sandbox, callback)
    assert sandbox.receipts_settled()
    assert (sandbox.receipt_counts.failed, sandbox.receipt_counts.posted) == (8, 0)

    receiver.status = 401
    send_sms(sandbox, f"{receiver.url}/")
    assert sandbox.receipts_settled()
    assert (sandbox.receipt_counts.failed, sandbox.receipt_counts.last_failure) == (10, "SMS: HTTP 401")
    assert "10 failed (SMS: HTTP 401)" in requests.get(f"{sandbox.url}/", timeout=5).text

    receiver.status = 204
    send_sms(sandbox, f"{receiver.url}/")
    assert sandbox.receipts_settled()
    assert sandbox.receipt_counts.posted == 2


def test_receipts_that_still_wait_do_not_hold_up_the_end_and_are_dropped_with_the_inbox(receiver: Receiver) -> None:
    with Sandbox() as sandbox:
        sandbox.set_receipts(Receipts(delay=(60.0, 60.0)))
        send_sms(sandbox, f"{receiver.url}/")
        assert not sandbox.receipts_settled(timeout=0)
        sandbox.clear()
        assert sandbox.receipts_settled(timeout=0)
        send_sms(sandbox, f"{receiver.url}/")

    assert receiver.got == []


def test_receipts_are_set_and_seen_over_http_without_their_secrets(sandbox: Sandbox, receiver: Receiver) -> None:
    url = f"{sandbox.url}/receipts"
    target = receiver.url.replace("//", "//user:let-me-in@")

    answer = requests.put(url, json={"url": target, "token": "hush", "delay": 0, "bounced": 1, "seed": 1}, timeout=5)
    assert answer.status_code == 200
    send_email(sandbox)
    assert sandbox.receipts_settled()
    shown = requests.get(url, timeout=5)

    assert shown.json() == {
        "receipts": {
            "url": receiver.url, "delay": [0.0, 0.0], "bounced": 1.0, "doubled": 0.0, "reordered": 0.0, "seed": 1,
        },
        "counts": {"posted": 1, "failed": 0, "dropped": 0, "waiting": 0, "last_failure": ""},
    }  # fmt: skip
    page = requests.get(sandbox.url, timeout=5).text
    assert "1 posted, 0 failed" in page
    for text in (answer.text, shown.text, page, repr(Receipts(url=target, token="hush"))):
        assert "let-me-in" not in text
        assert "hush" not in text

    assert requests.delete(url, timeout=5).status_code == 204
    assert requests.get(url, timeout=5).json()["receipts"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"url": "ftp://let-me-in@x.test"}, "url: must be an http or https URL"),
        ({"token": "two\nlines"}, "token: must be printable ASCII"),
        ({"bounced": 2}, "bounced: Input should be less than or equal to 1"),
        ({"dealy": 1}, "dealy: Unexpected keyword argument"),
        ([], "the body must be a JSON object"),
    ],
)
def test_receipts_that_make_no_sense_are_refused(sandbox: Sandbox, body: Any, words: str) -> None:
    answer = requests.put(f"{sandbox.url}/receipts", json=body, timeout=5)

    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert "let-me-in" not in answer.text


def test_both_channels_post_at_once(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_receipts(Receipts(url=f"{receiver.url}/mail", delay=AT_ONCE))
    for _ in range(20):
        send_email(sandbox)
        send_sms(sandbox, f"{receiver.url}/sms")

    assert sandbox.receipts_settled()
    assert sorted(got.path for got in receiver.got) == ["/mail"] * 20 + ["/sms"] * 40
    assert sandbox.accepted(Channel.SMS) == 20
