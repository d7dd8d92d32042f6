from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from notifyctl.sandbox import Sandbox, Sms
from tests.support.clocks import NOON, StandingClock
from tests.support.sandboxes import at_rest

ACCOUNT = "AC" + "0" * 32
SERVICE = "MG" + "1" * 32
ADA = "+14155550123"


class SandboxHttpClient(TwilioHttpClient):
    def __init__(self, base_url: str) -> None:
        super().__init__(timeout=5)
        self._base_url = base_url

    def request(self, method: str, url: str, *rest: Any, **options: Any) -> Response:
        return super().request(method, url.replace("https://api.twilio.com", self._base_url), *rest, **options)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(NOON)


@pytest.fixture
def sandbox(sandbox_server: Sandbox, clock: StandingClock) -> Sandbox:
    at_rest(sandbox_server).clock = clock
    return sandbox_server


@pytest.fixture
def twilio(sandbox: Sandbox) -> Iterator[Client]:
    http_client = SandboxHttpClient(sandbox.url)
    yield Client(ACCOUNT, "any", http_client=http_client)
    assert http_client.session is not None
    http_client.session.close()


def create(sandbox: Sandbox, token: str = "any", **form: str) -> tuple[int, int]:
    """The HTTP status and Twilio's code (0: created) for one raw create."""
    answer = requests.post(
        f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
        data=form,
        auth=(ACCOUNT, token),
        timeout=5,
    )
    return answer.status_code, answer.json().get("code", 0)


def test_an_sms_sent_by_the_sdk_arrives_whole(sandbox: Sandbox, twilio: Client) -> None:
    created = twilio.messages.create(
        to=ADA,
        messaging_service_sid=SERVICE,
        body="Grüße & 5 € +1\n@example.com #123456",
        status_callback="https://example.com/status?id=1",
    )

    assert sandbox.messages() == [
        Sms(
            id=created.sid,
            received_at=NOON,
            account_sid=ACCOUNT,
            to=ADA,
            sender=None,
            messaging_service_sid=SERVICE,
            text="Grüße & 5 € +1\n@example.com #123456",
            status_callback="https://example.com/status?id=1",
        )
    ]
    assert created.sid is not None
    assert len(created.sid) == 34
    assert (created.status, created.date_created, created.date_sent) == ("accepted", NOON, None)
    assert (created.error_code, created.messaging_service_sid) == (None, SERVICE)
    assert sandbox.calls == 1


def test_a_message_from_a_number_is_queued_and_already_cut_into_segments(twilio: Client) -> None:
    created = twilio.messages.create(to=ADA, from_="+15005550006", body="a" * 161)

    assert (created.status, created.num_segments, created.from_) == ("queued", "2", "+15005550006")


def test_a_message_from_a_service_gets_its_number_and_segments_when_it_leaves(
    twilio: Client, clock: StandingClock
) -> None:
    created = twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body="a" * 161)
    assert (created.from_, created.num_segments) == (None, "0")

    clock.now += timedelta(seconds=1)
    fetched = twilio.messages(created.sid).fetch()
    assert (fetched.from_, fetched.num_segments) == ("+15005550006", "2")


def test_an_sms_is_queued_then_sent_then_delivered(twilio: Client, clock: StandingClock) -> None:
    created = twilio.messages.create(to=ADA, from_="+15005550006", body="x")

    statuses = []
    for seconds in (0, 1, 5):
        clock.now = NOON + timedelta(seconds=seconds)
        statuses.append(twilio.messages(created.sid).fetch().status)

    assert statuses == ["queued", "sent", "delivered"]


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("+15005550001", 21211),
        ("+15005550002", 21612),
        ("+15005550003", 21408),
        ("+15005550004", 21610),
        ("+15005550009", 21614),
    ],
)
def test_a_magic_number_is_refused_by_the_sdk_with_its_code(
    twilio: Client, sandbox: Sandbox, recipient: str, code: int
) -> None:
    with pytest.raises(TwilioRestException) as refused:
        twilio.messages.create(to=recipient, messaging_service_sid=SERVICE, body="x")

    assert (refused.value.status, refused.value.code) == (400, code)
    assert sandbox.messages() == []


