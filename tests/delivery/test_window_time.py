"""The window's time, by simulation: clocks are set while workers come, go, freeze and look at odd moments."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyctl.delivery.pace.throttle import Budget, Reading, Stamp, WindowTime
from notifyctl.models.enums import Lane

EPOCH = 1_772_000_000.0
LIMIT = 60
URGENT = {Lane.URGENT: 500}
"""It is not paced: whatever the window allows is taken at once."""
BULK = {Lane.BULK: 500}


@dataclass(frozen=True)
class Step:
    """Somebody sets a clock: that of the database, or of one host."""

    at: float
    seconds: float
    host: int | None = None


@dataclass
class World:
    """One database, `hosts` machines, and what was sent at which true second. SQLite's clock is its host's."""

    steps: Sequence[Step] = ()
    is_sqlite: bool = False
    now: float = 0.0
    state: str = "{}"
    sent: list[float] = field(default_factory=list)

    def clock_of_host(self, host: int) -> float:
        return EPOCH + self.now + sum(step.seconds for step in self.steps if step.host == host and step.at <= self.now)

    def clock_of_database(self, error: float) -> float:
        stepped = sum(step.seconds for step in self.steps if step.host is None and step.at <= self.now)
        return EPOCH + self.now + stepped + error


@dataclass
class Worker:
    """`error` is what it measures the database's clock wrong by."""

    world: World
    host: int = 0
    error: float = 0.0
    time: WindowTime = field(default_factory=WindowTime)

    def look(self) -> tuple[Budget, Stamp]:
        world = self.world
        wall = world.clock_of_host(self.host) if world.is_sqlite else world.clock_of_database(self.error)
        stopwatch = 1_000.0 * self.host + world.now
        reading = Reading(wall, world.clock_of_host(self.host), f"machine {self.host}", stopwatch)
        state = json.loads(world.state)
        stamp = self.time.now(Stamp.load(state.get("time")), reading)
        return Budget.load(state, LIMIT), stamp

    def take(self, waiting: dict[Lane, int]) -> int:
        budget, stamp = self.look()
        taken = sum(budget.allot(waiting, datetime.fromtimestamp(stamp.at, UTC)).values())
        self.world.state = json.dumps(budget.dump() | {"time": stamp.dump()})
        self.world.sent += [self.world.now] * taken
        return taken


def most_in_a_minute(sent: Sequence[float]) -> int:
    first, most = 0, 0
    for last, at in enumerate(sent):
        while sent[first] <= at - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


SIZES = [-86_400.0, -3_600.0, -90.0, -61.0, -5.0, 5.0, 61.0, 90.0, 3_600.0, 86_400.0]


@pytest.mark.parametrize("seconds", SIZES)
@pytest.mark.parametrize("is_sqlite", [True, False])
@pytest.mark.parametrize("host", [0, None])
def test_a_step_neither_empties_the_window_nor_keeps_it_shut(seconds: float, is_sqlite: bool, host: int | None) -> None:
    world = World([Step(30, seconds, host)], is_sqlite)
    workers = [Worker(world, 0), Worker(world, 0 if is_sqlite else 1)]
    for tick in range(500):
        world.now = tick * 0.5
        workers[tick % 2].take(URGENT)
    assert most_in_a_minute(world.sent) <= LIMIT
    for minute in range(4):
        assert sum(60 * minute <= at < 60 * minute + 61.5 for at in world.sent) >= LIMIT


@pytest.mark.parametrize("seconds", SIZES)
@pytest.mark.parametrize("host", [0, 1])
def test_a_process_that_starts_after_a_step_believes_no_clock_alone(seconds: float, host: int) -> None:
    """As `worker --once` from cron, and as the one worker there was, on this machine or another."""
    world = World([Step(5, seconds)])
    assert Worker(world, 0).take(URGENT) == LIMIT
    world.now = 10
    assert Worker(world, host).take(URGENT) == 0
    world.now, waited = 11, Worker(world, host)
    while not waited.take(URGENT):
        world.now += 1
    assert 60 < world.now <= 75


def test_a_process_that_starts_much_later_finds_an_empty_window() -> None:
    for host in (0, 1):
        world = World()
        Worker(world, 0).take(URGENT)
        world.now = 61.5
        assert Worker(world, host).take(URGENT) == LIMIT


