from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from postmarker.core import PostmarkClient
from postmarker.exceptions import ClientError

from notifyctl.sandbox import Address, Email, Sandbox
from tests.support.clocks import StandingClock
from tests.support.sandboxes import at_rest

# Four in the afternoon in New York, where Postmark's clock stands.
NOON = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(NOON)


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


@pytest.fixture
def postmark(sandbox: Sandbox) -> Iterator[PostmarkClient]:
    client = PostmarkClient(server_token="any", root_api_url=sandbox.url)
    yield client
    client.session.close()


def an_email(**changes: Any) -> dict[str, Any]:
    return {
        "From": "Example <hello@example.com>",
        "To": "ada@analytical.test",
        "Subject": "Welcome",
        "TextBody": "Hello",
        **changes,
    }


def refusal(sandbox: Sandbox, body: Any, **headers: str) -> tuple[int, int]:
    """The HTTP status and Postmark's code for one raw POST /email."""
    answer = requests.post(
        f"{sandbox.url}/email",
        json=body,
        headers={"X-Postmark-Server-Token": "any", **headers},
        timeout=5,
    )
    return answer.status_code, answer.json()["ErrorCode"]


def test_an_email_sent_by_the_sdk_arrives_whole(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    answer = postmark.emails.send(
        From='"Example, Inc." <hello@example.com>',
        To=["Ada <ada@analytical.test>", "grace@navy.test"],
        Bcc="audit@example.com",
        ReplyTo="support@example.com",
        Subject="Grüße",
        TextBody="Hello",
        HtmlBody="<p>Hello</p>",
        Tag="WELCOME_EMAIL",
        Metadata={"message_id": "0190a8f2"},
        Headers={"X-Campaign": "spring"},
        MessageStream="outbound",
    )

    [email] = sandbox.messages()
    assert email == Email(
        id=answer["MessageID"],
        received_at=NOON,
        sender=Address("hello@example.com", "Example, Inc."),
        to=(Address("ada@analytical.test", "Ada"), Address("grace@navy.test")),
        bcc=(Address("audit@example.com"),),
        reply_to="support@example.com",
        subject="Grüße",
        text="Hello",
        html="<p>Hello</p>",
        tag="WELCOME_EMAIL",
        metadata={"message_id": "0190a8f2"},
        headers=(("X-Campaign", "spring"),),
    )
    assert answer == {
        "To": "Ada <ada@analytical.test>,grace@navy.test",
        "SubmittedAt": "2026-03-02T16:00:00.000000-05:00",
        "MessageID": email.id,
        "ErrorCode": 0,
        "Message": "OK",
    }
    assert sandbox.calls == 1


def test_a_batch_answers_each_message_for_itself(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    recipients = ["ada@a.test", "inactive@b.test", "not an address", "busy-1@c.test", "grace@d.test"]

    answers = postmark.emails.send_batch(*(an_email(To=recipient) for recipient in recipients))

    assert [answer["ErrorCode"] for answer in answers] == [0, 406, 300, 100, 0]
    assert [mail.recipients for mail in sandbox.messages()] == [("ada@a.test",), ("grace@d.test",)]
    assert "MessageID" not in answers[1]
    assert sandbox.calls == 1


def test_a_batch_of_500_is_taken_and_one_of_501_refused_whole(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    assert len(postmark.emails.send_batch(*([an_email()] * 500))) == 500

    headers = {"X-Postmark-Server-Token": "any"}
    answer = requests.post(f"{sandbox.url}/email/batch", json=[an_email()] * 501, headers=headers, timeout=5)

    assert (answer.status_code, answer.json()["ErrorCode"]) == (422, 410)
    assert len(sandbox.messages()) == 500


@pytest.mark.parametrize(
    ("recipient", "code"),
    [("inactive@a.test", 406), ("inactive+ada@a.test", 406), ("Reject@a.test", 300), ("pending@a.test", 412)],
)
def test_a_magic_recipient_is_refused_by_the_sdk_with_its_code(
    postmark: PostmarkClient, sandbox: Sandbox, recipient: str, code: int
) -> None:
    with pytest.raises(ClientError) as refused:
        postmark.emails.send(**an_email(To=recipient))

    assert refused.value.error_code == code
    assert sandbox.messages() == []


def test_a_busy_recipient_fails_as_often_as_its_name_says_and_then_takes_the_email(sandbox: Sandbox) -> None:
    tries = [refusal(sandbox, an_email(To="busy-2@a.test")) for _ in range(4)]

    assert tries == [(503, 100), (503, 100), (200, 0), (200, 0)]


def test_one_inactive_recipient_among_others_does_not_stop_the_email(postmark: PostmarkClient) -> None:
    answer = postmark.emails.send(**an_email(To="ada@a.test, inactive@b.test"))

    assert answer["ErrorCode"] == 0
    assert answer["Message"] == "Message OK, but will not deliver to these inactive addresses: inactive@b.test."


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"From": None}, 300, id="no sender"),
        pytest.param({"From": "a@b.test, c@d.test"}, 300, id="two senders"),
        pytest.param({"To": ""}, 300, id="no recipient"),
        pytest.param({"To": "ada@"}, 300, id="half an address"),
        pytest.param({"To": "ada..l@a.test"}, 300, id="two dots"),
        pytest.param({"To": ",".join(f"a{n}@b.test" for n in range(51))}, 300, id="51 recipients"),
        pytest.param({"TextBody": None}, 300, id="no body"),
        pytest.param({"Metadata": {"a" * 21: "x"}}, 300, id="long metadata name"),
        pytest.param({"Metadata": {"a": "x" * 81}}, 300, id="long metadata value"),
        pytest.param({"Subject": "x" * 2001}, 300, id="long subject"),
        pytest.param({"To": 7}, 403, id="a number for a text"),
        pytest.param({"Metadata": "x"}, 403, id="a text for an object"),
    ],
)
def test_what_postmark_would_refuse_is_refused(sandbox: Sandbox, changes: dict[str, Any], code: int) -> None:
    assert refusal(sandbox, an_email(**changes)) == (422, code)
    assert sandbox.messages() == []


