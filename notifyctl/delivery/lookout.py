"""The look at the queues: what is due, and from where on to look for it the next time.

While any transaction on PostgreSQL holds an old snapshot, be it a backup or a replica, nothing that was deleted or
changed since can be cleaned away, and every scan from the beginning of a queue walks over all that was sent since.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlmodel import Session

from notifyctl.clock import Stopwatch
from notifyctl.db import bulk
from notifyctl.delivery import outbox
from notifyctl.delivery.outbox import Queue
from notifyctl.models.enums import Channel
from notifyctl.operations.pauses import PauseScope

COMMITTED_WITHIN = timedelta(seconds=2)
"""A look goes back so far before the one that went before it: mostly a message is committed at once."""
FULL_LOOK_SECONDS = (1.0, 30.0)
"""How long from one look at the whole queues to the next, at least and at most."""
FULL_LOOKS_SHARE = 0.01
"""Between these, such looks take so much of the time."""


class Lookout:
    """Used by one thread.

    A look begins at the lowest next_attempt_at that the one before it has seen, or shortly before now. What comes to
    lie before that, as a message whose transaction took its time, is met by the next look at the whole queues: after a
    second, or somewhat later where they are full of what cannot be cleaned. Nothing is remembered when pauses have
    changed or the clock was set back. On SQLite all looks are whole: its indexes keep nothing for old readers.
    """

    def __init__(self, channel: Channel, stopwatch: Stopwatch) -> None:
        self.channel = channel
        self._stopwatch = stopwatch
        self._since: dict[Queue, datetime] = {}
        self._paused: Sequence[PauseScope] = ()
        self._looked_at: datetime | None = None
        self.was_whole = True
        self._whole_again_at = 0.0

    def forget(self) -> None:
        """The next look is whole, if there is one: while a pause or the breaker holds the channel, nobody looks."""
        self._looked_at = None
        self.was_whole = True

    def look(
        self, session: Session, *, now: datetime, most: int, paused: Sequence[PauseScope]
    ) -> tuple[Mapping[Queue, datetime], dict[Queue, int]]:
        """Where the look began, and how many are due of each queue that has any, counted up to `most`."""
        if bulk.dialect(session) == "sqlite":
            return {}, outbox.due(session, self.channel, now=now, most=most, paused=paused)
        started = self._stopwatch.read()
        is_whole = self._must_be_whole(started, now, paused)
        since = {} if is_whole else self._since
        seen = outbox.due_since(session, self.channel, now=now, most=most, paused=paused, since=since)
        if is_whole:
            least, longest = FULL_LOOK_SECONDS
            ended = self._stopwatch.read()
            self._whole_again_at = ended + min(max(least, (ended - started) / FULL_LOOKS_SHARE), longest)
        self._paused, self._looked_at, self.was_whole = paused, now, is_whole
        self._since = {queue: min(found.lowest, now - COMMITTED_WITHIN) for queue, found in seen.items()}
        return since, {queue: found.messages for queue, found in seen.items() if found.messages}

    def _must_be_whole(self, started: float, now: datetime, paused: Sequence[PauseScope]) -> bool:
        return (
            self._looked_at is None
            or now < self._looked_at
            or paused != self._paused
            or started >= self._whole_again_at
        )
