"""What the monitor counts, when it alerts, and whom."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.alerts.spikes.levels import Thresholds
from notifyctl.alerts.spikes.monitor import SpikeMonitor
from notifyctl.alerts.spikes.report import SpikeReport
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel, SpikeLevel
from notifyctl.operations import breakers, pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.templates import catalogue
from notifyctl.templates import store as template_store
from tests.support.alerts import ADMIN, OPS, PHONE, alerts, attempted, audited, failed, queue, sent
from tests.support.audit_log import sql
from tests.support.clocks import StandingClock
from tests.support.messages import send
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings
from tests.support.templates import seed_templates, shipped_templates

OPS_TEMPLATE, ADMIN_TEMPLATE, SMS_TEMPLATE = (
    "OPS_ALERT_NOTIFICATION_SPIKE",
    "NOTIFICATION_SPIKE_ALERT_ADMIN",
    "OPS_ALERT_SMS",
)
OK, WARN, CRITICAL = SpikeLevel


def watch(runtime: Runtime, channel: Channel = Channel.EMAIL, **settings: Any) -> SpikeReport:
    """One run, of which the report on one channel is shown."""
    chosen = runtime.settings.model_copy(update=settings)
    monitor = SpikeMonitor(
        database=runtime.database,
        settings=chosen,
        clock=runtime.clock,
        orchestrator=lambda: runtime.orchestrator,
        actor="test",
    )
    return next(found for found in monitor.run(Thresholds.of(chosen)) if found.channel is channel)


def figures(report: SpikeReport) -> tuple[int, int]:
    return report.measurement.failed, report.measurement.sent


def test_over_the_threshold_the_operators_are_alerted(runtime: Runtime) -> None:
    """The sixth test that must exist by name: the spike monitor raises the ops alert over its threshold."""
    sent(runtime, 40)
    failed(runtime, 4)
    assert watch(runtime).level is OK
    assert alerts(runtime) == []
    failed(runtime, 1, prefix="worse")
    report = watch(runtime)
    assert (report.level, report.moved, report.alert_queued) == (WARN, "raised", "raised")
    context = {
        "channel": "EMAIL",
        "level": "WARN",
        "transition": "raised",
        "failed": 5,
        "sent": 40,
        "rate_percent": 11.1,
        "window_minutes": 15,
        "top_reasons": "UNKNOWN 5",
        "top_templates": "WELCOME_EMAIL 5; 5 clients are affected",
    }
    assert alerts(runtime) == [(ADMIN_TEMPLATE, ADMIN, context), (OPS_TEMPLATE, OPS, context)]
    ((action, details),) = audited(runtime, "SPIKE%")
    assert action == "SPIKE_RAISED"
    assert (details["channel"], details["level"], details["failed"], details["sent"]) == ("EMAIL", "WARN", 5, 40)


@pytest.mark.parametrize("outcome", ["FAILED", "RETRY_SCHEDULED", "IN_DOUBT", "BOUNCED"])
def test_an_attempt_that_ended_badly_counts(runtime: Runtime, outcome: str) -> None:
    failed(runtime, 3, outcome, reason="RECIPIENT_INVALID" if outcome in ("FAILED", "BOUNCED") else None)
    sent(runtime, 2)
    assert figures(watch(runtime)) == (3, 2)


def test_the_last_attempt_in_the_window_decides(runtime: Runtime, clock: StandingClock) -> None:
    ids = failed(runtime, 4)
    clock.turn(minutes=1)
    attempted(runtime, ids[:2], "SENT")
    assert figures(watch(runtime)) == (2, 2)
    clock.turn(minutes=1)
    attempted(runtime, ids[:1], "BOUNCED")
    assert figures(watch(runtime)) == (3, 1)


def test_a_message_counts_once_however_often_it_failed(runtime: Runtime, clock: StandingClock) -> None:
    ids = failed(runtime, 2)
    for _ in range(3):
        clock.turn(minutes=1)
        attempted(runtime, ids, "RETRY_SCHEDULED")
    assert figures(watch(runtime)) == (2, 0)


@pytest.mark.parametrize("now", ["QUEUED", "DEFERRED_THROTTLED", "SENDING", "EXPIRED", "CANCELED", "BLOCKED"])
def test_a_failed_attempt_counts_whatever_became_of_its_message(runtime: Runtime, now: str) -> None:
    failed(runtime, 6)
    _set(runtime, f"UPDATE message_log SET status = '{now}', finished_at = NULL")
    assert figures(watch(runtime)) == (6, 0)


def test_what_stands_as_failed_counts_without_its_audit_rows(runtime: Runtime) -> None:
    """As after a repair, or a restore of one table."""
    for outcome in ("FAILED", "RETRY_SCHEDULED", "IN_DOUBT", "BOUNCED"):
        failed(runtime, 2, outcome, prefix=outcome.lower())
    sql(runtime, "DELETE FROM audit_log")
    assert figures(watch(runtime)) == (8, 0)


def test_what_was_never_attempted_is_no_failure(runtime: Runtime) -> None:
    queue(runtime, 3)
    send(runtime, "WELCOME_EMAIL", {}, client_id="nobody")
    assert figures(watch(runtime)) == (0, 0)


def test_only_the_window_counts(runtime: Runtime, clock: StandingClock) -> None:
    failed(runtime, 5)
    sent(runtime, 2)
    clock.turn(minutes=15)
    assert figures(watch(runtime)) == (5, 2)
    clock.turn(seconds=1)
    assert figures(watch(runtime)) == (0, 0)


def test_a_failure_of_the_other_channel_is_not_one_of_this(runtime: Runtime) -> None:
    attempted(runtime, queue(runtime, 12, "OTP_CODE_SMS"), "RETRY_SCHEDULED")
    assert watch(runtime).level is OK
    report = watch(runtime, Channel.SMS)
    assert (report.level, figures(report)) == (CRITICAL, (12, 0))
    assert alerts(runtime, OPS_TEMPLATE)[0][2]["top_templates"] == "OTP_CODE_SMS 12"


def test_its_own_alerts_are_not_traffic(runtime: Runtime, clock: StandingClock) -> None:
    failed(runtime, 12)
    watch(runtime)
    with runtime.database.read() as session:
        ids = session.execute(
            text("SELECT id FROM message_log WHERE template_key LIKE '%SPIKE%'")
        ).scalars().all()  # fmt: skip
    assert len(ids) == 2
    attempted(runtime, [str(found) for found in ids], "RETRY_SCHEDULED")
    clock.turn(minutes=10)
    report = watch(runtime)
    assert figures(report) == (12, 0)
    assert not report.measurement.queues or all(
        queue.lane != "URGENT" or not queue.due_at for queue in report.measurement.queues
    )


def test_worse_is_told_at_once_and_the_end_after_the_cool_down(runtime: Runtime, clock: StandingClock) -> None:
    sent(runtime, 40)
    failed(runtime, 5, "FAILED")
    watch(runtime)
    clock.turn(minutes=5)
    failed(runtime, 9, "FAILED", prefix="more")
    assert watch(runtime).alert_queued == "escalated"
    clock.turn(minutes=5)
    assert watch(runtime).alert_queued is None
    clock.turn(minutes=11)
    sent(runtime, 1, prefix="well")
    assert (watch(runtime).level, watch(runtime).alert_queued) == (OK, None)
    clock.turn(minutes=14)
    assert watch(runtime).alert_queued == "cleared"
    told = [(context["transition"], context["level"]) for template, _, context in alerts(runtime, OPS_TEMPLATE)]
    assert told == [("raised", "WARN"), ("escalated", "CRITICAL"), ("cleared", "OK")]
    moved = [action for action, _ in audited(runtime, "SPIKE%")]
    assert moved == ["SPIKE_RAISED", "SPIKE_ESCALATED", "SPIKE_CLEARED"]


def test_with_nothing_sent_a_spike_stays_and_is_shown(runtime: Runtime, clock: StandingClock) -> None:
    failed(runtime, 12)
    watch(runtime)
    _set(runtime, "UPDATE message_log SET status = 'CANCELED', next_attempt_at = NULL")
    clock.turn(minutes=60)
    report = watch(runtime)
    assert (report.verdict.level, report.level) == (OK, CRITICAL)
    with runtime.database.read() as session:
        (row,) = spike_store.raised(session)
    assert (row.channel, row.level, row.problem) == (Channel.EMAIL, CRITICAL, "12 of 12 failed (100.0%)")


def test_an_open_breaker_is_critical_and_the_alert_names_its_cause(runtime: Runtime, clock: StandingClock) -> None:
    with runtime.database.transaction() as session:
        later = clock() + timedelta(seconds=10)
        breakers.open_(session, Channel.EMAIL, reason="100 down for\nmaintenance", now=clock(), probe_at=later)
    assert watch(runtime).level is CRITICAL
    assert (
        alerts(runtime, OPS_TEMPLATE)[0][2]["top_reasons"] == "the circuit breaker is open (100 down for maintenance)"
    )


def test_due_work_that_nobody_takes_is_critical(runtime: Runtime, clock: StandingClock) -> None:
    queue(runtime, 1)
    clock.turn(seconds=300)
    assert watch(runtime).level is OK
    clock.turn(seconds=1)
    report = watch(runtime)
    assert (report.level, report.verdict.problems) == (
        CRITICAL,
        ("messages have been due for 5 min, and nobody sends them",),
    )
    assert alerts(runtime, OPS_TEMPLATE)[0][2]["top_reasons"] == report.verdict.problems[0]


@pytest.mark.parametrize(
    "scope",
    [PauseScope(channel="EMAIL"), PauseScope(template_key="WELCOME_EMAIL"), PauseScope(client_id="client0")],
    ids=str,
)
def test_what_is_paused_is_not_unattended(runtime: Runtime, clock: StandingClock, scope: PauseScope) -> None:
    queue(runtime, 1)
    with runtime.database.transaction() as session:
        pauses.add(session, scope, reason="incident", actor="test", now=clock())
    clock.turn(hours=1)
    assert watch(runtime).level is OK
    assert watch(runtime).measurement.oldest_due == timedelta()


def test_a_backlog_behind_the_limit_is_no_dead_worker(runtime: Runtime, clock: StandingClock) -> None:
    queue(runtime, 3)
    _set(runtime, "UPDATE message_log SET status = 'DEFERRED_THROTTLED'")
    clock.turn(minutes=10)
    sent(runtime, 1)
    assert watch(runtime).level is OK
    clock.turn(minutes=6)
    assert watch(runtime).level is CRITICAL


@pytest.mark.parametrize(
    ("ops", "admins", "told"),
    [
        (OPS, (OPS.upper(), ADMIN), [(OPS_TEMPLATE, OPS), (ADMIN_TEMPLATE, ADMIN)]),
        (OPS, (), [(OPS_TEMPLATE, OPS)]),
        (None, (ADMIN, "second@acme.example"), [(ADMIN_TEMPLATE, ADMIN), (ADMIN_TEMPLATE, "second@acme.example")]),
        (None, (), []),
    ],
)
def test_each_address_gets_one_mail(
    runtime: Runtime, ops: str | None, admins: tuple[str, ...], told: list[tuple[str, str]]
) -> None:
    failed(runtime, 12)
    report = watch(runtime, ops_alert_email=ops, admin_alert_emails=admins)
    assert sorted((template, address) for template, address, _ in alerts(runtime)) == sorted(told)
    assert report.level is CRITICAL
    assert report.alert_problem == ("" if told else "nobody is told: set OPS_ALERT_EMAIL or ADMIN_ALERT_EMAILS")


def _enable_sms(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        template_store.set_enabled(session, SMS_TEMPLATE, True, now=runtime.clock())


def test_where_email_is_what_fails_an_sms_goes_out_as_well(runtime: Runtime) -> None:
    _enable_sms(runtime)
    failed(runtime, 12)
    watch(runtime)
    ((_, number, context),) = alerts(runtime, SMS_TEMPLATE)
    assert (number, context) == (PHONE, {"summary": "EMAIL CRITICAL raised: 12 failed, 0 sent in 15 min"})


def test_without_the_template_enabled_no_sms_is_asked_for(runtime: Runtime) -> None:
    failed(runtime, 12)
    watch(runtime)
    with runtime.database.read() as session:
        count = session.execute(text("SELECT count(*) FROM message_log WHERE template_key = 'OPS_ALERT_SMS'"))
        assert count.scalar_one() == 0


def test_where_sms_is_what_fails_email_is_enough(runtime: Runtime) -> None:
    _enable_sms(runtime)
    attempted(runtime, queue(runtime, 12, "OTP_CODE_SMS"), "RETRY_SCHEDULED")
    watch(runtime)
    assert [template for template, _, _ in alerts(runtime)] == [ADMIN_TEMPLATE, OPS_TEMPLATE]


def test_an_alert_that_cannot_be_written_hides_nothing_and_is_written_by_the_next_run(
    database_url: str, clock: StandingClock
) -> None:
    settings = make_settings(database_url=database_url, ops_alert_email=OPS)
    runtime = open_shared(settings, clock=clock)
    with runtime.database.transaction() as session:
        files = [file for file in shipped_templates() if file.template_key == "WELCOME_EMAIL"]
        catalogue.seed(session, files, settings=settings, now=clock(), actor="test")
    failed(runtime, 12)
    report = watch(runtime)
    assert (report.level, report.moved, report.alert_queued) == (CRITICAL, "raised", None)
    assert report.alert_problem.startswith("there is no template 'OPS_ALERT_NOTIFICATION_SPIKE'")
    seed_templates(runtime)
    clock.turn(minutes=5)
    assert (watch(runtime).alert_queued, len(alerts(runtime))) == ("raised", 1)
    assert [action for action, _ in audited(runtime, "SPIKE%")] == ["SPIKE_RAISED"]
    runtime.close()


def test_an_alert_that_fails_halfway_leaves_the_verdict_and_nothing_of_itself(runtime: Runtime) -> None:
    failed(runtime, 12)
    _set(runtime, "ALTER TABLE message_payload RENAME TO gone")
    report = watch(runtime)
    assert (report.level, report.moved, report.alert_queued) == (CRITICAL, "raised", None)
    assert report.alert_problem.startswith("unexpected ")
    _set(runtime, "ALTER TABLE gone RENAME TO message_payload")
    assert [action for action, _ in audited(runtime, "SPIKE%")] == ["SPIKE_RAISED"]
    assert alerts(runtime) == []
    assert watch(runtime).alert_queued == "raised"


def test_an_alert_that_a_gate_refuses_is_said_so(runtime: Runtime) -> None:
    failed(runtime, 12)
    report = watch(runtime, ops_alert_email="ops..x@acme.example", admin_alert_emails=())
    assert report.level is CRITICAL
    assert report.alert_problem.startswith("an alert was refused: RECIPIENT_INVALID")


@pytest.mark.parametrize(
    "settings",
    [
        {"ops_alert_email": "ops..x@acme.example", "admin_alert_emails": ()},
        {"ops_alert_email": None, "admin_alert_emails": ()},
    ],
    ids=["refused", "no address"],
)
def test_what_nobody_was_told_of_is_told_as_soon_as_somebody_can_be(runtime: Runtime, settings: dict[str, Any]) -> None:
    failed(runtime, 12)
    assert (watch(runtime, **settings).alert_queued, watch(runtime, **settings).alert_queued) == (None, None)
    assert watch(runtime).alert_queued == "raised"
    assert watch(runtime).alert_queued is None


def test_who_disables_the_templates_is_not_asked_again(runtime: Runtime) -> None:
    failed(runtime, 12)
    _set(runtime, "UPDATE notification_template SET enabled = FALSE")
    assert watch(runtime).alert_problem.startswith("an alert was refused: TEMPLATE_DISABLED")
    assert watch(runtime).alert_problem == ""


def test_news_that_the_templates_rate_holds_back_is_told_when_it_may(runtime: Runtime, clock: StandingClock) -> None:
    """With a cool-down shorter than the rate's window of 15 minutes."""
    failed(runtime, 12)
    watch(runtime, notification_spike_cooldown_minutes=0)
    clock.turn(minutes=2)
    sql(runtime, "DELETE FROM audit_log WHERE action = 'NOTIFICATION_RETRY_SCHEDULED'")
    _set(runtime, "DELETE FROM message_log WHERE template_key = 'WELCOME_EMAIL'")
    sent(runtime, 1)
    assert watch(runtime, notification_spike_cooldown_minutes=0).alert_queued == "cleared"
    failed(runtime, 12, prefix="again")
    report = watch(runtime, notification_spike_cooldown_minutes=0)
    assert (report.moved, report.alert_queued) == ("raised", None)
    assert "RATE_LIMITED" in report.alert_problem
    clock.turn(minutes=13, seconds=1)
    assert watch(runtime, notification_spike_cooldown_minutes=0).alert_queued == "raised"


