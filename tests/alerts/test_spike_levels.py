from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifyctl.alerts.spikes.levels import (
    Measurement,
    SpikeMemory,
    SpikeTransition,
    SpikeVerdict,
    Thresholds,
    after_alert,
    assess,
    due_alert,
    move,
)
from notifyctl.alerts.spikes.store import ChannelFailures, LaneQueue
from notifyctl.models.enums import Channel, Lane, SpikeLevel

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OK, WARN, CRITICAL = SpikeLevel
THRESHOLDS = Thresholds(
    window=15 * MINUTE, cooldown=30 * MINUTE, warn_percent=10, warn_min=5, crit_percent=25, crit_min=10
)


def measured(failed: int = 0, sent: int = 0, at: datetime = NOON, **more: Any) -> Measurement:
    values: dict[str, Any] = {"sent_lately": False, "queues": (), "breaker": None} | more
    return Measurement(channel=Channel.EMAIL, at=at, failures=ChannelFailures(failed=failed), sent=sent, **values)


@pytest.mark.parametrize(
    ("failed", "sent", "level"),
    [
        (0, 0, OK),
        (0, 500, OK),
        (4, 0, OK),
        (5, 46, OK),
        (5, 45, WARN),
        (5, 0, WARN),
        (9, 0, WARN),
        (10, 31, WARN),
        (10, 30, CRITICAL),
        (10, 0, CRITICAL),
        (100, 901, OK),
        (100, 900, WARN),
    ],
)
def test_a_level_is_reached_by_share_and_number_alike(failed: int, sent: int, level: SpikeLevel) -> None:
    assert assess(measured(failed, sent), THRESHOLDS).level is level


def test_an_open_breaker_is_critical_though_nothing_fails() -> None:
    verdict = assess(measured(breaker="100 down for maintenance"), THRESHOLDS)
    assert verdict == SpikeVerdict(CRITICAL, ("the circuit breaker is open (100 down for maintenance)",))


@pytest.mark.parametrize(("seconds", "level"), [(299, OK), (300, OK), (301, CRITICAL)])
def test_work_that_is_left_lying_for_over_five_minutes_is_critical(seconds: int, level: SpikeLevel) -> None:
    queue = LaneQueue(Lane.BULK, NOON - timedelta(seconds=seconds), None)
    verdict = assess(measured(queues=[queue]), THRESHOLDS)
    assert verdict.level is level
    assert all("nobody sends them" in problem for problem in verdict.problems)


@pytest.mark.parametrize(("sent_lately", "level"), [(True, OK), (False, CRITICAL)])
def test_a_backlog_behind_the_limit_is_no_dead_worker_while_messages_go_out(
    sent_lately: bool, level: SpikeLevel
) -> None:
    """A forecast is no promise: BULK gets a tenth of the minute beside TRANSACTIONAL."""
    backlog = LaneQueue(Lane.BULK, NOON - 20 * MINUTE, NOON - 10 * MINUTE)
    found = measured(sent=300, sent_lately=sent_lately, queues=[backlog])
    assert assess(found, THRESHOLDS).level is level
    assert found.oldest_due == 20 * MINUTE


def test_an_urgent_message_that_lies_is_seen_beside_a_backlog_of_another_lane() -> None:
    backlog = LaneQueue(Lane.BULK, None, NOON - 10 * MINUTE)
    urgent = LaneQueue(Lane.URGENT, NOON - 6 * MINUTE, None)
    assert assess(measured(sent_lately=True, queues=[backlog, urgent]), THRESHOLDS).level is CRITICAL


BAD, WORSE, GOOD = SpikeVerdict(WARN, (), "bad"), SpikeVerdict(CRITICAL, ("worse",)), SpikeVerdict(OK)


class Incident:
    """The monitor's memory through a series of runs, and what was moved and told by each."""

    def __init__(self) -> None:
        self.memory = SpikeMemory()

    def run(
        self, minute: float, verdict: SpikeVerdict, sent: int = 10
    ) -> tuple[SpikeTransition | None, SpikeTransition | None]:
        now = NOON + minute * MINUTE
        self.memory, moved = move(self.memory, verdict, measured(sent=sent, at=now))
        told = due_alert(self.memory, THRESHOLDS.cooldown, now)
        if told is not None:
            self.memory = after_alert(self.memory, told, now)
        return moved, told


