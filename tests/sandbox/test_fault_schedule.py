import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel
from notifyctl.sandbox import Fault, FaultKind, Faults, faults_from_lines
from notifyctl.sandbox.faults.faults import read_fault
from notifyctl.sandbox.faults.magic import MAGIC_RECIPIENTS, Magic, MagicRecipient, magic_of
from notifyctl.sandbox.faults.schedule import FaultSchedule
from notifyctl.sandbox.state import WINDOW_SECONDS, Meter

EMAIL, SMS = Channel.EMAIL, Channel.SMS


@pytest.mark.parametrize(
    ("line", "channels", "fault"),
    [
        ("hang", [EMAIL, SMS], Fault("hang")),
        ("sms:hang=0.1", [SMS], Fault("hang", rate=0.1)),
        ("EMAIL: error = .5 , code = 406", [EMAIL], Fault("error", rate=0.5, code=406)),
        ("sms:error,code=BLOCKED_BY_CARRIER", [SMS], Fault("error", code="BLOCKED_BY_CARRIER")),
        ("too-many=1,retry_after=30,times=2", [EMAIL, SMS], Fault("too-many", retry_after=30, times=2)),
        ("http,status=504,body=empty", [EMAIL, SMS], Fault("http", status=504, body="empty")),
        ("latency=0.2,ms=50-200", [EMAIL, SMS], Fault("latency", rate=0.2, ms=(50, 200))),
        ("latency,ms=300", [EMAIL, SMS], Fault("latency", ms=300)),
    ],
)
def test_a_line_of_text_is_a_fault(line: str, channels: list[Channel], fault: Fault) -> None:
    assert faults_from_lines([line], seed=1) == {channel: Faults([fault], seed=1) for channel in channels}


def test_without_a_seed_one_is_chosen_and_told() -> None:
    found = faults_from_lines(["hang"])
    assert found[EMAIL].seed == found[SMS].seed
    assert len({Faults([Fault("hang")]).seed for _ in range(20)}) > 1


@pytest.mark.parametrize(
    "line",
    ["error=0.1,code=hard", "latency,ms=1-2", "latency,ms=300", "http=0.25,status=504,body=empty,times=3", "hang",
     "too-many,retry_after=30"],
)  # fmt: skip
def test_a_fault_reads_as_the_line_that_says_it(line: str) -> None:
    assert str(read_fault(line)) == line


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "error"},
        {"kind": "latency"},
        {"kind": "hang", "rate": -0.1},
        {"kind": "hang", "rate": float("nan")},
        {"kind": "hang", "times": 0},
        {"kind": "http", "status": 200},
        {"kind": "latency", "ms": (2, 1)},
        {"kind": "latency", "ms": 10_000_000},
        {"kind": "garbage", "retry_after": 1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault(**values)


def test_one_seed_draws_one_sequence_and_another_a_different_one() -> None:
    faults = [Fault("hang", rate=0.3), Fault("http", rate=0.3), Fault("latency", rate=0.5, ms=(1, 100))]

    def strikes(seed: int) -> list[object]:
        schedule = FaultSchedule(SMS, Faults(faults, seed=seed))
        return [schedule.of_call() for _ in range(50)]

    assert strikes(1) == strikes(1) != strikes(2)


def test_the_errors_of_the_items_of_a_batch_do_not_shift_what_the_calls_meet() -> None:
    faults = Faults([Fault("http", rate=0.5), Fault("error", rate=0.5, code=406)], seed=1)
    small, large = FaultSchedule(EMAIL, faults), FaultSchedule(EMAIL, faults)

    def call(schedule: FaultSchedule, items: int) -> object:
        strike = schedule.of_call()
        for _ in range(items):
            schedule.of_message()
        return strike

    assert [call(small, 1) for _ in range(30)] == [call(large, 500) for _ in range(30)]


@given(st.lists(st.floats(0, 0.25), min_size=1, max_size=4), st.integers(0, 1000))
def test_every_strike_is_tallied_and_none_exceeds_its_times(rates: list[float], seed: int) -> None:
    kinds = [FaultKind.HANG, FaultKind.CUT_BEFORE, FaultKind.HTTP, FaultKind.GARBAGE]
    faults = [Fault(kind, rate=rate, times=3) for kind, rate in zip(kinds, rates, strict=False)]
    schedule = FaultSchedule(SMS, Faults(faults, seed=seed))

    struck = Counter(strike.fault for _ in range(100) if (strike := schedule.of_call()))

    assert struck == schedule.struck
    assert all(count <= 3 for count in struck.values())


def test_a_rate_of_one_always_strikes_and_of_nought_never() -> None:
    always, never = (FaultSchedule(SMS, Faults([Fault("hang", rate=rate)])) for rate in (1.0, 0.0))
    assert all(always.of_call() for _ in range(1000))
    assert not any(never.of_call() for _ in range(1000))


@pytest.mark.parametrize(
    "recipient",
    ["ada@a.test", "hanging@a.test", "hang-@a.test", "http-418@a.test", "latency@a.test", "+14155550123",
     "+15005550006", "+150055520000", "+1500562161", "+15005551203", "hang-0@a.test", "busy-0@a.test"],
)  # fmt: skip
def test_a_recipient_that_only_looks_magic_brings_no_fault(recipient: str) -> None:
    assert magic_of(recipient) is None


@pytest.mark.parametrize("row", MAGIC_RECIPIENTS, ids=lambda row: row.email or row.sms)
def test_a_magic_recipient_brings_the_fault_of_its_row(row: MagicRecipient) -> None:
    """A mailbox without its N fails always, as a number with 00 for it does; a V is written as 7."""
    for name in filter(None, (row.email, row.sms)):
        recipient = re.sub(r"\[-N\]| ", "", name).replace("V", "7").replace("NN", "00").replace("N", "2")
        value = "7" * name.count("V")
        line = re.sub(r"\[.*\]", "", row.fault).replace("V", value).replace("N", "2")
        magic = magic_of(recipient)
        assert magic == Magic(read_fault(line) if line else None, row.bounce.replace("V", value))


def test_an_error_code_of_no_provider_is_named() -> None:
    with pytest.raises(InvalidInput, match="'soon' is no code or class of SMS's provider"):
        faults_from_lines(["sms:error,code=soon"])


def fullest_window(calls: list[tuple[float, int]]) -> int:
    return max((sum(count for at, count in calls if end - WINDOW_SECONDS < at <= end) for end, _ in calls), default=0)


@given(st.lists(st.tuples(st.integers(0, 45), st.integers(0, 5)), max_size=60))
def test_the_peak_is_the_fullest_of_all_rolling_minutes(steps: list[tuple[int, int]]) -> None:
    meter, now, calls = Meter(), 1000.0, []
    for wait, messages in steps:
        now += wait
        calls.append((now, messages))
        meter.present(EMAIL, messages, now)

    assert meter.peak_per_minute(EMAIL) == fullest_window(calls)
    assert meter.total(EMAIL) == len(meter.presented(EMAIL)) == sum(messages for _, messages in calls)
    assert meter.peak_per_minute(SMS) == 0


@pytest.mark.parametrize(("moments", "peak"), [((0.0, 60.0, 120.0), 1), ((0.0, 59.999, 60.0), 2)])
def test_calls_exactly_a_minute_apart_are_in_no_minute_together(moments: tuple[float, ...], peak: int) -> None:
    meter = Meter()
    for at in moments:
        meter.present(SMS, 1, at)
    assert meter.peak_per_minute(SMS) == peak
