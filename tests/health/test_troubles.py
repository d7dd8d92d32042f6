"""What is wrong, in words, and that it stays in sight on a small terminal."""

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from notifyctl.bootstrap import Runtime
from notifyctl.cli.health_view import overview
from notifyctl.models.template import Channel
from notifyctl.orchestrator import health
from notifyctl.orchestrator.health import Health
from notifyctl.orchestrator.troubles import Gravity, Problem, folded, problems
from tests.support.plain_health import NOW, S, history, write

PAUSE = {
    "channel": None, "template_key": None, "client_id": "acme", "reason": "they asked", "actor": "m",
    "since": NOW - timedelta(minutes=3), "held": 0,
}  # fmt: skip
SPIKE = {"channel": "EMAIL", "level": "CRITICAL", "since": NOW - timedelta(minutes=3), "problem": "6 of 10 failed"}


def look(runtime: Runtime, **changed: Any) -> Health:
    with runtime.database.read() as session:
        return replace(health.look(session, runtime.settings, NOW, timedelta(hours=1)), **changed)


def some_failed(runtime: Runtime, *, failed: int, sent: int) -> None:
    row = history(3, 1)[0] | {"channel": Channel.EMAIL, "next_attempt_at": None, "throttled_at": None}
    row |= {"created_at": NOW - timedelta(minutes=9), "sent_at": None, "delivered_at": None, "finished_at": None}
    moment = NOW - timedelta(minutes=8)
    failures = [{**row, "status": S.FAILED, "reason": "UNKNOWN", "finished_at": moment}] * failed
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
    rate = f"{failed / (failed + sent):.1%}"
    text = f"EMAIL: {failed} of {failed + sent} failed in the last 1 h ({rate})"

    assert problems(look(runtime)) == ([Problem(Gravity.WARNING, text)] if is_told else [])


def test_what_the_monitor_has_raised_is_told_once(runtime: Runtime) -> None:
    some_failed(runtime, failed=6, sent=4)

    assert [problem.gravity for problem in problems(look(runtime, spikes=[SPIKE]))] == [Gravity.CRITICAL]


@pytest.mark.parametrize(("notes", "shown", "hidden"), [(3, 3, 0), (4, 4, 0), (5, 3, 2), (40, 3, 37)])
def test_many_notes_are_folded_and_nothing_graver(notes: int, shown: int, hidden: int) -> None:
    grave = [Problem(Gravity.CRITICAL, "a"), Problem(Gravity.WARNING, "b")]
    found = folded([*grave, *[Problem(Gravity.NOTE, str(number)) for number in range(notes)]])

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
    assert seen[2].startswith(" CRITICAL  EMAIL is failing")
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
