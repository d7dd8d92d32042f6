"""Which events are written to a client, once each, and with what words."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from notifyctl.billing.event_context import MailFate
from notifyctl.bootstrap import Runtime
from notifyctl.orchestrator import message_store
from tests.support.clients import a_client
from tests.support.clocks import StandingClock
from tests.support.stripe_payloads import (
    DAY,
    ERAS,
    NOW,
    Era,
    a_checkout,
    a_failed_invoice,
    a_price,
    a_subscription,
    an_ended_subscription,
    an_event,
    an_invoice,
    completed,
    created,
    deleted,
    failed,
    paid,
    updated,
)
from tests.support.stripe_world import (
    CANCELED,
    CONFIRMED,
    FAILED,
    audits,
    blocked,
    event,
    mail,
    mails,
    receive,
    subscription_state,
    the_client,
    withdrawn,
)

eras = pytest.mark.parametrize("era", ERAS, ids=["before 2025-03-31", "since 2025-03-31"])


def test_checkout_and_invoice_of_one_purchase_confirm_once(runtime: Runtime) -> None:
    receive(runtime, completed(a_checkout()))
    outcome = receive(runtime, paid(an_invoice()))
    assert mails(runtime) == [CONFIRMED]
    assert outcome.mail is not None
    assert outcome.mail.fate is MailFate.DUPLICATE


def test_invoice_and_checkout_of_one_purchase_confirm_once(runtime: Runtime) -> None:
    receive(runtime, paid(an_invoice()), completed(a_checkout()))
    assert mails(runtime) == [CONFIRMED]


@eras
def test_the_confirmation_says_plan_amount_and_period_in_either_generation_of_fields(
    runtime: Runtime, era: Era
) -> None:
    receive(runtime, paid(an_invoice(era=era)))
    assert mail(runtime, CONFIRMED) == {
        "client_name": "Acme",
        "plan_name": "Pro",
        "amount": "49.00 USD",
        "period_end": "2026-04-01",
    }


def test_a_confirmation_by_checkout_takes_plan_and_period_from_the_subscription(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), completed(a_checkout()))
    assert mail(runtime, CONFIRMED)["plan_name"] == "Pro"
    assert mail(runtime, CONFIRMED)["period_end"] == "2026-04-01"


def test_a_checkout_before_its_subscription_confirms_without_guessing_a_plan(runtime: Runtime) -> None:
    receive(runtime, completed(a_checkout()))
    assert mail(runtime, CONFIRMED) == {"client_name": "Acme", "amount": "49.00 USD"}


def test_what_completes_a_mail_that_waits_is_in_the_log(runtime: Runtime, clock: StandingClock) -> None:
    first = receive(runtime, completed(a_checkout())).mail
    assert first is not None
    assert first.detail == "waits 20 s at most for the event that completes it"
    assert due_at(runtime) == clock.now + timedelta(seconds=20)
    clock.now += timedelta(seconds=2)
    report, invoice = created(a_subscription(), id="evt_report"), paid(an_invoice(), id="evt_invoice")
    receive(runtime, report, report)
    assert due_at(runtime) == clock.now + timedelta(seconds=18)
    receive(runtime, invoice)
    assert due_at(runtime) == clock.now
    details = [str(row.metadata) for row in audits(runtime, "NOTIFICATION_DUPLICATE")]
    assert [("what evt_report tells" in one, "what evt_invoice tells" in one) for one in details] == [
        (True, False),
        (False, False),
    ]


def due_at(runtime: Runtime) -> datetime:
    with runtime.database.read() as session:
        (row,) = message_store.find(session, message_store.MessageFilter(), limit=2)
    return row.next_attempt_at  # type: ignore[no-any-return]


def test_days_are_those_of_the_clients_time_zone(runtime: Runtime) -> None:
    a_client(runtime, "far", stripe_customer_id="cus_far", timezone="Pacific/Auckland")
    receive(runtime, paid(an_invoice(customer="cus_far", period_end=NOW + DAY)))
    assert mail(runtime, CONFIRMED)["period_end"] == "2026-03-04"


def test_invoice_payment_succeeded_is_ignored_since_paid_says_the_same(runtime: Runtime) -> None:
    outcome = receive(runtime, an_event("invoice.payment_succeeded", an_invoice()))
    assert (outcome.status, mails(runtime)) == ("IGNORED", [])


def test_a_renewal_confirms_nothing(runtime: Runtime) -> None:
    outcome = receive(runtime, paid(an_invoice(reason="subscription_cycle")))
    assert (outcome.status, mails(runtime)) == ("PROCESSED", [])
    assert outcome.reason == "a renewal, or another payment at the first attempt"


def test_a_proration_confirms_nothing(runtime: Runtime) -> None:
    receive(runtime, paid(an_invoice(reason="subscription_update")))
    assert mails(runtime) == []


def test_a_manual_invoice_of_no_subscription_is_ignored(runtime: Runtime) -> None:
    for raw in (
        paid(an_invoice(subscription=None, reason="manual")),
        failed(a_failed_invoice(subscription=None, reason="manual")),
    ):
        assert receive(runtime, raw).status == "IGNORED"
    assert mails(runtime) == []


def test_a_trial_confirms_without_an_amount(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(status="trialing")), paid(an_invoice(amount=0)))
    assert mail(runtime, CONFIRMED) == {"client_name": "Acme", "plan_name": "Pro", "period_end": "2026-04-01"}
    assert the_client(runtime).subscription_status == "trialing"


def test_a_checkout_that_needs_no_payment_confirms(runtime: Runtime) -> None:
    receive(runtime, completed(a_checkout(paid="no_payment_required", amount_total=0)))
    assert mails(runtime) == [CONFIRMED]


def test_an_invoice_paid_out_of_band_counts_as_paid(runtime: Runtime) -> None:
    receive(runtime, paid(an_invoice(paid_out_of_band=True, charge=None, attempt=0)))
    assert mails(runtime) == [CONFIRMED]


@pytest.mark.parametrize("mode", ["payment", "setup"])
def test_a_checkout_of_another_mode_confirms_nothing(runtime: Runtime, mode: str) -> None:
    outcome = receive(runtime, completed(a_checkout(mode=mode, subscription=None)))
    assert (outcome.status, outcome.reason, mails(runtime)) == ("IGNORED", f"a checkout of mode {mode}", [])


def test_a_checkout_of_before_payment_status_and_mode_confirms(runtime: Runtime) -> None:
    receive(runtime, completed(a_checkout(mode=None, paid=None)))
    assert mails(runtime) == [CONFIRMED]


def test_a_bank_debit_confirms_when_it_has_come_in(runtime: Runtime) -> None:
    receive(runtime, completed(a_checkout(paid="unpaid")))
    assert mails(runtime) == []
    receive(runtime, an_event("checkout.session.async_payment_failed", a_checkout(paid="unpaid")))
    assert mails(runtime) == []
    receive(runtime, an_event("checkout.session.async_payment_succeeded", a_checkout(paid="paid")))
    assert mails(runtime) == [CONFIRMED]


def test_a_payment_made_good_is_confirmed_once_an_invoice(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(status="past_due")))
    recovery = an_invoice("in_2", reason="subscription_cycle", attempt=3)
    receive(runtime, paid(recovery), paid(recovery))
    assert mails(runtime) == [CONFIRMED]
    receive(runtime, paid(recovery | {"id": "in_3"}))
    assert mails(runtime) == [CONFIRMED, CONFIRMED]


def test_a_first_payment_that_took_two_attempts_is_a_start_and_no_recovery(runtime: Runtime) -> None:
    receive(runtime, paid(an_invoice(attempt=2)), completed(a_checkout()))
    assert mails(runtime) == [CONFIRMED]


@eras
def test_a_failed_payment_says_what_is_owed_and_when_it_is_tried_again(runtime: Runtime, era: Era) -> None:
    receive(runtime, failed(a_failed_invoice(era=era, attempt=2)))
    assert mail(runtime, FAILED) == {
        "client_name": "Acme",
        "amount": "49.00 USD",
        "attempt": 2,
        "next_attempt_on": "2026-03-05",
        "update_url": "https://invoice.stripe.example/i/in_1",
    }


def test_each_failed_attempt_is_written_once(runtime: Runtime) -> None:
    for attempt in (1, 2, 2, 3):
        receive(runtime, failed(a_failed_invoice(attempt=attempt)))
    assert mails(runtime) == [FAILED] * 3


def test_the_last_attempt_names_no_next_one(runtime: Runtime) -> None:
    receive(runtime, failed(a_failed_invoice(attempt=4, next_payment_attempt=None)))
    assert "next_attempt_on" not in mail(runtime, FAILED)


@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", "https://x.example/a b"])
def test_a_link_that_cannot_be_used_is_left_out(runtime: Runtime, url: str | None) -> None:
    receive(runtime, failed(a_failed_invoice(hosted_invoice_url=url)))
    assert "update_url" not in mail(runtime, FAILED)


def test_a_failure_at_checkout_is_not_written(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(status="incomplete")))
    outcome = receive(runtime, failed(a_failed_invoice(reason="subscription_create")))
    assert (mails(runtime), outcome.reason) == ([], "a first payment, still at checkout")
    assert the_client(runtime).subscription_status == "incomplete"


def test_a_failure_that_still_waits_is_withdrawn_when_its_invoice_is_paid(runtime: Runtime) -> None:
    receive(runtime, *(failed(a_failed_invoice("in_2a", attempt=number)) for number in (1, 2)))
    receive(runtime, failed(a_failed_invoice("in_2A")), failed(a_failed_invoice("in_2a1")))
    sent = receive(runtime, failed(a_failed_invoice("in_2a", attempt=3))).mail
    assert sent is not None
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'SENT' WHERE id = :id"), {"id": sent.message_id})

    outcome = receive(runtime, paid(an_invoice("in_2a", reason="subscription_cycle", attempt=4), at=NOW + 60))

    assert withdrawn(runtime) == [FAILED] * 2
    assert mails(runtime) == [FAILED] * 3 + [CONFIRMED]
    moved = [change for change in outcome.changes if change.what.startswith("message ")]
    assert [(change.field, change.after) for change in moved] == [("status", "CANCELED")] * 2
    rows = audits(runtime, "NOTIFICATION_CANCELED")
    assert {(row.actor, "its invoice was paid in the meantime" in str(row.metadata)) for row in rows} == {
        ("stripe", True)
    }


def test_a_failure_that_comes_after_the_payment_is_not_written(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), paid(an_invoice(reason="subscription_cycle"), at=NOW + 60))
    outcome = receive(runtime, failed(a_failed_invoice(), at=NOW + 30))
    assert (mails(runtime), outcome.reason) == ([], "the invoice has been paid")
    assert the_client(runtime).subscription_status == "active"


def test_a_failure_after_the_payment_is_not_believed_even_if_it_is_dated_later(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()), paid(an_invoice(reason="subscription_cycle"), at=NOW + 30))
    receive(runtime, failed(a_failed_invoice(), at=NOW + 60))
    assert (mails(runtime), the_client(runtime).subscription_status) == ([], "active")


def test_a_failure_of_an_ended_subscription_is_not_written_and_revives_nothing(runtime: Runtime) -> None:
    receive(runtime, deleted(an_ended_subscription()), failed(a_failed_invoice(), at=NOW + 2 * DAY))
    assert mails(runtime) == [CANCELED]
    assert the_client(runtime).subscription_status == "canceled"


def test_payment_action_required_is_no_failure(runtime: Runtime) -> None:
    outcome = receive(runtime, an_event("invoice.payment_action_required", a_failed_invoice()))
    assert (outcome.status, mails(runtime)) == ("IGNORED", [])


def test_a_payment_of_an_ended_subscription_confirms_nothing(runtime: Runtime) -> None:
    receive(runtime, deleted(an_ended_subscription()), paid(an_invoice()), completed(a_checkout()))
    assert mails(runtime) == [CANCELED]


@eras
def test_an_end_says_plan_day_and_cause(runtime: Runtime, era: Era) -> None:
    receive(runtime, deleted(an_ended_subscription(era=era, cause="payment_failed")))
    assert mail(runtime, CANCELED) == {
        "client_name": "Acme",
        "plan_name": "Pro",
        "ended_on": "2026-03-03",
        "cause": "payment_failed",
    }


@pytest.mark.parametrize("cause", [None, "a_new_one", "<b>no word</b>", 7])
def test_a_cause_is_a_word_of_stripes_or_left_out(runtime: Runtime, cause: object) -> None:
    receive(runtime, deleted(an_ended_subscription(cause=cause)))  # type: ignore[arg-type]
    assert mail(runtime, CANCELED).get("cause") == ("a_new_one" if cause == "a_new_one" else None)


def test_an_end_told_twice_is_written_once(runtime: Runtime) -> None:
    by_admin, by_dunning = an_ended_subscription(), an_ended_subscription(cause="payment_failed")
    receive(runtime, deleted(by_admin), deleted(by_dunning, at=NOW + 1))
    assert mails(runtime) == [CANCELED]


def test_an_announced_end_is_kept_and_not_written_yet(runtime: Runtime) -> None:
    receive(runtime, updated(a_subscription(cancel_at_period_end=True)))
    assert (mails(runtime), the_client(runtime).subscription_status) == ([], "active")
    assert subscription_state(runtime).cancel_at.isoformat() == "2026-04-01T12:00:00+00:00"


@pytest.mark.parametrize("end", ["canceled", "incomplete_expired"])
def test_the_end_of_what_was_never_paid_is_not_written(runtime: Runtime, end: str) -> None:
    receive(runtime, created(a_subscription(status="incomplete")), deleted(an_ended_subscription(status=end)))
    assert mails(runtime) == []


def test_the_end_of_what_expired_at_checkout_is_not_written(runtime: Runtime) -> None:
    receive(runtime, deleted(an_ended_subscription(status="incomplete_expired")))
    assert (mails(runtime), the_client(runtime).subscription_status) == ([], "incomplete_expired")


def test_an_end_is_written_as_soon_as_it_is_known_that_it_had_been_live(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription(status="incomplete")), deleted(an_ended_subscription(), at=NOW + DAY))
    assert mails(runtime) == []
    receive(runtime, updated(a_subscription(), at=NOW + 60))
    assert (mails(runtime), the_client(runtime).subscription_status) == ([CANCELED], "canceled")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(500, "jpy", "500 JPY"), (1250, "kwd", "1.250 KWD"), (500, "isk", "5 ISK"), (5, "usd", "0.05 USD")],
)
def test_amounts_are_in_the_units_of_their_currency(runtime: Runtime, amount: int, currency: str, text: str) -> None:
    receive(runtime, paid(an_invoice(amount=amount, currency=currency)))
    assert mail(runtime, CONFIRMED)["amount"] == text


def test_a_credit_is_no_payment(runtime: Runtime) -> None:
    receive(runtime, paid(an_invoice(amount=-500)))
    assert "amount" not in mail(runtime, CONFIRMED)


def test_names_come_from_our_record_and_never_from_the_event(runtime: Runtime) -> None:
    invoice = an_invoice(customer_name="Evil\r\nBcc: all@x.example", customer_email="evil@x.example")
    receive(runtime, paid(invoice))
    assert mail(runtime, CONFIRMED)["client_name"] == "Acme"


@pytest.mark.parametrize("email", [None, "", "absent"])
def test_an_invoice_without_an_address_goes_to_the_clients_own(runtime: Runtime, email: str | None) -> None:
    invoice = an_invoice(customer_email=email)
    if email == "absent":
        del invoice["customer_email"]
    receive(runtime, paid(invoice))
    assert mails(runtime) == [CONFIRMED]


def test_a_client_without_an_address_leaves_a_blocked_message_and_gets_it_when_replayed_later(runtime: Runtime) -> None:
    a_client(runtime, "mute", stripe_customer_id="cus_mute", email=None)
    outcome = receive(runtime, paid(an_invoice(customer="cus_mute")))
    assert outcome.status == "PROCESSED"
    assert blocked(runtime) == [(CONFIRMED, "RECIPIENT_MISSING")]
    assert "RECIPIENT_MISSING" in event(runtime, outcome.event_id).reason


def test_billing_mails_go_before_provisioning(runtime: Runtime) -> None:
    a_client(runtime, "new", stripe_customer_id="cus_new", provisioning_status="PENDING")
    receive(runtime, paid(an_invoice(customer="cus_new")))
    assert mails(runtime) == [CONFIRMED]


def test_what_stripe_delivers_is_news_however_old(runtime: Runtime, clock: StandingClock) -> None:
    clock.now += timedelta(days=30)
    receive(runtime, paid(an_invoice()))
    assert mails(runtime) == [CONFIRMED]


def test_a_price_that_the_registry_does_not_know_names_no_plan_and_changes_none(runtime: Runtime) -> None:
    outcome = receive(runtime, created(a_subscription(price=a_price("gold"))))
    assert outcome.reason == "the plan registry knows none of its prices"
    assert (the_client(runtime).plan, the_client(runtime).subscription_status) == (None, "active")


def test_a_price_that_becomes_unknown_is_told_and_leaves_the_plan(runtime: Runtime) -> None:
    receive(runtime, created(a_subscription()))
    outcome = receive(runtime, updated(a_subscription(price=a_price("gold")), at=NOW + 60))
    assert outcome.reason == "the plan registry knows none of its prices"
    assert (subscription_state(runtime).plan, subscription_state(runtime).price_id, the_client(runtime).plan) == (
        "PRO",
        "gold",
        "PRO",
    )
