"""What operators hold back."""

from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, FromClause, and_, delete, func, insert, literal_column, select, true
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel
from notifyctl.models.message import WAITING, MessageLog
from notifyctl.models.operations import Pause, ProviderBreaker
from notifyctl.operations.breakers import BreakerRow, is_of_channel

_pause = table(Pause)
_breaker = table(ProviderBreaker)
_message = table(MessageLog)
_EVERYTHING = select(_pause).order_by(_pause.c.id)


class _Addressed(Protocol):
    @property
    def channel(self) -> str: ...

    @property
    def template_key(self) -> str: ...

    @property
    def client_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class PauseScope:
    """Which messages; None fits any."""

    channel: str | None = None
    template_key: str | None = None
    client_id: str | None = None

    def __str__(self) -> str:
        parts = {"channel": self.channel, "template": self.template_key, "client": self.client_id}
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value) or "everything"

    def command(self, verb: str) -> str:
        """What pauses or resumes just this on the command line, to be copied: an id may have anything in it."""
        parts = {"--channel": self.channel, "--template": self.template_key, "--client": self.client_id}
        return " ".join([f"notifyctl {verb}", *(f"{name} {quote(value)}" for name, value in parts.items() if value)])

    def fits(self, message: _Addressed) -> bool:
        return (
            self.channel in (None, message.channel)
            and self.template_key in (None, message.template_key)
            and self.client_id in (None, message.client_id)
        )

    def holds(self, messages: FromClause) -> ColumnElement[bool]:
        """Whether a row of `messages` is held by this."""
        parts = [(messages.c.channel, self.channel), (messages.c.template_key, self.template_key)]
        parts.append((messages.c.client_id, self.client_id))
        return and_(true(), *(func.coalesce(column, "") == value for column, value in parts if value is not None))


class PauseRow(NamedTuple):
    id: int
    channel: str | None
    template_key: str | None
    client_id: str | None
    reason: str
    actor: str
    created_at: datetime


def scope_of(row: PauseRow) -> PauseScope:
    return PauseScope(row.channel, row.template_key, row.client_id)


def everything(session: Session) -> list[PauseRow]:
    """Oldest first."""
    return [PauseRow(*row) for row in session.execute(_EVERYTHING)]


def with_breaker(session: Session, channel: Channel) -> tuple[list[PauseRow], BreakerRow | None]:
    """All that may hold a channel back, in one statement: `everything`, and what `breakers.get` tells of it."""
    rows = bulk.execute(session, _WITH_BREAKER, {"channel": channel})
    paused = [PauseRow(*row[:_OF_PAUSE]) for row in rows if row[0] is not None]
    breaker = rows[0][_OF_PAUSE:]
    return paused, BreakerRow(*breaker) if breaker[0] is not None else None


_OF_PAUSE = len(PauseRow._fields)
_once = select(literal_column("1").label("once")).subquery()
_WITH_BREAKER = (
    select(*_pause.c, *_breaker.c)
    .select_from(_once.outerjoin(_pause, true()).outerjoin(_breaker, is_of_channel))
    .order_by(_pause.c.id)
)


def add(session: Session, scope: PauseScope, *, reason: str, actor: str, now: datetime) -> bool:
    """False when just this scope is held already; its first reason is kept."""
    if any(scope_of(row) == scope for row in everything(session)):
        return False
    values = {"channel": scope.channel, "template_key": scope.template_key, "client_id": scope.client_id}
    session.execute(insert(_pause).values(**values, reason=reason, actor=actor, created_at=now))
    return True


def remove(session: Session, scope: PauseScope) -> bool:
    """False when there is no pause of just this scope."""
    ids = [row.id for row in everything(session) if scope_of(row) == scope]
    session.execute(delete(_pause).where(_pause.c.id.in_(ids)))
    return bool(ids)


def held(session: Session, scope: PauseScope) -> int:
    """How many waiting messages it holds."""
    conditions = [_message.c.status.in_(WAITING), scope.holds(_message)]
    return int(session.execute(select(func.count()).select_from(_message).where(*conditions)).scalar_one())