@pytest.mark.parametrize(
    ("recipient", "failure"),
    [("+15005551002", (503, 20503)), ("+15005551102", (429, 20429))],
    ids=["down", "too many requests"],
)
def test_a_busy_number_fails_as_often_as_it_says_and_then_takes_the_sms(
    sandbox: Sandbox, recipient: str, failure: tuple[int, int]
) -> None:
    tries = [create(sandbox, To=recipient, MessagingServiceSid=SERVICE, Body="x") for _ in range(4)]

    assert tries == [failure, failure, (201, 0), (201, 0)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"To": ""}, 21604, id="no recipient"),
        pytest.param({"To": "12345"}, 21211, id="not in E.164"),
        pytest.param({"MessagingServiceSid": ""}, 21603, id="no sender"),
        pytest.param({"Body": ""}, 21602, id="no body"),
        pytest.param({"Body": "x" * 1601}, 21617, id="a body over 1600 characters"),
    ],
)
def test_what_twilio_would_refuse_is_refused(sandbox: Sandbox, changes: dict[str, str], code: int) -> None:
    form = {"To": ADA, "MessagingServiceSid": SERVICE, "Body": "x", **changes}

    assert create(sandbox, **form) == (400, code)
    assert sandbox.messages() == []


def test_a_call_without_credentials_is_refused(sandbox: Sandbox) -> None:
    assert create(sandbox, token="", To=ADA, MessagingServiceSid=SERVICE, Body="x") == (401, 20003)


def test_a_given_token_is_the_only_one_that_opens() -> None:
    with Sandbox(twilio_token="right") as sandbox:
        form = {"To": ADA, "MessagingServiceSid": SERVICE, "Body": "x"}
        assert create(sandbox, token="wrong", **form) == (401, 20003)
        assert create(sandbox, token="right", **form) == (201, 0)


def test_the_message_of_another_account_is_not_found(sandbox: Sandbox, twilio: Client) -> None:
    created = twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body="x")

    answer = requests.get(
        f"{sandbox.url}/2010-04-01/Accounts/ACother/Messages/{created.sid}.json",
        auth=("AC", "any"),
        timeout=5,
    )

    assert (answer.status_code, answer.json()["code"]) == (404, 20404)


def test_the_sdk_pages_through_a_list_while_new_messages_arrive(twilio: Client) -> None:
    for number in range(7):
        twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body=str(number))
    twilio.messages.create(to="+14155550999", messaging_service_sid=SERVICE, body="someone else")

    listed = twilio.messages.stream(to=ADA, page_size=3)
    bodies = [next(listed).body]
    twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body="late")
    bodies += [message.body for message in listed]

    assert bodies == ["6", "5", "4", "3", "2", "1", "0"]


def test_a_list_by_date_holds_what_left_within_it(twilio: Client, clock: StandingClock) -> None:
    for minute in (0, 10, 20):
        clock.now = NOON + timedelta(minutes=minute)
        twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body=str(minute))
    clock.now += timedelta(minutes=1)

    def bodies(**period: datetime) -> list[str | None]:
        return [message.body for message in twilio.messages.list(to=ADA, **period)]

    assert bodies(date_sent_after=NOON + timedelta(minutes=5)) == ["20", "10"]
    assert bodies(date_sent_before=NOON + timedelta(minutes=15)) == ["10", "0"]
    assert bodies(date_sent_after=NOON + timedelta(minutes=5), date_sent_before=NOON + timedelta(minutes=15)) == ["10"]


def test_a_date_alone_covers_its_whole_day(sandbox: Sandbox, twilio: Client, clock: StandingClock) -> None:
    twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body="x")
    clock.now += timedelta(minutes=1)

    def count(**query: str) -> int:
        answer = requests.get(
            f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
            params=query,
            auth=(ACCOUNT, "any"),
            timeout=5,
        )
        return len(answer.json()["messages"])

    assert count(**{"DateSent<": "2026-03-02"}) == 1
    assert count(**{"DateSent>": "2026-03-02"}) == 1
    assert count(DateSent="2026-03-02") == 1
    assert count(DateSent="2026-03-01") == 0


def test_a_message_that_has_not_left_yet_is_missed_by_a_list_by_date(twilio: Client) -> None:
    twilio.messages.create(to=ADA, messaging_service_sid=SERVICE, body="x")

    assert len(twilio.messages.list(to=ADA)) == 1
    assert twilio.messages.list(to=ADA, date_sent_after=NOON - timedelta(days=1)) == []
