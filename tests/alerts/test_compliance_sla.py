"""What the operators hear of items that stay expired, and of reminders that are not written."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.alerts.compliance import items as compliance_items
from notifyctl.alerts.compliance.sla import REMINDER_JOB, SlaMonitor
from notifyctl.alerts.compliance.store import ItemValues
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import JobOutcome
from notifyctl.operations import job_runs
from tests.support.alerts import OPS, alerts
from tests.support.clients import a_client
from tests.support.clocks import NOON, StandingClock
from tests.support.command_line import CommandLine

TEMPLATE = "COMPLIANCE_SLA_ALERT"


def run(runtime: Runtime, **settings: Any) -> str:
    return SlaMonitor(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        settings=runtime.settings.model_copy(update=settings),
        clock=runtime.clock,
    ).run()


def an_item(runtime: Runtime, days: int, reference: str = "TL-20") -> None:
    item = ItemValues("acme", reference, "Trade licence", NOON.date() + timedelta(days=days))
    with runtime.database.transaction() as session:
        compliance_items.write(session, [item], actor="test", now=runtime.clock())


def told(runtime: Runtime) -> list[dict[str, Any]]:
    return [context for _, _, context in alerts(runtime, TEMPLATE)]


@pytest.fixture(autouse=True)
def _client(runtime: Runtime) -> None:
    a_client(runtime, timezone="UTC", subscription_status="canceled")


def test_items_expired_for_long_enough_are_summed_up_in_one_mail(runtime: Runtime) -> None:
    an_item(runtime, -7, "TL-7")
    an_item(runtime, -100, "TL-100")
    an_item(runtime, -6, "TL-6")
    assert run(runtime) == "2 expired items: the operators are told"
    assert alerts(runtime, TEMPLATE) == [
        (
            TEMPLATE,
            OPS,
            {
                "subject": "Items expired for over 7 days",
                "details": (
                    "acme TL-100 Trade licence, expired 2025-11-22\nacme TL-7 Trade licence, expired 2026-02-23"
                ),
                "count": 2,
            },
        )
    ]


def test_the_longest_names_there_can_be_hold_up_no_alert(runtime: Runtime) -> None:
    a_client(runtime, "c" * 200, timezone="UTC")
    items = [
        ItemValues("c" * 200, f"{number:0200}", "n" * 200, NOON.date() - timedelta(days=9)) for number in range(25)
    ]
    with runtime.database.transaction() as session:
        compliance_items.write(session, items, actor="test", now=runtime.clock())
    assert run(runtime) == "25 expired items: the operators are told"
    [context] = told(runtime)
    assert context["details"].endswith(", expired 2026-02-21\n… and 5 more")


def test_an_item_is_told_of_once(runtime: Runtime, clock: StandingClock) -> None:
    an_item(runtime, -7)
    for _ in range(24 * 5):
        run(runtime)
        clock.turn(hours=1)
    assert len(told(runtime)) == 1
    assert _blocked(runtime) == 0


def test_what_comes_up_later_waits_for_the_next_days_mail(runtime: Runtime, clock: StandingClock) -> None:
    an_item(runtime, -7, "TL-1")
    run(runtime)
    an_item(runtime, -8, "TL-2")
    clock.turn(hours=1)
    assert run(runtime) == "1 more expired item is for the mail after 2026-03-03 12:00:00Z"
    for _ in range(30):
        clock.turn(hours=1)
        run(runtime)
    assert [context["count"] for context in told(runtime)] == [1, 1]
    assert _blocked(runtime) == 0


def test_an_item_that_expires_again_after_its_renewal_is_told_of_again(runtime: Runtime, clock: StandingClock) -> None:
    an_item(runtime, -7)
    run(runtime)
    an_item(runtime, 30)
    clock.turn(days=2)
    assert run(runtime) == "all well"
    clock.turn(days=36)
    assert run(runtime) == "1 expired item: the operators are told"


def test_a_storm_is_one_mail_that_names_the_longest_expired(runtime: Runtime) -> None:
    for number in range(30):
        an_item(runtime, -10 - number, f"TL-{number}")
    run(runtime)
    (context,) = told(runtime)
    lines = context["details"].split("\n")
    assert (context["count"], len(lines), lines[-1]) == (30, 21, "… and 10 more")
    assert lines[0].startswith("acme TL-29 ")


def test_days_are_counted_where_the_client_is(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, "kiribati", timezone="Pacific/Kiritimati")
    item = ItemValues("kiribati", "TL-1", "Licence", NOON.date() - timedelta(days=6))
    with runtime.database.transaction() as session:
        compliance_items.write(session, [item], actor="test", now=clock())
    assert run(runtime) == "1 expired item: the operators are told"


def test_without_anybody_to_tell_nothing_is_marked(runtime: Runtime) -> None:
    an_item(runtime, -7)
    assert run(runtime, ops_alert_email=None) == "nobody is told: OPS_ALERT_EMAIL is not set"
    assert run(runtime) == "1 expired item: the operators are told"


def test_items_that_nobody_could_be_told_of_are_told_of_when_somebody_can(runtime: Runtime) -> None:
    an_item(runtime, -7)
    refused = run(runtime, ops_alert_email="ops..x@acme.example")
    assert refused.startswith("1 expired item could not be told of (RECIPIENT_INVALID: ")
    assert run(runtime) == "1 expired item: the operators are told"


def test_who_disables_the_template_is_not_asked_again(runtime: Runtime) -> None:
    an_item(runtime, -7)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE notification_template SET enabled = FALSE"))
    assert "the alert was refused by TEMPLATE_DISABLED" in run(runtime)
    assert run(runtime) == "all well"


def test_the_days_are_a_setting(runtime: Runtime) -> None:
    an_item(runtime, -1)
    assert run(runtime, compliance_sla_days=2) == "all well"
    assert run(runtime, compliance_sla_days=1) == "1 expired item: the operators are told"


def _job_run(runtime: Runtime, outcome: JobOutcome, name: str = REMINDER_JOB) -> None:
    now = runtime.clock()
    with runtime.database.transaction() as session:
        begun = job_runs.begin(
            session, name=name, due_at=now, attempt=1, worker="w", now=now, lease_until=now + timedelta(minutes=1)
        )
        assert begun is not None
        job_runs.end(session, begun, outcome, "done", now)


def test_a_reminder_job_that_has_not_finished_for_26_hours_is_told_of_once_a_day(
    runtime: Runtime, clock: StandingClock
) -> None:
    _job_run(runtime, JobOutcome.DONE)
    at = []
    for hour in range(100):
        before = len(told(runtime))
        run(runtime)
        if len(told(runtime)) > before:
            at.append(hour)
        clock.turn(hours=1)
    assert at == [27, 51, 76]
    assert told(runtime)[0] == {
        "subject": "The reminder job has not finished for 26 hours",
        "details": (
            "It was last done at 2026-03-02 12:00:00Z.\nRun it with `notifyctl jobs run compliance_expiry_reminders`,"
            " and look why no worker does."
        ),
        "count": 1,
    }
    assert _blocked(runtime) == 0


def test_a_run_that_failed_is_no_run_that_finished(runtime: Runtime, clock: StandingClock) -> None:
    _job_run(runtime, JobOutcome.DONE)
    clock.turn(hours=24)
    _job_run(runtime, JobOutcome.FAILED)
    clock.turn(hours=2, seconds=1)
    assert run(runtime) == "compliance_expiry_reminders does not finish: the operators are told"


def test_a_job_that_never_ran_is_told_of_where_others_have_run_for_long(runtime: Runtime, clock: StandingClock) -> None:
    assert run(runtime) == "all well"
    _job_run(runtime, JobOutcome.DONE, "in_doubt_reconciler")
    clock.turn(hours=26)
    assert run(runtime) == "all well"
    clock.turn(seconds=1)
    run(runtime)
    assert told(runtime)[0]["details"].startswith("It was never done.\n")


def test_the_job_says_what_it_did(runtime: Runtime, notifyctl: CommandLine) -> None:
    an_item(runtime, -4_000)
    ran = notifyctl("jobs", "run", "compliance_sla_monitor", OPS_ALERT_EMAIL=OPS)
    assert (ran.code, ran.out, ran.err) == (0, "1 expired item: the operators are told\n", "")


def _blocked(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM message_log WHERE status = 'BLOCKED'")).scalar_one())