def test_one_channel_is_watched_alone(runtime: Runtime) -> None:
    failed(runtime, 12)
    monitor = SpikeMonitor(
        database=runtime.database,
        settings=runtime.settings,
        clock=runtime.clock,
        orchestrator=lambda: runtime.orchestrator,
        actor="test",
    )
    (report,) = monitor.run(Thresholds.of(runtime.settings), [Channel.SMS])
    assert (report.channel, report.level, alerts(runtime)) == (Channel.SMS, OK, [])


def test_who_and_what_is_affected_is_told(runtime: Runtime) -> None:
    failed(runtime, 7, error_code="503")
    failed(runtime, 4, "FAILED", prefix="gone", reason="RECIPIENT_INVALID")
    failed(runtime, 1, "IN_DOUBT", prefix="doubt")
    watch(runtime)
    context = alerts(runtime, OPS_TEMPLATE)[0][2]
    assert context["top_reasons"] == "code 503 7, RECIPIENT_INVALID 4, IN_DOUBT 1"
    assert context["top_templates"] == "WELCOME_EMAIL 12; 12 clients are affected"


def _set(runtime: Runtime, statement: str) -> None:
    with runtime.database.transaction() as session:
        session.execute(text(statement))


def test_what_it_asks_costs_as_much_as_the_window_has_and_not_the_history(
    runtime: Runtime, clock: StandingClock
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(runtime.database.engine, "before_cursor_execute", note)
    with runtime.database.read() as session:
        if not runtime.database.is_sqlite:  # so small a table is read as a whole, unless that is forbidden
            session.execute(text("SET LOCAL enable_seqscan = off"))
        asked.clear()
        spike_store.failures(session, clock())
        spike_store.sent(session, clock())
        spike_store.queues(session, Channel.EMAIL, clock())
        event.remove(runtime.database.engine, "before_cursor_execute", note)
        cursor = session.connection().connection.cursor()
        plans = []
        for statement, parameters in asked:
            explain = "EXPLAIN QUERY PLAN " if runtime.database.is_sqlite else "EXPLAIN "
            cursor.execute(explain + statement, parameters)
            plans += [str(row[-1]) for row in cursor.fetchall()]
    whole_tables = [line for line in plans if "Seq Scan" in line or re.search(r"SCAN (message|audit)_log$", line)]
    assert len(asked) == 4
    assert whole_tables == []
