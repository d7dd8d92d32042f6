import gzip
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic

import pytest

from notifyctl.models.enums import FailureReason, SuppressionReason
from notifyctl.providers.contract import Accepted, Rejected, SendResult, Unavailable, Unknown
from notifyctl.providers.postmark.sender import PostmarkSender
from notifyctl.sandbox import Email, Sandbox
from tests.support.providers import ADDRESS, collect_all, mail, postmark_sender, send
from tests.support.providers import mail_item as item
from tests.support.providers import mails_accepted as accepted
from tests.support.scripted_server import (
    CUT_AFTER_READING,
    HANG,
    STOP_READING,
    Bytes,
    Reply,
    Request,
    Script,
    ScriptedServer,
)

INACTIVE = (
    "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
    f"{ADDRESS}. Inactive recipients are ones that have generated {{}}."
)

Make = Callable[..., PostmarkSender]


@pytest.fixture
def make() -> Iterator[Make]:
    senders: list[PostmarkSender] = []

    def make(api_url: str, **values: object) -> PostmarkSender:
        senders.append(postmark_sender(api_url, **values))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


def recipients(request: Request) -> list[str]:
    return [email["To"] for email in json.loads(request.body)]


class TestAcceptedMessages:
    def test_the_sandbox_gets_the_message_whole(self, make: Make) -> None:
        with Sandbox() as sandbox:
            results = send(make(sandbox.url), mail("019a", html="<p>Reset it</p>"))
            (arrived,) = sandbox.messages()
        assert isinstance(arrived, Email)
        assert results == {"019a": Accepted(arrived.id)}
        assert (arrived.recipients, arrived.subject, arrived.html) == (
            (ADDRESS,),
            "Your password",
            "<p>Reset it</p>",
        )
        assert (arrived.sender.email, arrived.reply_to) == ("hello@acme.example", "support@acme.example")
        assert (arrived.tag, arrived.stream) == ("PASSWORD_RESET", "outbound")
        assert arrived.metadata == {"message_id": "019a"}
        assert [tuple(header) for header in arrived.headers] == [("X-Auto-Response-Suppress", "OOF, AutoReply")]

    def test_links_are_not_tracked_and_what_is_unset_is_left_out(self, make: Make) -> None:
        with ScriptedServer(accepted("pm-1")) as server:
            send(make(server.url, reply_to=None), mail())
        (email,) = json.loads(server.requests[0].body)
        assert email["TrackLinks"] == "None"
        assert "ReplyTo" not in email
        assert "HtmlBody" not in email
        assert email["Attachments"] == []

    def test_500_messages_are_one_call_and_each_answer_finds_its_message(self, make: Make) -> None:
        with Sandbox() as sandbox:
            results = send(make(sandbox.url), *(mail(f"m{n}", f"u{n}@client.example") for n in range(500)))
            arrived = {m.metadata["message_id"]: m.id for m in sandbox.messages() if isinstance(m, Email)}
            assert sandbox.calls == 1
        assert results == {f"m{n}": Accepted(arrived[f"m{n}"]) for n in range(500)}

    def test_a_connection_that_the_server_closed_while_it_was_idle_is_replaced(self, make: Make) -> None:
        with ScriptedServer(Bytes(accepted("pm-1").encoded()), accepted("pm-2")) as server:
            sender = make(server.url)
            assert send(sender, mail()) == {"m1": Accepted("pm-1")}
            server.wait_until_disconnected()
            assert send(sender, mail()) == {"m1": Accepted("pm-2")}
        assert server.connections == 2


class TestSlots:
    def test_nothing_is_free_until_the_batch_is_collected(self, make: Make) -> None:
        with ScriptedServer(accepted("pm-1", "pm-2")) as server:
            sender = make(server.url)
            assert (sender.free, sender.in_flight) == (500, 0)
            sender.submit([mail("m1"), mail("m2")])
            assert (sender.free, sender.in_flight) == (0, 2)
            with pytest.raises(ValueError, match="1 message submitted, 0 are taken now"):
                sender.submit([mail("m3")])
            assert len(collect_all(sender)) == 2
            assert (sender.free, sender.in_flight) == (500, 0)

    def test_submitting_returns_at_once_and_collecting_no_later_than_asked(self, make: Make) -> None:
        with ScriptedServer(HANG) as server:
            sender = make(server.url, timeout_seconds=1.0)
            started = monotonic()
            sender.submit([mail()])
            assert monotonic() - started < 0.1
            assert sender.collect(0.2) == []
            assert 0.15 < monotonic() - started < 0.8


NO_ID = "00000000-0000-0000-0000-000000000000"
UNREADABLE_ITEM = Unknown("UNREADABLE_ANSWER", "Neither an ErrorCode nor a MessageID")

