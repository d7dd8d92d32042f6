"""What is known of the installation beside its traffic: who runs it, how its jobs stand, and what it lacks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlmodel import Session

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.clients import suppression_store
from notifyctl.db import failures
from notifyctl.errors import InvalidInput
from notifyctl.health import store as health_store
from notifyctl.health.store import LongTransaction, LostAlert, StripeTroubles
from notifyctl.models.enums import Channel, JobOutcome
from notifyctl.operations import heartbeats, job_runs, store_state
from notifyctl.operations.heartbeats import WorkerRow
from notifyctl.operations.job_runs import MONITOR, TIMETABLE, JobRecord, Timed
from notifyctl.operations.store_state import Forgotten
from notifyctl.settings import Settings
from notifyctl.templates import store as template_store
from notifyctl.text.addresses import normal_address
from notifyctl.text.durations import age, moment, worker_place

if TYPE_CHECKING:
    from notifyctl.keyring import KeyRing

GRACE = timedelta(minutes=5)
"""On top of two periods without a run that was DONE."""
SEEN = timedelta(minutes=1)
"""A worker that was not seen for so long is not at work."""
TRACE = timedelta(hours=2)
"""So long what cron did last shows that it will do it again: two periods of an hourly line."""
CLEANING_HELD_FOR = timedelta(hours=1)
STUCK_AFTER = timedelta(minutes=5)
UNMATCHED_FOR, ALERTS_FOR = timedelta(days=30), timedelta(hours=24)
"""What is older is history: to be listed, and nothing to be woken for."""
_OWN_DOMAINS = (".internal", ".local", ".home.arpa", ".test")
"""Never in the world's DNS: RFC 6761, 6762 and 8375, and ICANN's own word on `internal`."""
_PLAIN_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")


class JobState(StrEnum):
    """In the order of their urgency."""

    HUNG = "hung"
    LOST = "lost"
    OVERDUE = "overdue"
    FAILED = "failed"
    RUNNING = "running"
    DONE = "done"
    NEVER = "never"
    """It has never run, and has not had the time to."""


TROUBLED = frozenset({JobState.HUNG, JobState.LOST, JobState.OVERDUE, JobState.FAILED})
_URGENCY = list(JobState)


@dataclass(frozen=True, slots=True)
class JobStatus:
    job: Timed
    state: JobState
    record: JobRecord | None
    next_due: datetime
    """In the past while its run is still to be had."""
    problem: str = ""
    remedy: str = ""


def job_statuses(records: Mapping[str, JobRecord], since: datetime | None, now: datetime) -> list[JobStatus]:
    """All jobs, those in trouble first. They should have run since `since`; None when that is unknown."""
    statuses = [job_status(job, records.get(job.name), since, now) for job in TIMETABLE]
    return sorted(statuses, key=lambda status: _URGENCY.index(status.state))


def job_status(job: Timed, record: JobRecord | None, since: datetime | None, now: datetime) -> JobStatus:
    state = _state(job, record, since, now)
    due = job.due_at(now)
    next_due = due if record is None or record.last.due_at < due else job.next_due(now)
    return JobStatus(job, state, record, next_due, *_words(job, state, record, now))


def _state(job: Timed, record: JobRecord | None, since: datetime | None, now: datetime) -> JobState:
    last = record.last if record else None
    if last is not None and last.outcome is JobOutcome.RUNNING:
        if last.lease_until is None or last.lease_until < now:
            return JobState.LOST
        if now - last.started_at > job.longest:
            return JobState.HUNG
    well_at = (record.done_at if record else None) or since
    if well_at is not None and now - well_at > 2 * job.period + GRACE:
        return JobState.OVERDUE
    return JobState(last.outcome.lower()) if last is not None else JobState.NEVER


def _words(job: Timed, state: JobState, record: JobRecord | None, now: datetime) -> tuple[str, str]:
    """What is wrong and what to do; both empty where nothing is."""
    if state not in TROUBLED:
        return "", ""
    if state is JobState.OVERDUE:
        return _overdue(job, record, now), f"start `notifyctl worker`, or run `notifyctl jobs run {job.name}`"
    assert record is not None
    last = record.last
    if state is JobState.FAILED:
        return f"{job.name} failed: {last.summary}", f"mend that, then run `notifyctl jobs run {job.name}`"
    begun = f"at {worker_place(last.worker)} since {moment(last.started_at)}"
    if state is JobState.LOST:
        return f"{job.name} was lost, having run {begun}", "start `notifyctl worker`: it takes the run up again"
    return f"{job.name} hangs {begun}", "look at the log of that worker, and restart it"


def _overdue(job: Timed, record: JobRecord | None, now: datetime) -> str:
    if record is None:
        return f"{job.name} has never run"
    done = f"was last done {age(record.done_at, now)} ago" if record.done_at else "was never done"
    failed = f"; the last run failed: {record.last.summary}" if record.last.outcome is JobOutcome.FAILED else ""
    return f"{job.name} ({job.schedule}) {done}{failed}"


@dataclass(frozen=True, slots=True)
class LastWorker:
    place: str
    seen_at: datetime
    has_left: bool
    """In good order; it was killed otherwise."""
    once: bool


@dataclass(frozen=True, slots=True)
class SuppressedAlertAddress:
    """An address that alerts go to, and that must not be written to."""

    settings: Sequence[str]
    channel: Channel
    address: str
    reason: str
    source: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Installation:
    name: str
    """INSTALLATION_NAME; the database's where that is not set."""
    database: str
    """Its kind and place, without user or password."""
    obstacle: tuple[str, str] | None
    """Why nothing can be written there, and what to do; None where it can be."""
    forgotten: Forgotten | None
    """It has gone back in time, and is to be recovered."""
    now: datetime
    workers: int
    last_worker: LastWorker | None
    """None where none has left a trace."""
    lives_by_cron: bool
    """Somebody sends, or runs the jobs, without a worker that stays."""
    jobs: Sequence[JobStatus]
    """Those in trouble."""
    has_templates: bool
    suppressed: Sequence[SuppressedAlertAddress]
    lost_suppressions: Mapping[str, int]
    """Key id -> how many suppressions are found by it, where NOTIFICATION_SECRET_KEY lacks it."""
    lost_alert: LostAlert | None
    """The last alert, where it reached nobody."""
    untold: Sequence[Channel]
    """Channels that fail without anybody having been alerted."""
    has_alert_address: bool
    stripe: StripeTroubles
    schema: str
    """Its revision: a later one than the program's, where that fits."""
    long_transaction: LongTransaction | None
    """Which holds back the cleaning of the database for too long."""
    sandboxes: Mapping[str, str]
    """What should reach a provider and stays in the own network: `email`, `SMS`, `Stripe`, and where it goes to."""

    @property
    def is_run(self) -> bool:
        return self.workers > 0 or self.lives_by_cron


