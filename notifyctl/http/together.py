"""Requests that come at once are worked on together, and each has an answer of its own.

The first finds nobody at work and begins alone; those that come meanwhile are the next group. So nobody waits for
company when there is little to do, and when there is much one transaction does for many.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fastapi.concurrency import run_in_threadpool

MOST = 200

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Used by one event loop; `work` and `alone` run in threads, `work` for one group at a time.

    `work` answers for each of a group, with what to raise where that is an error; None for one that is to be asked for
    once more by `alone`, beside whatever goes on.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Answer | Exception | None]],
        alone: Callable[[Asked], Answer],
    ) -> None:
        self._work = work
        self._alone = alone
        self._waiting: list[tuple[Asked, asyncio.Future[Answer | Exception | None]]] = []
        self._working: asyncio.Task[None] | None = None

    async def answer(self, asked: Asked) -> Answer:
        future: asyncio.Future[Answer | Exception | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._working is None:
            # A task of its own: the others must not depend on whether this caller goes on waiting.
            self._working = asyncio.create_task(self._take_turns())
        found = await future
        if found is None:
            return await run_in_threadpool(self._alone, asked)
        if isinstance(found, Exception):
            raise found
        return found

    async def _take_turns(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                for (_, future), found in zip(group, await self._answers(group), strict=True):
                    if not future.done():  # it is, where the caller does not wait any more
                        future.set_result(found)
        finally:
            self._working = None

    async def _answers(self, group: Sequence[tuple[Asked, object]]) -> Sequence[Answer | Exception | None]:
        asked = [one for one, _ in group]
        try:
            return await run_in_threadpool(self._work, asked)
        except Exception as error:  # noqa: BLE001  each of them raises it
            return [error] * len(asked)
