"""The budget of a minute, by simulation: workers that look at irregular moments, each through a saved copy."""

import random
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyctl.delivery.pace.throttle import Budget
from notifyctl.models.enums import Lane

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
Sent = list[tuple[float, Lane, float]]
"""(second, lane, how long it waited)"""


def simulate(limit: int, seconds: float, arrivals: Iterable[tuple[float, Lane]], seed: int = 7) -> Sent:
    rng = random.Random(seed)
    coming = sorted(arrivals, key=lambda arrival: arrival[0])
    queues: dict[Lane, deque[float]] = {lane: deque() for lane in Lane}
    sent: Sent = []
    budget, at, taken = Budget(limit), 0.0, 0
    while at < seconds:
        while taken < len(coming) and coming[taken][0] <= at:
            queues[coming[taken][1]].append(coming[taken][0])
            taken += 1
        budget = Budget.load(budget.dump(), limit)
        waiting = {lane: min(500, len(queue)) for lane, queue in queues.items()}
        for lane, tokens in budget.allot(waiting, START + timedelta(seconds=at)).items():
            assert 0 <= tokens <= waiting[lane]
            for _ in range(tokens):
                sent.append((at, lane, at - queues[lane].popleft()))
        at += rng.uniform(0.01, 0.4)
    return sent


def peak(sent: Sent) -> int:
    """The most in any rolling 60 s, even if each is used a full token life after it was taken."""
    times = sorted(at for at, _, _ in sent)
    first, most = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 60.5:
            first += 1
        most = max(most, last - first + 1)
    return most


