"""Requests that come at once: one group, and an answer of its own for each."""

import asyncio
import threading
from collections.abc import Sequence

from notifyctl.http.together import MOST, Together


class Work:
    """The first group waits until it is let go; what groups there were is kept."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.alone: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def together(self, group: Sequence[int]) -> Sequence[str | Exception | None]:
        self.groups.append(list(group))
        self.begun.set()
        assert self.go_on.wait(30)
        if 13 in group:
            raise LookupError("13")
        return [None if number % 10 == 5 else KeyError(number) if number % 10 == 7 else str(number) for number in group]

    def by_itself(self, number: int) -> str:
        self.alone.append(number)
        return f"{number} alone"


async def asked_at_once(work: Work, first: int, others: Sequence[int]) -> list[str | BaseException]:
    """`first` is at work when the others come."""
    together = Together(work.together, work.by_itself)
    tasks = [asyncio.create_task(together.answer(first))]
    await asyncio.to_thread(work.begun.wait, 30)
    tasks += [asyncio.create_task(together.answer(number)) for number in others]
    await asyncio.sleep(0)
    work.go_on.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_the_first_begins_alone_and_what_comes_meanwhile_is_the_next_group() -> None:
    work = Work()
    found = asyncio.run(asked_at_once(work, 0, [1, 2, 3]))

    assert work.groups == [[0], [1, 2, 3]]
    assert found == ["0", "1", "2", "3"]


def test_each_has_its_own_error_and_one_that_is_sent_back_is_asked_for_alone() -> None:
    work = Work()
    found = asyncio.run(asked_at_once(work, 0, [5, 6, 7]))

    assert found[:3] == ["0", "5 alone", "6"]
    assert isinstance(found[3], KeyError)
    assert work.alone == [5]


def test_a_group_that_raises_is_the_error_of_each_and_the_next_one_is_worked_on() -> None:
    work = Work()
    found = asyncio.run(asked_at_once(work, 13, [1]))

    assert isinstance(found[0], LookupError)
    assert found[1] == "1"


def test_a_group_has_an_end() -> None:
    work = Work()
    asyncio.run(asked_at_once(work, 0, [1] * (MOST + 1)))

    assert [len(group) for group in work.groups] == [1, MOST, 1]


def test_a_caller_who_goes_away_leaves_the_others_their_answers() -> None:
    async def ask(work: Work) -> list[str | BaseException]:
        together = Together(work.together, work.by_itself)
        first = asyncio.create_task(together.answer(0))
        await asyncio.to_thread(work.begun.wait, 30)
        others = [asyncio.create_task(together.answer(number)) for number in (1, 2)]
        await asyncio.sleep(0)
        first.cancel()
        others[0].cancel()
        work.go_on.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert await together.answer(3) == "3"
        return found

    found = asyncio.run(ask(Work()))
    assert [type(one) for one in found] == [asyncio.CancelledError, asyncio.CancelledError, str]