def read_installation(session: Session, settings: Settings, now: datetime) -> Installation:
    name, database = names(session, settings)
    workers = heartbeats.known(session)
    at_work = [row for row in workers if heartbeats.is_working(row, now - SEEN)]
    statuses = read_job_statuses(session, now)
    return Installation(
        name=name,
        database=database,
        obstacle=failures.obstacle(session),
        forgotten=store_state.forgotten(session),
        now=now,
        workers=len(at_work),
        last_worker=_last(workers),
        lives_by_cron=_sends_by_cron(workers, now) or _runs_jobs_by_cron(workers, statuses, now),
        jobs=[status for status in statuses if status.problem],
        has_templates=template_store.are_seeded(session),
        suppressed=list(suppressed_addresses(session, settings)),
        lost_suppressions=lost_suppressions(session, settings),
        lost_alert=health_store.lost_alert(session, now - ALERTS_FOR),
        untold=[row.channel for row in spike_store.raised(session) if row.level.gravity > row.told.gravity],
        has_alert_address=bool(settings.admin_recipients),
        stripe=health_store.stripe_troubles(
            session, unmatched_since=now - UNMATCHED_FOR, received_before=now - STUCK_AFTER
        ),
        schema=health_store.revision(session),
        long_transaction=health_store.longest_transaction(session, now - CLEANING_HELD_FOR),
        sandboxes=dict(_sandboxes(settings)),
    )


def names(session: Session, settings: Settings) -> tuple[str, str]:
    """What the installation is called, and where its database is."""
    url = session.get_bind().engine.url
    kind = url.get_backend_name()
    if kind == "sqlite":
        return settings.installation_name or Path(url.database or "").name, f"{kind} {url.database}"
    hosts = url.query.get("host", "")
    host = url.host or (hosts if isinstance(hosts, str) else ",".join(hosts)) or "localhost"
    return settings.installation_name or url.database or kind, f"{kind} {host}/{url.database or ''}"


