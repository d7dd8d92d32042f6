"""What is wrong, in words, and that it stays in sight on a small terminal."""

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from notifyctl.alerts.spikes.store import Attempts
from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.cli.health.view import overview
from notifyctl.health import summary
from notifyctl.health.problems import folded, problems
from notifyctl.health.reports import Backlog
from notifyctl.health.summary import Health, Paused, Spike
from notifyctl.models.enums import AuditAction, Channel
from notifyctl.operations import breakers
from notifyctl.operations.problem import Code, Gravity, Problem
from tests.support.messages import a_worker
from tests.support.plain_health import NOW, S, history, write

PAUSE = Paused(None, None, client_id="acme", reason="they asked", actor="m", since=NOW - timedelta(minutes=3), held=0)
SPIKE = Spike("EMAIL", "CRITICAL", since=NOW - timedelta(minutes=30), problem="as of then: 6 of 10")
LOGS = "`notifyctl messages list --status FAILED` shows which; `messages explain ID` why"


@pytest.fixture(autouse=True)
def _somebody_is_at_work(request: pytest.FixtureRequest) -> None:
    if "runtime" in request.fixturenames:
        a_worker(request.getfixturevalue("runtime"), now=NOW)


def look(runtime: Runtime, **changed: Any) -> Health:
    with runtime.database.read() as session:
        return replace(summary.read_health(session, runtime.settings, NOW, timedelta(hours=1)), **changed)


def a_note(text: str) -> Problem:
    return Problem(Gravity.NOTE, text, Code.PAUSED)


def some_failed(runtime: Runtime, *, failed: int, sent: int, minutes_ago: int = 8, **more: Any) -> None:
    row = history(3, 1)[0] | {"channel": Channel.EMAIL, "next_attempt_at": None, "throttled_at": None}
    row |= {"created_at": NOW - timedelta(minutes=59), "sent_at": None, "delivered_at": None, "finished_at": None}
    moment = NOW - timedelta(minutes=minutes_ago)
    failures = [{**row, "status": S.FAILED, "reason": "UNKNOWN", "finished_at": moment, **more}] * failed
    successes = [{**row, "status": S.SENT, "reason": None, "sent_at": moment}] * sent
    numbered = enumerate([*failures, *successes])
    write(runtime, [row | {"id": f"0198c7b2-0000-7000-8000-{number:012x}"} for number, row in numbered])


@pytest.mark.parametrize(
    ("failed", "sent", "is_told"), [(6, 4, True), (5, 45, True), (5, 46, False), (4, 0, False), (0, 9, False)]
)
def test_a_channel_that_fails_is_told_of_though_no_monitor_has_run(
    runtime: Runtime, failed: int, sent: int, is_told: bool
) -> None:
    some_failed(runtime, failed=failed, sent=sent)
    percent = f"{100 * failed / (failed + sent):.1f}%"
    tried = failed + sent
    text = f"EMAIL is failing: attempts at {failed} of {tried} messages failed in the last 15 min ({percent})"
    problem = Problem(Gravity.WARNING, text, Code.FAILING, LOGS, Channel.EMAIL)

    assert problems(look(runtime)) == ([problem] if is_told else [])
    told = summary.summary(look(runtime), [])
    assert told.failing == {Channel.EMAIL: failed, Channel.SMS: 0}


@pytest.mark.parametrize(
    ("failed", "waiting", "status"),
    [
        (6, Backlog(retrying=4), "FAILED"),
        (0, Backlog(retrying=6), "RETRY_SCHEDULED"),
        (0, Backlog(in_doubt=6), "IN_DOUBT"),
        (0, Backlog(), "FAILED"),
    ],
)
def test_which_messages_fail_is_looked_for_where_they_are(
    runtime: Runtime, failed: int, waiting: Backlog, status: str
) -> None:
    """In the first minutes of an outage nothing is FAILED yet: such a list would be empty, or about another channel."""
    some_failed(runtime, failed=failed, sent=0)
    lately = {Channel.EMAIL: Attempts(6, 0), Channel.SMS: Attempts(0, 0)}
    found = problems(look(runtime, lately=lately, backlog={Channel.EMAIL: waiting, Channel.SMS: Backlog()}))

    assert f"`notifyctl messages list --status {status}` shows which" in found[0].remedy


PAUSED_EMAIL = replace(PAUSE, channel="EMAIL", client_id=None)


