"""Real threads at one phone's desk: what is limited stays limited, and what works once works once."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import Any, TypeVar

from sqlalchemy import event

from notifyctl.bootstrap import Runtime
from notifyctl.orchestrator.requests import Queued
from tests.support.otp_codes import PHONE, SENSITIVE, VERIFY, audits, sent_code, sms, wrong
from tests.support.runtimes import MakeRuntime

THREADS = 20
Result = TypeVar("Result")


def _at_once(do: Callable[[int], Result], count: int = THREADS) -> list[Result]:
    barrier = Barrier(count)

    def one(number: int) -> Result:
        barrier.wait(30)
        return do(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_sends_at_once_are_three_over_both_actions(runtime: Runtime) -> None:
    decisions = _at_once(lambda number: runtime.otp.send(PHONE, (VERIFY, SENSITIVE)[number % 2]))

    assert sum(isinstance(decision, Queued) for decision in decisions) == 3
    assert sms(runtime)["RATE_LIMITED"] == THREADS - 3
    assert len(runtime.otp.status(PHONE).live) <= 2


def test_guesses_at_once_are_five_attempts_and_one_lock(runtime: Runtime) -> None:
    code = sent_code(runtime)
    answers = _at_once(lambda number: runtime.otp.verify(PHONE, VERIFY, wrong(code, number + 1)))

    assert not any(answers)
    said = Counter((action, details.get("cause") or details.get("event")) for action, details in audits(runtime))
    assert said["OTP_VERIFY_FAILED", "wrong_code"] == 5
    assert said["OTP_LOCKED_OUT", "begun"] == 1
    assert said["OTP_LOCKED_OUT", "refused"] == THREADS - 5
    assert not runtime.otp.verify(PHONE, VERIFY, code)


def test_the_right_code_at_once_is_one_success(runtime: Runtime) -> None:
    code = sent_code(runtime)
    answers = _at_once(lambda _: runtime.otp.verify(PHONE, VERIFY, code))

    assert answers.count(True) == 1
    assert runtime.otp.status(PHONE).state.failed_count == 0


def test_guesses_and_new_codes_at_once_are_still_five_attempts(runtime: Runtime) -> None:
    code = sent_code(runtime)

    def one(number: int) -> object:
        if number % 4 == 0:
            return runtime.otp.send(PHONE, VERIFY)
        return runtime.otp.verify(PHONE, VERIFY, wrong(code, number))

    _at_once(one)
    compared = [details for _, details in audits(runtime) if details.get("cause") == "wrong_code"]
    assert len(compared) == 5
    assert runtime.otp.status(PHONE).is_locked


def test_a_guess_that_the_first_code_of_a_phone_overtakes_compares_nothing(runtime: Runtime) -> None:
    """The phone has no row to lock when the guess comes, and has one with a code a moment later."""
    sending = Thread(target=runtime.otp.send, args=(PHONE, VERIFY))

    @event.listens_for(runtime.database.engine, "after_cursor_execute")
    def overtake(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM otp_subject" in statement and sending.ident is None:
            sending.start()
            if not runtime.database.is_sqlite:  # where the guess holds the only write lock
                sending.join()

    assert not runtime.otp.verify(PHONE, VERIFY, "123456")
    sending.join()
    assert [details["cause"] for action, details in audits(runtime) if action == "OTP_VERIFY_FAILED"] == [
        "no_live_code"
    ]
    assert runtime.otp.status(PHONE).state.failed_count == 0
    assert runtime.otp.status(PHONE).live


def test_a_budget_holds_for_phones_that_ask_at_once(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(otp_prefix_hourly_limit=4)
    decisions = _at_once(lambda number: runtime.otp.send(f"+491511234{number:04}", VERIFY))

    assert sum(isinstance(decision, Queued) for decision in decisions) == 4