def test_metadata_at_its_limits_is_taken(sandbox: Sandbox) -> None:
    assert refusal(sandbox, an_email(Metadata={"a" * 20: "x" * 80})) == (200, 0)


def test_a_body_that_is_not_json_is_refused(sandbox: Sandbox) -> None:
    headers = {"X-Postmark-Server-Token": "any"}
    broken = requests.post(
        f"{sandbox.url}/email", data="{", headers={**headers, "Content-Type": "application/json"}, timeout=5
    )
    a_form = requests.post(f"{sandbox.url}/email", data={"To": "a@b.test"}, headers=headers, timeout=5)

    assert (broken.status_code, broken.json()["ErrorCode"]) == (422, 402)
    assert (a_form.status_code, a_form.json()["ErrorCode"]) == (415, 409)


def test_a_call_without_a_token_is_refused(sandbox: Sandbox) -> None:
    assert refusal(sandbox, an_email(), **{"X-Postmark-Server-Token": ""}) == (401, 10)


def test_a_given_token_is_the_only_one_that_opens() -> None:
    with Sandbox(postmark_token="right") as sandbox:
        assert refusal(sandbox, an_email(), **{"X-Postmark-Server-Token": "wrong"}) == (401, 10)
        assert refusal(sandbox, an_email(), **{"X-Postmark-Server-Token": "right"}) == (200, 0)


def found(sandbox: Sandbox, **query: Any) -> list[str]:
    """The recipients that a search finds, newest first."""
    answer = requests.get(
        f"{sandbox.url}/messages/outbound",
        params={"count": 500, "offset": 0, **query},
        headers={"X-Postmark-Server-Token": "any"},
        timeout=5,
    )
    assert answer.status_code == 200, answer.text
    return [message["Recipients"][0] for message in answer.json()["Messages"]]


