"""The filters of messages are the same on every face, and an id is found by a part of it."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from typer.main import get_command

import notifyctl.http.pages.page as pages
from notifyctl.bootstrap import Runtime
from notifyctl.cli.messages.messages import OPTIONS, app
from notifyctl.errors import ExitCode, InvalidInput, NotFound
from notifyctl.http.api.messages import LogQuery
from notifyctl.models.enums import MessageStatus
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.explain import SHORT
from notifyctl.orchestrator.filters import FILTERS, MessageFilters, find_message
from notifyctl.orchestrator.message_store import MessageFilter
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, REMINDER_SMS, RESET, WELCOME, fail, send

LIST = "-f", "json"


def test_the_command_line_the_api_and_the_page_have_the_same_filters() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    form = (Path(pages.__file__).parent / "templates" / "_filters.html").read_text()
    assert set(LogQuery.model_fields) - {"limit", "cursor"} == set(FILTERS) == set(OPTIONS)
    for command in ("list", "retry", "cancel"):
        names = {option for parameter in commands[command].params for option in parameter.opts}
        assert names >= set(OPTIONS.values()), command
    in_form = {name for name in FILTERS if re.search(rf'\("{name}"', form)}
    assert in_form == set(FILTERS)


@pytest.fixture
def sent(runtime: Runtime) -> list[str]:
    """Ids, the oldest first: a welcome, a reset, a reminder by SMS, a code, and a welcome that is blocked."""
    a_client(runtime)
    requests = [("WELCOME_EMAIL", WELCOME), ("PASSWORD_RESET", RESET), ("COMPLIANCE_EXPIRY_REMINDER_SMS", REMINDER_SMS)]
    decisions = [send(runtime, key, context) for key, context in requests]
    decisions.append(send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345679"))
    decisions.append(send(runtime, "WELCOME_EMAIL", WELCOME))
    return [decision.message_id for decision in decisions]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--reason", "rate_limited"], [4]),
        (["--channel", "sms"], [3, 2]),
        (["--template", "welcome_email"], [4, 0]),
        (["--client", "acme", "--lane", "BULK"], [2]),
        (["--lane", "urgent", "--channel", "EMAIL"], [1]),
        (["--to", "+49 151 12345679"], [3]),
        (["--since", "1h", "--until", "0s"], [4, 3, 2, 1, 0]),
        (["--until", "1h"], []),
        (["--client", "nobody"], []),
    ],
    ids=str,
)
def test_a_list_is_narrowed_by_what_operators_ask_for(
    runtime: Runtime, notifyctl: CommandLine, sent: list[str], arguments: list[str], found: list[int]
) -> None:
    listed = json.loads(notifyctl("messages", "list", *arguments, *LIST).out)
    assert [row["id"] for row in listed] == [sent[number] for number in found]


def test_retry_and_cancel_take_the_same_filters(runtime: Runtime, notifyctl: CommandLine, sent: list[str]) -> None:
    fail(runtime, sent[0])
    assert notifyctl("messages", "retry", "--lane", "BULK", "--yes").code == ExitCode.NOT_FOUND
    assert notifyctl("messages", "retry", "--to", "acme@client.example", "--yes").err == "1 message queued again.\n"
    assert notifyctl("messages", "cancel", "--channel", "SMS", "--yes").err == "2 messages canceled.\n"
    assert notifyctl("messages", "cancel", "--lane", "urgent", "--yes").err == "1 message canceled.\n"
    with runtime.database.read() as session:
        counts = message_store.count_by_status(session, MessageFilter())
    assert counts == {"QUEUED": 1, "CANCELED": 3, "BLOCKED": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "faild"], "--status 'faild' is unknown; did you mean FAILED? It is one of QUEUED, "),
        (["--reason", "SUPRESSED"], "--reason 'SUPRESSED' is unknown; did you mean SUPPRESSED?"),
        (["--channel", "MAIL"], "--channel 'MAIL' is unknown; did you mean EMAIL? It is one of EMAIL, SMS"),
        (["--lane", "x"], "--lane 'x' is unknown; it is one of URGENT, TRANSACTIONAL, BULK"),
        (["--since", "soon"], "--since 'soon' is not a time; write 2h, 7d, or 2026-03-01T12:00Z"),
        (["--until", "101y"], "--until '101y' is not a time; write 2h, 7d, or 2026-03-01T12:00Z"),
        (["--to", "x"], "--to 'x' cannot be looked for: the "),
    ],
    ids=str,
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_filter_that_is_not_understood_is_named_with_what_was_meant(
    runtime: Runtime, notifyctl: CommandLine, arguments: list[str], said: str
) -> None:
    for command in ("list", "cancel"):
        ran = notifyctl("messages", command, "--client", "acme", *arguments)
        assert (ran.code, ran.err[: len(said) + 11]) == (ExitCode.USAGE, f"notifyctl: {said}")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_is_asked_for_and_is_not_there_is_told(runtime: Runtime, notifyctl: CommandLine, sent: list[str]) -> None:
    ran = notifyctl("messages", "list", "--template", "WELCOME_EMAL")
    assert (ran.code, ran.err) == (
        ExitCode.NOT_FOUND,
        "notifyctl: there is no template 'WELCOME_EMAL'; did you mean WELCOME_EMAIL?"
        " `notifyctl templates list` shows those there are\n",
    )
    ran = notifyctl("messages", "list", "--client", "acm")
    assert (ran.code, ran.err) == (0, "No message matches: there is no client 'acm'; did you mean acme?\n")
    ran = notifyctl("messages", "cancel", "--client", "acmes", "--yes")
    assert ran.code == ExitCode.NOT_FOUND
    assert ran.err.endswith(": there is no client 'acmes'; did you mean acme?\n")
    assert notifyctl("messages", "list", "--status", "BOUNCED").err == "No message matches.\n"


def test_the_reader_says_nothing_of_what_was_written(runtime: Runtime) -> None:
    now = runtime.clock()
    reader = MessageFilters(runtime.keys, "DE", now)
    secret = "x7-secret"
    _, faults = reader.read(
        dict.fromkeys(("status", "reason", "channel", "lane", "recipient", "since", "until"), secret)
    )
    assert len(faults) == 7
    assert [words for words in faults.values() if secret in words] == []
    criteria, faults = reader.read({"status": "sent", "until": "1h"})
    assert (criteria.status, criteria.until, faults) == (MessageStatus.SENT, now - timedelta(hours=1), {})


def test_a_message_is_found_by_an_unambiguous_beginning_or_end_of_its_id(runtime: Runtime, sent: list[str]) -> None:
    with runtime.database.read() as session:
        for message_id in sent:
            digits = message_id.replace("-", "")
            parts = [message_id, message_id.upper(), digits, message_id[-SHORT:], message_id[-15:], digits[-20:]]
            assert {find_message(session, part).id for part in parts} == {message_id}
        whole = sent[0]
        others = [message_id for message_id in sent if message_id != whole]
        length = next(n for n in range(6, 37) if not any(other.startswith(whole[:n]) for other in others))
        assert find_message(session, whole[:length]).id == whole
        assert find_message(session, "last").id == sent[-1]


def test_an_end_is_looked_for_among_the_newest_first(runtime: Runtime, sent: list[str]) -> None:
    """A quarter of a million ids are read at once; 30 million are not, unless that found nothing."""
    asked: list[object] = []
    event.listen(runtime.database.engine, "after_cursor_execute", lambda *given: asked.append(given[2]))
    ends = {message_id: message_id.replace("-", "")[-SHORT:] for message_id in (sent[0], sent[-1])}
    with runtime.database.read() as session:
        for digits, message_id, statements in [
            (sent[0].replace("-", "")[:28], sent[0], 1),
            (ends[sent[-1]], sent[-1], 2),
            (ends[sent[0]], sent[0], 3),
        ]:
            asked.clear()
            assert message_store.ids_like(session, digits, 4, newest=1) == [message_id]
            assert sum("message_log" in str(statement) for statement in asked) == statements


def test_a_part_that_fits_several_or_none_is_refused(runtime: Runtime, sent: list[str]) -> None:
    with runtime.database.read() as session:
        with pytest.raises(
            InvalidInput, match=rf"'{sent[0][:8]}' is the beginning or end of several messages, .+ more"
        ):
            find_message(session, sent[0][:8])
        for part in ("abcde", "17", "c0ffee-g", "%" * 8, "0" * 33, ""):
            with pytest.raises(InvalidInput, match="its beginning or end of 6 digits or more, or last"):
                find_message(session, part)
        with pytest.raises(NotFound, match="there is no message c0ffee00c0ffee"):
            find_message(session, "c0ffee00c0ffee")


def test_commands_take_parts_of_ids(runtime: Runtime, notifyctl: CommandLine, sent: list[str]) -> None:
    short = sent[1][-SHORT:]
    assert json.loads(notifyctl("messages", "show", short, *LIST).out)["id"] == sent[1]
    assert json.loads(notifyctl("messages", "explain", short, *LIST).out)["id"] == sent[1]
    assert json.loads(notifyctl("audit", "list", "--message", short, *LIST).out)[0]["message_id"] == sent[1]
    assert notifyctl("messages", "cancel", short, sent[2][-SHORT:], "--yes").err == "2 messages canceled.\n"
