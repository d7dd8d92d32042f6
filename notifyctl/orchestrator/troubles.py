"""What is wrong with the traffic, in words: what an operator wants to read first. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from notifyctl.orchestrator.health import Health
from notifyctl.orchestrator.words import age, moment, window
from notifyctl.store.pauses import Scope


class Gravity(StrEnum):
    """The order of the members is that in which an operator wants to hear of them."""

    CRITICAL = "CRITICAL"
    WARNING = "WARNING"
    NOTE = "NOTE"


@dataclass(frozen=True, slots=True)
class Problem:
    gravity: Gravity
    text: str
    """A sentence that says what is wrong, and what to do or where to look."""


DUE_TOO_LONG_SECONDS = 300
DRAIN_TOO_LONG_SECONDS = 15 * 60
MANY_UNCONFIRMED = 20
NOTES_SHOWN = 3


def problems(health: Health) -> list[Problem]:
    """What is wrong, the gravest first; empty when nothing is."""
    found = [
        *_spiking(health),
        *_failing(health),
        *_down_providers(health),
        *_standing_still(health),
        *_in_doubt(health),
        *_held(health),
        *_slow(health),
        *_unconfirmed(health),
    ]
    return sorted(found, key=lambda problem: list(Gravity).index(problem.gravity))


def folded(found: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """What is shown, and notes behind a fold: forty pauses must not push the figures off the screen."""
    grave = [problem for problem in found if problem.gravity is not Gravity.NOTE]
    notes = [problem for problem in found if problem.gravity is Gravity.NOTE]
    # One more than what is shown would fold away a single line behind another.
    shown = notes if len(notes) <= NOTES_SHOWN + 1 else notes[:NOTES_SHOWN]
    return [*grave, *shown], notes[len(shown) :]


def _spiking(health: Health) -> Iterator[Problem]:
    for spike in health.spikes:
        gravity = Gravity.CRITICAL if spike["level"] == "CRITICAL" else Gravity.WARNING
        since = moment(spike["since"], beside=health.until)
        yield Problem(gravity, f"{spike['channel']} is failing since {since}: {spike['problem']}")


def _failing(health: Health) -> Iterator[Problem]:
    """By the rate that the spike monitor warns at, where it has raised nothing: it may not be running."""
    raised = {spike["channel"] for spike in health.spikes}
    for channel, did in health.traffic.items():
        if did.failed >= health.warn_min and 100 * did.failure_rate >= health.warn_percent and channel not in raised:
            tried = did.failed + did.sent
            span = window(int((health.until - health.since).total_seconds()))
            text = f"{channel}: {did.failed:,} of {tried:,} failed in the last {span} ({did.failure_rate:.1%})"
            yield Problem(Gravity.WARNING, text)


def _down_providers(health: Health) -> Iterator[Problem]:
    for channel, reason in health.open_breakers.items():
        text = f"{channel}: its provider is down ({reason}); single messages probe it until one gets through"
        yield Problem(Gravity.CRITICAL, text)


def _standing_still(health: Health) -> Iterator[Problem]:
    waits = health.stalled_seconds
    if waits > DUE_TOO_LONG_SECONDS:
        who = "no worker is running: start `notifyctl worker`" if not health.workers else "look at the worker's log"
        text = f"the oldest message that is due has waited for {_duration(waits)}; {who}"
        yield Problem(Gravity.CRITICAL, text)
    elif not health.workers and any(found.pending + found.retrying for found in health.backlog.values()):
        yield Problem(Gravity.WARNING, "messages wait and no worker is running; start `notifyctl worker`")


def _in_doubt(health: Health) -> Iterator[Problem]:
    count = sum(found.in_doubt for found in health.backlog.values())
    if count:
        text = f"{_messages(count)} may have gone out without an answer; the providers are being asked"
        yield Problem(Gravity.NOTE, text)


def _held(health: Health) -> Iterator[Problem]:
    for pause in health.paused:
        scope = Scope(pause["channel"], pause["template_key"], pause["client_id"])
        since = moment(pause["since"], beside=health.until)
        text = (
            f"{scope} is paused since {since} by {pause['actor']}: {pause['reason']} ({_messages(pause['held'])} held)"
        )
        yield Problem(Gravity.NOTE, text)


def _slow(health: Health) -> Iterator[Problem]:
    if health.drain_seconds > DRAIN_TOO_LONG_SECONDS:
        text = f"the backlog will be gone in {_duration(health.drain_seconds)} at today's limits (`notifyctl limits`)"
        yield Problem(Gravity.WARNING, text)


def _unconfirmed(health: Health) -> Iterator[Problem]:
    if health.unconfirmed >= MANY_UNCONFIRMED:
        text = (
            f"{_messages(health.unconfirmed)} of the last day have no receipt; `notifyctl doctor` says whether any came"
        )
        yield Problem(Gravity.NOTE, text)


def _messages(count: int) -> str:
    return f"{count:,} message{'s' if count != 1 else ''}"


def _duration(seconds: int) -> str:
    return age(EPOCH, EPOCH + timedelta(seconds=seconds))


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
