"""What a code is good for, and what a wrong one costs."""

from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.clients.suppressions import suppress
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import BlockReason, Channel, MessageStatus, SuppressionReason
from notifyctl.operations.witness import Witness
from notifyctl.orchestrator.requests import Blocked, Queued
from notifyctl.otp.codes import PepperRing, new_code
from notifyctl.otp.one_time_codes import Guess
from notifyctl.otp.store import CodeRow
from notifyctl.text.addresses import AddressError
from tests.support.clocks import TurnableClock
from tests.support.command_line import CommandLine
from tests.support.messages import send
from tests.support.otp_codes import PHONE, SENSITIVE, VERIFY, audited, audits, code_in, sent_code, sms, wrong
from tests.support.runtimes import MakeRuntime

OTHER = "+4915187654321"


def _fail(runtime: Runtime, code: str, times: int) -> None:
    for number in range(times):
        assert not runtime.otp.verify(PHONE, VERIFY, wrong(code, number + 1))


def test_the_right_code_verifies_once(runtime: Runtime) -> None:
    code = sent_code(runtime)

    assert runtime.otp.verify(PHONE, VERIFY, code)
    assert not runtime.otp.verify(PHONE, VERIFY, code)
    assert audited(runtime) == {"OTP_SEND_REQUESTED": 1, "OTP_VERIFY_SUCCESS": 1, "OTP_VERIFY_FAILED": 1}


def test_guesses_together_are_answered_one_after_the_other(runtime: Runtime) -> None:
    code, other = sent_code(runtime), sent_code(runtime, OTHER)
    wrong_ones = [Guess(PHONE, VERIFY, wrong(code, by), "key:shop") for by in range(1, 7)]
    asked = [Guess(OTHER, VERIFY, other), *wrong_ones, Guess(PHONE, VERIFY, code), Guess("123", VERIFY, code)]
    *answers, refused = runtime.otp.verify_together([*asked[:1], *asked])
    assert (answers, type(refused)) == ([True, False, *[False] * 7], AddressError)
    assert (runtime.otp.status(PHONE).is_locked, runtime.otp.status(OTHER).is_locked) == (True, False)
    said = Counter((action, details.get("cause") or details.get("event")) for action, details in audits(runtime))
    assert (said["OTP_VERIFY_FAILED", "wrong_code"], said["OTP_LOCKED_OUT", "begun"]) == (5, 1)
    assert said["OTP_LOCKED_OUT", "refused"] == 2


