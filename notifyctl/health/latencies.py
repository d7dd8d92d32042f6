"""How long messages took from acceptance to the provider's yes. Read-only, like health.reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from math import isfinite

from sqlalchemy import (
    ColumnElement,
    Executable,
    Float,
    FunctionElement,
    WithinGroup,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel
from notifyctl.models.message import OTP_TEMPLATE, SQLITE_WAITED, WAS_SENT, MessageLog

_message = table(MessageLog)

PERCENTS = (50, 95)
MICROSECONDS = 1_000_000


def within(moment: ColumnElement[datetime]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """In [since, until), which the statement is executed with."""
    kind = _message.c.sent_at.type
    return moment >= bindparam("since", type_=kind), moment < bindparam("until", type_=kind)


@dataclass(frozen=True, slots=True)
class Sent:
    """What one channel sent in a window, and how long it took."""

    messages: int
    codes: int
    """One-time codes among them."""
    seconds: Mapping[int, float]
    """By percentile, at nearest rank: the smallest value that so many per cent of all do not exceed, exactly. Empty
    when nothing was sent."""


def sent(session: Session, since: datetime, until: datetime) -> dict[Channel, Sent]:
    dialect = bulk.dialect(session)
    [row] = session.execute(_sent_statement(dialect), {"since": since, "until": until})
    ranked = _ranked if dialect == "sqlite" else _named
    return {
        channel: Sent(
            messages=row._mapping[f"messages_{channel}"],
            codes=row._mapping[f"codes_{channel}"],
            seconds=ranked(row._mapping[f"waited_{channel}"]),
        )
        for channel in Channel
    }


def _ranked(listed: str) -> dict[int, float]:
    """Of whole microseconds as a JSON list."""
    # A time that is none, as SQLite keeps any, has no length.
    waits = sorted(wait for wait in json.loads(listed) if wait is not None)
    ranks = {percent: -(-len(waits) * percent // 100) for percent in PERCENTS}
    return {percent: waits[rank - 1] / MICROSECONDS for percent, rank in ranks.items()} if waits else {}


def _named(seconds: Sequence[float] | None) -> dict[int, float]:
    """A difference of more than a day is not quite exact in PostgreSQL's floating point; moments are to the µs."""
    ranked = zip(PERCENTS, seconds or (), strict=False)
    return {percent: round(each * MICROSECONDS) / MICROSECONDS for percent, each in ranked if isfinite(each)}


@cache
def _sent_statement(dialect: str) -> Executable:
    """All in one pass, and nothing grouped: both databases would sort the rows by their channel for it.

    PostgreSQL's percentile_disc is the nearest rank. SQLite would number the rows at ten times the price of reading
    the bare numbers and sorting them here.
    """
    if dialect == "sqlite":
        waited: FunctionElement[object] | WithinGroup[object] = func.json_group_array(literal_column(SQLITE_WAITED))
    else:
        waited = func.percentile_disc([percent / 100 for percent in PERCENTS]).within_group(_seconds(dialect))
    is_code = _message.c.template_key == OTP_TEMPLATE
    figures = {"messages": (func.count(),), "codes": (func.count(), is_code), "waited": (waited,)}
    columns = (
        figure.filter(_message.c.channel == channel, *condition).label(f"{name}_{channel}")
        for channel in Channel
        for name, (figure, *condition) in figures.items()
    )
    return select(*columns).where(WAS_SENT, *within(_message.c.sent_at))


def _seconds(dialect: str) -> ColumnElement[float]:
    if dialect == "sqlite":
        return literal_column(f"({SQLITE_WAITED}) / {MICROSECONDS}.0", Float)
    # date_part and not extract, which computes in slow decimals.
    return func.date_part("epoch", _message.c.sent_at - _message.c.created_at, type_=Float)


def histogram(
    session: Session, since: datetime, until: datetime, bounds: Sequence[float]
) -> dict[Channel, tuple[list[int], float]]:
    """How many messages were sent within each bound in seconds, the last count being all, and the sum of seconds."""
    statement = _histogram_statement(bulk.dialect(session), tuple(bounds))
    histograms = {channel: ([0] * (len(bounds) + 1), 0.0) for channel in Channel}
    for channel, total, *counts in session.execute(statement, {"since": since, "until": until}):
        histograms[channel] = ([int(count) for count in counts], float(total))
    return histograms


@cache
def _histogram_statement(dialect: str, bounds: tuple[float, ...]) -> Executable:
    seconds = select(_message.c.channel, _seconds(dialect).label("seconds"))
    # Materialized, or each of the counts would work the seconds out again.
    waited = seconds.where(WAS_SENT, *within(_message.c.sent_at)).cte("waited").prefix_with("MATERIALIZED")
    counts = [
        func.count().filter(waited.c.seconds <= bound).label(f"bound_{number}") for number, bound in enumerate(bounds)
    ]
    figures = select(waited.c.channel, func.sum(waited.c.seconds), *counts, func.count().label("all"))
    return figures.group_by(waited.c.channel)
