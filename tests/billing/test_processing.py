"""Stored, worked on, failed, tried again, rehearsed and replayed."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.billing.event_context import MailFate
from notifyctl.billing.failures import RETRY_AFTER
from notifyctl.billing.processing import ProcessingOptions
from notifyctl.bootstrap import Runtime
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.models.enums import Origin
from tests.support.clients import a_client
from tests.support.clocks import StandingClock
from tests.support.runtimes import MakeRuntime
from tests.support.stripe_payloads import (
    NOW,
    a_checkout,
    a_failed_invoice,
    a_subscription,
    an_event,
    an_invoice,
    completed,
    created,
    event_id,
    failed,
    paid,
)
from tests.support.stripe_world import (
    CONFIRMED,
    FAILED,
    alerts,
    audits,
    blocked,
    event,
    mails,
    receive,
    statuses,
    subscription_state,
    the_client,
)
from tests.support.templates import seed_templates

REPLAY = ProcessingOptions("cli", mail_old=False, is_replay=True)


@contextmanager
def without_template(runtime: Runtime, key: str = CONFIRMED) -> Iterator[None]:
    """For a while there is none of that key, so that whoever wants to send it fails."""
    for table in ("notification_template_version", "notification_template"):
        _execute(runtime, f"DELETE FROM {table} WHERE template_key = '{key}'")
    yield
    seed_templates(runtime)


def _execute(runtime: Runtime, statement: str) -> None:
    with runtime.database.transaction() as session:
        session.execute(text(statement))


def test_an_event_is_stored_with_what_it_is_about(runtime: Runtime) -> None:
    raw = paid(an_invoice(), account=None)
    row = event(runtime, receive(runtime, raw).event_id)
    assert row.body == raw
    assert (row.type, row.livemode, row.verified, row.api_version) == ("invoice.paid", True, True, "2025-06-30.basil")
    assert (row.object_id, row.customer_id, row.subscription_id) == ("in_1", "cus_1", "sub_1")
    assert (row.client_id, row.attempts, row.origin, row.next_attempt_at) == ("acme", 1, "webhook", None)
    assert row.created.timestamp() == NOW
    assert row.message_id is not None


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"livemode": False}, "a test event, while STRIPE_LIVEMODE is true"),
        ({"livemode": None}, "a test event, while STRIPE_LIVEMODE is true"),
        ({"livemode": "true"}, "a test event, while STRIPE_LIVEMODE is true"),
        ({"livemode": 1}, "a test event, while STRIPE_LIVEMODE is true"),
        ({"account": "acct_2"}, "it belongs to a connected account"),
        ({"user_id": "acct_2"}, "it belongs to a connected account"),
        ({"account": {"id": "acct_2"}}, "it belongs to a connected account"),
        (
            {"object": "v2.core.event", "created": "2026-03-02T12:00:00Z"},
            "a thin event, which names an object without showing it",
        ),
        ({"type": "charge.succeeded"}, "events of this type do nothing here"),
        (
            {"type": "invoice.upcoming", "data": {"object": {"object": "invoice"}}},
            "events of this type do nothing here",
        ),
        ({"type": "invoice.paid", "data": {"object": {"object": "invoice"}}}, "it names no invoice"),
        ({"type": "customer.subscription.updated", "data": None}, "it names no subscription"),
        ({"type": "customer.deleted"}, "events of this type do nothing here"),
    ],
)
def test_what_is_not_ours_is_kept_and_ignored_with_its_reason(
    runtime: Runtime, more: dict[str, Any], reason: str
) -> None:
    outcome = receive(runtime, paid(an_invoice(), **more))
    assert (outcome.status, event(runtime, outcome.event_id).reason) == ("IGNORED", reason)
    assert (mails(runtime), alerts(runtime), the_client(runtime).subscription_status) == ([], [], "none")


@pytest.mark.parametrize("livemode", [False, None, "true"])
def test_in_test_mode_only_what_is_live_is_ignored(make_runtime: MakeRuntime, livemode: Any) -> None:
    runtime = make_runtime(stripe_livemode=False)
    a_client(runtime, stripe_customer_id="cus_1")
    assert receive(runtime, paid(an_invoice(), livemode=livemode)).status == "PROCESSED"
    assert receive(runtime, paid(an_invoice())).reason == "a live event, while STRIPE_LIVEMODE is false"


@pytest.mark.parametrize("api_version", [None, "2031-01-01.future", 7, "absent"])
def test_the_version_is_not_needed_to_read_an_event(runtime: Runtime, api_version: Any) -> None:
    more = {} if api_version == "absent" else {"api_version": api_version}
    assert receive(runtime, paid(an_invoice(), request="req_1", **more)).status == "PROCESSED"


@pytest.mark.parametrize("at", [None, "soon", 1e300, -5, 10**30, True])
def test_an_event_without_a_time_happened_when_it_came(runtime: Runtime, at: Any) -> None:
    outcome = receive(runtime, created(a_subscription(), at=at))
    assert (outcome.status, outcome.created) == ("PROCESSED", runtime.clock())


def test_the_same_event_again_changes_nothing(runtime: Runtime, clock: StandingClock) -> None:
    raw = failed(a_failed_invoice())
    receive(runtime, raw)
    for later in (timedelta(seconds=5), timedelta(days=3)):
        clock.now += later
        assert receive(runtime, raw).is_repeated
    assert (mails(runtime), len(audits(runtime))) == ([FAILED], 2)


def test_the_same_event_with_another_body_keeps_the_first_and_warns(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = (failed(a_failed_invoice(amount=amount), id="evt_1") for amount in (4900, 9900))
    receive(runtime, first)
    with caplog.at_level(logging.WARNING, logger="notifyctl.billing"):
        receive(runtime, other)
    assert event(runtime, "evt_1").body == first
    assert [record.getMessage() for record in caplog.records] == [
        "stripe event came again with another body; the first is kept"
    ]


def test_what_differs_between_any_two_deliveries_is_no_other_body(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    raw = failed(a_failed_invoice(), id="evt_1")
    with caplog.at_level(logging.WARNING, logger="notifyctl.billing"):
        receive(runtime, raw, json.dumps(json.loads(raw) | {"pending_webhooks": 0}, indent=1).encode())
    assert caplog.records == []


def test_two_events_that_tell_the_same_are_one_news(runtime: Runtime) -> None:
    receive(runtime, failed(a_failed_invoice()), failed(a_failed_invoice()))
    assert mails(runtime) == [FAILED]


def test_everything_of_an_event_commits_together_or_not_at_all(runtime: Runtime) -> None:
    with without_template(runtime):
        outcome = receive(runtime, paid(an_invoice()))
    row = event(runtime, outcome.event_id)
    assert (outcome.status, row.status, row.attempts) == ("FAILED", "FAILED", 1)
    assert "SUBSCRIPTION_CONFIRMED" in row.error
    assert (subscription_state(runtime), mails(runtime), the_client(runtime).subscription_status) == (None, [], "none")
    assert [row.action for row in audits(runtime)] == ["STRIPE_EVENT_RECEIVED", "STRIPE_EVENT_FAILED"]


def test_a_redelivery_of_what_failed_runs_again(runtime: Runtime) -> None:
    raw = paid(an_invoice())
    with without_template(runtime):
        receive(runtime, raw)
    assert receive(runtime, raw).status == "PROCESSED"
    row = event(runtime, json.loads(raw)["id"])
    assert (row.attempts, row.error, row.next_attempt_at, mails(runtime)) == (2, None, None, [CONFIRMED])


def test_an_error_tells_the_place_and_nothing_of_the_event(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    _execute(runtime, "CREATE UNIQUE INDEX ux_of_test ON stripe_invoice (total)")
    with caplog.at_level(logging.DEBUG, logger="notifyctl"):
        receive(runtime, paid(an_invoice(amount=73519)))
        failing = receive(runtime, paid(an_invoice("in_2", amount=73519)))
    assert failing.status == "FAILED"
    error = event(runtime, failing.event_id).error
    assert error.startswith("IntegrityError in notifyctl/billing/subscription_store.py, line ")
    logged = str([record.__dict__ for record in caplog.records])
    assert failing.event_id in logged
    for secret in ("73519", "elsewhere.example", "Somebody"):
        assert secret not in error + logged + str(audits(runtime))


def test_what_failed_is_tried_again_ever_less_often_and_then_waits_for_a_replay(
    runtime: Runtime, clock: StandingClock
) -> None:
    with without_template(runtime):
        event_id = receive(runtime, paid(an_invoice())).event_id
        for wait in RETRY_AFTER:
            assert event(runtime, event_id).next_attempt_at == clock.now + wait
            clock.now += wait - timedelta(seconds=1)
            assert runtime.billing.retry().failed == 0
            clock.now += timedelta(seconds=1)
            assert runtime.billing.retry().failed == 1
        row = event(runtime, event_id)
        assert (row.status, row.next_attempt_at, row.attempts) == ("FAILED", None, len(RETRY_AFTER) + 1)
        clock.now += timedelta(days=30)
        assert runtime.billing.retry().failed == 0
    assert runtime.billing.process(event_id, REPLAY).status == "PROCESSED"


def test_a_retry_of_what_came_lately_still_mails(runtime: Runtime, clock: StandingClock) -> None:
    with without_template(runtime):
        receive(runtime, paid(an_invoice()))
    clock.now += timedelta(hours=71)
    assert runtime.billing.retry().settled == 1
    assert mails(runtime) == [CONFIRMED]


def test_a_poison_event_holds_up_no_other(runtime: Runtime, clock: StandingClock) -> None:
    with without_template(runtime):
        receive(runtime, paid(an_invoice()), failed(a_failed_invoice("in_2")), created(a_subscription("sub_2")))
        assert statuses(runtime) == {"FAILED": 1, "PROCESSED": 2}
        clock.now += RETRY_AFTER[0]
        runtime.billing.retry()
    assert mails(runtime) == [FAILED]


def test_an_event_that_nobody_finished_is_taken_up_after_a_minute(runtime: Runtime, clock: StandingClock) -> None:
    runtime.billing.record(paid(an_invoice()), origin=Origin.WEBHOOK, is_verified=True)
    assert runtime.billing.retry().settled == 0
    clock.now += timedelta(minutes=1)
    assert runtime.billing.retry().settled == 1
    assert mails(runtime) == [CONFIRMED]


def test_a_failed_event_is_told_once_to_each_admin(runtime: Runtime, clock: StandingClock) -> None:
    raw = paid(an_invoice())
    with without_template(runtime):
        for _ in range(10):
            receive(runtime, raw)
            clock.now += timedelta(hours=30)
    messages = alerts(runtime)
    assert sorted(row.recipient for row in messages) == ["dev@acme.example", "ops@acme.example"]
    assert {row.rate_subject for row in messages} == {f"subject={json.loads(raw)['id']}"}


@pytest.mark.usefixtures("exhaustive")
def test_a_storm_is_summed_up_in_one_mail(runtime: Runtime, clock: StandingClock) -> None:
    with without_template(runtime, FAILED):
        for number in range(40):
            receive(runtime, failed(a_failed_invoice(f"in_{number}")))
        clock.now += timedelta(hours=2)
        for number in range(40, 60):
            receive(runtime, failed(a_failed_invoice(f"in_{number}")))
    subjects = [row.rate_subject for row in alerts(runtime) if row.recipient == "ops@acme.example"]
    assert len(subjects) == 4
    assert subjects[0] == "subject=many events"
    assert blocked(runtime) == []


def test_the_next_storm_is_told_a_day_later(runtime: Runtime, clock: StandingClock) -> None:
    with without_template(runtime, FAILED):
        for day in range(2):
            for number in range(6):
                receive(runtime, failed(a_failed_invoice(f"in_{day}_{number}")))
            clock.now += timedelta(hours=25)
    storms = [row for row in alerts(runtime) if row.rate_subject == "subject=many events"]
    assert len(storms) == 2 * 2
    assert {row.status for row in storms} == {"QUEUED"}


@pytest.mark.parametrize("fault", ["no recipients", "no template", "template disabled"])
def test_an_alert_that_fails_fails_nothing_else(make_runtime: MakeRuntime, fault: str) -> None:
    runtime = make_runtime(**({"admin_alert_emails": ""} if fault == "no recipients" else {}))
    a_client(runtime, stripe_customer_id="cus_1")
    if fault == "template disabled":
        _execute(
            runtime,
            "UPDATE notification_template SET enabled = false WHERE template_key = 'STRIPE_WEBHOOK_FAILURE_ADMIN'",
        )
    with without_template(runtime):
        if fault == "no template":
            with without_template(runtime, "STRIPE_WEBHOOK_FAILURE_ADMIN"):
                outcome = receive(runtime, paid(an_invoice()))
        else:
            outcome = receive(runtime, paid(an_invoice()))
    assert outcome.status == "FAILED"
    assert not [row for row in alerts(runtime) if row.reason is None]


def test_a_replay_mails_nothing_twice_and_says_so(runtime: Runtime) -> None:
    event_id = receive(runtime, paid(an_invoice())).event_id
    for _ in range(2):
        outcome = runtime.billing.process(event_id, REPLAY)
        assert (outcome.status, outcome.changes) == ("PROCESSED", ())
        assert outcome.mail is not None
        assert outcome.mail.fate is MailFate.DUPLICATE
    assert mails(runtime) == [CONFIRMED]
    assert [row.action for row in audits(runtime)][2:] == ["STRIPE_EVENT_REPLAYED"] * 2


def test_a_replay_leaves_standing_why_an_event_has_or_has_no_mail_of_its_own(runtime: Runtime) -> None:
    first, second = paid(an_invoice()), completed(a_checkout())
    late = failed(a_failed_invoice("in_2"))
    receive(runtime, first, second, late, paid(an_invoice("in_2", reason="subscription_cycle", attempt=2)))
    for raw in (first, second, late):
        runtime.billing.process(event_id(raw), REPLAY)
    reasons = [event(runtime, event_id(raw)).reason for raw in (first, second, late)]
    assert reasons == [None, "SUBSCRIPTION_CONFIRMED duplicate", None]


def test_a_replay_mails_nothing_twice_even_when_the_first_mail_is_gone(runtime: Runtime) -> None:
    event_id = receive(runtime, paid(an_invoice())).event_id
    _execute(runtime, "DELETE FROM message_payload")
    _execute(runtime, "DELETE FROM message_log")
    runtime.billing.process(event_id, ProcessingOptions("cli", mail_old=True, is_replay=True))
    assert mails(runtime) == []


@pytest.mark.parametrize(("mail_old", "sent"), [(False, []), (True, [CONFIRMED])])
def test_a_replay_of_old_events_changes_state_and_mails_only_when_told(
    runtime: Runtime, clock: StandingClock, mail_old: bool, sent: list[str]
) -> None:
    events = [created(a_subscription()), paid(an_invoice())]
    recorded = [runtime.billing.record(raw, origin=Origin.API, is_verified=True) for raw in events]
    clock.now += timedelta(hours=72)
    outcomes = [
        runtime.billing.process(one.event_id, ProcessingOptions("cli", mail_old, is_replay=True)) for one in recorded
    ]
    assert (the_client(runtime).plan, mails(runtime)) == ("PRO", sent)
    assert outcomes[1].mail is not None
    assert outcomes[1].mail.fate is (MailFate.QUEUED if mail_old else MailFate.WITHHELD)


def test_an_event_from_a_file_changes_state_but_mails_nothing_until_stripe_has_signed_it(runtime: Runtime) -> None:
    raw = paid(an_invoice())
    recorded = runtime.billing.record(raw, origin=Origin.FILE, is_verified=False)
    assert runtime.billing.process(recorded.event_id, REPLAY).status == "PROCESSED"
    assert (mails(runtime), blocked(runtime)) == ([], [(CONFIRMED, "BILLING_ONLY_FROM_STRIPE")])
    receive(runtime, raw)
    assert (mails(runtime), event(runtime, recorded.event_id).verified) == ([CONFIRMED], True)


def test_what_stripe_signs_takes_the_place_of_what_a_file_said(runtime: Runtime) -> None:
    forged, real = (failed(a_failed_invoice(amount=amount), id="evt_1") for amount in (1, 4900))
    runtime.billing.record(forged, origin=Origin.FILE, is_verified=False)
    receive(runtime, real)
    assert event(runtime, "evt_1").body == real
    runtime.billing.record(forged, origin=Origin.FILE, is_verified=False)
    assert event(runtime, "evt_1").body == real


def test_a_rehearsal_tells_what_would_change_and_changes_nothing(runtime: Runtime) -> None:
    raws = [created(a_subscription()), paid(an_invoice()), completed(a_checkout()), an_event("charge.succeeded", {})]
    outcomes = runtime.billing.rehearse(raws, mail_old=True)
    assert [outcome.status for outcome in outcomes] == ["PROCESSED"] * 3 + ["IGNORED"]
    changes = {(change.what, change.field): (change.before, change.after) for change in outcomes[0].changes}
    assert changes["client acme", "plan"] == (None, "PRO")
    assert changes["client acme", "subscription_status"] == ("none", "active")
    assert changes["subscription sub_1", "current_period_end"] == (None, "2026-04-01T12:00:00Z")
    assert [outcome.mail and outcome.mail.fate for outcome in outcomes] == [
        None,
        MailFate.BLOCKED,
        MailFate.BLOCKED,
        None,
    ]
    assert (statuses(runtime), subscription_state(runtime), the_client(runtime).plan) == ({}, None, None)


def test_a_rehearsal_of_one_purchase_would_mail_once(runtime: Runtime, clock: StandingClock) -> None:
    events = [paid(an_invoice()), completed(a_checkout())]
    ids = [runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True).event_id for raw in events]
    outcomes = runtime.billing.rehearse(ids)
    assert [outcome.mail and outcome.mail.fate for outcome in outcomes] == [MailFate.QUEUED, MailFate.DUPLICATE]
    assert (mails(runtime), statuses(runtime)) == ([], {"RECEIVED": 2})
    assert len(audits(runtime)) == 2


def test_a_rehearsal_of_what_links_a_client_tells_of_what_had_matched_nobody(runtime: Runtime) -> None:
    a_client(runtime, "new", plan=None, subscription_status="none")
    unknown = {"subscription": "sub_9", "customer": "cus_9"}
    receive(runtime, failed(a_failed_invoice("in_9", **unknown)), created(a_subscription("sub_9", customer="cus_9")))
    link = completed(a_checkout(**unknown, client="new"), at=NOW + 60)
    recorded = runtime.billing.record(link, origin=Origin.WEBHOOK, is_verified=True)

    (rehearsed,) = runtime.billing.rehearse([recorded.event_id])

    assert sorted((other.type, other.mail and other.mail.fate) for other in rehearsed.matched) == [
        ("customer.subscription.created", None),
        ("invoice.payment_failed", MailFate.QUEUED),
    ]
    assert (mails(runtime), statuses(runtime)) == ([], {"UNMATCHED": 2, "RECEIVED": 1})
    done = runtime.billing.process(recorded.event_id, REPLAY)
    assert [(other.type, other.status, other.client_id) for other in done.matched] == [
        (other.type, "PROCESSED", "new") for other in rehearsed.matched
    ]
    assert mails(runtime) == [FAILED, CONFIRMED]


def test_a_rehearsal_shows_what_would_fail_and_goes_on(runtime: Runtime) -> None:
    events = [paid(an_invoice()), failed(a_failed_invoice("in_2"))]
    ids = [runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True).event_id for raw in events]
    with without_template(runtime):
        outcomes = runtime.billing.rehearse(ids)
    assert [outcome.status for outcome in outcomes] == ["FAILED", "PROCESSED"]
    assert (statuses(runtime), alerts(runtime)) == ({"RECEIVED": 2}, [])


def test_an_unknown_event_can_be_neither_replayed_nor_rehearsed(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="evt_none"):
        runtime.billing.process("evt_none", REPLAY)
    with pytest.raises(NotFound, match="evt_none"):
        runtime.billing.rehearse(["evt_none"])


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"not json", b"[]", b"null", b'"text"', b"7", b"{}", b'{"id": "evt_1"}', b'{"type": "invoice.paid"}',
        b"\xef\xbb\xbf{}", b"\xff\xfe", b"[" * 200_000, b'{"id": 5, "type": "x"}',
        b'{"id": "evt_\\u0000", "type": "x"}', b'{"id": "evt_1", "type": "a\\u0000b"}',
        b'{"id": "evt_\\ud800", "type": "x"}', b'{"id": "", "type": "x"}',
        b'{"id": "' + b"x" * 200 + b'", "type": "x"}', b'{"id": "evt_1", "type": "x", "created": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_without_a_trace(runtime: Runtime, raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        receive(runtime, raw)
    assert (statuses(runtime), audits(runtime)) == ({}, [])


ODD: list[Any] = [
    None,
    0,
    -1,
    True,
    "",
    "x" * 300,
    "a\x00b",
    "\ud800",
    [],
    [None],
    {},
    {"id": 5},
    {"data": 7},
    1.5,
    10**25,
]


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize(
    "kind", ["invoice.paid", "invoice.payment_failed", "customer.subscription.updated", "checkout.session.completed"]
)
def test_a_field_may_hold_anything(runtime: Runtime, kind: str) -> None:
    subjects = {"invoice.paid": an_invoice(), "invoice.payment_failed": a_failed_invoice()}
    subjects |= {"customer.subscription.updated": a_subscription(), "checkout.session.completed": a_checkout()}
    for name in subjects[kind]:
        for odd in ODD:
            outcome = receive(runtime, an_event(kind, subjects[kind] | {name: odd}))
            assert outcome.status in ("PROCESSED", "IGNORED", "UNMATCHED"), (name, odd, outcome.reason)
