"""What Twilio calls, on a real server: what became of an SMS, and what people write back."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime
from notifyctl.sandbox.receipts.payloads import twilio_signature
from tests.support.api import Api
from tests.support.messages import CODE, actions, message, send
from tests.support.receipts import PHONE, a_code, rows, status_of, suppressed
from tests.support.webhooks import (
    AUTH_TOKEN,
    INBOUND,
    STATUS,
    everything,
    open_for_webhooks,
    payload,
    post_twilio,
    settings_changed,
)


@pytest.fixture
def runtime(database_url: str, url: str) -> Iterator[Runtime]:
    opened = open_for_webhooks(database_url, url)
    yield opened
    opened.close()


def callback(message_id: str) -> str:
    return f"{STATUS}?message_id={message_id}"


def of_sms(message_id: str, name: str = "delivered", **changed: str) -> dict[str, str]:
    sid = f"pm-{message_id}"
    return payload(f"twilio_status_{name}", MessageSid=sid, SmsSid=sid, **changed)


def test_a_delivery_is_applied(api: Api) -> None:
    message_id = a_code(api.runtime)
    answer = post_twilio(api, callback(message_id), of_sms(message_id))
    assert (answer.status_code, answer.content) == (204, b"")
    assert status_of(api.runtime, message_id) == "DELIVERED"


def test_an_undelivered_one_has_its_reason(api: Api) -> None:
    message_id = a_code(api.runtime)
    post_twilio(api, callback(message_id), of_sms(message_id, "undelivered"))
    row = message(api.runtime, message_id)
    assert (row.status, row.reason, row.error_code) == ("BOUNCED", "RECIPIENT_INVALID", "30005")


def test_who_said_stop_is_suppressed_by_the_receipt_as_well(api: Api) -> None:
    message_id = a_code(api.runtime)
    post_twilio(api, callback(message_id), of_sms(message_id, "undelivered", ErrorCode="21610"))
    assert suppressed(api.runtime) == {PHONE: "OPTED_OUT"}


PHRASES = ["opt out", "Opt out.", "OPT-OUT", "STOP ALL", "ARRET", "Arrêt", "ＳＴＯＰ", "no más", "Bitte abmelden", "🛑"]


def test_what_twilio_itself_does_not_understand_is_honoured_here(api: Api) -> None:
    for number, body in enumerate(PHRASES):
        sids = {"MessageSid": f"SM{number}", "SmsSid": f"SM{number}"}
        assert post_twilio(api, INBOUND, payload("twilio_inbound_stop", Body=body, **sids)).status_code == 200
        assert suppressed(api.runtime) == {PHONE: "OPTED_OUT"}, body
        assert send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).reason == "SUPPRESSED"
        sids = {"MessageSid": f"SM{number}s", "SmsSid": f"SM{number}s"}
        post_twilio(api, INBOUND, payload("twilio_inbound_stop", Body="opt in", **sids))
        assert suppressed(api.runtime) == {}


def test_a_refusal_that_is_told_late_does_not_undo_what_the_person_said_since(api: Api) -> None:
    message_id = a_code(api.runtime)
    post_twilio(api, INBOUND, payload("twilio_inbound_stop"))
    post_twilio(api, INBOUND, payload("twilio_inbound_stop", Body="START", MessageSid="SM2", SmsSid="SM2"))
    post_twilio(api, callback(message_id), of_sms(message_id, "undelivered", ErrorCode="21610"))
    assert status_of(api.runtime, message_id) == "BOUNCED"
    assert suppressed(api.runtime) == {}
    post_twilio(api, INBOUND, payload("twilio_inbound_stop", MessageSid="SM3", SmsSid="SM3"))
    assert suppressed(api.runtime) == {PHONE: "OPTED_OUT"}


@pytest.mark.parametrize("status", ["accepted", "queued", "sending", "sent"])
def test_a_step_on_the_way_settles_only_a_doubt(api: Api, status: str) -> None:
    sent, doubtful = a_code(api.runtime), a_code(api.runtime, "IN_DOUBT", recipient="+4915112345670")
    for message_id in (sent, doubtful):
        post_twilio(api, callback(message_id), of_sms(message_id, MessageStatus=status))
        assert status_of(api.runtime, message_id) == "SENT"
    assert message(api.runtime, doubtful).provider_message_id == f"pm-{doubtful}"
    assert "NOTIFICATION_SENT" not in actions(api.runtime, sent)


TAMPERED = {
    "another token": {"token": "stolen"},
    "no signature": {"X-Twilio-Signature": ""},
    "a signature that is no text": {"X-Twilio-Signature": b"\xff\xfe"},
    "a signature of other things": {"X-Twilio-Signature": "M2E4NTlkNmFkNTM0OTY0ZTg3ZWQ="},
    "JSON without a hash in the URL": {"Content-Type": "application/json"},
}


def test_what_twilio_did_not_sign_is_refused_and_nothing_is_written(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    message_id = a_code(api.runtime)
    before = everything(api.runtime)
    for what, changed in TAMPERED.items():
        caplog.clear()
        answer = post_twilio(api, callback(message_id), of_sms(message_id, "undelivered"), **changed)
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), what
        assert "webhook refused" in caplog.text, what
        assert AUTH_TOKEN not in caplog.text
    assert everything(api.runtime) == before


def test_a_signature_for_another_message_or_another_path_does_not_fit(api: Api) -> None:
    one, other = a_code(api.runtime), a_code(api.runtime, recipient="+4915112345670")
    fields = of_sms(one, "undelivered")
    signature = twilio_signature(AUTH_TOKEN, api.url + callback(one), fields)
    for path in (callback(other), STATUS, INBOUND, callback(one) + "&x=1"):
        answer = post_twilio(api, path, fields, **{"X-Twilio-Signature": signature})
        assert answer.status_code == 403
    assert {status_of(api.runtime, found) for found in (one, other)} == {"SENT"}


INCOMPLETE: list[tuple[dict[str, Any], str]] = [
    ({"public_base_url": None}, "PUBLIC_BASE_URL"),
    ({"twilio_auth_token": None}, "TWILIO_AUTH_TOKEN"),
    ({"twilio_auth_token": " "}, "TWILIO_AUTH_TOKEN"),
]


def test_without_what_a_signature_is_checked_with_nobody_gets_in(
    api: Api, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    for changed, named in INCOMPLETE:
        caplog.clear()
        with settings_changed(api, app, **changed):
            for path in (STATUS, INBOUND):
                assert post_twilio(api, path, payload("twilio_inbound_stop")).status_code == 403
                assert post_twilio(api, path, payload("twilio_inbound_stop"), token="").status_code == 403
        causes = [record.cause for record in caplog.records if record.message == "webhook refused"]
        assert len(causes) == 4
        assert all(f"{named} not set" in cause for cause in causes)
    assert rows(api.runtime, "suppression") == []


def test_a_parameter_that_comes_twice_does_no_harm(api: Api) -> None:
    message_id = a_code(api.runtime)
    path, fields = callback(message_id), of_sms(message_id)
    doubled = urlencode([*fields.items(), *fields.items()])
    signature = twilio_signature(AUTH_TOKEN, api.url + path, fields)
    form = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    assert api.post(path, data=doubled, headers=form).status_code == 204
    assert status_of(api.runtime, message_id) == "DELIVERED"


STRANGE_IDS = ["", "42", "\0", "%C3%28", "019cae51-7b2a-7d31-9c53-2b6f0c1d7a55"]


def test_a_message_that_is_none_of_ours_is_taken_all_the_same(api: Api) -> None:
    for message_id in STRANGE_IDS:
        path = f"{STATUS}?{urlencode({'message_id': message_id})}"
        assert post_twilio(api, path, payload("twilio_status_delivered")).status_code == 204
    assert len(rows(api.runtime, "early_receipt")) == len(STRANGE_IDS)


@pytest.mark.parametrize("missing", ["MessageSid", "MessageStatus"])
def test_what_twilio_never_sends_is_a_4xx(api: Api, missing: str) -> None:
    fields = {name: value for name, value in payload("twilio_status_delivered").items()
              if not name.endswith(missing.removeprefix("Message"))}  # fmt: skip
    answer = post_twilio(api, STATUS, fields)
    assert (answer.status_code, answer.json()) == (
        422, {"error": "invalid_request", "message": f"{missing} is missing."},
    )  # fmt: skip


BODIES = [b"", b"\xff\xfe", b"&&&===", b"%", b"a" * 60_000, b"{}"]
CONTENT_TYPES = ["application/x-www-form-urlencoded", "application/json", "x", ""]


@pytest.mark.parametrize("path", [STATUS, INBOUND, STATUS + "?%ff=%00&bodySHA256=%e9"])
def test_nothing_that_a_stranger_posts_is_a_500(api: Api, path: str) -> None:
    for body in BODIES:
        for content_type in CONTENT_TYPES:
            answer = api.post(path, data=body, headers={"Content-Type": content_type})
            assert answer.status_code == 403, (body[:20], content_type)


def test_stop_blocks_the_next_sms_and_start_frees_it(api: Api) -> None:
    answer = post_twilio(api, INBOUND, payload("twilio_inbound_stop"))
    assert (answer.status_code, answer.text) == (200, "<Response/>")
    assert answer.headers["Content-Type"].startswith("text/xml")
    assert send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).reason == "SUPPRESSED"

    post_twilio(api, INBOUND, payload("twilio_inbound_stop", Body="Start", MessageSid="SM2"))

    assert send(api.runtime, "OTP_CODE_SMS", CODE, recipient=PHONE).status == "QUEUED"
    told = [row for row in rows(api.runtime, "audit_log") if row.action.startswith("SUPPRESSION")]
    assert [(row.action, row.actor) for row in told] == [
        ("SUPPRESSION_ADDED", "twilio"), ("SUPPRESSION_REMOVED", "twilio"),
    ]  # fmt: skip
    assert PHONE not in str(told)


def test_an_answer_that_comes_again_changes_nothing(api: Api) -> None:
    stop, start = payload("twilio_inbound_stop"), payload("twilio_inbound_stop", Body="START", MessageSid="SM2")
    for fields in (stop, start, stop):
        assert post_twilio(api, INBOUND, fields).status_code == 200
    assert suppressed(api.runtime) == {}


def test_what_is_neither_is_answered_with_silence(api: Api) -> None:
    before = everything(api.runtime)
    answer = post_twilio(api, INBOUND, payload("twilio_inbound_stop", Body="Thanks, grüße! 📦"))
    assert (answer.status_code, answer.text) == (200, "<Response/>")
    assert everything(api.runtime) == before


def test_a_message_without_a_sender_is_a_4xx(api: Api) -> None:
    fields = {name: value for name, value in payload("twilio_inbound_stop").items() if name != "From"}
    assert post_twilio(api, INBOUND, fields).status_code == 422


def test_a_sender_that_is_no_number_of_ours_suppresses_nobody(api: Api) -> None:
    for number, sender in enumerate(["", "262966", "Acme", "+1" + "5" * 90, "whatsapp:+4915112345678", "\0"]):
        fields = payload("twilio_inbound_stop", From=sender, MessageSid=f"SM{number}")
        assert post_twilio(api, INBOUND, fields).status_code in (200, 422)
    assert rows(api.runtime, "suppression") == []
