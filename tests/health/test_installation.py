"""What is wrong beside the traffic is said on every face: terminal, HTTP, page, Prometheus, monitor and doctor."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from sqlalchemy import text
from sqlmodel import col, update

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.alerts.spikes.store import SpikeMemory
from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import lift, suppress
from notifyctl.db.migrations import head_revision
from notifyctl.health import summary, upkeep
from notifyctl.health.installation import read_installation
from notifyctl.health.problems import problems
from notifyctl.models.enums import (
    Channel,
    FailureReason,
    JobOutcome,
    MessageStatus,
    SpikeLevel,
    StripeEventStatus,
    SuppressionReason,
)
from notifyctl.models.message import MessageLog
from notifyctl.models.stripe_event import StripeEvent
from notifyctl.operations import controls, heartbeats, job_runs
from notifyctl.operations.heartbeats import new_name
from notifyctl.operations.job_runs import MONITOR, TIMETABLE
from notifyctl.operations.pauses import PauseScope
from notifyctl.operations.problem import Code, Gravity, Problem
from notifyctl.settings import Settings
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, WELCOME, a_worker, send
from tests.support.settings import SECRET, make_settings

HOUR = timedelta(hours=1)
OPS = "ops@acme.example"


def said(runtime: Runtime, *, later: timedelta = timedelta(), settings: Settings | None = None) -> list[Problem]:
    with runtime.database.read() as session:
        now = runtime.clock() + later
        return problems(summary.read_health(session, settings or runtime.settings, now, HOUR))


HELD = Code.CLEANING_HELD_BACK


def codes(found: list[Problem]) -> list[tuple[Gravity, Code]]:
    return [(problem.gravity, problem.code) for problem in found]


def stop(runtime: Runtime, name: str, *, ago: timedelta = timedelta()) -> None:
    with runtime.database.transaction() as session:
        heartbeats.leave(session, name, runtime.clock() - ago)


def run_jobs(runtime: Runtime, *, worker: str | None = None, ago: timedelta = timedelta(), but: str = "") -> None:
    """As cron does, each run by a process of its own, unless a worker is named."""
    now = runtime.clock() - ago
    with runtime.database.transaction() as session:
        for one in TIMETABLE:
            if one.name != but:
                job_runs.add_done(
                    session, name=one.name, due_at=one.due_at(now), worker=worker or new_name(), summary="", now=now
                )


def test_a_fresh_installation_that_nobody_runs_says_so(runtime: Runtime) -> None:
    [problem] = said(runtime)
    assert (problem.gravity, problem.code) == (Gravity.WARNING, Code.NO_WORKER)
    assert problem.sentence == "no worker is running; start `notifyctl worker`"


def test_no_time_is_told_for_a_backlog_that_nobody_sends(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)

    def told() -> int:
        with runtime.database.read() as session:
            return summary.read_health(session, runtime.settings, runtime.clock(), HOUR).drains_in_seconds

    assert told() == 0
    a_worker(runtime, "vm:5859:ab")
    assert told() == 1
    with runtime.database.transaction() as session:
        controls.pause(session, PauseScope(Channel.EMAIL), reason="x", actor="t", now=runtime.clock())
    assert told() == 0


def test_a_worker_that_stopped_is_named_with_the_time_since(runtime: Runtime) -> None:
    a_worker(runtime, "vm:5859:ab")
    run_jobs(runtime, worker="vm:5859:ab")
    assert said(runtime) == []
    stop(runtime, "vm:5859:ab", ago=timedelta(minutes=3))
    [problem] = said(runtime)
    assert problem.text == "no worker is running (the last one, at vm (process 5859), stopped 3 min ago)"
    assert problem.since is not None


def test_a_worker_that_was_killed_is_named_as_last_seen(runtime: Runtime) -> None:
    a_worker(runtime, "vm:5859:ab", now=runtime.clock() - timedelta(minutes=4))
    run_jobs(runtime, worker="vm:5859:ab")
    [problem] = said(runtime)
    assert problem.text == "no worker is running (the last one, at vm (process 5859), was last seen 4 min ago)"


def test_what_waits_for_a_worker_is_told_with_it_and_what_is_overdue_is_critical(runtime: Runtime) -> None:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    [problem] = said(runtime)
    assert (problem.gravity, problem.text) == (Gravity.WARNING, "no worker is running; 1 message waits")
    with runtime.database.transaction() as session:
        old = runtime.clock() - timedelta(minutes=20)
        session.execute(update(MessageLog).where(col(MessageLog.id) == message_id).values(next_attempt_at=old))
    [problem] = said(runtime)
    assert problem.gravity is Gravity.CRITICAL
    assert problem.text == "no worker is running; the oldest message that is due has waited for 20 min"


def test_cron_is_known_by_its_traces_and_missed_when_they_are_old(runtime: Runtime) -> None:
    a_worker(runtime, "vm:1:aa", once=True)
    stop(runtime, "vm:1:aa")
    run_jobs(runtime)
    assert said(runtime) == []
    [problem] = said(runtime, later=timedelta(hours=3))
    assert problem.code is Code.NO_WORKER
    assert "(the last `worker --once`, at vm (process 1), ended 3 h ago)" in problem.text
    assert "jobs are overdue" in problem.text


def test_one_worker_once_is_no_trace_when_a_worker_that_stayed_came_after_it(runtime: Runtime) -> None:
    a_worker(runtime, "vm:1:aa", once=True, now=runtime.clock() - timedelta(minutes=10))
    stop(runtime, "vm:1:aa", ago=timedelta(minutes=10))
    assert said(runtime) == []
    a_worker(runtime, "vm:2:bb")
    run_jobs(runtime, worker="vm:2:bb")
    stop(runtime, "vm:2:bb")
    [problem] = said(runtime)
    assert problem.text.startswith("no worker is running (the last one, at vm (process 2), stopped ")


def test_jobs_that_cron_runs_are_a_trace_but_those_of_a_worker_that_stopped_are_none(runtime: Runtime) -> None:
    run_jobs(runtime)
    assert said(runtime) == []
    a_worker(runtime, "vm:2:bb")
    run_jobs(runtime, worker="vm:2:bb", ago=-timedelta(days=2))
    stop(runtime, "vm:2:bb", ago=-timedelta(days=2))
    assert codes(said(runtime, later=timedelta(days=2, minutes=1))) == [(Gravity.WARNING, Code.NO_WORKER)]


def test_the_monitor_is_no_trace_of_a_worker(runtime: Runtime) -> None:
    """Nagios starts it as well, and sends nothing."""
    with runtime.database.transaction() as session:
        now = runtime.clock()
        job_runs.add_done(session, name=MONITOR, due_at=now, worker=new_name(), summary="", now=now)
    assert codes(said(runtime)) == [(Gravity.WARNING, Code.NO_WORKER)]


def test_cron_that_sends_and_leaves_the_jobs_is_told_which(runtime: Runtime) -> None:
    run_jobs(runtime, ago=timedelta(hours=1))
    a_worker(runtime, "vm:1:aa", once=True)
    stop(runtime, "vm:1:aa")
    [problem] = said(runtime)
    assert (problem.gravity, problem.code) == (Gravity.WARNING, Code.JOB_OVERDUE)
    assert "in_doubt_reconciler" in problem.text
    assert "retention" not in problem.text
    assert "run them from cron as well" in problem.remedy


def test_jobs_that_never_ran_beside_a_worker_are_overdue_after_a_while(runtime: Runtime) -> None:
    a_worker(runtime)
    assert said(runtime) == []
    a_worker(runtime, now=runtime.clock() + timedelta(minutes=20), started_at=runtime.clock())
    [problem] = said(runtime, later=timedelta(minutes=20))
    assert problem.code is Code.JOB_OVERDUE
    assert "without --no-jobs" in problem.remedy


def test_a_job_that_failed_is_a_line_of_its_own(runtime: Runtime) -> None:
    a_worker(runtime)
    run_jobs(runtime, worker="app-1:4711:ab", but="retention")
    with runtime.database.transaction() as session:
        now = runtime.clock()
        run = job_runs.begin(
            session, name="retention", due_at=now, attempt=1, worker="w:1:a", now=now, lease_until=now + HOUR
        )
        assert run is not None
        job_runs.end(session, run, JobOutcome.FAILED, "ValueError: no", now)
    [problem] = said(runtime)
    assert (problem.code, problem.text) == (Code.JOB_FAILED, "retention failed: ValueError: no")


def test_without_templates_nothing_can_be_sent(runtime: Runtime) -> None:
    a_worker(runtime)
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM notification_template_version"))
        session.execute(text("DELETE FROM notification_template"))
    [problem] = said(runtime)
    assert problem.sentence == "no template is seeded: nothing can be sent; run `notifyctl templates seed`"


def test_a_later_schema_that_fits_is_noted(runtime: Runtime) -> None:
    """As on a host that was left out when the others were upgraded."""
    a_worker(runtime)
    mine = head_revision()
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        [problem] = said(runtime)
    finally:
        with runtime.database.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :mine"), {"mine": mine})
    assert (problem.gravity, problem.code) == (Gravity.NOTE, Code.SCHEMA_DIFFERS)
    words = f"the schema is at revision 9999, and this program is of {mine}: it fits; upgrade this program as well"
    assert problem.sentence == words


ADDRESSES = {
    "ops_alert_email": ("OPS_ALERT_EMAIL", Channel.EMAIL, OPS, OPS),
    "admin_alert_emails": ("ADMIN_ALERT_EMAILS", Channel.EMAIL, "Boss@Acme.example,b@a.example", "boss@acme.example"),
    "ops_alert_sms_number": ("OPS_ALERT_SMS_NUMBER", Channel.SMS, "+49 151 12345678", "+4915112345678"),
}  # fmt: skip


@pytest.mark.parametrize("setting", ADDRESSES)
def test_an_alert_address_that_is_suppressed_is_critical_with_what_lifts_it(runtime: Runtime, setting: str) -> None:
    name, channel, value, address = ADDRESSES[setting]
    a_worker(runtime)
    settings = make_settings(database_url=runtime.settings.database_url, **{setting: value})
    assert said(runtime, settings=settings) == []
    keep_from_writing_to(runtime, channel, address)
    [problem] = said(runtime, settings=settings)
    assert (problem.gravity, problem.code) == (Gravity.CRITICAL, Code.ALERT_ADDRESS_SUPPRESSED)
    assert problem.text.startswith(f"{name} is suppressed since ")
    assert "(INACTIVE, by postmark): alerts to it reach nobody" in problem.text
    assert problem.remedy == f"lift it with `notifyctl suppressions remove {channel} {address}`"
    with runtime.database.transaction() as session:
        assert lift(session, runtime.keys, channel, address, actor="cli", now=runtime.clock())
    assert said(runtime, settings=settings) == []


def keep_from_writing_to(runtime: Runtime, channel: Channel, address: str) -> None:
    with runtime.database.transaction() as session:
        reason, now = SuppressionReason.INACTIVE, runtime.clock()
        assert suppress(session, runtime.keys, channel, address, reason=reason, actor="postmark", now=now)


NEW_KEY = "9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f2468"


def test_suppressions_that_nobody_finds_for_want_of_their_secret_are_critical(runtime: Runtime) -> None:
    a_worker(runtime)
    for number in range(2):
        keep_from_writing_to(runtime, Channel.EMAIL, f"c{number}@client.example")
    assert said(runtime) == []
    url = runtime.settings.database_url
    [problem] = said(runtime, settings=make_settings(database_url=url, notification_secret_key=NEW_KEY))
    assert (problem.gravity, problem.code) == (Gravity.CRITICAL, Code.SUPPRESSIONS_LOST)
    assert problem.text == (
        f"NOTIFICATION_SECRET_KEY lacks the key of 2 suppressions (key {runtime.keys.ids[0]}):"
        " these people would be written to again"
    )
    assert problem.remedy.endswith("or run `notifyctl suppressions rekey` where it is lost")
    both = make_settings(database_url=url, notification_secret_key=f"{NEW_KEY},{SECRET}")
    assert said(runtime, settings=both) == []


@pytest.mark.parametrize(
    ("reason", "is_told"), [(FailureReason.ACCOUNT_PROBLEM, True), (FailureReason.RECIPIENT_OPTED_OUT, False)]
)
def test_an_alert_that_reached_nobody_is_told_until_one_gets_through(
    runtime: Runtime, reason: FailureReason, is_told: bool
) -> None:
    """One whose address was suppressed is told as that, for as long as it is."""
    a_worker(runtime)
    context = {"client_id": "acme", "client_name": "Acme", "detail": "no"}
    alert = send(runtime, "PROVISIONING_FAILED_ADMIN", context, recipient=OPS).message_id
    finish(runtime, alert, status=MessageStatus.FAILED, reason=reason, finished_at=runtime.clock())
    found = said(runtime)
    assert [problem.code for problem in found] == [Code.ALERT_NOT_DELIVERED] * is_told
    if is_told:
        assert found[0].remedy == f"see `notifyctl messages explain {alert}`"
    other = send(runtime, "PROVISIONING_FAILED_ADMIN", context | {"client_id": "other"}, recipient=OPS).message_id
    finish(runtime, other, status=MessageStatus.SENT, sent_at=runtime.clock())
    assert said(runtime) == []


def test_an_alert_that_waited_until_it_was_too_late_reached_nobody_either(runtime: Runtime) -> None:
    """As one that the monitor queued while no worker was there: the outage may be over, and nobody knows of it."""
    a_worker(runtime)
    context = {"client_id": "acme", "client_name": "Acme", "detail": "no"}
    alert = send(runtime, "PROVISIONING_FAILED_ADMIN", context, recipient=OPS).message_id
    finish(runtime, alert, status=MessageStatus.EXPIRED, finished_at=runtime.clock())
    [problem] = said(runtime)
    assert problem.code is Code.ALERT_NOT_DELIVERED
    assert "reached nobody (EXPIRED)" in problem.text
    tomorrow = said(runtime, later=timedelta(hours=25))
    assert Code.ALERT_NOT_DELIVERED not in [problem.code for problem in tomorrow]


def test_an_address_of_two_settings_is_one_line_in_the_plural(runtime: Runtime) -> None:
    a_worker(runtime)
    settings = make_settings(
        database_url=runtime.settings.database_url, ops_alert_email=OPS, admin_alert_emails=f"Ops <{OPS}>"
    )
    keep_from_writing_to(runtime, Channel.EMAIL, OPS)
    [problem] = said(runtime, settings=settings)
    assert problem.text.startswith("OPS_ALERT_EMAIL and ADMIN_ALERT_EMAILS are suppressed since ")


@pytest.mark.parametrize(
    ("settings_of", "told", "remedy"),
    [
        ({}, SpikeLevel.OK, "set OPS_ALERT_EMAIL or ADMIN_ALERT_EMAILS"),
        ({"ops_alert_email": OPS}, SpikeLevel.WARN, "`notifyctl monitor` says why"),
        ({"ops_alert_email": OPS}, SpikeLevel.CRITICAL, None),
    ],
)
def test_a_failing_channel_of_which_nobody_was_told(
    runtime: Runtime, settings_of: dict[str, str], told: SpikeLevel, remedy: str | None
) -> None:
    a_worker(runtime)
    with runtime.database.transaction() as session:
        spike_store.lock(session, Channel.SMS)
        memory = SpikeMemory(level=SpikeLevel.CRITICAL, told=told, raised_at=runtime.clock())
        spike_store.save(session, Channel.SMS, memory)
    found = said(runtime, settings=make_settings(database_url=runtime.settings.database_url, **settings_of))
    untold = [problem for problem in found if problem.code is Code.ALERT_NOT_DELIVERED]
    assert [problem.remedy for problem in untold] == ([remedy] if remedy else [])
    assert all(problem.text == "nobody has been alerted of the failures of SMS" for problem in untold)


def finish(runtime: Runtime, message_id: str, **values: Any) -> None:
    with runtime.database.transaction() as session:
        values = {"next_attempt_at": None, **values}
        session.execute(update(MessageLog).where(col(MessageLog.id) == message_id).values(**values))


def an_event(runtime: Runtime, number: int, status: StripeEventStatus, **more: Any) -> None:
    now = runtime.clock()
    values: dict[str, Any] = {
        "id": f"evt_{number}", "type": "invoice.paid", "created": now, "livemode": True, "verified": True,
        "body": b"{}", "status": status, "received_at": now + timedelta(seconds=number),
    }  # fmt: skip
    with runtime.database.transaction() as session:
        session.add(StripeEvent(**(values | more)))


def test_events_about_nobody_are_told_with_the_command_that_links_the_newest(runtime: Runtime) -> None:
    a_worker(runtime)
    an_event(runtime, 1, StripeEventStatus.UNMATCHED, customer_id="cus_1")
    an_event(runtime, 2, StripeEventStatus.UNMATCHED, customer_id="cus_2", named_client="stranger")
    an_event(runtime, 3, StripeEventStatus.PROCESSED, customer_id="cus_3")
    an_event(runtime, 4, StripeEventStatus.UNMATCHED, received_at=runtime.clock() - timedelta(days=31))
    [problem] = said(runtime)
    assert (problem.gravity, problem.code) == (Gravity.WARNING, Code.STRIPE_UNMATCHED)
    assert problem.text == "2 Stripe events are about nobody we know; the newest is evt_2 (of customer cus_2)"
    link = "notifyctl clients set ID --stripe-customer cus_2"
    assert problem.remedy == f"run `{link}`, then `notifyctl stripe replay evt_2`"


def test_events_that_failed_or_that_nobody_looks_at_are_told(runtime: Runtime) -> None:
    a_worker(runtime)
    an_event(runtime, 1, StripeEventStatus.FAILED, error="ValueError")
    an_event(runtime, 2, StripeEventStatus.RECEIVED)
    an_event(runtime, 3, StripeEventStatus.RECEIVED, received_at=runtime.clock() - timedelta(minutes=9))
    failed, waiting = said(runtime)
    assert (failed.code, waiting.code) == (Code.STRIPE_FAILED, Code.STRIPE_WAITING)
    assert "evt_1" in failed.text
    assert waiting.text == "1 Stripe event waits to be processed"


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        ({}, None),
        ({"postmark_api_url": "http://127.0.0.1:8026"}, "email goes to 127.0.0.1:8026"),
        ({"twilio_api_url": "http://localhost:8026"}, "SMS goes to localhost:8026"),
        ({"twilio_api_url": "http://localhost:8026", "sms_enabled": False}, None),
        (
            {"postmark_api_url": "http://[::1]:1", "twilio_api_url": "http://[::1]:1"},
            "email and SMS go to [::1]:1, a sandbox on this host",
        ),
        (
            {"postmark_api_url": "http://sandbox:8026"},
            "email goes to sandbox:8026 in your own network, and not to the provider: nobody gets anything, unless",
        ),
        ({"postmark_api_url": "http://10.0.3.7:8026"}, "email goes to 10.0.3.7:8026 in your own network"),
        ({"postmark_api_url": "http://sandbox.corp.internal"}, "email goes to sandbox.corp.internal in your own"),
        ({"postmark_api_url": "https://relay.acme.example"}, None),
        ({"postmark_api_url": "https://8.8.8.8"}, None),
    ],
)
def test_what_goes_to_a_sandbox_is_noted(runtime: Runtime, urls: dict[str, Any], told: str | None) -> None:
    a_worker(runtime)
    found = said(runtime, settings=make_settings(database_url=runtime.settings.database_url, **urls))
    assert codes(found) == ([(Gravity.NOTE, Code.SANDBOX)] if told else [])
    assert not told or found[0].text.startswith(told)


Trouble = Callable[[Runtime], None]
FACES: dict[str, tuple[Trouble, dict[str, str], str, int, tuple[str, str]]] = {
    "no worker": (lambda _: None, {}, "no worker is running", 1, ("workers", "warn")),
    "an alert address": (
        lambda runtime: keep_from_writing_to(runtime, Channel.EMAIL, OPS), {"OPS_ALERT_EMAIL": OPS},
        f"notifyctl suppressions remove EMAIL {OPS}", 2, ("alert recipients", "fail"),
    ),
    "a phone for alerts": (
        lambda runtime: keep_from_writing_to(runtime, Channel.SMS, "+4915112345678"),
        {"OPS_ALERT_SMS_NUMBER": "+4915112345678"},
        "notifyctl suppressions remove SMS +4915112345678", 2, ("alert recipients", "fail"),
    ),
    "Stripe": (
        lambda runtime: an_event(runtime, 1, StripeEventStatus.UNMATCHED, customer_id="cus_1"), {},
        "notifyctl clients set ID --stripe-customer cus_1", 1, ("stripe events", "warn"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FACES.values(), ids=FACES)
def test_the_terminal_the_monitor_and_doctor_say_it(
    runtime: Runtime, notifyctl: CommandLine, case: tuple[Trouble, dict[str, str], str, int, tuple[str, str]]
) -> None:
    trouble, variables, words, code, (check, status) = case
    trouble(runtime)
    told = " ".join(notifyctl("health", **variables).out.split())
    assert words in told
    assert "nothing is wrong" not in told
    document = json.loads(notifyctl("health", "--format", "json", **variables).out)
    assert any(words in f"{problem['text']} {problem['remedy']}" for problem in document["problems"])
    assert (document["workers"], set(document["installation"])) == (0, {"name", "database"})
    monitor = notifyctl("monitor", **variables)
    assert monitor.code == code
    assert words in monitor.out
    rows = json.loads(notifyctl("doctor", "--format", "json", **variables).out)
    [row] = [row for row in rows if row["check"] == check]
    assert row["status"] == status
    assert words in f"{row['problem']} {row['remedy']}"


def test_a_problem_has_the_fields_that_programs_rely_on(runtime: Runtime) -> None:
    a_client(runtime)
    send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    with runtime.database.read() as session:
        found = summary.read_health(session, runtime.settings, runtime.clock(), HOUR)
    told = json.loads(summary.to_json(summary.summary(found, problems(found))))
    assert told["problems"] == [
        {
            "level": "WARNING", "code": "NO_WORKER", "channel": None, "since": None,
            "text": "no worker is running; 1 message waits", "remedy": "start `notifyctl worker`",
        }
    ]  # fmt: skip


def test_the_installation_is_named_without_its_password(runtime: Runtime) -> None:
    with runtime.database.read() as session:
        found = summary.read_health(session, runtime.settings, runtime.clock(), HOUR).installation
    kind, _, where = found.database.partition(" ")
    assert kind == ("sqlite" if runtime.database.is_sqlite else "postgresql")
    assert where.endswith(found.name)
    assert "@" not in found.database


def test_its_given_name_stands_first(runtime: Runtime, notifyctl: CommandLine) -> None:
    a_worker(runtime)
    named = {"INSTALLATION_NAME": "acme-prod"}
    assert notifyctl("health", **named).out.startswith("acme-prod  last 1 h, until ")
    assert json.loads(notifyctl("health", "--format", "json", **named).out)["installation"]["name"] == "acme-prod"
    assert notifyctl("monitor", **named).out.startswith("OK - acme-prod: EMAIL OK: nothing sent; SMS OK: ")


def test_an_event_about_nobody_is_shown_with_the_command_that_links_it(
    runtime: Runtime, notifyctl: CommandLine
) -> None:
    an_event(runtime, 1, StripeEventStatus.UNMATCHED, customer_id="cus_1")
    an_event(runtime, 2, StripeEventStatus.UNMATCHED, named_client="stranger")
    remedy = "notifyctl clients set ID --stripe-customer cus_1, then notifyctl stripe replay evt_1"
    assert json.loads(notifyctl("stripe", "show", "evt_1", "--format", "json").out)["remedy"] == remedy
    remedy = "notifyctl clients set stranger --name NAME, then notifyctl stripe replay evt_2"
    assert json.loads(notifyctl("stripe", "show", "evt_2", "--format", "json").out)["remedy"] == remedy


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.READ_COMMITTED])
def test_who_holds_back_cleaning_for_over_an_hour_is_named(
    runtime: Runtime, database_url: str, level: IsolationLevel
) -> None:
    a_worker(runtime)
    hour = timedelta(hours=1)
    with psycopg.connect(database_url, application_name="nightly dump") as backup:
        backup.set_isolation_level(level)
        # A snapshot that is kept, or a number in the order of changes.
        backup.execute("SELECT pg_current_xact_id()" if level is IsolationLevel.READ_COMMITTED else "SELECT 1")
        process = backup.info.backend_pid
        with runtime.database.read() as session:
            now = session.execute(text("SELECT clock_timestamp()")).scalar_one()
            began = now - timedelta(minutes=1)
            soon, later = (
                read_installation(session, runtime.settings, moment) for moment in (began + hour, now + hour)
            )
    with runtime.database.read() as session:
        after = read_installation(session, runtime.settings, now + hour)
    told = [[problem for problem in upkeep.problems(at) if problem.code is HELD] for at in (soon, later, after)]
    assert (told[0], told[2]) == ([], [])
    [problem] = told[1]
    assert problem.text == (
        f"database process {process} (nightly dump) has held a transaction open for 1 h: nothing is cleaned meanwhile"
    )
    assert problem.remedy == f"let it finish, or end it with `SELECT pg_terminate_backend({process})`"
