"""What keeps a waiting message from being claimed, besides its turn: pauses, breakers and quiet hours."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlmodel import Session

from notifyctl.clients import store as client_store
from notifyctl.clock import zone_of
from notifyctl.models.enums import BreakerState, Lane
from notifyctl.models.message import WAITING
from notifyctl.operations import breakers, pauses
from notifyctl.orchestrator.message_store import MessageRow


@dataclass(frozen=True, slots=True)
class Hold:
    words: str
    remedy: str = ""
    """What lets it go; empty where that happens by itself."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to `end` in local time, over midnight when `end` is the earlier; never when they are equal."""

    start: time
    end: time

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def ends(self, now: datetime, zones: Iterable[str]) -> dict[str, datetime]:
        """Of the zones in which it is quiet now: when that ends there, in UTC."""
        ends = {zone: self.end_of(now, zone) for zone in set(zones)}
        return {zone: end for zone, end in ends.items() if end is not None}

    def end_of(self, now: datetime, zone: str) -> datetime | None:
        """When the quiet hours that it is in a zone end, in UTC; None when it is not quiet there."""
        if self.start == self.end:
            return None
        here = zone_of(zone)
        today = now.astimezone(here).date()
        # Moments are compared, and not what clocks show: on the day the clocks change, 02:30 is there twice or never.
        for day in (today - timedelta(days=1), today):
            begins = _moment(day, self.start, here)
            ends = _moment(day if self.start < self.end else day + timedelta(days=1), self.end, here)
            if begins <= now < ends:
                return ends
        return None


def _moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)


def held_by(session: Session, message: MessageRow, quiet: QuietHours, now: datetime) -> list[Hold]:
    """Empty when nothing holds it."""
    held = []
    if words := _quiet_hours(session, message, quiet, now):
        held.append(Hold(words))
    for row in pauses.everything(session):
        scope = pauses.scope_of(row)
        if scope.fits(message):
            held.append(Hold(f"a pause of {scope} ({row.reason})", f"`{scope.command('resume')}` lets it go"))
    breaker = breakers.get(session, message.channel)
    if breaker is not None and breaker.state != BreakerState.CLOSED:
        words = f"the circuit breaker of {message.channel}{_because(breaker, message)}"
        held.append(
            Hold(
                words, "it goes out by itself once a worker finds the provider up again; `notifyctl health` shows that"
            )
        )
    return held


def _because(breaker: breakers.BreakerRow, message: MessageRow) -> str:
    """Empty where the message has met with the same, which is told of it already."""
    return "" if breaker.reason in (None, message.error) else f" ({breaker.reason})"


def _quiet_hours(session: Session, message: MessageRow, quiet: QuietHours, now: datetime) -> str | None:
    if message.lane != Lane.BULK or message.client_id is None or message.status not in WAITING:
        return None
    client = client_store.get(session, message.client_id)
    if client is None or quiet.end_of(now, client.timezone) is None:
        return None
    return f"its client's quiet hours ({quiet} in {client.timezone})"
