"""What Postmark calls, on a real server."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime
from notifyctl.delivery.receipts.apply import retry_early_receipts
from tests.support.api import Api
from tests.support.messages import actions, message, send
from tests.support.receipts import an_email, put, rows, status_of, suppressed
from tests.support.webhooks import (
    INBOUND,
    POSTMARK,
    STATUS,
    TOKEN,
    everything,
    of_message,
    open_for_webhooks,
    payload,
    post_postmark,
    post_twilio,
    settings_changed,
)


@pytest.fixture
def runtime(database_url: str, url: str) -> Iterator[Runtime]:
    opened = open_for_webhooks(database_url, url)
    yield opened
    opened.close()


def test_a_delivery_is_applied(api: Api) -> None:
    message_id = an_email(api.runtime)
    answer = post_postmark(api, payload("postmark_delivery", **of_message(message_id)))
    assert (answer.status_code, answer.json()) == (200, {"result": "applied"})
    assert status_of(api.runtime, message_id) == "DELIVERED"


def test_a_bounce_is_applied_and_its_dump_is_not_kept(api: Api) -> None:
    message_id = an_email(api.runtime)
    assert post_postmark(api, payload("postmark_bounce", **of_message(message_id))).status_code == 200
    row = message(api.runtime, message_id)
    assert (row.status, row.reason, row.error_code) == ("BOUNCED", "RECIPIENT_INVALID", "HardBounce")
    assert suppressed(api.runtime) == {"acme@client.example": "HARD_BOUNCE"}
    assert "swordfish" not in str(everything(api.runtime))
    assert "client.example" not in str(rows(api.runtime, "audit_log"))


def test_a_complaint_suppresses_and_a_reactivation_frees(api: Api) -> None:
    message_id = an_email(api.runtime, "DELIVERED")
    post_postmark(api, payload("postmark_spam_complaint", **of_message(message_id)))
    assert suppressed(api.runtime) == {"acme@client.example": "COMPLAINT"}
    assert status_of(api.runtime, message_id) == "DELIVERED"
    assert post_postmark(api, payload("postmark_reactivation", ChangedAt="2999-01-01T00:00:00Z")).json() == {
        "result": "applied"
    }
    assert suppressed(api.runtime) == {}


@pytest.mark.parametrize("late", [False, True], ids=["in order", "the other way round"])
@pytest.mark.parametrize("kind", ["postmark_bounce", "postmark_spam_complaint", "postmark_subscription_change"])
def test_an_address_freed_after_it_was_suppressed_is_free_whichever_is_heard_of_first(
    api: Api, kind: str, late: bool
) -> None:
    """Both come late: changes are told again for some twenty minutes, bounces for hours."""
    ago = {name: (api.runtime.clock() - timedelta(hours=name)).isoformat() for name in (2, 3)}
    when = {"BouncedAt": ago[3]} if "change" not in kind else {"ChangedAt": ago[3]}
    calls = [payload(kind, MessageID="pm-x", Metadata={}, **when), payload("postmark_reactivation", ChangedAt=ago[2])]
    for body in reversed(calls) if late else calls:
        assert post_postmark(api, body).status_code == 200
    assert suppressed(api.runtime) == {}
    assert send(api.runtime, "COMPLIANCE_SLA_ALERT", SLA, recipient="acme@client.example").status == "QUEUED"


SLA = {"subject": "Late", "details": "One item", "count": 1}


def test_a_change_of_subscription_suppresses(api: Api) -> None:
    post_postmark(api, payload("postmark_subscription_change", SuppressionReason="ManualSuppression"))
    assert suppressed(api.runtime) == {"acme@client.example": "OPTED_OUT"}


@pytest.mark.parametrize("name", ["postmark_open", "postmark_inbound"])
def test_what_is_no_receipt_is_taken_and_ignored(api: Api, name: str) -> None:
    before = everything(api.runtime)
    assert post_postmark(api, payload(name)).json() == {"result": "ignored"}
    assert everything(api.runtime) == before


@pytest.mark.parametrize("kind", ["Transient", "AutoResponder", "DnsError"])
def test_a_delay_on_the_way_changes_nothing(api: Api, kind: str) -> None:
    message_id = an_email(api.runtime)
    before = everything(api.runtime)
    assert post_postmark(api, payload("postmark_bounce", Type=kind, **of_message(message_id))).status_code == 200
    assert everything(api.runtime) == before


def test_a_receipt_of_nobody_is_taken_and_kept(api: Api) -> None:
    assert post_postmark(api, payload("postmark_delivery")).json() == {"result": "early"}
    assert len(rows(api.runtime, "early_receipt")) == 1


RIGHT = {
    "header": {"headers": {"X-Postmark-Token": TOKEN.encode()}},
    "Basic": {"auth": ("anyone", TOKEN.encode())},
    "Basic without a user": {"auth": (b"", TOKEN.encode())},
    "Basic beside a wrong header": {"auth": ("postmark", TOKEN.encode()), "headers": {"X-Postmark-Token": "no"}},
}


def test_the_token_lets_in(api: Api) -> None:
    for what, credentials in RIGHT.items():
        answer = post_postmark(api, payload("postmark_open"), **{"headers": {}, **credentials})
        assert answer.status_code == 200, what


WRONG = {
    "nothing": {},
    "an empty header": {"headers": {"X-Postmark-Token": ""}},
    "a wrong header": {"headers": {"X-Postmark-Token": "wrong"}},
    "a header that is no text": {"headers": {"X-Postmark-Token": b"\xff\xfe"}},
    "the token and more": {"headers": {"X-Postmark-Token": TOKEN.encode() + b"x"}},
    "half the token": {"headers": {"X-Postmark-Token": TOKEN.encode()[:5]}},
    "the token as a user": {"auth": (TOKEN.encode(), b"")},
    "a wrong password": {"auth": ("postmark", "wrong")},
    "an empty password": {"auth": ("postmark", "")},
    "Basic that is no base64": {"headers": {"Authorization": "Basic \xe9=="}},
    "Basic without a colon": {"headers": {"Authorization": "Basic dzNiaDAwaw=="}},
    "a bearer token": {"headers": {"Authorization": b"Bearer " + TOKEN.encode()}},
    "the token in the URL": {"params": {"token": TOKEN}},
}


def test_anything_else_is_refused_and_nothing_is_written(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    bounce = payload("postmark_bounce", **of_message(an_email(api.runtime)))
    before = everything(api.runtime)
    for what, credentials in WRONG.items():
        caplog.clear()
        answer = post_postmark(api, bounce, **{"headers": {}, **credentials})
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), what
        warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert warnings == ["webhook refused"], what
        assert TOKEN not in caplog.text
    assert everything(api.runtime) == before


def test_without_a_token_in_the_settings_nobody_gets_in(
    api: Api, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    for token in (None, "", " \n"):
        with settings_changed(api, app, postmark_webhook_token=token):
            for headers in ({}, {"X-Postmark-Token": ""}, {"Authorization": "Basic Og=="}):
                assert post_postmark(api, payload("postmark_delivery"), headers=headers).status_code == 401
    causes = [record.cause for record in caplog.records if record.message == "webhook refused"]
    assert len(causes) == 9
    assert all("POSTMARK_WEBHOOK_TOKEN is not set" in cause for cause in causes)
    assert rows(api.runtime, "early_receipt") == []


MALFORMED = [
    b"", b"{", b"null", b"[]", b"7", b"\xff\xfe", b"[" * 30_000, b'{"RecordType": "Bounce"', b"{}",
    b'{"RecordType": {}}', b'{"RecordType": "SubscriptionChange"}', b'{"a": ' + b"9" * 5_000 + b"}",
]  # fmt: skip


def test_what_postmark_never_sends_is_a_4xx(api: Api) -> None:
    before = everything(api.runtime)
    for body in MALFORMED:
        answer = post_postmark(api, body)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request"), body[:50]
    assert everything(api.runtime) == before


ODD = ["", "x", 7, -1, 1e300, True, None, [], {}, [{}], {"message_id": None}, "\0", "\ud800", "9" * 3_000]


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize("name", ["postmark_delivery", "postmark_bounce", "postmark_subscription_change"])
def test_no_field_of_another_kind_is_a_500(api: Api, name: str) -> None:
    whole = payload(name)
    for field in whole:
        for odd in ODD:
            answer = post_postmark(api, json.dumps(whole | {field: odd}).encode())
            assert answer.status_code in (200, 422), (field, odd)


def test_a_long_body_is_refused(api: Api) -> None:
    assert post_postmark(api, payload("postmark_bounce", Content="x" * 70_000)).status_code == 413


def test_the_same_receipt_many_times_at_once_is_written_once(api: Api) -> None:
    message_id = an_email(api.runtime)
    body = json.dumps(payload("postmark_bounce", **of_message(message_id))).encode()

    def call(_: int) -> str:
        answer = requests.post(api.url + POSTMARK, data=body, headers={"X-Postmark-Token": TOKEN.encode()}, timeout=30)
        return str(answer.json()["result"])

    with ThreadPoolExecutor(8) as pool:
        results = Counter(pool.map(call, range(16)))

    assert results == {"applied": 1, "nothing new": 15}
    assert Counter(actions(api.runtime, message_id))["NOTIFICATION_BOUNCED"] == 1


def test_a_receipt_that_cannot_be_written_is_wanted_again(api: Api, app: FastAPI) -> None:
    away = "postgresql://nobody:nothing@127.0.0.1:9/notifyctl"
    answer = payload("twilio_inbound_stop", MessageStatus="sent", SmsStatus="sent")
    with settings_changed(api, app, database_url=away):
        refused = [post_postmark(api, payload("postmark_delivery"))]
        refused += [post_twilio(api, path, answer) for path in (STATUS, INBOUND)]
    assert [(found.status_code, found.json()["error"]) for found in refused] == [(503, "unavailable")] * 3


def test_a_webhook_takes_only_posts(api: Api) -> None:
    assert [api.get(path).status_code for path in (POSTMARK, STATUS, INBOUND)] == [405, 405, 405]


def test_a_receipt_that_comes_before_the_record_is_applied_after_it(api: Api) -> None:
    message_id = an_email(api.runtime, "SENDING")
    assert post_postmark(api, payload("postmark_delivery", **of_message(message_id))).json() == {"result": "early"}
    put(api.runtime, message_id, "SENT")
    retry_early_receipts(api.runtime.database, api.runtime.keys, api.runtime.clock())
    assert status_of(api.runtime, message_id) == "DELIVERED"
