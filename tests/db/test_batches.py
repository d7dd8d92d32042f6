"""Much work in short transactions: how large each is, and when it ends."""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from notifyctl.db.batches import FEWEST, MOST, TRANSACTION_SECONDS, batches


def sizes(first: int, took: Sequence[float]) -> list[int]:
    """What is asked for when transactions take so long, one after the other."""

    def stopwatch() -> Iterator[float]:
        now = 0.0
        for seconds in chain(took, repeat(0.0)):
            yield now
            now += seconds
            yield now

    stopping = iter([False] * (len(took) + 1) + [True])
    read = stopwatch()
    asked = batches(first, stopping=lambda: next(stopping), pausing=False, seconds=lambda: next(read))
    return list(asked)


def test_a_transaction_grows_into_its_time_and_shrinks_at_once() -> None:
    assert sizes(500, [TRANSACTION_SECONDS / 2]) == [500, 1_000]
    assert sizes(500, [TRANSACTION_SECONDS / 1_000] * 2) == [500, 1_000, 2_000], "twice as many, and no more"
    assert sizes(500, [10 * TRANSACTION_SECONDS]) == [500, 50]


def test_its_size_has_bounds() -> None:
    assert sizes(MOST, [0.0]) == [MOST, MOST]
    assert sizes(FEWEST, [60.0]) == [FEWEST, FEWEST]
    assert sizes(7, [60.0]) == [7, 7], "nobody asked for more"


def test_nothing_is_asked_for_once_it_is_to_stop() -> None:
    assert list(batches(500, stopping=lambda: True)) == []
