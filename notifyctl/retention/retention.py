"""What is kept for how long, and the removal of what is older, a few rows at a time so that no other writer waits.

A message that is not final is never touched, however old; nor is what is still counted by a limit.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import TypeVar

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.chain import SealKeys
from notifyctl.audit.prune import PruneResult, count_removable, prune
from notifyctl.audit.verify import ChainProblem
from notifyctl.clients import suppression_store
from notifyctl.clock import Clock
from notifyctl.db.batches import batches
from notifyctl.db.database import Database
from notifyctl.delivery.receipts import store as receipt_store
from notifyctl.models.enums import AuditAction
from notifyctl.operations import job_runs
from notifyctl.retention import store as retention_store
from notifyctl.settings import MAX_DAYS, Settings

ROWS_AT_FIRST = 500
TOLD_EVERY_SECONDS = 10
MARGIN = timedelta(days=1)
LONGEST = timedelta(days=MAX_DAYS)
BUDGETS = timedelta(hours=1)
"""The window of the budgets of codes, for a prefix and in all."""
_Key = TypeVar("_Key")
log = logging.getLogger("notifyctl.retention")
LOWEST_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Removed:
    contexts: int = 0
    messages: int = 0
    codes: int = 0
    phones: int = 0
    seen_events: int = 0
    releases: int = 0
    stripe_bodies: int = 0
    job_runs: int = 0
    audit_rows: int = 0

    def __str__(self) -> str:
        counts = [f"{count} {name.replace('_', ' ')}" for name, count in asdict(self).items() if count]
        return f"removed {', '.join(counts)}" if counts else "nothing is old enough to be removed"


@dataclass(frozen=True, slots=True)
class Ages:
    """How old what is removed must be; named as what is `Removed`."""

    contexts: timedelta
    messages: timedelta
    codes: timedelta
    phones: timedelta
    seen_events: timedelta
    releases: timedelta
    stripe_bodies: timedelta
    job_runs: timedelta
    audit_rows: timedelta


def ages(session: Session, settings: Settings) -> Ages:
    """As the settings have it; longer where a limit would otherwise forget what it has to count."""
    codes_window = settings.otp_rate[1]
    windows = (
        timedelta(seconds=retention_store.longest_rate_window(session)),
        codes_window,
        timedelta(days=settings.expiry_windows[0]),
    )
    days = timedelta(days=settings.notification_retention_message_days)
    messages = min(max(days, max(windows) + MARGIN), LONGEST)
    cooldown = timedelta(seconds=settings.otp_resend_cooldown_seconds)
    days = timedelta(days=settings.notification_retention_otp_days)
    codes = min(max(days, max(codes_window, cooldown, BUDGETS) + MARGIN), LONGEST)
    return Ages(
        contexts=timedelta(days=settings.notification_retention_context_days),
        messages=messages,
        codes=codes,
        phones=codes,
        # A provider's old event, told again, must find what it did the first time, and what was said since.
        seen_events=messages,
        releases=messages,
        stripe_bodies=timedelta(days=settings.notification_retention_stripe_body_days),
        job_runs=timedelta(days=settings.notification_retention_job_run_days),
        audit_rows=max(timedelta(days=settings.notification_retention_audit_days), messages),
    )


def count(session: Session, settings: Settings, now: datetime) -> Removed:
    """What would be removed; of each, counted up to COUNTED_AT_MOST."""
    age = ages(session, settings)
    return Removed(
        contexts=retention_store.count_contexts(session, now - age.contexts),
        messages=retention_store.count_messages(session, now - age.messages),
        codes=retention_store.count_codes(session, now - age.codes),
        phones=retention_store.count_phones(session, now - age.phones),
        seen_events=retention_store.count_seen_events(session, now - age.seen_events),
        releases=suppression_store.count_releases(session, now - age.releases),
        stripe_bodies=retention_store.count_stripe_bodies(session, now - age.stripe_bodies),
        job_runs=job_runs.count_forgettable(session, now - age.job_runs),
        audit_rows=count_removable(session, now - age.audit_rows),
    )


@dataclass(frozen=True, slots=True)
class RetentionReport:
    removed: Removed
    audit_problem: ChainProblem | None
    """Why no audit row was removed, although some are old enough."""


class Retention:
    """`run` removes what is old enough and leaves an audit row that says how much. Raises DatabaseError."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Clock,
        *,
        actor: str,
        stopping: Callable[[], bool] = lambda: False,
        pausing: bool = True,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._actor = actor
        self._stopping = stopping
        self._pausing = pausing
        self._told_at = monotonic()

    def run(self) -> RetentionReport:
        now = self._clock()
        with self._database.read() as session:
            age = ages(session, self._settings)
        counts = {
            "contexts": self._pages("contexts", retention_store.erase_contexts, now - age.contexts, LOWEST_ID),
            "messages": self._pages("messages", retention_store.delete_messages, now - age.messages, LOWEST_ID),
            "codes": self._codes(now - age.codes),
            "phones": self._pages("phones", retention_store.delete_phones, now - age.phones, ""),
            "seen_events": self._at_once(receipt_store.forget_seen, now - age.seen_events),
            "releases": self._at_once(suppression_store.forget_releases, now - age.releases),
            "stripe_bodies": self._pages(
                "stripe_bodies", retention_store.erase_stripe_bodies, now - age.stripe_bodies, None
            ),
            "job_runs": self._at_once(job_runs.forget, now - age.job_runs),
        }
        removed_rows = self._prune_audit(now - age.audit_rows)
        report = RetentionReport(Removed(**counts, audit_rows=removed_rows.rows), removed_rows.problem)
        self._record(report)
        return report

    def _pages(self, what: str, remove: Callable[..., list[_Key]], before: datetime, start: _Key | None) -> int:
        total, after = 0, start
        for most in self._batches():
            with self._database.transaction() as session:
                removed = remove(session, before, after=after, most=most)
            if not removed:
                break
            total, after = total + len(removed), removed[-1]
            self._tell(what, total)
        return total

    def _codes(self, before: datetime) -> int:
        total = 0
        for most in self._batches():
            with self._database.transaction() as session:
                count = retention_store.delete_codes(session, before, most=most)
            if not count:
                break
            total += count
            self._tell("codes", total)
        return total

    def _batches(self) -> Iterator[int]:
        return batches(ROWS_AT_FIRST, stopping=self._stopping, pausing=self._pausing)

    def _tell(self, what: str, removed: int) -> None:
        if monotonic() - self._told_at >= TOLD_EVERY_SECONDS:
            self._told_at = monotonic()
            log.info("retention goes on", extra={"what": what, "removed": removed})

    def _at_once(self, forget: Callable[[Session, datetime], int], before: datetime) -> int:
        if self._stopping():
            return 0
        with self._database.transaction() as session:
            return forget(session, before)

    def _prune_audit(self, before: datetime) -> PruneResult:
        return prune(
            self._database,
            SealKeys(self._settings.notification_secret_key),
            self._clock,
            before,
            stopping=self._stopping,
            pausing=self._pausing,
            tell=lambda rows: self._tell("audit_rows", rows),
        )

    def _record(self, report: RetentionReport) -> None:
        removed = {name: count for name, count in asdict(report.removed).items() if count}
        details: dict[str, object] = {"command": "retention", "removed": removed}
        if report.audit_problem is not None:
            details["audit_problem"] = report.audit_problem.text
        with self._database.transaction() as session:
            audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=self._actor, now=self._clock(), details=details)
