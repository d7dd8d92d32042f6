"""The table of `make bench`, and the page that explains its rows. That all benchmarks are imported keeps them alive."""

import re
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def test_every_row_that_is_measured_is_explained_once() -> None:
    names = bench.modules([])
    measured = {number for benchmark in harness.benchmarks for number in benchmark.ids}
    explained = re.findall(r"^\| (S\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert explained == sorted(set(explained), key=bench.place)
    assert measured <= set(explained)
    assert "tests.benchmarks.sending" in names
    assert "tests.benchmarks.growth" not in names  # it yields no row


def test_only_those_that_yield_a_row_are_run() -> None:
    assert list(bench.modules(["S4"])) == ["tests.benchmarks.pick_up"]
    with pytest.raises(SystemExit, match="No benchmark yields S99; there are S1, S2, S3"):
        bench.modules(["S4", "S99"])


@pytest.mark.parametrize(
    ("value", "bounds", "target", "is_reached"),
    [
        (0.45, {"at_least": 0.45}, ">= 0.45", True),
        (0.44, {"at_least": 0.45}, ">= 0.45", False),
        (10, {"at_most": 10}, "<= 10", True),
        (11, {"at_most": 10}, "<= 10", False),
        (11, {}, "", True),
    ],
)
def test_a_figure_beside_its_target(value: float, bounds: dict[str, float], target: str, is_reached: bool) -> None:
    figure = Figure("S1", "SMS", value, **bounds)
    assert (figure.target, figure.is_reached) == (target, is_reached)
    assert str(figure).endswith({True: "yes", False: "NO"}[is_reached]) is bool(target)


def test_a_ratio_is_taken_within_a_round() -> None:
    """The second round was slow for both: the medians of all rates would say 1."""
    assert harness.ratio([50, 5, 60], [100, 10, 20]) == 0.5


def test_who_goes_first_moves_on() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    harness.turns(4, runs)
    assert "".join(order) == "abcbcacababc"