def _last(known: Sequence[WorkerRow]) -> LastWorker | None:
    last = max(known, key=lambda row: row.seen_at, default=None)
    return LastWorker(worker_place(last.worker), last.seen_at, last.left_at is not None, last.once) if last else None


def _sends_by_cron(known: Sequence[WorkerRow], now: datetime) -> bool:
    """A worker that stays, and was there since, shows that cron is not what sends here."""
    last = max(known, key=lambda row: row.seen_at, default=None)
    return last is not None and last.once and now - last.seen_at < TRACE


def _runs_jobs_by_cron(known: Sequence[WorkerRow], statuses: Sequence[JobStatus], now: datetime) -> bool:
    """Every job is on time, and the last run was no worker's. The monitor's own is Nagios' affair as well."""
    if any(status.state in (JobState.OVERDUE, JobState.NEVER) for status in statuses):
        return False
    runs = [status.record.last for status in statuses if status.record and status.job.name != MONITOR]
    last = max(runs, key=lambda run: run.started_at, default=None)
    return last is not None and now - last.started_at < TRACE and last.worker not in {row.worker for row in known}


def read_job_statuses(session: Session, now: datetime) -> list[JobStatus]:
    """Of every job, those in trouble first."""
    records = job_runs.records_of(session, [job.name for job in TIMETABLE])
    all_done = len(records) == len(TIMETABLE) and all(record.done_at for record in records.values())
    return job_statuses(records, None if all_done else _since(session, now), now)


def _since(session: Session, now: datetime) -> datetime | None:
    """From when on jobs should have run: since the first did, a worker has been there, or templates were seeded."""
    started = (row.started_at for row in heartbeats.known(session) if heartbeats.is_working(row, now - SEEN))
    return job_runs.first_start(session) or min(started, default=None) or template_store.first_seeded_at(session)


def suppressed_addresses(session: Session, settings: Settings) -> Iterator[SuppressedAlertAddress]:
    """Of those that alerts go to."""
    wanted: dict[tuple[Channel, str], list[str]] = {}
    for name, channel, text in _alert_addresses(settings):
        address = _normal_address(channel, text, settings)
        if address:
            wanted.setdefault((channel, address), []).append(name)
    if not wanted:
        return
    keys = _keys(settings)
    for (channel, address), names in wanted.items():
        row = suppression_store.find(session, channel, keys.recipient_hashes(channel, address))
        if row is not None:
            yield SuppressedAlertAddress(names, channel, address, row.reason, row.source, row.created_at)


def lost_suppressions(session: Session, settings: Settings) -> dict[str, int]:
    """Key id -> how many suppressions nobody finds, for want of its secret."""
    counts = health_store.count_suppressions(session)
    if not counts:
        return {}
    known = _keys(settings).ids
    return {key: count for key, count in counts.items() if key not in known}


def _keys(settings: Settings) -> "KeyRing":
    from notifyctl.keyring import KeyRing  # cryptography: `monitor` needs it for nothing else

    return KeyRing(settings.notification_secret_key)


def _alert_addresses(settings: Settings) -> Iterator[tuple[str, Channel, str]]:
    if settings.ops_alert_email:
        yield "OPS_ALERT_EMAIL", Channel.EMAIL, settings.ops_alert_email
    for address in settings.admin_alert_emails:
        yield "ADMIN_ALERT_EMAILS", Channel.EMAIL, address
    if settings.ops_alert_sms_number:
        yield "OPS_ALERT_SMS_NUMBER", Channel.SMS, settings.ops_alert_sms_number


def _normal_address(channel: Channel, text: str, settings: Settings) -> str | None:
    """None for one that is no address, which `doctor` tells. The plain ones are spared the libraries' loading."""
    if channel is Channel.EMAIL and text.isascii():
        return text.strip().lower()
    if _PLAIN_PHONE.fullmatch(text):
        return text
    try:
        return normal_address(channel, text, settings.otp_default_region)
    except InvalidInput:
        return None


def _sandboxes(settings: Settings) -> Iterator[tuple[str, str]]:
    urls = {"email": settings.postmark_api_url, "SMS": settings.twilio_api_url, "Stripe": settings.stripe_api_url}
    for what, url in urls.items():
        if what == "SMS" and not settings.sms_enabled:
            continue
        split = urlsplit(url)
        host = (split.hostname or "").lower()
        if is_this_host(host) or _is_own_network(host):
            yield what, split.netloc


def is_this_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_own_network(host: str) -> bool:
    """Where no provider is: a private address, or a name that only the own network knows, as that of a container."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_OWN_DOMAINS))
