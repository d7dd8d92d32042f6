"""The circuit breaker of a channel: after failures without a success no calls, then single probes until one succeeds.

Messages keep their retries meanwhile: they are not claimed, apart from the probes.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum, auto

from sqlmodel import Session

from notifyctl.models.enums import BreakerState, Channel, FailureReason
from notifyctl.operations import breakers
from notifyctl.operations.breakers import BreakerRow
from notifyctl.providers.contract import Accepted, Answer, Rejected
from notifyctl.providers.registry import PROVIDERS

FAILURES_TO_OPEN = 5
FIRST_PROBE_AFTER = timedelta(seconds=10)
LAST_PROBE_AFTER = timedelta(minutes=1)
"""Each probe that fails doubles the wait for the next, up to this."""
PROBE_ANSWERED_WITHIN = timedelta(seconds=45)
CLOCKS_DIFFER_BY = timedelta(seconds=5)

LONGEST_REASON = 200

TIMED_OUT = "OPERATION_TIMEDOUT"
LATE = 2.0
"""Seconds. No call lasts longer than its limit, but for a process that is stopped or starved."""

log = logging.getLogger("notifyctl.delivery")


class BreakerDecision(Enum):
    FREE = auto()
    PROBE = auto()
    """One call, if this worker is the first to ask for it."""
    NONE = auto()


def _is_ours(answer: Answer, channel: Channel) -> bool:
    """It says nothing about the provider: it was never called, or our own process was held up while it answered."""
    result = answer.result
    if isinstance(result, Rejected):
        return result.reason is FailureReason.RENDER_ERROR
    return (
        getattr(result, "code", "") == TIMED_OUT
        and answer.seconds > PROVIDERS[channel].call_timeout.total_seconds() + LATE
    )


def is_account_problem(result: Rejected) -> bool:
    """A revoked key or an empty balance would fail the whole queue, one message after the other."""
    return result.reason is FailureReason.ACCOUNT_PROBLEM


def _describe_failure(code: str, detail: str) -> str:
    """As operators read it: `HTTP_503` is not told twice where what was said begins with it."""
    is_repeated = detail.startswith(code.replace("_", " "))
    return (detail if is_repeated else f"{code} {detail}".strip())[:LONGEST_REASON]


class Breaker:
    """One worker's view of it, counting its own calls. The state itself is in the store. Used by one thread."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._failures = 0
        self._closed = True
        self._failed_probes = 0
        self._is_probing = False
        self._reason = ""

    def read(self, row: BreakerRow | None, now: datetime) -> BreakerDecision:
        """`row`: as it is in the store."""
        self._closed = row is None or row.state == BreakerState.CLOSED
        if row is None or self._closed:
            return BreakerDecision.FREE
        self._failed_probes = row.failed_probes
        # A moment that nobody can have meant was written before the clock was set back.
        is_waiting = row.probe_at is not None and now < row.probe_at <= now + LAST_PROBE_AFTER + CLOCKS_DIFFER_BY
        return BreakerDecision.NONE if is_waiting else BreakerDecision.PROBE

    def start_probe(self, session: Session, now: datetime) -> bool:
        heard_by, latest = now + PROBE_ANSWERED_WITHIN, now + LAST_PROBE_AFTER + CLOCKS_DIFFER_BY
        self._is_probing = breakers.start_probe(session, self._channel, now=now, heard_by=heard_by, latest=latest)
        return self._is_probing

    def hear(self, session: Session, answers: Sequence[Answer], now: datetime) -> None:
        """A batch without an answer counts for as many failures as it had messages: it opens the breaker at once."""
        results = [answer.result for answer in answers if not _is_ours(answer, self._channel)]
        if not results:
            return
        for result in results:
            if isinstance(result, Accepted) or (isinstance(result, Rejected) and not is_account_problem(result)):
                self._failures = 0
            else:
                self._failures += 1
                self._reason = _describe_failure(result.code, result.detail)
        if self._failures == 0:
            self._heard_success(session)
        elif self._is_probing:
            wait = min(FIRST_PROBE_AFTER * 2 ** (self._failed_probes + 1), LAST_PROBE_AFTER)
            breakers.reopen(session, self._channel, reason=self._reason, probe_at=now + wait)
        elif self._closed and self._failures >= FAILURES_TO_OPEN:
            probe_at = now + FIRST_PROBE_AFTER
            if breakers.open_(session, self._channel, reason=self._reason, now=now, probe_at=probe_at):
                log.warning("circuit breaker opened", extra={"channel": self._channel, "reason": self._reason})
            self._failures = 0
        self._is_probing = False

    def _heard_success(self, session: Session) -> None:
        if not self._closed and breakers.close(session, self._channel):
            log.warning("circuit breaker closed", extra={"channel": self._channel})
        self._closed = True