RAISED, ESCALATED, CLEARED = SpikeTransition


def test_a_spike_is_raised_once_and_told_once() -> None:
    incident = Incident()
    assert incident.run(0, BAD) == (RAISED, RAISED)
    assert [incident.run(minute, BAD) for minute in range(5, 200, 5)] == [(None, None)] * 39
    assert incident.memory.raised_at == NOON


def test_worse_news_is_told_in_the_cool_down_and_only_once() -> None:
    incident = Incident()
    incident.run(0, BAD)
    assert incident.run(5, WORSE) == (ESCALATED, ESCALATED)
    assert incident.run(10, BAD) == (None, None)
    assert incident.run(15, WORSE) == (None, None)
    assert incident.memory.level is CRITICAL


def test_it_is_over_after_a_window_with_successes_and_told_when_the_cool_down_is_over() -> None:
    incident = Incident()
    incident.run(0, BAD)
    assert incident.run(20, GOOD) == (CLEARED, None)
    assert incident.run(29, GOOD) == (None, None)
    assert incident.run(30, GOOD) == (None, CLEARED)
    assert incident.run(35, GOOD) == (None, None)
    assert incident.memory == SpikeMemory(measured_at=NOON + 35 * MINUTE)


def test_the_cool_down_begins_anew_when_it_becomes_worse() -> None:
    incident = Incident()
    incident.run(0, BAD)
    incident.run(25, WORSE)
    assert incident.run(40, GOOD) == (CLEARED, None)
    assert incident.run(54, GOOD) == (None, None)
    assert incident.run(55, GOOD) == (None, CLEARED)


def test_silence_is_no_success() -> None:
    incident = Incident()
    incident.run(0, WORSE)
    assert incident.run(60, GOOD, sent=0) == (None, None)
    assert incident.memory.level is CRITICAL
    assert incident.run(65, GOOD, sent=1) == (CLEARED, CLEARED)


def test_a_channel_that_goes_up_and_down_writes_once_in_the_cool_down() -> None:
    incident = Incident()
    told = [incident.run(minute, WORSE if minute % 2 else GOOD)[1] for minute in range(1, 30)]
    assert [found for found in told if found] == [RAISED]
    assert incident.run(31.5, GOOD)[1] is CLEARED
    assert incident.run(32, WORSE) == (RAISED, RAISED)


def test_a_spike_that_comes_back_worse_in_the_cool_down_is_told() -> None:
    incident = Incident()
    incident.run(0, BAD)
    incident.run(20, GOOD)
    assert incident.run(22, BAD) == (RAISED, None)
    assert incident.run(24, WORSE) == (ESCALATED, ESCALATED)


def test_what_could_not_be_told_is_told_by_the_next_run() -> None:
    memory, moved = move(SpikeMemory(), BAD, measured(at=NOON))
    assert moved is RAISED
    memory, moved = move(memory, BAD, measured(at=NOON + 5 * MINUTE))
    assert moved is None
    assert due_alert(memory, THRESHOLDS.cooldown, NOON + 5 * MINUTE) is RAISED


def test_a_spike_that_was_over_before_it_could_be_told_is_not_told() -> None:
    memory, _ = move(SpikeMemory(), BAD, measured(at=NOON))
    memory, moved = move(memory, GOOD, measured(sent=1, at=NOON + 20 * MINUTE))
    assert moved is CLEARED
    assert due_alert(memory, THRESHOLDS.cooldown, NOON + 20 * MINUTE) is None


def test_a_measurement_that_another_run_has_overtaken_changes_nothing() -> None:
    memory, _ = move(SpikeMemory(), BAD, measured(at=NOON))
    late = measured(sent=5, at=NOON - timedelta(seconds=1))
    assert move(memory, GOOD, late) == (memory, None)
    assert move(memory, GOOD, replace(late, at=NOON))[1] is CLEARED