def test_guesses_among_which_one_fails_are_to_be_tried_alone(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    code, other = sent_code(runtime), sent_code(runtime, OTHER)
    fits = PepperRing.fits

    def stumble(ring: PepperRing, row: CodeRow, phone: str, guess: str) -> bool:
        if phone == OTHER:
            raise ValueError("broken")
        return fits(ring, row, phone, guess)

    monkeypatch.setattr(PepperRing, "fits", stumble)
    asked = [Guess(PHONE, VERIFY, wrong(code)), Guess(PHONE, VERIFY, code), Guess(OTHER, VERIFY, other)]
    assert runtime.otp.verify_together(asked) == [None] * 3
    assert runtime.otp.status(PHONE).state.failed_count == 0
    assert runtime.otp.verify(PHONE, VERIFY, code)


def test_guesses_that_may_be_committed_are_not_tried_again(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    code = sent_code(runtime)

    def lose(*_: object) -> None:
        raise ValueError("lost after the commit")

    monkeypatch.setattr(Witness, "keep", lose)
    answers = runtime.otp.verify_together([Guess(PHONE, VERIFY, code), Guess(PHONE, VERIFY, wrong(code))])
    assert [str(answer) for answer in answers] == ["lost after the commit"] * 2


def test_every_spelling_of_a_number_is_one_phone(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(otp_default_region="DE")
    sent_code(runtime, "0151 12345678")
    sent_code(runtime, "+49 (151) 123-456-78")
    code = sent_code(runtime, "+4915112345678")

    assert isinstance(runtime.otp.send("0151/12345678", VERIFY), Blocked)
    assert runtime.otp.verify("+49 151 12345678", VERIFY, code)


@pytest.mark.parametrize(
    "phone", ["+49151CALLME", "+4915112345678 ext. 5", "0151 12345678", "", "+", "12", "+49\u0661\u0661"]
)
def test_what_is_no_number_is_refused_without_a_row(runtime: Runtime, phone: str) -> None:
    with pytest.raises(InvalidInput):
        runtime.otp.send(phone, VERIFY)
    with pytest.raises(InvalidInput):
        runtime.otp.verify(phone, VERIFY, "123456")
    assert not sms(runtime)


@pytest.mark.parametrize(
    "guess", ["", "12345", "1234567", "\u0661" * 6, "abcdef", "\0", "\ud800", " 12345", "1" * 60_000]
)
def test_a_guess_that_is_no_code_is_an_attempt_like_any_other(runtime: Runtime, guess: str) -> None:
    code = sent_code(runtime)

    assert not runtime.otp.verify(PHONE, VERIFY, guess)
    assert runtime.otp.status(PHONE).state.failed_count == 1
    assert runtime.otp.verify(PHONE, VERIFY, code)


def test_a_code_fits_neither_another_action_nor_another_phone(runtime: Runtime) -> None:
    code = sent_code(runtime)
    sent_code(runtime, action=SENSITIVE)
    sent_code(runtime, OTHER)

    for phone, action in ((PHONE, SENSITIVE), (OTHER, VERIFY)):
        assert not runtime.otp.verify(phone, action, code)
    assert runtime.otp.status(PHONE).state.failed_count == 1
    assert runtime.otp.verify(PHONE, VERIFY, code)


def test_a_code_moved_to_another_row_fits_nothing(runtime: Runtime) -> None:
    code = sent_code(runtime)
    sent_code(runtime, OTHER)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE otp_challenge SET code_hash = (SELECT code_hash FROM otp_challenge LIMIT 1)"))

    assert [runtime.otp.verify(phone, VERIFY, code) for phone in (PHONE, OTHER)].count(True) <= 1


def test_a_code_lives_for_its_ttl_and_not_a_second_longer(runtime: Runtime, clock: TurnableClock) -> None:
    first = sent_code(runtime)
    clock.ahead = timedelta(minutes=9, seconds=58)
    assert runtime.otp.verify(PHONE, VERIFY, first)

    second = sent_code(runtime)
    clock.ahead += timedelta(minutes=10, seconds=1)
    assert not runtime.otp.verify(PHONE, VERIFY, second)
    assert runtime.otp.status(PHONE).state.failed_count == 0
    assert audits(runtime)[-1][1]["cause"] == "expired"


def test_a_clock_set_back_makes_no_code_live_longer(runtime: Runtime, clock: TurnableClock) -> None:
    code = sent_code(runtime)
    clock.ahead = -timedelta(minutes=5)

    assert not runtime.otp.verify(PHONE, VERIFY, code)


def test_a_new_code_replaces_the_earlier_one_of_its_action_only(runtime: Runtime) -> None:
    other_action = sent_code(runtime, action=SENSITIVE)
    first = sent_code(runtime)
    second = sent_code(runtime)

    assert not runtime.otp.verify(PHONE, VERIFY, first)
    assert runtime.otp.verify(PHONE, VERIFY, second)
    assert runtime.otp.verify(PHONE, SENSITIVE, other_action)


def test_the_message_of_a_replaced_code_is_withdrawn_and_its_code_erased(runtime: Runtime) -> None:
    first = runtime.otp.send(PHONE, VERIFY)
    sent_code(runtime)

    assert sms(runtime) == {"CANCELED": 1, "QUEUED": 1}
    with runtime.database.read() as session:
        payloads = session.execute(text("SELECT message_id FROM message_payload")).scalars().all()
    assert str(first.message_id) not in map(str, payloads)


def test_sending_over_the_rate_limit_is_audited_and_sends_nothing(runtime: Runtime) -> None:
    """OTP send over the rate limit: OTP_RATE_LIMITED audit, nothing sent."""
    codes = [sent_code(runtime, action=action) for action in (VERIFY, SENSITIVE, VERIFY)]
    refused = runtime.otp.send(PHONE, SENSITIVE)

    assert isinstance(refused, Blocked)
    assert refused.reason is BlockReason.RATE_LIMITED
    assert sms(runtime) == {"QUEUED": 2, "CANCELED": 1, "RATE_LIMITED": 1}
    assert audited(runtime)["OTP_RATE_LIMITED"] == 1
    # The code that was live before is still good.
    assert runtime.otp.verify(PHONE, VERIFY, codes[2])


def test_the_window_slides_and_no_send_is_given_back(runtime: Runtime, clock: TurnableClock) -> None:
    for minutes in (0, 10, 20):
        clock.ahead = timedelta(minutes=minutes)
        sent_code(runtime)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'FAILED' WHERE status = 'QUEUED'"))
    clock.ahead = timedelta(minutes=29)
    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)
    clock.ahead = timedelta(minutes=30, seconds=1)
    assert isinstance(runtime.otp.send(PHONE, VERIFY), Queued)
    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)


def test_a_clock_set_back_frees_no_send(runtime: Runtime, clock: TurnableClock) -> None:
    for _ in range(3):
        sent_code(runtime)
    clock.ahead = -timedelta(hours=2)

    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)