@pytest.mark.parametrize(
    ("waiting", "held", "is_run", "remedy"),
    [
        (3, [], True, "one message probes it at a time"),
        (3, [PAUSE], True, "one message probes it at a time"),
        (0, [], True, "the next message will probe it"),
        (3, [PAUSED_EMAIL], True, "nobody probes it while the channel is paused"),
        (3, [], False, "nobody probes it while no worker is running"),
    ],
)
def test_that_a_provider_is_probed_is_said_only_where_somebody_does(
    runtime: Runtime, waiting: int, held: list[Any], is_run: bool, remedy: str
) -> None:
    with runtime.database.transaction() as session:
        breakers.open_(session, Channel.EMAIL, reason="503", now=NOW - timedelta(minutes=25), probe_at=NOW)
    found = look(runtime, paused=held, backlog={Channel.EMAIL: Backlog(retrying=waiting), Channel.SMS: Backlog()})
    if not is_run:
        found = replace(found, workers=0, installation=replace(found.installation, workers=0))
    [problem] = [one for one in problems(found) if one.code is Code.PROVIDER_DOWN]

    assert problem.remedy.startswith(f"look at status.postmarkapp.com; {remedy}")


def test_of_what_the_monitor_has_raised_only_since_when_is_told(runtime: Runtime) -> None:
    some_failed(runtime, failed=12, sent=4)
    [problem] = problems(look(runtime, spikes=[replace(SPIKE, level="WARN")]))

    assert problem.gravity is Gravity.CRITICAL
    assert problem.text == (
        "EMAIL is failing since 11:37:31Z: attempts at 12 of 16 messages failed in the last 15 min (75.0%)"
    )
    assert problem.since == SPIKE.since


@pytest.mark.parametrize(
    ("last_failed", "told"),
    [(timedelta(), "(80.0%)"), (timedelta(seconds=30), "(80.0%); none failed after 11:59:01Z, and 3 were sent")],
    ids=["together", "earlier"],
)
def test_what_may_be_over_is_told_with_its_last_failure_and_what_went_out_since(
    runtime: Runtime, last_failed: timedelta, told: str
) -> None:
    """The rate of a window says for a quarter of an hour that a channel fails, however well it sends by now."""
    some_failed(runtime, failed=12, sent=3, minutes_ago=8)
    at, message_id = NOW - timedelta(minutes=8) - last_failed, "0198c7b2-0000-7000-8000-000000000000"
    with runtime.database.transaction() as session:
        for earlier in (0, 1):
            moment = at - timedelta(minutes=earlier)
            audit_log.write(
                session, AuditAction.NOTIFICATION_FAILED, actor="w", message_id=message_id, details={}, now=moment
            )
    [problem] = problems(look(runtime))

    assert problem.code is Code.FAILING
    assert problem.text.endswith(told)


def test_a_channel_that_has_recovered_is_not_called_failing_until_the_monitor_runs(runtime: Runtime) -> None:
    some_failed(runtime, failed=0, sent=3)
    [problem] = problems(look(runtime, spikes=[SPIKE]))

    assert (problem.gravity, problem.code) == (Gravity.NOTE, Code.RECOVERING)
    assert problem.text.startswith("EMAIL has recovered, having failed since 11:37:31Z")


def test_silence_is_no_success(runtime: Runtime) -> None:
    [problem] = problems(look(runtime, spikes=[SPIKE]))

    assert (problem.gravity, problem.code) == (Gravity.CRITICAL, Code.RECOVERING)
    assert "nothing has been sent lately that would show that it is over" in problem.text
    assert problem.remedy == "`notifyctl templates send KEY --to ADDRESS` sends one as a test"


@pytest.mark.parametrize(("failed_lately", "gravity"), [(0, Gravity.NOTE), (1, Gravity.WARNING)])
def test_failures_that_are_over_are_worth_a_note_and_a_trickle_more(
    runtime: Runtime, failed_lately: int, gravity: Gravity
) -> None:
    some_failed(runtime, failed=6, sent=4, minutes_ago=40)
    lately = {channel: Attempts(failed_lately, 0) for channel in Channel}
    [problem] = problems(look(runtime, lately=lately))

    assert problem.gravity is gravity
    assert problem.text.startswith("EMAIL: 6 of 10 failed in the last 1 h (60.0%)")