ITEMS: dict[str, tuple[object, SendResult]] = {
    "accepted": (item("pm-9"), Accepted("pm-9")),
    "an invalid address, which is not repeated": (
        item(code=300, message=f"Invalid 'To' address: '{ADDRESS}'."),
        Rejected(FailureReason.RECIPIENT_INVALID, "300", "Invalid 'To' address: '[address]'."),
    ),
    "an invalid sender": (
        item(code=300, message="Invalid 'From' address: 'hello'."),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "300", "Invalid 'From' address: 'hello'."),
    ),
    "another invalid field": (
        item(code=300, message="Metadata is too long."),
        Rejected(FailureReason.CONTENT_REJECTED, "300", "Metadata is too long."),
    ),
    "out of credits": (
        item(code=405, message="Not allowed to send."),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "405", "Not allowed to send."),
    ),
    "down for maintenance": ({"ErrorCode": 100, "Message": "Down"}, Unavailable("100", "Down")),
    "a code that nobody knows": (
        {"ErrorCode": 9999, "Message": "New"},
        Rejected(FailureReason.UNKNOWN, "9999", "New"),
    ),
    "a code that nobody knows, and yet an id": (
        item("pm-9", code=9999, message="New"),
        Unknown("9999", "New (but it has a MessageID)"),
    ),
    "delayed, without a code": (
        {"Message": "Message accepted, but delivery may be delayed.", "MessageID": "pm-9", "To": ADDRESS},
        Accepted("pm-9"),
    ),
    "a code that is null": ({"ErrorCode": None, "MessageID": "pm-9"}, Accepted("pm-9")),
    "a code as text": ({"ErrorCode": "0", "MessageID": "pm-9"}, Accepted("pm-9")),
    "a code that is a truth value": ({"ErrorCode": False, "MessageID": "pm-9"}, Accepted("pm-9")),
    "a code that nobody can read": ({"ErrorCode": {"x": 1}, "MessageID": "pm-9"}, Accepted("pm-9")),
    "accepted without an id": ({"ErrorCode": 0, "Message": "OK"}, Accepted(None)),
    "accepted under an id that is none": ({"ErrorCode": 0, "MessageID": NO_ID}, Accepted(None)),
    "a refusal as text": (
        {"ErrorCode": "405", "Message": "Not allowed to send."},
        Rejected(FailureReason.ACCOUNT_PROBLEM, "405", "Not allowed to send."),
    ),
    "down for maintenance, and yet an id": (
        item("pm-9", code=100, message="Down"),
        Unknown("100", "Down (but it has a MessageID)"),
    ),
    "neither code nor id": ({"Message": "OK"}, UNREADABLE_ITEM),
    "a code that nobody can read and no id": ({"ErrorCode": "E1", "MessageID": ""}, UNREADABLE_ITEM),
    "an id that is none": ({"MessageID": NO_ID}, UNREADABLE_ITEM),
    "no object": ("OK", UNREADABLE_ITEM),
}

CAUSES = {
    "a hard bounce": SuppressionReason.HARD_BOUNCE,
    "a spam complaint": SuppressionReason.COMPLAINT,
    "a manual suppression": SuppressionReason.OPTED_OUT,
    "a hard bounce, a spam complaint, or a manual suppression": SuppressionReason.INACTIVE,
    "something new": SuppressionReason.INACTIVE,
}