@pytest.mark.parametrize("seconds", [-3_600.0, 90.0])
def test_a_worker_that_only_looked_on_is_let_in_by_its_own_count_of_seconds(seconds: float) -> None:
    """It looks without taking, and what it finds out then is not written anywhere."""
    world = World([Step(10, seconds)])
    Worker(world, 0).take(URGENT)
    onlooker = Worker(world, 1)
    for second in range(75):
        world.now = float(second)
        budget, stamp = onlooker.look()
        if sum(budget.allot(URGENT, datetime.fromtimestamp(stamp.at, UTC)).values()):
            break
    assert 60 < world.now <= 72


def test_a_worker_that_was_frozen_comes_back_to_the_time_that_has_passed() -> None:
    world = World()
    workers = [Worker(world, 0), Worker(world, 1)]
    for worker in workers:
        worker.take(URGENT)
    world.now = 200
    assert workers[1].take(URGENT) == LIMIT


@pytest.mark.usefixtures("exhaustive")
def test_measuring_the_clock_a_little_wrong_makes_the_time_run_neither_fast_nor_slow() -> None:
    rng = random.Random(7)
    world = World()
    workers = [Worker(world, number % 3, rng.uniform(-0.05, 0.05)) for number in range(6)]
    while world.now < 1_800:
        worker = rng.choice(workers)
        worker.look()
        worker.take(BULK)
        if rng.random() < 0.01:
            worker.error = rng.uniform(-0.05, 0.05)  # measured again
        world.now += rng.uniform(0.001, 0.3)
    assert most_in_a_minute(world.sent) <= LIMIT
    for minute in range(2, 29):
        assert sum(60 * minute <= at < 60 * minute + 60 for at in world.sent) >= 0.95 * LIMIT


def steps_of(hosts: Sequence[int | None]) -> st.SearchStrategy[list[Step]]:
    sizes = st.sampled_from(SIZES) | st.floats(-200, 200)
    return st.lists(st.builds(Step, st.floats(0, 300), sizes, st.sampled_from(hosts)), max_size=6)


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=80, deadline=None)
@given(steps=steps_of([None, 0, 1]), is_sqlite=st.booleans(), seed=st.integers(0, 10_000))
def test_no_steps_of_any_clock_exceed_the_limit_or_shut_the_window(
    steps: list[Step], is_sqlite: bool, seed: int
) -> None:
    world = live(World(steps, is_sqlite), seed, new_ones_on=[0] if is_sqlite else [])
    assert most_in_a_minute(world.sent) <= LIMIT
    for start in range(0, 300, 60):
        assert sum(start <= at < start + 63 for at in world.sent) >= 0.9 * LIMIT


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=40, deadline=None)
@given(steps=steps_of([None]) | steps_of([1]), seed=st.integers(0, 10_000))
def test_nor_do_workers_that_come_anew_as_long_as_not_all_clocks_are_set_at_once(steps: list[Step], seed: int) -> None:
    world = live(World(steps), seed, new_ones_on=[0, 1])
    assert most_in_a_minute(world.sent) <= LIMIT
    for start in range(0, 300, 60):
        assert sum(start <= at < start + 125 for at in world.sent) >= 0.9 * LIMIT


def live(world: World, seed: int, *, new_ones_on: Sequence[int]) -> World:
    """Seven minutes of four workers, who freeze now and then, and on those hosts are replaced by new ones."""
    rng = random.Random(seed)
    hosts = [0] * 4 if world.is_sqlite else [0, 1, 0, 1]
    workers = [Worker(world, host, rng.uniform(-0.02, 0.02)) for host in hosts]
    for worker in workers:
        worker.look()
    frozen_until = [0.0] * 4
    while world.now < 420:
        number = rng.randrange(4)
        if frozen_until[number] <= world.now:
            workers[number].take(rng.choice([URGENT, BULK]))
            if rng.random() < 0.005:
                frozen_until[number] = world.now + rng.uniform(1, 90)
            elif rng.random() < 0.01 and hosts[number] in new_ones_on:
                workers[number] = Worker(world, hosts[number], rng.uniform(-0.02, 0.02))
        world.now += rng.uniform(0.01, 0.6)
    return world