def test_codes_that_others_send_to_the_phone_count_as_well(runtime: Runtime) -> None:
    for _ in range(3):
        send(runtime, "OTP_CODE_SMS", {"code": "111111", "valid_minutes": 10}, recipient=PHONE)

    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)


def test_the_lock_follows_the_fifth_wrong_code(runtime: Runtime, clock: TurnableClock) -> None:
    """OTP wrong code: attempts go up, lock after 5."""
    code, other_action = sent_code(runtime), sent_code(runtime, action=SENSITIVE)
    for number in range(4):
        _fail(runtime, code, 1)
        assert runtime.otp.status(PHONE).state.failed_count == number + 1
        assert not runtime.otp.status(PHONE).is_locked
    _fail(runtime, code, 1)

    assert runtime.otp.status(PHONE).is_locked
    assert not runtime.otp.status(PHONE).live
    assert not runtime.otp.verify(PHONE, VERIFY, code)
    assert not runtime.otp.verify(PHONE, SENSITIVE, other_action)
    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)
    assert [details["event"] for action, details in audits(runtime) if action == "OTP_LOCKED_OUT"] == [
        "begun", "refused", "refused", "refused",
    ]  # fmt: skip
    assert {details["until"][-1] for action, details in audits(runtime) if action == "OTP_LOCKED_OUT"} == {"Z"}
    assert sms(runtime) == {"CANCELED": 2, "RATE_LIMITED": 1}


def test_tries_while_locked_do_not_extend_the_lock(runtime: Runtime, clock: TurnableClock) -> None:
    _fail(runtime, sent_code(runtime), 5)
    until = runtime.otp.status(PHONE).state.locked_until
    for minutes in range(1, 15):
        clock.ahead = timedelta(minutes=minutes)
        runtime.otp.verify(PHONE, VERIFY, "000000")
        runtime.otp.send(PHONE, VERIFY)
    assert runtime.otp.status(PHONE).state.locked_until == until

    clock.ahead = timedelta(minutes=15, seconds=1)
    code = sent_code(runtime)
    _fail(runtime, code, 4)
    assert runtime.otp.verify(PHONE, VERIFY, code)


def test_a_new_code_brings_no_new_guesses(runtime: Runtime) -> None:
    _fail(runtime, sent_code(runtime), 4)
    _fail(runtime, sent_code(runtime), 1)

    assert runtime.otp.status(PHONE).is_locked


def test_success_clears_the_count(runtime: Runtime) -> None:
    code = sent_code(runtime)
    _fail(runtime, code, 4)
    assert runtime.otp.verify(PHONE, VERIFY, code)
    _fail(runtime, sent_code(runtime), 4)

    assert not runtime.otp.status(PHONE).is_locked


def test_a_hundred_wrong_codes_in_a_row_lock_until_an_operator_unlocks(
    make_runtime: MakeRuntime, clock: TurnableClock
) -> None:
    runtime = make_runtime(otp_send_rate_limit="9999/30m")
    for _ in range(20):
        _fail(runtime, sent_code(runtime), 5)
        clock.ahead += timedelta(minutes=16)
    clock.ahead += timedelta(days=400)

    assert isinstance(runtime.otp.send(PHONE, VERIFY), Blocked)
    assert runtime.otp.unlock(PHONE, actor="cli:op") is not None
    assert runtime.otp.verify(PHONE, VERIFY, sent_code(runtime))
    assert audited(runtime)["OTP_UNLOCKED"] == 1


def test_a_try_without_a_live_code_is_audited_and_costs_nothing(runtime: Runtime) -> None:
    for _ in range(7):
        assert not runtime.otp.verify(PHONE, VERIFY, "123456")

    assert audited(runtime) == {"OTP_VERIFY_FAILED": 7}
    assert not runtime.otp.status(PHONE).is_locked


def test_premium_numbers_are_refused_quietly_and_on_record(runtime: Runtime) -> None:
    decision = runtime.otp.send("+449098790000", VERIFY)

    assert isinstance(decision, Blocked)
    assert decision.reason is BlockReason.RECIPIENT_INVALID