def minutes(sent: Sent, start: float, count: int) -> list[int]:
    counted = Counter((at - start) // 60 for at, _, _ in sent)
    return [counted[n] for n in range(count)]


@pytest.mark.parametrize("limit", [1, 2, 5, 30, 60, 120, 1_000])
@pytest.mark.parametrize("lane", [Lane.BULK, Lane.TRANSACTIONAL])
def test_a_backlog_never_exceeds_the_limit_in_any_rolling_minute(limit: int, lane: Lane) -> None:
    sent = simulate(limit, 400, [(0, lane)] * limit * 10)
    assert 0 < peak(sent) <= limit


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize("limit", [60, 120, 600, 3_000])
@pytest.mark.parametrize("lane", [Lane.BULK, Lane.TRANSACTIONAL])
def test_a_backlog_uses_95_percent_of_every_full_minute(limit: int, lane: Lane) -> None:
    sent = simulate(limit, 490, [(0, lane)] * limit * 10)
    assert min(minutes(sent, 0, 8)) >= 0.95 * limit
    assert min(minutes(sent, 137, 5)) >= 0.95 * limit


def test_an_idle_channel_takes_a_burst_at_once() -> None:
    sent = simulate(60, 1, [(0, Lane.TRANSACTIONAL)] * 20 + [(0, Lane.URGENT)] * 5)
    assert [at for at, _, _ in sent] == [0.0] * 25


def test_a_bulk_run_leaves_half_of_an_idle_minute_to_what_comes_behind_it() -> None:
    arrivals = [(0, Lane.BULK)] * 500 + [(1.0, Lane.TRANSACTIONAL)] * 20
    waits = [wait for _, lane, wait in simulate(60, 60, arrivals) if lane is Lane.TRANSACTIONAL]
    assert len(waits) == 20
    assert max(waits) < 0.5


def test_a_backlog_is_paced_also_when_nobody_looks_while_its_minute_is_full() -> None:
    budget = Budget(120)
    assert budget.allot({Lane.TRANSACTIONAL: 500}, START) == {Lane.URGENT: 0, Lane.TRANSACTIONAL: 118, Lane.BULK: 0}
    woken = budget.forecast(0, START) + timedelta(seconds=1)
    assert budget.allot({Lane.TRANSACTIONAL: 382}, woken)[Lane.TRANSACTIONAL] < 10


@pytest.mark.parametrize("backlog", [Lane.BULK, Lane.TRANSACTIONAL])
def test_an_urgent_message_behind_a_backlog_leaves_at_the_next_look(backlog: Lane) -> None:
    arrivals = [(0, backlog)] * 5_000 + [(100 + 10 * n, Lane.URGENT) for n in range(25)]
    sent = simulate(120, 400, arrivals)
    waits = [wait for _, lane, wait in sent if lane is Lane.URGENT]
    assert len(waits) == 25
    assert max(waits) <= 0.4
    assert peak(sent) <= 120


def test_urgent_messages_at_once_get_every_freed_token() -> None:
    arrivals = [(0, Lane.BULK)] * 5_000 + [(200, Lane.URGENT)] * 6
    sent = simulate(120, 260, arrivals)
    waits = [wait for _, lane, wait in sent if lane is Lane.URGENT]
    assert len(waits) == 6
    assert max(waits) < 4
    served = [lane for at, lane, _ in sent if at >= 200][:6]
    assert served == [Lane.URGENT] * 6


def test_urgent_messages_alone_may_use_all_of_the_limit() -> None:
    sent = simulate(120, 60, [(0, Lane.URGENT)] * 2_000)
    assert len(sent) == 120


def test_bulk_keeps_a_tenth_under_a_constant_stream() -> None:
    arrivals = [(0, Lane.BULK)] * 5_000 + [(n * 0.2, Lane.TRANSACTIONAL) for n in range(3_000)]
    sent = simulate(120, 500, arrivals)
    steady = Counter(lane for at, lane, _ in sent if at > 130)
    assert 0.09 <= steady[Lane.BULK] / steady.total() <= 0.13
    assert peak(sent) <= 120


def test_a_lower_limit_holds_at_once() -> None:
    budget = Budget(600)
    budget.allot({Lane.TRANSACTIONAL: 300}, START)
    lowered = Budget.load(budget.dump(), 60)
    assert sum(lowered.allot({Lane.TRANSACTIONAL: 50, Lane.URGENT: 5}, START + timedelta(seconds=30)).values()) == 0


def test_tokens_put_back_can_be_taken_again_and_only_those() -> None:
    budget = Budget(60)
    budget.allot({Lane.TRANSACTIONAL: 58}, START)
    budget.put_back({Lane.TRANSACTIONAL: 8})
    assert budget.used == 50
    assert budget.allot({Lane.TRANSACTIONAL: 20}, START)[Lane.TRANSACTIONAL] == 9


def test_unused_tokens_go_back_to_their_own_bucket_and_no_more_than_it_has() -> None:
    budget = Budget(60)
    budget.allot({Lane.TRANSACTIONAL: 30}, START)
    (bucket,) = budget.buckets
    budget.allot({Lane.TRANSACTIONAL: 20}, START + timedelta(seconds=1))
    budget.return_unused(bucket.number, 50)
    assert [bucket.tokens for bucket in budget.buckets] == [0, 20]
    budget.return_unused(bucket.number - 1, 50)  # of a window that is over
    assert budget.used == 20


def test_a_clock_that_goes_back_frees_nothing() -> None:
    budget = Budget(10)
    assert budget.allot({Lane.URGENT: 10}, START)[Lane.URGENT] == 10
    for seconds in (-5, 0, 30, 54):
        assert budget.allot({Lane.URGENT: 1}, START + timedelta(seconds=seconds))[Lane.URGENT] == 0
    assert budget.allot({Lane.URGENT: 1}, START + timedelta(seconds=62))[Lane.URGENT] == 1


def test_a_clock_set_back_by_an_hour_stops_nothing_for_longer_than_a_minute() -> None:
    budget = Budget(10)
    budget.allot({Lane.TRANSACTIONAL: 50}, START)
    earlier = START - timedelta(hours=1)
    assert sum(budget.allot({Lane.TRANSACTIONAL: 50}, earlier).values()) == 0
    assert sum(budget.allot({Lane.TRANSACTIONAL: 50}, earlier + timedelta(seconds=62)).values()) > 0


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=60)
@given(
    limit=st.integers(1, 200),
    arrivals=st.lists(st.tuples(st.floats(0, 150), st.sampled_from(list(Lane))), max_size=600),
    seed=st.integers(0, 1_000),
)
def test_no_mix_of_arrivals_exceeds_the_limit(limit: int, arrivals: list[tuple[float, Lane]], seed: int) -> None:
    assert peak(simulate(limit, 200, arrivals, seed)) <= limit