def test_with_its_provider_down_there_is_one_line_and_no_worker_is_blamed(runtime: Runtime) -> None:
    some_failed(runtime, failed=12, sent=0)
    with runtime.database.transaction() as session:
        breakers.open_(session, Channel.EMAIL, reason="503", now=NOW - timedelta(minutes=25), probe_at=NOW)
    waiting = Backlog(pending=9, oldest_due_at=NOW - timedelta(minutes=22), oldest_unthrottled_at=NOW)
    waiting = replace(waiting, oldest_unthrottled_at=waiting.oldest_due_at)
    found = look(runtime, spikes=[SPIKE], backlog={Channel.EMAIL: waiting, Channel.SMS: Backlog()})
    [problem] = problems(found)

    assert (problem.gravity, problem.code) == (Gravity.CRITICAL, Code.PROVIDER_DOWN)
    assert problem.text == (
        "EMAIL: its provider is taken for down since 11:42:31Z (503); 12 of 12 messages tried in the last 15 min"
        " failed; 9 messages wait, the oldest for 22 min"
    )
    assert "worker" not in problem.sentence
    assert problem.since == NOW - timedelta(minutes=25)


def test_due_messages_that_a_worker_does_not_take_are_the_workers_affair(runtime: Runtime) -> None:
    old = NOW - timedelta(minutes=22)
    waiting = Backlog(pending=9, oldest_due_at=old, oldest_unthrottled_at=old)
    [problem] = problems(look(runtime, backlog={Channel.EMAIL: waiting, Channel.SMS: Backlog()}))

    assert (problem.gravity, problem.code, problem.channel) == (Gravity.CRITICAL, Code.STANDSTILL, Channel.EMAIL)
    assert "has waited for 22 min" in problem.text


@pytest.mark.parametrize(("notes", "shown", "hidden"), [(3, 3, 0), (4, 4, 0), (5, 3, 2), (40, 3, 37)])
def test_many_notes_are_folded_and_nothing_graver(notes: int, shown: int, hidden: int) -> None:
    grave = [Problem(Gravity.CRITICAL, "a", Code.FAILING), Problem(Gravity.WARNING, "b", Code.FAILING)]
    found = folded([*grave, *[a_note(str(number)) for number in range(notes)]])

    assert found[0][:2] == grave
    assert (len(found[0]) - 2, len(found[1])) == (shown, hidden)


def screen(found: Health, *, columns: int = 80, lines: int = 24, **about: Any) -> list[str]:
    console = Console(width=columns, height=lines, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(overview(found, **about))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_on_24_lines_what_is_wrong_is_in_sight_with_the_prompt_below(runtime: Runtime) -> None:
    grave = {Channel.EMAIL: "503: down for maintenance"}
    reasons = [(f"REASON_{number}", 9 - number) for number in range(5)]
    about = {"top_reasons": reasons, "top_templates": reasons, "open_breakers": grave, "paused": [PAUSE] * 40}
    found = look(runtime, spikes=[SPIKE], **about)
    seen = screen(found)

    assert len(seen) <= 23
    assert seen[2].startswith(" CRITICAL  EMAIL: its provider is taken for down")
    assert "           and 37 more; `notifyctl health --format json` has every pause" in [
        line.rstrip() for line in seen
    ]
    assert any("REASON_0" in line for line in seen)
    assert not any("REASON_4" in line for line in seen)
    assert any("REASON_4" in line for line in screen(found, lines=60))


def test_figures_that_are_old_are_not_called_fine(runtime: Runtime) -> None:
    write(runtime, [])
    fine = "nothing is wrong"

    assert any(fine in line for line in screen(look(runtime)))
    stale = screen(look(runtime), stale="No figures for 8 s. The database is gone")
    assert stale[2].rstrip() == " CRITICAL  No figures for 8 s. The database is gone"
    assert not any(fine in line for line in stale)


@pytest.mark.parametrize(("columns", "lines"), [(60, 20), (80, 24), (100, 30)])
def test_what_is_wrong_is_in_sight_on_a_small_screen_too(runtime: Runtime, columns: int, lines: int) -> None:
    down = {Channel.EMAIL: "HTTP 503 from https://api.postmarkapp.com: nothing was accepted"}
    waiting = Backlog(retrying=37, oldest_due_at=NOW - timedelta(minutes=22))
    about = {"open_breakers": down, "paused": [PAUSE], "top_templates": [("WELCOME_EMAIL", 9)], "spikes": [SPIKE]}
    found = look(runtime, backlog={Channel.EMAIL: waiting, Channel.SMS: Backlog()}, **about)
    seen = screen(found, columns=columns, lines=lines)

    assert len(seen) < lines
    assert any(line.startswith(" CRITICAL  EMAIL: its provider is taken for down") for line in seen)
    assert any("37" in line for line in seen[-8:])