class TestItemsOfABatch:
    @pytest.mark.parametrize(("answer", "expected"), ITEMS.values(), ids=ITEMS)
    def test_each_message_has_its_own_result(self, make: Make, answer: object, expected: SendResult) -> None:
        with ScriptedServer(Reply(200, [item("pm-1"), answer, item("pm-3")])) as server:
            results = send(make(server.url), mail("m1"), mail("m2"), mail("m3"))
        assert results == {"m1": Accepted("pm-1"), "m2": expected, "m3": Accepted("pm-3")}

    @pytest.mark.parametrize(("cause", "suppression"), CAUSES.items(), ids=CAUSES)
    def test_an_inactive_recipient_is_suppressed_for_the_cause_that_is_named(
        self, make: Make, cause: str, suppression: SuppressionReason
    ) -> None:
        with ScriptedServer(Reply(200, [item(code=406, message=INACTIVE.format(cause))])) as server:
            result = send(make(server.url), mail())["m1"]
        assert isinstance(result, Rejected)
        assert result.suppress is suppression
        only_a_bounce = suppression is SuppressionReason.HARD_BOUNCE
        assert result.reason is FailureReason["RECIPIENT_INVALID" if only_a_bounce else "RECIPIENT_OPTED_OUT"]
        assert ADDRESS not in result.detail

    @pytest.mark.parametrize("status", [200, 201, 202, 207])
    def test_any_success_is_read_by_its_items(self, make: Make, status: int) -> None:
        with ScriptedServer(Reply(status, [item("pm-1"), {"ErrorCode": 405, "Message": "No"}])) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert results == {"m1": Accepted("pm-1"), "m2": Rejected(FailureReason.ACCOUNT_PROBLEM, "405", "No")}

    @pytest.mark.parametrize("status", [413, 422, 429, 500, 502])
    def test_an_id_proves_acceptance_whatever_the_status_beside_it(self, make: Make, status: int) -> None:
        with ScriptedServer(Reply(status, [item("pm-1"), {"ErrorCode": 405, "Message": "No"}])) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert results == {"m1": Accepted("pm-1"), "m2": Rejected(FailureReason.ACCOUNT_PROBLEM, "405", "No")}
        assert len(server.requests) == 1

    @pytest.mark.parametrize("length", [999, 5_000])
    def test_an_answer_whose_length_is_wrong_is_read_where_all_of_it_is_there(self, make: Make, length: int) -> None:
        reply = Reply(200, [item("pm-1"), item("pm-2")], {"Content-Length": str(length)})
        with ScriptedServer(Bytes(reply.encoded())) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert results == {"m1": Accepted("pm-1"), "m2": Accepted("pm-2")}

    def test_an_answer_that_something_has_compressed_is_read(self, make: Make) -> None:
        body = gzip.compress(json.dumps([item("pm-1")]).encode())
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        with ScriptedServer(Bytes(head.encode() + body)) as server:
            assert send(make(server.url), mail()) == {"m1": Accepted("pm-1")}

    def test_the_one_message_of_a_call_may_be_answered_without_a_list(self, make: Make) -> None:
        with ScriptedServer(Reply(200, item("pm-1"))) as server:
            assert send(make(server.url), mail()) == {"m1": Accepted("pm-1")}

    def test_a_refusal_beside_200_is_one_of_all(self, make: Make) -> None:
        with ScriptedServer(Reply(200, {"ErrorCode": 10, "Message": "Token"})) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert set(results.values()) == {Rejected(FailureReason.ACCOUNT_PROBLEM, "10", "Token")}

    @pytest.mark.parametrize(
        ("named", "expected"),
        [
            ("cab", {"a": "pm-a", "b": "pm-b", "c": "pm-c"}),
            ("ba", {"a": "pm-a", "b": "pm-b", "c": None}),
            ("abcx", {"a": "pm-a", "b": "pm-b", "c": "pm-c"}),
            ("abbc", {"a": "pm-a", "b": None, "c": "pm-c"}),
            ("", {"a": None, "b": None, "c": None}),
            ("xyz", {"a": "pm-x", "b": "pm-y", "c": "pm-z"}),
        ],
        ids=["another order", "too few", "too many", "one twice", "none", "spelled otherwise"],
    )
    def test_answers_that_do_not_fit_are_read_by_the_recipients_they_name(
        self, make: Make, named: str, expected: dict[str, str | None]
    ) -> None:
        answer = [{"ErrorCode": 0, "MessageID": f"pm-{who}", "To": f"{who.upper()}@x.example"} for who in named]
        with ScriptedServer(Reply(200, answer)) as server:
            results = send(make(server.url), *(mail(who, f"{who}@x.example") for who in "abc"))
        found = {who: result.provider_message_id for who, result in results.items() if isinstance(result, Accepted)}
        assert found == {who: pm for who, pm in expected.items() if pm}
        assert all(isinstance(result, Accepted | Unknown) for result in results.values())

    def test_two_to_one_recipient_and_one_answer_are_both_in_doubt(self, make: Make) -> None:
        with ScriptedServer(Reply(200, [item("pm-1")])) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert [type(result) for result in results.values()] == [Unknown, Unknown]

    def test_a_message_without_a_body_fails_alone(self, make: Make) -> None:
        with ScriptedServer(accepted("pm-1")) as server:
            results = send(make(server.url), mail("empty", text=""), mail("full"))
        assert results == {
            "empty": Rejected(FailureReason.CONTENT_REJECTED, "EMPTY_BODY", "Neither text nor HTML"),
            "full": Accepted("pm-1"),
        }


MAY_HAVE_GONE_OUT: dict[str, Script] = {
    "200 with one object for two": Reply(200, item()),
    "200 with too short a list": Reply(200, [item()]),
    "200 with too long a list": Reply(200, [item(), item(), item()]),
}

DID_NOT_GO_OUT: dict[str, tuple[Reply, Unavailable]] = {
    "429 with Retry-After": (
        Reply(429, {"ErrorCode": 429, "Message": "Slow down"}, {"Retry-After": "30"}),
        Unavailable("429", "Slow down", timedelta(seconds=30)),
    ),
    "500 with Postmark's own error": (
        Reply(500, {"ErrorCode": 1, "Message": "Our fault"}),
        Unavailable("1", "Our fault"),
    ),
    "502 with Postmark's own error": (
        Reply(502, {"ErrorCode": 100, "Message": "Maintenance"}),
        Unavailable("100", "Maintenance"),
    ),
    "422 with a transient code": (
        Reply(422, {"ErrorCode": 100, "Message": "Maintenance"}),
        Unavailable("100", "Maintenance"),
    ),
}

