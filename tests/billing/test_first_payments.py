"""Failures of a subscription's first payment: at checkout they are no news, days later they are."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from notifyctl.billing.event_context import MailFate
from notifyctl.billing.processing import ProcessingOptions
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Origin
from notifyctl.orchestrator import message_store
from tests.support.clocks import StandingClock
from tests.support.stripe_payloads import (
    DAY,
    NOW,
    a_checkout,
    a_failed_invoice,
    a_subscription,
    an_invoice,
    completed,
    created,
    event_id,
    failed,
    paid,
    updated,
)
from tests.support.stripe_world import (
    FAILED,
    audits,
    event,
    mail,
    mails,
    receive,
    subscription_state,
    the_client,
    withdrawn,
)

AT_CHECKOUT = "a first payment, still at checkout"


def a_first_failure(attempt: int = 1, **more: Any) -> bytes:
    invoice = a_failed_invoice(reason="subscription_create", attempt=attempt)
    return failed(invoice, **({"at": NOW + 3 * attempt * DAY} | more))


def test_a_debit_that_bounces_on_an_active_subscription_is_written_each_time(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), completed(a_checkout(paid="unpaid")))
    for attempt in (1, 2, 3):
        outcome = receive(runtime, a_first_failure(attempt))
        assert (outcome.reason, outcome.mail and outcome.mail.fate) == (None, MailFate.QUEUED)
    assert mails(runtime) == [FAILED] * 3
    assert the_client(runtime).subscription_status == "past_due"


@pytest.mark.parametrize("status", ["trialing", "active", "past_due", "unpaid", "paused"])
def test_a_report_that_it_was_live_brings_what_failed_before_once(runtime: Runtime, status: str) -> None:
    failure = a_first_failure()
    assert receive(runtime, failure).reason == AT_CHECKOUT

    report = updated(a_subscription(status=status), at=NOW + 60)
    outcome = receive(runtime, report)

    (reopened,) = outcome.reopened
    assert (reopened.event_id, reopened.mail and reopened.mail.fate) == (event_id(failure), MailFate.QUEUED)
    assert mail(runtime, FAILED)["attempt"] == 1
    row = event(runtime, event_id(failure))
    assert (row.message_id, row.reason) == (reopened.mail and reopened.mail.message_id, None)
    replay = ProcessingOptions("cli", mail_old=True, is_replay=True)
    for raw in (report, failure):
        receive(runtime, raw)
        runtime.billing.process(event_id(raw), replay)
    receive(runtime, updated(a_subscription(status=status), at=NOW + 90))
    assert mails(runtime) == [FAILED]


@pytest.mark.parametrize("first", [0, 1], ids=["failures first", "report first"])
def test_each_attempt_is_written_whenever_the_report_comes(runtime: Runtime, first: int) -> None:
    failures = [a_first_failure(attempt) for attempt in (1, 2, 3)]
    report = created(a_subscription())
    receive(runtime, *([report, *failures] if first else [*failures, report]))
    assert mails(runtime) == [FAILED] * 3
    assert (subscription_state(runtime).status, the_client(runtime).subscription_status) == ("past_due", "past_due")


def test_a_report_that_it_waits_for_its_payment_brings_nothing(runtime: Runtime) -> None:
    receive(runtime, a_first_failure(at=NOW + 1), created(a_subscription(status="incomplete")))
    assert (mails(runtime), the_client(runtime).subscription_status) == ([], "incomplete")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["report first", "failure first"])
@pytest.mark.parametrize(
    "reason", ["subscription_create", "subscription_update", "subscription_threshold", "manual", None]
)
def test_whatever_an_invoice_is_for_what_was_never_live_is_at_checkout(
    runtime: Runtime, reason: str | None, order: tuple[int, ...]
) -> None:
    events = [
        created(a_subscription(status="incomplete")),
        failed(a_failed_invoice(reason=reason), at=NOW + 60),
    ]
    receive(runtime, *(events[index] for index in order))
    assert (mails(runtime), subscription_state(runtime).status) == ([], "incomplete")

    receive(runtime, updated(a_subscription(), at=NOW + 30))
    assert (mails(runtime), subscription_state(runtime).status) == ([FAILED], "past_due")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_failure_at_checkout_that_the_customer_mends_is_never_written(
    runtime: Runtime, order: tuple[int, ...]
) -> None:
    events = [
        created(a_subscription(status="incomplete")),
        a_first_failure(at=NOW + 1),
        paid(an_invoice(attempt=2), at=NOW + 60),
    ]
    receive(runtime, *(events[index] for index in order))
    assert FAILED not in mails(runtime)


@pytest.mark.parametrize(
    ("status", "at", "waits"),
    [("active", 3 * DAY + 60, True), ("active", 60, False), ("past_due", 3 * DAY + 60, False)],
    ids=["live only since", "live before", "owing since"],
)
def test_a_failure_that_may_have_been_made_good_at_checkout_waits_for_the_payment(
    runtime: Runtime, clock: StandingClock, status: str, at: int, waits: bool
) -> None:
    """The report that it is live and the payment that made it so come in the same second, in either order."""
    receive(runtime, created(a_subscription(status="incomplete")), a_first_failure())
    receive(runtime, updated(a_subscription(status=status), at=NOW + at))
    with runtime.database.read() as session:
        (message,) = message_store.find(session, message_store.MessageFilter(template_key=FAILED), limit=2)
    assert (message.next_attempt_at > clock.now) is waits

    receive(runtime, paid(an_invoice(), at=NOW + 3 * DAY + 60))
    assert withdrawn(runtime) == [FAILED]


def test_a_renewal_shows_that_it_was_live(runtime: Runtime) -> None:
    receive(runtime, a_first_failure(), failed(a_failed_invoice("in_2"), at=NOW + 40 * DAY))
    assert mails(runtime) == [FAILED] * 2


def test_an_old_failure_is_withdrawn_when_it_turns_out_to_be_a_checkouts_and_written_when_it_was_live(
    runtime: Runtime,
) -> None:
    """Of before invoices had a billing reason."""
    failure = failed(a_failed_invoice(reason=None), at=NOW + 1)
    receive(runtime, failure)
    assert mails(runtime) == [FAILED]

    receive(runtime, created(a_subscription(status="incomplete")))
    assert (mails(runtime), withdrawn(runtime)) == ([], [FAILED])
    assert event(runtime, event_id(failure)).reason == AT_CHECKOUT
    assert [AT_CHECKOUT in str(row.metadata) for row in audits(runtime, "NOTIFICATION_CANCELED")] == [True]

    receive(runtime, updated(a_subscription(), at=NOW + 60))
    assert mails(runtime) == [FAILED]


@pytest.mark.parametrize("mail_old", [False, True])
@pytest.mark.parametrize("first", [0, 1], ids=["failure first", "report first"])
def test_what_a_replay_brings_is_as_old_as_the_failure(
    runtime: Runtime, clock: StandingClock, first: int, mail_old: bool
) -> None:
    clock.now += timedelta(days=30)
    events = [a_first_failure(), created(a_subscription())]
    for raw in (events[first], events[1 - first]):
        recorded = runtime.billing.record(raw, origin=Origin.FILE, is_verified=True)
        runtime.billing.process(recorded.event_id, ProcessingOptions("cli", mail_old=mail_old, is_replay=True))
    assert mails(runtime) == ([FAILED] if mail_old else [])


def test_a_rehearsal_shows_what_the_report_would_bring(runtime: Runtime) -> None:
    failure, report = a_first_failure(), created(a_subscription())
    receive(runtime, failure)
    (outcome,) = runtime.billing.rehearse([report], is_verified=True, mail_old=True)
    assert [(one.event_id, one.mail and one.mail.fate) for one in outcome.everything()] == [
        (event_id(report), None),
        (event_id(failure), MailFate.QUEUED),
    ]
    assert mails(runtime) == []