def test_only_allowed_countries_get_codes(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(otp_allowed_countries="DE,AT")

    assert isinstance(runtime.otp.send(PHONE, VERIFY), Queued)
    refused = runtime.otp.send("+447911123456", VERIFY)
    assert isinstance(refused, Blocked)
    assert refused.reason is BlockReason.COUNTRY_NOT_ALLOWED


def test_a_prefix_has_a_budget_over_all_its_numbers(make_runtime: MakeRuntime, clock: TurnableClock) -> None:
    runtime = make_runtime(otp_prefix_hourly_limit=3)
    sent = [runtime.otp.send(f"+491511234{number:04}", VERIFY) for number in range(8)]

    assert [isinstance(decision, Queued) for decision in sent] == [True] * 3 + [False] * 5
    assert audited(runtime)["OTP_RATE_LIMITED"] == 5
    assert isinstance(runtime.otp.send("+491601234567", VERIFY), Queued)
    clock.ahead = timedelta(hours=1, seconds=1)
    assert isinstance(runtime.otp.send(PHONE, VERIFY), Queued)


def test_all_codes_together_have_a_budget(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(otp_global_hourly_limit=4)
    sent = [runtime.otp.send(f"+4915{number}1234567", VERIFY) for number in range(1, 8)]

    assert sum(isinstance(decision, Queued) for decision in sent) == 4


def test_a_second_code_waits_for_the_cooldown(make_runtime: MakeRuntime, clock: TurnableClock) -> None:
    runtime = make_runtime(otp_resend_cooldown_seconds=60)
    sent_code(runtime)
    assert isinstance(runtime.otp.send(PHONE, SENSITIVE), Blocked)
    clock.ahead = timedelta(seconds=61)
    assert isinstance(runtime.otp.send(PHONE, SENSITIVE), Queued)


def test_who_opted_out_gets_no_code_and_the_refusal_is_on_record(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        suppress(
            session, runtime.keys, Channel.SMS, PHONE,
            reason=SuppressionReason.OPTED_OUT, actor="twilio", now=runtime.clock(),
        )  # fmt: skip
    decision = runtime.otp.send(PHONE, VERIFY)

    assert isinstance(decision, Blocked)
    assert decision.reason is BlockReason.SUPPRESSED
    assert not runtime.otp.status(PHONE).live


def test_peppers_can_be_exchanged_while_codes_live_and_phones_are_locked(
    make_runtime: MakeRuntime, clock: TurnableClock
) -> None:
    old = make_runtime()
    new_pepper = "f1e2d3c4b5a697887766554433221100ffeeddccbbaa99887766554433221100"
    both = make_runtime(otp_pepper=[new_pepper, old.settings.otp_pepper[0].get_secret_value()])
    code = sent_code(old)
    _fail(old, code, 3)
    assert both.otp.verify(PHONE, VERIFY, code)

    _fail(both, sent_code(both), 3)
    _fail(both, sent_code(both), 2)
    assert both.otp.status(PHONE).is_locked
    assert old.otp.status(PHONE).is_locked
    new = make_runtime(otp_pepper=[new_pepper])
    assert new.otp.status(PHONE).is_locked


def test_the_message_says_what_it_is_about_and_no_audit_row_says_who(runtime: Runtime) -> None:
    decision = runtime.otp.send(PHONE, VERIFY)
    code = code_in(runtime, str(decision.message_id))
    with runtime.database.read() as session:
        found = session.execute(text("SELECT * FROM message_log")).mappings().one()
        audit = str(session.execute(text("SELECT * FROM audit_log")).all())
        challenge = str(session.execute(text("SELECT * FROM otp_challenge")).all())
        subject = str(session.execute(text("SELECT * FROM otp_subject")).all())

    assert found["status"] == MessageStatus.QUEUED
    assert found["lane"] == "URGENT"
    kept = found["metadata"] if isinstance(found["metadata"], str) else str(found["metadata"])
    assert all(name in kept for name in ("action", "phone_hash", "attempt_count"))
    for text_ in (audit, challenge, subject, kept):
        assert code not in text_
        assert PHONE.lstrip("+") not in text_


def test_codes_are_six_digits_and_none_is_likelier() -> None:
    codes = [new_code() for _ in range(20_000)]

    assert all(len(code) == 6 and code.isascii() and code.isdigit() for code in codes)
    for place in range(6):
        counts = [sum(code[place] == digit for code in codes) for digit in "0123456789"]
        # Chi-square with nine degrees of freedom: one run in ten million is above 50.
        assert sum((count - 2_000) ** 2 / 2_000 for count in counts) < 50


def test_the_doctor_notices_a_lost_pepper_and_codes_that_nobody_uses(
    make_runtime: MakeRuntime, notifyctl: CommandLine, clock: TurnableClock
) -> None:
    clock.ahead = -timedelta(minutes=30)
    runtime = make_runtime()
    _fail(runtime, sent_code(runtime), 1)
    for number in range(60):
        sent_code(runtime, f"+49160{number:07}")
    said = notifyctl("doctor", OTP_PEPPER="f1e2d3c4b5a697887766554433221100ffeeddccbbaa99887766554433221100").out

    assert "OTP_PEPPER lacks the pepper of 1 phone" in said
    assert "of 61 codes of the last 24 h only 0 were used" in said
