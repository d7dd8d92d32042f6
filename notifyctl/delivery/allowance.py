"""What a worker may present to a provider now: tokens from the shared budget, and slots shared by the lanes."""

from collections.abc import Mapping
from datetime import datetime
from time import monotonic

from sqlmodel import Session

from notifyctl.delivery.throttle import BULK_SHARE, TOKEN_LIFE, Budget
from notifyctl.models.template import Channel, Lane
from notifyctl.store import limits

BULK_TAKING_FROM = 6_000
"""Messages a minute. From this limit on tokens are taken ahead, in a transaction of their own: below it every token
counts, and the budget stays locked from the taking to the claim; above it, that lock would make workers take turns."""
AHEAD = 4
KEPT_SECONDS = 0.2
"""How long tokens are kept for a later turn: what is claimed with them must still be sent within their life."""


class Allowance:
    """One worker's share of the minute. Used by one thread."""

    def __init__(self, channel: Channel, default_limit: int) -> None:
        self._channel = channel
        self._default_limit = default_limit
        self._held: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._taken_at = 0.0
        self._bulk_credit = 0.0
        self._short: set[Lane] = set()
        self.budget = Budget(default_limit)
        """As it was when last read."""

    def read(self, session: Session) -> None:
        """Without a lock: how much there is, to decide whether it is worth asking."""
        limit = limits.per_minute(session, self._channel) or self._default_limit
        self.budget = Budget.load(limits.read_budget(session, self._channel), limit)

    @property
    def takes_ahead(self) -> bool:
        return self.budget.limit >= BULK_TAKING_FROM

    def is_short_of(self, wanted: Mapping[Lane, int]) -> bool:
        """Whether tokens for `wanted` must be taken; what is held and still fresh comes first."""
        self._forfeit()
        return any(self._held[lane] < count for lane, count in wanted.items())

    def take(self, session: Session, wanted: Mapping[Lane, int], now: datetime) -> None:
        """Takes tokens from the shared budget, which is locked until the transaction ends."""
        self._forfeit()
        state = limits.lock_budget(session, self._channel)
        self.budget = Budget.load(state, limits.per_minute(session, self._channel) or self._default_limit)
        ahead = AHEAD if self.takes_ahead else 1
        asked = {lane: max(0, count * ahead - self._held[lane]) for lane, count in wanted.items()}
        taken = self.budget.allot(asked, now)
        limits.save_budget(session, self._channel, self.budget.dump())
        if not any(self._held.values()):
            self._taken_at = monotonic()
        for lane, tokens in taken.items():
            self._held[lane] += tokens
        self._short = {lane for lane, count in wanted.items() if self._held[lane] < count}

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

    def put_back(self, session: Session, now: datetime) -> None:
        """Tokens taken in this very transaction that nothing needed, while the budget is still locked."""
        if not self.takes_ahead and any(self._held.values()):
            self.budget.put_back(self._held)
            limits.save_budget(session, self._channel, self.budget.dump())
            self._held = dict.fromkeys(Lane, 0)

    def is_fresh(self) -> bool:
        """Whether tokens used now are used in time."""
        return monotonic() - self._taken_at < TOKEN_LIFE.total_seconds()

    def _forfeit(self) -> None:
        if monotonic() - self._taken_at > KEPT_SECONDS:
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
