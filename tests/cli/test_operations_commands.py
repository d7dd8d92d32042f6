import json

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.operations import heartbeats
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, WELCOME, message, send


def test_limits_are_shown_set_and_taken_back(runtime: Runtime, notifyctl: CommandLine) -> None:
    by_setting = {"NOTIFICATION_SMS_PER_MINUTE_LIMIT": "30"}
    shown = json.loads(notifyctl("limits", "show", "-f", "json", **by_setting).out)
    assert shown == [
        {"channel": "EMAIL", "per_minute_limit": 60, "source": "default", "used": 0, "waiting": 0},
        {"channel": "SMS", "per_minute_limit": 30, "source": "environment", "used": 0, "waiting": 0},
    ]
    ran = notifyctl("limits", "set", "email", "500")
    assert (ran.code, ran.err) == (0, "EMAIL is limited to 500 a minute.\n")
    assert json.loads(notifyctl("limits", "show", "-f", "json").out)[0]["per_minute_limit"] == 500
    with runtime.database.read() as session:
        limit = session.execute(text("SELECT channel, per_minute_limit FROM notification_outbound_limits")).one()
        audited = session.execute(text("SELECT count(*) FROM audit_log WHERE action = 'LIMIT_CHANGED'")).scalar_one()
    assert tuple(limit) == ("EMAIL", 500)
    assert audited == 1
    assert notifyctl("limits", "reset", "EMAIL").code == 0
    ran = notifyctl("limits", "reset", "EMAIL")
    assert ran.code == 4
    assert "no limit is set for EMAIL" in ran.err


@pytest.mark.parametrize("arguments", [("EMAIL", "0"), ("EMAIL", "1000000001"), ("EMAIL", "many"), ("FAX", "5")])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_limit_that_is_none_is_refused(runtime: Runtime, notifyctl: CommandLine, arguments: tuple[str, str]) -> None:
    ran = notifyctl("limits", "set", *arguments)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1


def test_pause_and_resume_say_what_they_hold_and_leave_audit_rows(runtime: Runtime, notifyctl: CommandLine) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    ran = notifyctl("pause", "--template", "WELCOME_EMAIL", "--reason", "wrong link")
    let_go = "`notifyctl resume --template WELCOME_EMAIL`"
    assert ran.err == f"Held: template WELCOME_EMAIL. 1 waiting message stays until {let_go}.\n"
    (row,) = json.loads(notifyctl("pause", "-f", "json").out)
    assert (row["template"], row["held"], row["reason"]) == ("WELCOME_EMAIL", 1, "wrong link")
    again = notifyctl("pause", "--template", "WELCOME_EMAIL", "--reason", "again").err
    assert again == f"Already held: template WELCOME_EMAIL; {let_go} lets it go.\n"
    ran = notifyctl("resume", "--template", "WELCOME_EMAIL")
    assert "1 waiting message goes out" in ran.err
    assert notifyctl("resume", "--template", "WELCOME_EMAIL").code == 4
    with runtime.database.read() as session:
        actions = session.execute(
            text("SELECT action FROM audit_log WHERE action IN ('PAUSED', 'RESUMED') ORDER BY id")
        )
        assert list(actions.scalars()) == ["PAUSED", "RESUMED"]


REFUSED = {
    "no reason": (["pause", "--channel", "SMS"], 2, "--reason is missing"),
    "a blank reason": (["pause", "--channel", "SMS", "--reason", " "], 2, "--reason is missing"),
    "no scope": (["pause", "--reason", "x"], 2, "say what: --channel"),
    "unknown template": (["pause", "--template", "NOPE", "--reason", "x"], 4, "'NOPE'"),
    "unknown client": (["pause", "--client", "nobody", "--reason", "x"], 4, "'nobody'"),
    "unknown channel": (["pause", "--channel", "FAX", "--reason", "x"], 2, "FAX"),
    "resume of nothing": (["resume"], 2, "say what: --channel"),
    "a channel to limit": (["limits", "set", "EMAL", "3"], 2, "notifyctl: CHANNEL 'EMAL' is unknown"),
    "a channel to reset": (["limits", "reset", "EMAL"], 2, "notifyctl: CHANNEL 'EMAL' is unknown"),
}


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_pause_or_limit_that_makes_no_sense_is_one_line(
    runtime: Runtime, notifyctl: CommandLine, arguments: list[str], code: int, words: str
) -> None:
    ran = notifyctl(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


def test_explain_names_the_pause_that_holds_a_message(runtime: Runtime, notifyctl: CommandLine) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    notifyctl("pause", "--channel", "EMAIL", "--reason", "provider incident")
    ran = notifyctl("messages", "explain", decision.message_id)
    assert "held by a pause of channel EMAIL (provider incident)" in ran.out
    assert message(runtime, decision.message_id).status == "QUEUED"


def test_workers_lists_who_is_at_work(runtime: Runtime, notifyctl: CommandLine) -> None:
    assert "No worker is running" in notifyctl("workers").err
    now = runtime.clock()
    with runtime.database.transaction() as session:
        about = {"host": "mail-1", "pid": 17, "version": "0.1.0", "started_at": now}
        heartbeats.beat(session, worker="mail-1:17:ab", now=now, stopping=False, **about)
    (row,) = json.loads(notifyctl("workers", "-f", "json").out)
    assert (row["worker"], row["state"], row["holds"]) == ("mail-1:17:ab", "working", 0)
