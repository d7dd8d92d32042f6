from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from notifyctl.text.durations import iso
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import REMINDER_SMS, RESET, WELCOME, actions, message, send

LOGS = "/api/admin/message-logs"


@pytest.fixture
def sent(api: Api) -> list[str]:
    """Ids, the oldest first: a welcome, a reset, two reminders, and a welcome that is blocked."""
    a_client(api.runtime)
    a_client(api.runtime, "bolt", phone_e164="+4915100000000")
    decisions = [
        send(api.runtime, "WELCOME_EMAIL", WELCOME),
        send(api.runtime, "PASSWORD_RESET", RESET),
        send(api.runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS),
        send(api.runtime, "COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS, client_id="bolt"),
        send(api.runtime, "WELCOME_EMAIL", WELCOME),
    ]
    return [decision.message_id for decision in decisions]


def _ids(api: Api, key: str, **query: Any) -> list[str]:
    answer = api.get(LOGS, key, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def test_messages_come_newest_first(api: Api, reader: str, sent: list[str]) -> None:
    assert _ids(api, reader) == sent[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "BLOCKED"}, [4]),
        ({"reason": "RATE_LIMITED"}, [4]),
        ({"channel": "SMS"}, [3, 2]),
        ({"template_key": "WELCOME_EMAIL"}, [4, 0]),
        ({"client_id": "bolt"}, [3]),
        ({"channel": "EMAIL", "status": "QUEUED"}, [1, 0]),
        ({"recipient": "ACME@client.example"}, [4, 1, 0]),
        ({"recipient": "+49 151 0000 0000"}, [3]),
        ({"recipient": "nobody@client.example"}, []),
        ({"reason": "NO_SUCH"}, []),
        ({"lane": "BULK"}, [3, 2]),
        ({"limit": 2}, [4, 3]),
    ],
    ids=str,
)
def test_filters_narrow_the_list(
    api: Api, reader: str, sent: list[str], query: dict[str, Any], found: list[int]
) -> None:
    assert _ids(api, reader, **query) == [sent[number] for number in found]


def test_since_includes_its_moment_and_until_does_not(api: Api, reader: str, sent: list[str]) -> None:
    moments = [message(api.runtime, message_id).created_at for message_id in sent]
    assert len(set(moments)) == len(moments)

    assert _ids(api, reader, since=moments[3].isoformat()) == sent[:2:-1]
    assert _ids(api, reader, until=moments[3].isoformat()) == sent[2::-1]
    assert _ids(api, reader, since=moments[1].isoformat(), until=moments[3].isoformat()) == [sent[2], sent[1]]
    assert _ids(api, reader, since=iso(moments[0] + timedelta(hours=1))) == []


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01", "2026-03-01T12:00"]
)
def test_any_moment_of_the_calendar_can_be_asked_about(api: Api, reader: str, sent: list[str], moment: str) -> None:
    assert api.get(LOGS, reader, params={"since": moment, "until": moment}).json()["items"] == []


def test_pages_show_every_message_once_also_while_others_are_accepted(api: Api, reader: str, sent: list[str]) -> None:
    seen, cursor = [], None
    while True:
        page = api.get(LOGS, reader, params={"limit": 2, "cursor": cursor}).json()
        seen += [item["id"] for item in page["items"]]
        send(api.runtime, "PASSWORD_RESET", RESET, client_id="bolt")
        if (cursor := page["next_cursor"]) is None:
            break

    assert seen == sent[::-1]


def test_a_cursor_keeps_to_the_filter_that_is_given_with_it(api: Api, reader: str, sent: list[str]) -> None:
    first = api.get(LOGS, reader, params={"limit": 1, "channel": "SMS"}).json()
    second = api.get(LOGS, reader, params={"limit": 1, "channel": "SMS", "cursor": first["next_cursor"]}).json()

    assert [item["id"] for item in second["items"]] == [sent[2]]
    assert second["next_cursor"] is None


SENSELESS = [
    ("status=queued", "status"),
    ("channel=FAX", "channel"),
    ("limit=0", "limit"),
    ("limit=201", "limit"),
    ("limit=" + "9" * 5_000, "limit"),
    ("limit=ten", "limit"),
    ("since=yesterday", "since"),
    ("since=1", "since"),
    ("until=2026-13-01", "until"),
    ("cursor=c4n4ry", "cursor"),
    ("cursor=" + "%00" * 22, "cursor"),
    ("recipient=c4n4ry", "recipient"),
    ("recipient=c4n4ry@", "recipient"),
    ("client_id=%00", "client_id"),
    ("reason=", "reason"),
    ("statsu=c4n4ry", "statsu"),
    ("status=SENT&status=FAILED", "status"),
    ("limit=1&c4n4ry%20x=1&limit=1", "limit"),
]


def test_a_question_that_makes_no_sense_is_422_by_its_name(api: Api, reader: str) -> None:
    answers = [(field, api.get(f"{LOGS}?{query}", reader)) for query, field in SENSELESS]

    assert {answer.status_code for _, answer in answers} == {422}
    assert [field for field, answer in answers if not answer.json()["message"].startswith(f"{field}: ")] == []
    assert "c4n4ry" not in "".join(answer.text for _, answer in answers)


def test_recipients_are_masked_without_the_scope_admin(api: Api, reader: str, admin: str, sent: list[str]) -> None:
    masked = api.get(LOGS, reader).json()["items"]
    whole = api.get(LOGS, admin).json()["items"]

    assert {item["recipient"] for item in masked} == {"a***@client.example", "+49*********78", "+49*********00"}
    assert {item["recipient"] for item in whole} == {"acme@client.example", "+4915112345678", "+4915100000000"}
    for address in ("acme@client.example", "4915112345678"):
        assert address not in api.get(f"{LOGS}?limit=200", reader).text


def test_one_message_comes_with_its_audit_trail(api: Api, reader: str, sent: list[str]) -> None:
    entry = api.get(f"{LOGS}/{sent[4]}", reader).json()

    assert (entry["id"], entry["reason"]) == (sent[4], "RATE_LIMITED")
    assert [row["action"] for row in entry["audit"]] == actions(api.runtime, sent[4]) == ["NOTIFICATION_BLOCKED"]
    assert entry["audit"][0]["metadata"]["reason"] == "RATE_LIMITED"
    assert entry["audit"][0]["actor"] == "api"


def test_a_list_says_of_a_message_what_the_message_itself_says(api: Api, reader: str, sent: list[str]) -> None:
    item = api.get(f"{LOGS}?limit=1", reader).json()["items"][0]
    entry = api.get(f"{LOGS}/{quote(item['id'])}", reader).json()

    assert item == {name: value for name, value in entry.items() if name != "audit"}
