"""Who is reminded of what, when, and how often."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.alerts.compliance import items
from notifyctl.alerts.compliance.reminders import ReminderCounts, Reminders
from notifyctl.alerts.compliance.store import ItemValues
from notifyctl.bootstrap import Runtime
from notifyctl.orchestrator import message_store
from tests.support.clients import a_client
from tests.support.clocks import NOON, StandingClock
from tests.support.command_line import CommandLine

EMAIL, SMS = "COMPLIANCE_EXPIRY_REMINDER", "COMPLIANCE_EXPIRY_REMINDER_SMS"
TODAY = NOON.date()


def an_item(runtime: Runtime, days: int, reference: str = "TL-20", client_id: str = "acme") -> None:
    item = ItemValues(client_id, reference, "Trade licence", TODAY + timedelta(days=days))
    with runtime.database.transaction() as session:
        items.write(session, [item], actor="test", now=runtime.clock())


def run(runtime: Runtime, **settings: Any) -> ReminderCounts:
    return Reminders(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        plans=runtime.plans,
        settings=runtime.settings.model_copy(update=settings),
        clock=runtime.clock,
    ).run()


def asked(runtime: Runtime) -> list[tuple[str, str, str]]:
    """Template, client and status of every reminder, oldest first."""
    with runtime.database.read() as session:
        rows = message_store.find(session, message_store.MessageFilter(), limit=1_000)
    return [(row.template_key, row.client_id, row.reason or row.status.value) for row in reversed(rows)]


def contexts(runtime: Runtime) -> list[dict[str, Any]]:
    import json

    with runtime.database.read() as session:
        found = session.execute(text("SELECT context FROM message_payload ORDER BY message_id")).scalars().all()
    return [json.loads(context) for context in found]


def test_pro_gets_an_sms_as_well_and_solo_the_email_alone(runtime: Runtime) -> None:
    """The fourth test that must exist by name, seen from the job; the gate itself is asked in test_gates.py.

    An SMS that the plan lacks, nobody consented to, or has no number is not asked for: it would be refused every day.
    """
    a_client(runtime, "pro", plan="PRO")
    a_client(runtime, "solo", plan="SOLO")
    a_client(runtime, "silent", plan="PRO", sms_enabled=False)
    a_client(runtime, "numberless", plan="PRO", phone_e164=None)
    for client_id in ("pro", "solo", "silent", "numberless"):
        an_item(runtime, 30, client_id=client_id)
    assert run(runtime) == ReminderCounts(emails=4, sms=1)
    assert sorted(asked(runtime)) == [
        (EMAIL, "numberless", "QUEUED"),
        (EMAIL, "pro", "QUEUED"),
        (EMAIL, "silent", "QUEUED"),
        (EMAIL, "solo", "QUEUED"),
        (SMS, "pro", "QUEUED"),
    ]


def test_with_sms_switched_off_there_is_the_email(runtime: Runtime) -> None:
    a_client(runtime)
    an_item(runtime, 30)
    assert run(runtime, sms_enabled=False) == ReminderCounts(emails=1)


def test_a_reminder_says_what_expires_and_where_to_renew_it(runtime: Runtime) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 30, reference="FS 1/2")
    link = "https://app.example/{client_id}/renew?item={reference}"
    run(runtime, compliance_renew_url=link)
    assert contexts(runtime) == [
        {
            "client_name": "Acme",
            "item_name": "Trade licence",
            "item_reference": "FS 1/2",
            "expires_on": "2026-04-01",
            "days_left": 30,
            "renew_url": "https://app.example/acme/renew?item=FS%201%2F2",
        }
    ]


def test_without_a_page_for_renewals_there_is_no_button(runtime: Runtime) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 30)
    run(runtime)
    assert "renew_url" not in contexts(runtime)[0]


@pytest.mark.parametrize(
    ("days", "reminded"),
    [(31, False), (30, True), (15, True), (14, True), (7, True), (1, True), (0, True), (-1, False), (-400, False)],
)
def test_only_what_is_within_a_window_is_reminded_of(runtime: Runtime, days: int, reminded: bool) -> None:
    a_client(runtime)
    an_item(runtime, days)
    assert bool(run(runtime).emails) is reminded


def test_each_window_reminds_once_however_often_it_runs(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 31)
    days_left = []
    for _ in range(35 * 3):
        if run(runtime).emails:
            days_left.append(contexts(runtime)[-1]["days_left"])
        clock.turn(hours=8)
    assert days_left == [30, 14, 7]


def test_after_missed_days_the_nearest_window_alone_reminds(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 32)
    assert run(runtime) == ReminderCounts()
    clock.turn(days=19)
    assert run(runtime) == ReminderCounts(emails=1)
    assert contexts(runtime)[0]["days_left"] == 13
    assert run(runtime) == ReminderCounts()
    clock.turn(days=6)
    assert run(runtime) == ReminderCounts(emails=1)
    assert contexts(runtime)[1]["days_left"] == 7


def test_a_renewed_item_is_reminded_of_anew(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 7)
    run(runtime)
    clock.turn(days=2)
    an_item(runtime, 2 + 14)
    assert run(runtime) == ReminderCounts(emails=1)
    an_item(runtime, 7)
    assert run(runtime) == ReminderCounts(), "its first day has been reminded of in this window"


@pytest.mark.parametrize(
    ("zone", "reminded"),
    [("Pacific/Kiritimati", True), ("Asia/Tokyo", True), ("UTC", False), ("America/Los_Angeles", False)],
)
def test_days_are_counted_where_the_client_is(
    runtime: Runtime, clock: StandingClock, zone: str, reminded: bool
) -> None:
    clock.now = datetime.fromisoformat("2026-03-02T16:00Z")
    a_client(runtime, timezone=zone)
    an_item(runtime, 31)
    assert bool(run(runtime).emails) is reminded


def test_a_client_that_moves_west_is_not_reminded_for_the_window_before(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, plan="SOLO", timezone="Pacific/Kiritimati")
    an_item(runtime, 8)
    assert run(runtime) == ReminderCounts(emails=1)
    _change_client(runtime, "timezone = 'UTC'")
    assert run(runtime) == ReminderCounts()


def test_a_reminder_whose_message_is_no_longer_kept_is_not_sent_again(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 30)
    run(runtime)
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_log"))
    clock.turn(days=1)
    _change_client(runtime, "name = 'Acme Ltd'")
    assert run(runtime) == ReminderCounts()


def test_a_refusal_is_on_record_once_and_asked_again_when_the_client_has_changed(
    runtime: Runtime, clock: StandingClock
) -> None:
    a_client(runtime, plan="SOLO", subscription_status="canceled")
    an_item(runtime, 30)
    assert run(runtime) == ReminderCounts(refused=1)
    clock.turn(days=1)
    assert run(runtime) == ReminderCounts()
    assert asked(runtime) == [(EMAIL, "acme", "SUBSCRIPTION_INACTIVE")]
    _change_client(runtime, "subscription_status = 'active'")
    assert run(runtime) == ReminderCounts(emails=1)
    clock.turn(days=1)
    _change_client(runtime, "name = 'Acme Ltd'")
    assert run(runtime) == ReminderCounts()


def test_an_sms_that_went_is_not_asked_for_again_with_the_email(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, email=None)
    an_item(runtime, 30)
    assert run(runtime) == ReminderCounts(sms=1, refused=1)
    clock.turn(days=1)
    _change_client(runtime, "email = 'new@client.example'")
    assert run(runtime) == ReminderCounts(emails=1)
    assert asked(runtime) == [
        (EMAIL, "acme", "RECIPIENT_MISSING"),
        (SMS, "acme", "QUEUED"),
        (EMAIL, "acme", "QUEUED"),
    ]


def _change_client(runtime: Runtime, what: str) -> None:
    now = runtime.clock()
    at = now.strftime("%Y-%m-%d %H:%M:%S.%f") if runtime.database.is_sqlite else now
    with runtime.database.transaction() as session:
        session.execute(text(f"UPDATE client SET {what}, updated_at = :at"), {"at": at})


def test_two_items_of_a_client_are_two_reminders(runtime: Runtime) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 30, "TL-20")
    an_item(runtime, 30, "TL-21")
    assert run(runtime) == ReminderCounts(emails=2)


@pytest.mark.parametrize("more_settings", [{"compliance_expiry_windows": "60, 3,21"}])
def test_the_windows_are_a_setting(runtime: Runtime, clock: StandingClock) -> None:
    a_client(runtime, plan="SOLO")
    an_item(runtime, 60)
    days_left = []
    for _ in range(61):
        if run(runtime).emails:
            days_left.append(contexts(runtime)[-1]["days_left"])
        clock.turn(days=1)
    assert days_left == [60, 21, 3]


@pytest.mark.parametrize("more_settings", [{"quiet_hours": "21:00-08:00"}])
def test_at_night_it_is_queued_for_the_morning(runtime: Runtime, clock: StandingClock) -> None:
    clock.now = datetime.fromisoformat("2026-03-02T22:00Z")
    a_client(runtime, plan="SOLO")
    an_item(runtime, 14)
    run(runtime)
    with runtime.database.read() as session:
        (row,) = message_store.find(session, message_store.MessageFilter(), limit=10)
    assert row.next_attempt_at == datetime.fromisoformat("2026-03-03T08:00Z")


def test_runs_at_the_same_time_remind_once(runtime: Runtime) -> None:
    a_client(runtime)
    for number in range(30):
        an_item(runtime, 30, f"TL-{number}")
    together = threading.Barrier(4)

    def remind(_: int) -> ReminderCounts:
        together.wait()
        return run(runtime)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(remind, range(4)))
    assert sorted(one.emails for one in found) == [0, 0, 0, 30]
    assert [status for _, _, status in asked(runtime)] == ["QUEUED"] * 60


def test_a_run_that_stops_early_leaves_the_rest_to_the_next(runtime: Runtime) -> None:
    a_client(runtime)
    an_item(runtime, 30)
    reminders = Reminders(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        plans=runtime.plans,
        settings=runtime.settings,
        clock=runtime.clock,
    )
    assert reminders.run(stopping=lambda: True) == ReminderCounts()
    assert reminders.run() == ReminderCounts(emails=1, sms=1)


def test_the_items_of_an_erased_client_are_not_reminded_of(runtime: Runtime) -> None:
    from notifyctl.retention.erasure import erase_client

    a_client(runtime)
    an_item(runtime, 30)
    with runtime.database.transaction() as session:
        erase_client(session, runtime.keys, "acme", actor="test", now=runtime.clock())
    assert run(runtime) == ReminderCounts()


def test_the_job_says_what_it_did(runtime: Runtime, clock: StandingClock, notifyctl: CommandLine) -> None:
    clock.now = runtime.database.clock()
    a_client(runtime, timezone="UTC")
    day: date = clock.now.date() + timedelta(days=10)
    with runtime.database.transaction() as session:
        items.write(session, [ItemValues("acme", "TL-1", "Licence", day)], actor="test", now=clock())
    ran = notifyctl("jobs", "run", "compliance_expiry_reminders")
    assert (ran.code, ran.out, ran.err) == (0, "1 reminder queued by email, 1 by SMS\n", "")
