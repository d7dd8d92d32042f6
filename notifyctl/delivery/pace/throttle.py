"""The budget of a channel's minute: who may take how many tokens now. Pure; operations.limits keeps it.

A token is the right to present one message to the provider at once: it is forfeited after TOKEN_LIFE, and goes back
where it came from if nothing was presented. Whatever is presented in any 60 s was therefore taken in some WINDOW, and
no WINDOW has more tokens than the limit.

Shares. URGENT is served first, gets every token that comes free while it waits, and a few are always left for it:
2 % rather than all of its 5 %, which kept idle would cost more of the limit than an idle token is worth. Of the rest
BULK gets a tenth while it waits. A lane that found its minute full within the last two windows is paced from then on,
one token at a time, since a backlog that takes everything at once makes every later minute a burst and a lull. Two,
because workers that found it full sleep until a token comes free, which takes one. After an idle time bursts are fine,
but BULK leaves half of the minute for what comes behind it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from math import floor
from typing import TypedDict

from notifyctl.models.enums import Lane

TOKEN_LIFE = timedelta(seconds=0.5)
"""From the taking of a token to its use."""
WINDOW = timedelta(seconds=60.75)
"""A minute, the life of a token, and a quarter of a second for the way to the provider."""
BUCKET_SECONDS = 0.25
PACE_CREDIT = timedelta(seconds=3)
"""A paced lane may catch up on this much: workers look about once a second, and later on a busy host."""
BULK_SHARE = 0.1


class BudgetState(TypedDict, total=False):
    """A Budget as JSON."""

    limit: int
    buckets: list[list[int]]
    """Number and tokens of each."""
    paced_until: str | None
    full_at: dict[str, str]
    bulk_credit: float


@dataclass(slots=True)
class Bucket:
    number: int
    tokens: int = 0


@dataclass(slots=True)
class Budget:
    """Times are aware, and of the window (WindowTime, below): `now` neither jumps nor goes back."""

    limit: int
    buckets: list[Bucket] = field(default_factory=list)
    paced_until: datetime | None = None
    full_at: dict[Lane, datetime] = field(default_factory=dict)
    """When a lane last found too few tokens."""
    bulk_credit: float = 0.0

    @property
    def kept_for_urgent(self) -> int:
        """Tokens that no other lane may touch."""
        return min(max(1, self.limit // 50), self.limit - 1)

    @property
    def used(self) -> int:
        return sum(bucket.tokens for bucket in self.buckets)

    def used_at(self, now: datetime) -> int:
        """Of the window that ends now."""
        self._forget(now)
        return self.used

    @property
    def spacing(self) -> timedelta:
        """Between two paced tokens."""
        return WINDOW / (self.limit - self.kept_for_urgent)

    def allot(self, waiting: Mapping[Lane, int], now: datetime) -> dict[Lane, int]:
        """Takes tokens for what waits, at most `waiting` a lane, and remembers who found too few."""
        self._forget(now)
        wanted = {lane: waiting.get(lane, 0) for lane in Lane}
        taken = dict.fromkeys(Lane, 0)
        taken[Lane.URGENT] = max(0, min(wanted[Lane.URGENT], self.limit - self.used))
        self._use(taken[Lane.URGENT], now)
        if taken[Lane.URGENT] == wanted[Lane.URGENT]:
            self._allot_the_rest(wanted, taken, now)
        for lane in Lane:
            if taken[lane] < wanted[lane]:
                self.full_at[lane] = now
        return taken

    def _allot_the_rest(self, wanted: Mapping[Lane, int], taken: dict[Lane, int], now: datetime) -> None:
        room = self.limit - self.used - self.kept_for_urgent
        paced = self._paced(now)
        half = (self.limit - self.kept_for_urgent + 1) // 2 - self.used
        normal, bulk = Lane.TRANSACTIONAL, Lane.BULK
        is_paced = {lane: self._was_full(lane, now) for lane in (normal, bulk)}
        most = {
            normal: min(wanted[normal], paced if is_paced[normal] else room),
            bulk: min(wanted[bulk], paced if is_paced[bulk] else max(half, paced)),
        }
        room = max(0, min(room, paced if all(is_paced.values()) else most[normal] + most[bulk]))
        floor_of_bulk = self._floor_of_bulk(wanted, room)
        taken[bulk] = max(0, min(most[bulk], floor_of_bulk))
        taken[normal] = max(0, min(most[normal], room - taken[bulk]))
        taken[bulk] += max(0, min(most[bulk] - taken[bulk], room - taken[bulk] - taken[normal]))
        self.bulk_credit = max(0.0, self.bulk_credit - taken[bulk])
        spent = taken[normal] + taken[bulk]
        self._use(spent, now)
        if spent:
            self.paced_until = max(self.paced_until or now, now - PACE_CREDIT) + self.spacing * spent

    def _floor_of_bulk(self, wanted: Mapping[Lane, int], room: int) -> int:
        if not wanted[Lane.BULK]:
            self.bulk_credit = 0.0
            return 0
        self.bulk_credit = min(self.bulk_credit + room * BULK_SHARE, max(1.0, self.limit * BULK_SHARE))
        return floor(self.bulk_credit)

    def _paced(self, now: datetime) -> int:
        due = max(self.paced_until or now, now - PACE_CREDIT)
        return 0 if due > now else floor((now - due) / self.spacing) + 1

    def _was_full(self, lane: Lane, now: datetime) -> bool:
        at = self.full_at.get(lane)
        return at is not None and abs(now - at) < 2 * WINDOW

    def _use(self, tokens: int, now: datetime) -> None:
        if tokens <= 0:
            return
        number = floor(now.timestamp() / BUCKET_SECONDS)
        if not self.buckets or self.buckets[-1].number < number:
            self.buckets.append(Bucket(number))
        self.buckets[-1].tokens += tokens

    def put_back(self, tokens: Mapping[Lane, int]) -> None:
        """Tokens of the newest bucket that were not used after all, and that nobody else has seen."""
        if not self.buckets:
            return
        spent = tokens.get(Lane.TRANSACTIONAL, 0) + tokens.get(Lane.BULK, 0)
        self.buckets[-1].tokens -= spent + tokens.get(Lane.URGENT, 0)
        if self.paced_until is not None:
            self.paced_until -= self.spacing * spent

    def return_unused(self, bucket: int, tokens: int) -> None:
        """Some that were taken in this bucket by one who presented nothing: nobody has seen more than there were."""
        found = next((one for one in self.buckets if one.number == bucket), None)
        returned = min(tokens, found.tokens) if found is not None else 0
        if found is None or not returned:
            return
        found.tokens -= returned
        if self.paced_until is not None:
            self.paced_until -= self.spacing * returned

    def _forget(self, now: datetime) -> None:
        """A bucket counts until a window after its end. After a clock was set back all count for one window more."""
        number = floor(now.timestamp() / BUCKET_SECONDS)
        oldest = (now - WINDOW).timestamp() / BUCKET_SECONDS - 1
        for bucket in self.buckets:
            bucket.number = min(bucket.number, number)
        self.buckets = [bucket for bucket in self.buckets if bucket.number > oldest]
        if self.paced_until is not None:
            self.paced_until = min(self.paced_until, now + WINDOW)

    def forecast(self, place: int, now: datetime, *, after: datetime | None = None) -> datetime:
        """When the message at `place` behind those up to `after` will have its turn, if nothing else comes."""
        start = max(self.paced_until or now, now)
        if after is not None and after + self.spacing > start:
            return after + self.spacing * (place + 1)
        if self.used >= self.limit - self.kept_for_urgent and self.buckets:
            freed = datetime.fromtimestamp((self.buckets[0].number + 1) * BUCKET_SECONDS, UTC) + WINDOW
            start = max(start, freed)
        return start + self.spacing * place

    def dump(self) -> BudgetState:
        return {
            "limit": self.limit,
            "buckets": [[bucket.number, bucket.tokens] for bucket in self.buckets],
            "paced_until": self.paced_until.isoformat() if self.paced_until else None,
            "full_at": {lane.value: at.isoformat() for lane, at in self.full_at.items()},
            "bulk_credit": round(self.bulk_credit, 3),
        }

    @classmethod
    def spent(cls, limit: int, now: datetime) -> "Budget":
        """With nothing left for a window from now on."""
        return cls.used_now(limit, limit, now)

    @classmethod
    def used_now(cls, limit: int, tokens: int, now: datetime) -> "Budget":
        """As if so many had been taken at this moment."""
        return cls(limit, [Bucket(floor(now.timestamp() / BUCKET_SECONDS), min(tokens, limit))])

    @classmethod
    def load(cls, state: BudgetState, limit: int) -> "Budget":
        """What was used still counts under another limit; how it was paced does not."""
        budget = cls(limit, [Bucket(*numbers) for numbers in state.get("buckets", [])])
        if state.get("limit") == limit:
            paced_until = state.get("paced_until")
            budget.paced_until = datetime.fromisoformat(paced_until) if paced_until else None
            budget.full_at = {Lane(lane): datetime.fromisoformat(at) for lane, at in state["full_at"].items()}
            budget.bulk_credit = float(state["bulk_credit"])
        return budget


@dataclass(frozen=True, slots=True)
class Reading:
    """What one worker's clocks show at one moment, in seconds."""

    wall: float
    """The clock that all workers share: the database's, or on SQLite the host's."""
    host: float
    """Its host's own wall clock."""
    origin: str
    stopwatch: float
    """Its stopwatch, and what that counts from."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Written with the record of what is used: the window's time, in seconds, and what the writer's clocks showed."""

    at: float
    wall: float
    host: float
    origin: str
    stopwatch: float

    def dump(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def load(cls, stored: object) -> "Stamp | None":
        """None for what is not one, as in a record that an earlier version wrote."""
        if not isinstance(stored, Mapping) or not isinstance(stored.get("origin"), str):
            return None
        numbers = [stored.get(field.name) for field in fields(cls) if field.name != "origin"]
        if not all(isinstance(number, int | float) for number in numbers):
            return None
        return cls(**{field.name: stored[field.name] for field in fields(cls)})


class WindowTime:
    """One worker's count of it. Used by one thread."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """Of the stopwatch. None until the first look."""

    def now(self, stamp: Stamp | None, reading: Reading) -> Stamp:
        """What may be written as the next stamp. None stands for a record that has none."""
        if self._ahead is None:
            self._ahead = _first(stamp, reading) - reading.stopwatch
        at = self._ahead + reading.stopwatch
        if stamp is not None and stamp.at > at:
            at = stamp.at
            self._ahead = at - reading.stopwatch
        return Stamp(at, reading.wall, reading.host, reading.origin, reading.stopwatch)


def _first(stamp: Stamp | None, reading: Reading) -> float:
    if stamp is None:
        return reading.wall
    if stamp.origin == reading.origin and stamp.stopwatch <= reading.stopwatch:
        return stamp.at + reading.stopwatch - stamp.stopwatch
    return stamp.at + max(0.0, min(reading.wall - stamp.wall, reading.host - stamp.host))
