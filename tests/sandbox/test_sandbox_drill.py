from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notifyctl.errors import InvalidInput
from notifyctl.models.template import Channel
from notifyctl.providers.sandbox import Fault, Faults, Kind, faults_from_lines, magic
from notifyctl.providers.sandbox.drill import Drill
from notifyctl.providers.sandbox.faults import faults_from_json
from notifyctl.providers.sandbox.meter import WINDOW_SECONDS, Meter

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


def test_faults_survive_json() -> None:
    faults = Faults(
        [Fault("error", rate=0.1, code="hard"), Fault("latency", ms=(1, 2)), Fault("http", rate=0.1, times=3)], seed=5
    )
    assert faults_from_json(faults.as_json()) == faults


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
        drill = Drill(SMS, Faults(faults, seed=seed))
        return [drill.of_call() for _ in range(50)]

    assert strikes(1) == strikes(1) != strikes(2)


def test_the_errors_of_the_items_of_a_batch_do_not_shift_what_the_calls_meet() -> None:
    faults = Faults([Fault("http", rate=0.5), Fault("error", rate=0.5, code=406)], seed=1)
    small, large = Drill(EMAIL, faults), Drill(EMAIL, faults)

    def call(drill: Drill, items: int) -> object:
        strike = drill.of_call()
        for _ in range(items):
            drill.of_message()
        return strike

    assert [call(small, 1) for _ in range(30)] == [call(large, 500) for _ in range(30)]


@given(st.lists(st.floats(0, 0.25), min_size=1, max_size=4), st.integers(0, 1000))
def test_every_strike_is_tallied_and_none_exceeds_its_times(rates: list[float], seed: int) -> None:
    kinds = [Kind.HANG, Kind.CUT_BEFORE, Kind.HTTP, Kind.GARBAGE]
    faults = [Fault(kind, rate=rate, times=3) for kind, rate in zip(kinds, rates, strict=False)]
    drill = Drill(SMS, Faults(faults, seed=seed))

    struck = Counter(strike.fault for _ in range(100) if (strike := drill.of_call()))

    assert struck == drill.struck
    assert all(count <= 3 for count in struck.values())


def test_a_rate_of_one_always_strikes_and_of_nought_never() -> None:
    always, never = (Drill(SMS, Faults([Fault("hang", rate=rate)])) for rate in (1.0, 0.0))
    assert all(always.of_call() for _ in range(1000))
    assert not any(never.of_call() for _ in range(1000))


@pytest.mark.parametrize(
    "recipient",
    ["ada@a.test", "hanging@a.test", "hang-@a.test", "http-418@a.test", "latency@a.test", "+14155550123",
     "+15005550006", "+150055520000", "+1500562161", "+15005551003"],
)  # fmt: skip
def test_a_recipient_that_only_looks_magic_brings_no_fault(recipient: str) -> None:
    assert magic.fault_of(recipient) is None
    assert magic.bounce_of(recipient) == ""


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
