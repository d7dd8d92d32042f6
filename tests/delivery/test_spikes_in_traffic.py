"""The monitor beside a worker whose provider misbehaves: what it sees comes from real calls."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from notifyctl.alerts.spikes.levels import Thresholds
from notifyctl.alerts.spikes.monitor import SpikeMonitor
from notifyctl.alerts.spikes.report import SpikeReport
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel, SpikeLevel
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Fault, Faults, Sandbox
from notifyctl.templates import store as template_store
from tests.support.alerts import OPS, PHONE, alerts
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, arrivals, drain
from tests.support.messages import RESET, WELCOME, all_messages, send

Watch = Callable[[], SpikeReport]


@pytest.fixture
def watch(runtime: Runtime) -> Watch:
    """One run of the monitor, and its report on email."""
    people = {"ops_alert_email": OPS, "ops_alert_sms_number": PHONE}
    monitor = SpikeMonitor(
        database=runtime.database,
        settings=runtime.settings.model_copy(update=people),
        clock=runtime.clock,
        orchestrator=lambda: runtime.orchestrator,
        actor="test",
    )
    return lambda: monitor.run(Thresholds.of(runtime.settings))[0]


def _queue(runtime: Runtime, count: int) -> None:
    for number in range(count):
        a_client(runtime, f"c{number}")
    requests = [
        SendRequest(template_key="WELCOME_EMAIL", client_id=f"c{number}", context=WELCOME) for number in range(count)
    ]
    with runtime.database.transaction() as session:
        runtime.orchestrator.send_many(session, requests)


def test_half_of_all_emails_failing_is_a_spike_long_before_the_first_has_failed_for_good(
    runtime: Runtime, dispatcher: MakeDispatcher, sandbox: Sandbox, watch: Watch
) -> None:
    """A retry takes twelve minutes to become FAILED. The first run sees it all the same."""
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("error", rate=0.5, code="transient"),), seed=7))
    _queue(runtime, 60)
    drain(dispatcher())
    report = watch()
    with runtime.database.read() as session:
        statuses = {row.status.value for row in all_messages(session)}
    assert "FAILED" not in statuses
    assert (report.level, report.alert_queued) == (SpikeLevel.CRITICAL, "raised")
    assert report.measurement.failed + report.measurement.sent == 60
    assert 20 <= report.measurement.failed <= 40
    drain(dispatcher())
    assert watch().alert_queued is None


def test_with_no_email_at_all_word_of_it_reaches_a_phone(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher, sandbox: Sandbox, watch: Watch
) -> None:
    with runtime.database.transaction() as session:
        template_store.set_enabled(session, "OPS_ALERT_SMS", True, now=runtime.clock())
    sandbox.set_faults(Channel.EMAIL, Faults((Fault("http", status=503),), seed=7))
    _queue(runtime, 12)
    drain(dispatcher())
    report = watch()
    assert report.level is SpikeLevel.CRITICAL
    assert report.verdict.other_problems[0].startswith("the circuit breaker is open (")
    drain(dispatcher(Channel.SMS))
    (sms,) = arrivals(sandbox, PHONE)
    assert sms.text.startswith("Ops alert: EMAIL CRITICAL raised: 12 failed, 0 sent in 15 min.")
    assert not sandbox.accepted(Channel.EMAIL)

    sandbox.clear_faults()
    for _ in range(4):
        clock.ahead += timedelta(minutes=1)
        drain(dispatcher())
    assert [mail.subject for mail in arrivals(sandbox, OPS)] == [
        "[CRITICAL] EMAIL failure alert raised: 12 failed, 0 sent"
    ]
    clock.ahead += timedelta(minutes=27)
    send(runtime, "PASSWORD_RESET", RESET, client_id="c0")
    drain(dispatcher())
    assert watch().alert_queued == "cleared"
    told = [context["transition"] for _, _, context in alerts(runtime, "OPS_ALERT_NOTIFICATION_SPIKE")]
    assert told == ["raised", "cleared"]