def test_a_search_by_one_metadata_field_finds_the_one_message(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    for number in range(3):
        postmark.emails.send(**an_email(To=f"a{number}@b.test", Metadata={"message_id": f"id-{number}"}))

    assert found(sandbox, metadata_message_id="id-1") == ["a1@b.test"]
    assert found(sandbox, metadata_message_id="id-9") == []


def test_a_search_by_two_metadata_fields_is_refused(sandbox: Sandbox) -> None:
    answer = requests.get(
        f"{sandbox.url}/messages/outbound",
        params={"count": 1, "offset": 0, "metadata_a": "1", "metadata_b": "2"},
        headers={"X-Postmark-Server-Token": "any"},
        timeout=5,
    )

    assert (answer.status_code, answer.json()["ErrorCode"]) == (422, 700)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"count": 501, "offset": 0},
        {"count": 1, "offset": 10_000},
        {"count": 1, "offset": 0, "status": "lost"},
    ],
    ids=["no count", "count over 500", "reach over 10,000", "unknown status"],
)
def test_a_search_out_of_bounds_is_refused(sandbox: Sandbox, query: dict[str, Any]) -> None:
    answer = requests.get(
        f"{sandbox.url}/messages/outbound",
        params=query,
        headers={"X-Postmark-Server-Token": "any"},
        timeout=5,
    )

    assert (answer.status_code, answer.json()["ErrorCode"]) == (422, 700)


def test_the_sdk_searches_by_recipient_tag_and_subject(postmark: PostmarkClient) -> None:
    postmark.emails.send(**an_email(To="ada@a.test", Tag="WELCOME_EMAIL"))
    postmark.emails.send(**an_email(To="ada@a.test", Subject="Your payment failed", Tag="PAYMENT_FAILED"))
    postmark.emails.send(**an_email(To="grace@b.test", Tag="WELCOME_EMAIL"))

    def tags(**query: str) -> list[str]:
        return [message.Tag for message in postmark.messages.outbound.all(**query)]

    assert tags(recipient="Ada@a.test") == ["PAYMENT_FAILED", "WELCOME_EMAIL"]
    assert tags(recipient="ada@a.test", tag="WELCOME_EMAIL") == ["WELCOME_EMAIL"]
    assert tags(subject="payment") == ["PAYMENT_FAILED"]


def test_a_search_pages_by_count_and_offset(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    postmark.emails.send_batch(*(an_email(To=f"a{number}@b.test") for number in range(5)))

    assert found(sandbox, count=2) == ["a4@b.test", "a3@b.test"]
    assert found(sandbox, count=2, offset=4) == ["a0@b.test"]


def test_a_search_looks_in_the_default_stream_unless_told_another(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    postmark.emails.send(**an_email(To="news@b.test", MessageStream="broadcast"))

    assert found(sandbox) == []
    assert found(sandbox, messagestream="broadcast") == ["news@b.test"]


def test_dates_of_a_search_are_read_as_eastern_time(sandbox: Sandbox, postmark: PostmarkClient) -> None:
    postmark.emails.send(**an_email(To="ada@a.test"))

    assert found(sandbox, fromdate="2026-03-02T16:00:00", todate="2026-03-02T16:00:00") == ["ada@a.test"]
    assert found(sandbox, fromdate="2026-03-02T21:00:00") == []
    assert found(sandbox, fromdate="2026-03-02", todate="2026-03-02") == ["ada@a.test"]
    assert found(sandbox, todate="2026-03-01") == []


def test_an_email_is_queued_then_sent_then_delivered(
    sandbox: Sandbox, postmark: PostmarkClient, clock: StandingClock
) -> None:
    message_id = postmark.emails.send(**an_email())["MessageID"]
    assert postmark.messages.outbound.get(message_id).Status == "Queued"
    assert found(sandbox, status="sent") == []

    clock.now += timedelta(seconds=1)
    assert postmark.messages.outbound.get(message_id).Status == "Sent"
    assert found(sandbox, status="sent") == ["ada@analytical.test"]

    clock.now += timedelta(seconds=5)
    [event] = postmark.messages.outbound.get(message_id).MessageEvents
    assert (event["Recipient"], event["Type"]) == ("ada@analytical.test", "Delivered")


def test_an_unknown_message_has_no_details(postmark: PostmarkClient) -> None:
    with pytest.raises(ClientError) as refused:
        postmark.messages.outbound.get("nowhere")

    assert refused.value.error_code == 701
