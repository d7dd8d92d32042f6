"""What a worker may present to a provider now: tokens from the shared budget, and slots shared by the lanes."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

from sqlmodel import Session

from notifyctl.clock import Clock, Stopwatch, machine_stopwatch, system_clock
from notifyctl.delivery.pace.throttle import BULK_SHARE, TOKEN_LIFE, Budget, BudgetState, Reading, Stamp, WindowTime
from notifyctl.models.enums import Channel, Lane
from notifyctl.operations import limits

BULK_TAKING_FROM = 6_000
"""Messages a minute. From this limit on tokens are taken ahead: below it every token counts, and the budget is locked
by each claim; above it, that lock would make workers take turns."""
AHEAD = 4
KEPT_SECONDS = 0.2
"""How long tokens are kept for a later turn: what is claimed with them must still be sent within their life."""

log = logging.getLogger("notifyctl.delivery")


class Allowance:
    """One worker's share of the minute. Used by one thread.

    `clock` is the one that all workers share, `host_clock` this machine's.
    """

    def __init__(
        self,
        channel: Channel,
        default_limit: int,
        clock: Clock = system_clock,
        *,
        stopwatch: Stopwatch | None = None,
        host_clock: Clock = system_clock,
    ) -> None:
        self._channel = channel
        self._default_limit = default_limit
        self._clock = clock
        self._host_clock = host_clock
        self._stopwatch = stopwatch or machine_stopwatch()
        self._time = WindowTime()
        self._stamp: Stamp | None = None
        self._ahead = timedelta()
        """How far the window's time is ahead of the clock, as of the last reading."""
        self._held: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._taken_at = 0.0
        self._taken_in = 0
        """The bucket of the last taking, and how many of its tokens were not used after all."""
        self._unused = 0
        self._bulk_credit = 0.0
        self._short: set[Lane] = set()
        self.budget = Budget(default_limit)
        """As it was when last read."""

    def read(self, session: Session) -> None:
        """Without a lock: how much there is, to decide whether it is worth asking."""
        limit = limits.per_minute(session, self._channel) or self._default_limit
        self._load(limits.read_budget(session, self._channel), limit)

    def _load(self, state: Mapping[str, object], limit: int) -> None:
        """The moment is that of now, also where others' writing had to be waited for."""
        wall, host = self._clock(), self._host_clock()
        watch = self._stopwatch
        reading = Reading(wall.timestamp(), host.timestamp(), watch.origin, watch.read())
        self._stamp = self._time.now(Stamp.load(state.get("time")), reading)
        self._ahead = self.now - wall
        self.budget = self._budget(state, limit)
        self.budget.return_unused(self._taken_in, self._unused)

    def _budget(self, state: Mapping[str, object], limit: int) -> Budget:
        try:
            return Budget.load(cast(BudgetState, state), limit)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            # Nobody knows what was used: a minute later nothing of it counts any more.
            log.error("record of the used limit is unreadable", extra={"channel": self._channel, "error": repr(error)})
            return Budget.spent(limit, self.now)

    @property
    def now(self) -> datetime:
        """The window's time at the last reading."""
        at = self._stamp.at if self._stamp is not None else self._clock().timestamp()
        return datetime.fromtimestamp(at, UTC)

    @property
    def used(self) -> int:
        """Tokens of the window that ends now."""
        return self.budget.used_at(self.now)

    def has_room_for(self, wanted: Mapping[Lane, int]) -> bool:
        """Whether there were any tokens at the last reading. To be asked once: it counts as asking for them."""
        return any(self.budget.allot(wanted, self.now).values())

    def forecast(self, place: int, *, after: datetime | None) -> datetime:
        """By the shared clock, when the message at `place` behind those up to `after` will have its turn."""
        last = after + self._ahead if after is not None else None
        return self.budget.forecast(place, self.now, after=last) - self._ahead

    @property
    def takes_ahead(self) -> bool:
        return self.budget.limit >= BULK_TAKING_FROM

    def is_short_of(self, wanted: Mapping[Lane, int]) -> bool:
        """Whether tokens for `wanted` must be taken; what is held and still fresh comes first."""
        self._forfeit()
        return any(self._held[lane] < count for lane, count in wanted.items())

    def take(self, session: Session, wanted: Mapping[Lane, int]) -> None:
        """Takes tokens from the shared budget, which is locked until the transaction ends."""
        self._forfeit()
        state = limits.lock_budget(session, self._channel)
        self._load(state, limits.per_minute(session, self._channel) or self._default_limit)
        ahead = AHEAD if self.takes_ahead else 1
        missing = {lane: max(0, count * ahead - self._held[lane]) for lane, count in wanted.items()}
        taken = self.budget.allot(missing, self.now)
        self._save(session)
        self._unused = 0
        if self.budget.buckets:
            self._taken_in = self.budget.buckets[-1].number
        if not any(self._held.values()):
            self._taken_at = self._stopwatch.read()
        for lane, tokens in taken.items():
            self._held[lane] += tokens
        self._short = {lane for lane, count in wanted.items() if self._held[lane] < count}

    def _save(self, session: Session) -> None:
        assert self._stamp is not None
        limits.save_budget(session, self._channel, {**self.budget.dump(), "time": self._stamp.dump()})

    def was_short(self, lane: Lane) -> bool:
        """Whether the last taking left a lane with fewer tokens than it had messages for."""
        return lane in self._short

    def drop(self) -> None:
        """The transaction that took the tokens did not commit."""
        self._held = dict.fromkeys(Lane, 0)

    def tokens(self, lane: Lane) -> int:
        self._forfeit()
        return self._held[lane]

    def use(self, lane: Lane, tokens: int) -> None:
        self._held[lane] -= tokens

    def put_back(self, session: Session) -> None:
        """Tokens taken in this very transaction that nothing needed, while the budget is still locked."""
        if not self.takes_ahead and any(self._held.values()):
            self.budget.put_back(self._held)
            self._save(session)
            self._held = dict.fromkeys(Lane, 0)

    def is_fresh(self) -> bool:
        """Whether tokens used now are used in time."""
        return self._stopwatch.read() - self._taken_at < TOKEN_LIFE.total_seconds()

    def return_unused(self, tokens: int) -> None:
        """Those of the last claim, of which nothing was presented: the next taking has them again.

        Where tokens are taken ahead it is not known of which taking they are; there a minute has enough of them.
        """
        if not self.takes_ahead:
            self._unused = tokens

    def _forfeit(self) -> None:
        if self._stopwatch.read() - self._taken_at > KEPT_SECONDS:
            self._held = dict.fromkeys(Lane, 0)

    def slots(self, free: int, waiting: Mapping[Lane, int]) -> dict[Lane, int]:
        """`free` send slots among the lanes: urgent ones first, and of the rest a tenth for BULK while it waits."""
        urgent = min(free, waiting.get(Lane.URGENT, 0))
        rest = free - urgent
        normal, bulk = waiting.get(Lane.TRANSACTIONAL, 0), waiting.get(Lane.BULK, 0)
        if not bulk:
            self._bulk_credit = 0.0
            return {Lane.URGENT: urgent, Lane.TRANSACTIONAL: min(rest, normal), Lane.BULK: 0}
        self._bulk_credit += rest * BULK_SHARE
        floor = min(int(self._bulk_credit), bulk, rest)
        normal = min(normal, rest - floor)
        bulk = min(bulk, rest - normal)
        self._bulk_credit = min(max(0.0, self._bulk_credit - bulk), float(free))
        return {Lane.URGENT: urgent, Lane.TRANSACTIONAL: normal, Lane.BULK: bulk}