NEVER_WILL: dict[str, tuple[Reply, Rejected]] = {
    "wrong token": (
        Reply(401, {"ErrorCode": 10, "Message": "No Account or Server API tokens were supplied"}),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "10", "No Account or Server API tokens were supplied"),
    ),
    "a code as text": (
        Reply(401, {"ErrorCode": "10", "Message": "No token"}),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "10", "No token"),
    ),
    "an account that may not send": (
        Reply(422, {"ErrorCode": 413, "Message": "Not approved"}),
        Rejected(FailureReason.ACCOUNT_PROBLEM, "413", "Not approved"),
    ),
}


class TestAnswersThatAreNone:
    @pytest.mark.parametrize("script", MAY_HAVE_GONE_OUT.values(), ids=MAY_HAVE_GONE_OUT)
    def test_what_may_have_gone_out_is_unknown_for_every_message(self, make: Make, script: Script) -> None:
        with ScriptedServer(script) as server:
            results = send(make(server.url, timeout_seconds=0.5), mail("m1"), mail("m2"))
        assert [type(result) for result in results.values()] == [Unknown, Unknown]
        assert len(server.requests) <= 1


class TestMessagesThatDidNotGoOut:
    def test_a_request_of_which_the_server_cannot_have_seen_the_end(self, make: Make) -> None:
        with ScriptedServer(STOP_READING) as server:
            result = send(make(server.url, timeout_seconds=0.5), mail(text="x" * 30_000_000))["m1"]
        assert isinstance(result, Unavailable)
        assert result.code == "OPERATION_TIMEDOUT"

    @pytest.mark.parametrize(("reply", "expected"), DID_NOT_GO_OUT.values(), ids=DID_NOT_GO_OUT)
    def test_an_answer_that_invites_to_try_again(self, make: Make, reply: Reply, expected: Unavailable) -> None:
        with ScriptedServer(reply) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert results == {"m1": expected, "m2": expected}
        assert len(server.requests) == 1


class TestMessagesThatNeverWill:
    @pytest.mark.parametrize(("reply", "expected"), NEVER_WILL.values(), ids=NEVER_WILL)
    def test_a_refused_account_fails_every_message_in_one_call(
        self, make: Make, reply: Reply, expected: Rejected
    ) -> None:
        with ScriptedServer(reply) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert results == {"m1": expected, "m2": expected}
        assert len(server.requests) == 1


TOO_LARGE = Reply(413, "<html>Request Entity Too Large</html>")
MALFORMED = Reply(422, {"ErrorCode": 402, "Message": "Malformed"})


class TestOneBadMessage:
    @pytest.mark.parametrize("refusal", [TOO_LARGE, MALFORMED], ids=["413", "422"])
    def test_it_is_found_by_halving_and_the_others_go_out(self, make: Make, refusal: Reply) -> None:
        script = (refusal, accepted("pm-1", "pm-2"), refusal, refusal, accepted("pm-4"))
        with ScriptedServer(*script) as server:
            results = send(make(server.url), *(mail(f"m{n}", f"u{n}@client.example") for n in (1, 2, 3, 4)))
        assert [recipients(request)[0][1] + recipients(request)[-1][1] for request in server.requests] == [
            "14",
            "12",
            "34",
            "33",
            "44",
        ]
        bad = results.pop("m3")
        assert isinstance(bad, Rejected)
        assert bad.reason is FailureReason.CONTENT_REJECTED
        assert results == {"m1": Accepted("pm-1"), "m2": Accepted("pm-2"), "m4": Accepted("pm-4")}

    def test_a_failure_of_one_half_says_nothing_about_the_other(self, make: Make) -> None:
        with ScriptedServer(TOO_LARGE, CUT_AFTER_READING, accepted("pm-2")) as server:
            results = send(make(server.url), mail("m1"), mail("m2"))
        assert isinstance(results["m1"], Unknown)
        assert results["m2"] == Accepted("pm-2")

    def test_what_has_no_turn_before_the_time_is_up_did_not_go_out(self, make: Make) -> None:
        with ScriptedServer(TOO_LARGE, HANG) as server:
            started = monotonic()
            results = send(make(server.url, timeout_seconds=0.5), mail("m1"), mail("m2"))
            assert monotonic() - started < 2
        assert isinstance(results["m1"], Unknown)
        assert results["m2"] == Unavailable(
            "OUT_OF_TIME", "The batch had to be sent in parts, and this part's turn never came"
        )
