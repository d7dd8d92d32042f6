"""What is wrong with the installation beside its traffic, in words. Pure."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from notifyctl.db.migrations import head_revision
from notifyctl.health.installation import Installation, JobState, LastWorker, is_this_host
from notifyctl.operations.problem import Code, Gravity, Problem, how_to_match
from notifyctl.text.durations import age, moment, plural, rough_duration

LACKS_KEY = "NOTIFICATION_SECRET_KEY lacks the key of"
PUT_IT_BACK = "put the old key back into NOTIFICATION_SECRET_KEY, behind the new one and separated by a comma"
REKEY = "run `notifyctl suppressions rekey` where it is lost"
_WAITS_FOR_SOMEBODY = (JobState.OVERDUE, JobState.LOST)
"""Whoever runs the jobs again takes these up."""


def problems(installation: Installation, *, waiting: int = 0, overdue_seconds: int = 0) -> Iterator[Problem]:
    """`waiting` messages wait, the oldest of which has been due for too long, if `overdue_seconds` is not 0."""
    yield from _not_writable(installation)
    yield from _forgotten(installation)
    yield from _nobody_at_work(installation, waiting, overdue_seconds)
    yield from _jobs(installation)
    if not installation.has_templates:
        text = "no template is seeded: nothing can be sent"
        yield Problem(Gravity.WARNING, text, Code.TEMPLATES_NOT_SEEDED, "run `notifyctl templates seed`")
    yield from _suppressions_lost(installation)
    yield from suppressed(installation)
    yield from _lost_alert(installation)
    yield from stripe(installation)
    if installation.schema != head_revision():
        text = f"the schema is at revision {installation.schema}, and this program is of {head_revision()}: it fits"
        yield Problem(Gravity.NOTE, text, Code.SCHEMA_DIFFERS, "upgrade this program as well")
    yield from _cleaning(installation)


def untold(installation: Installation) -> Iterator[Problem]:
    """The monitor has its own words for it, with the cause. A suppressed address is told as that."""
    if not installation.untold or (installation.suppressed and installation.has_alert_address):
        return
    text = f"nobody has been alerted of the failures of {' and '.join(installation.untold)}"
    missing = "set OPS_ALERT_EMAIL or ADMIN_ALERT_EMAILS"
    remedy = "`notifyctl monitor` says why" if installation.has_alert_address else missing
    yield Problem(Gravity.CRITICAL, text, Code.ALERT_NOT_DELIVERED, remedy)


def sandbox(installation: Installation) -> Iterator[Problem]:
    """Apart from the others, since it is meant so where it is so at all, and comes last."""
    for host in dict.fromkeys(installation.sandboxes.values()):
        *more, last = [what for what, there in installation.sandboxes.items() if there == host]
        what = f"{', '.join(more)} and {last} go" if more else f"{last} goes"
        if is_this_host(urlsplit(f"//{host}").hostname or ""):
            text = f"{what} to {host}, a sandbox on this host, and not to the provider: nobody gets anything"
        else:
            text = (
                f"{what} to {host} in your own network, and not to the provider:"
                " nobody gets anything, unless that passes it on"
            )
        yield Problem(Gravity.NOTE, text, Code.SANDBOX)


def _not_writable(installation: Installation) -> Iterator[Problem]:
    if installation.obstacle:
        why, remedy = installation.obstacle
        text = f"the database {installation.database} cannot be written: {why}; nothing is accepted, sent or recorded"
        yield Problem(Gravity.CRITICAL, text, Code.NOT_WRITABLE, remedy)


def _forgotten(installation: Installation) -> Iterator[Problem]:
    found = installation.forgotten
    if found is None:
        return
    since = moment(found.since, beside=installation.now)
    text = f"the database may have forgotten what was done since {since} ({found.cause}): nothing is sent"
    remedy = "a worker asks the providers and goes on by itself; its log says what it waits for"
    if not installation.workers:
        remedy = "run `notifyctl db recover`, or start `notifyctl worker`"
    yield Problem(Gravity.CRITICAL, text, Code.RECOVERY_NEEDED, remedy, since=found.found_at)


def _nobody_at_work(installation: Installation, waiting: int, overdue_seconds: int) -> Iterator[Problem]:
    if installation.workers or (installation.lives_by_cron and not overdue_seconds):
        return
    parts = [f"no worker is running{_last(installation.last_worker, installation)}"]
    if overdue_seconds:
        parts.append(f"the oldest message that is due has waited for {rough_duration(overdue_seconds)}")
    elif waiting:
        parts.append(f"{plural(waiting, 'message waits', 'messages wait')}")
    overdue = sum(job.state in _WAITS_FOR_SOMEBODY for job in installation.jobs)
    if overdue:
        parts.append(f"{plural(overdue, 'job is', 'jobs are')} overdue")
    gravity = Gravity.CRITICAL if overdue_seconds else Gravity.WARNING
    since = installation.last_worker.seen_at if installation.last_worker else None
    yield Problem(gravity, "; ".join(parts), Code.NO_WORKER, "start `notifyctl worker`", since=since)


def _last(last: LastWorker | None, installation: Installation) -> str:
    if last is None:
        return ""
    who = "`worker --once`" if last.once else "one"
    ended = "was last seen" if not last.has_left else "ended" if last.once else "stopped"
    return f" (the last {who}, at {last.place}, {ended} {age(last.seen_at, installation.now)} ago)"


def _jobs(installation: Installation) -> Iterator[Problem]:
    overdue = [status for status in installation.jobs if status.state is JobState.OVERDUE]
    if overdue and installation.is_run:
        names = ", ".join(status.job.name for status in overdue)
        runs = "run a worker without --no-jobs"
        if not installation.workers:
            runs = "run them from cron as well, or start `notifyctl worker`"
        text = overdue[0].problem if len(overdue) == 1 else f"{plural(len(overdue), 'job')} are overdue: {names}"
        remedy = f"{runs}; `notifyctl jobs list` says how each went"
        since = min(
            (status.record.done_at for status in overdue if status.record and status.record.done_at), default=None
        )
        yield Problem(Gravity.WARNING, text, Code.JOB_OVERDUE, remedy, since=since)
    for status in installation.jobs:
        if status.state is JobState.OVERDUE or (status.state is JobState.LOST and not installation.is_run):
            continue
        code = Code.JOB_FAILED if status.state is JobState.FAILED else Code.JOB_STUCK
        since = status.record.last.started_at if status.record else None
        yield Problem(Gravity.WARNING, status.problem, code, status.remedy, since=since)


def _suppressions_lost(installation: Installation) -> Iterator[Problem]:
    if found := installation.lost_suppressions:
        yield Problem(
            Gravity.CRITICAL, f"{LACKS_KEY} {not_found(found)}", Code.SUPPRESSIONS_LOST, f"{PUT_IT_BACK}, or {REKEY}"
        )


def not_found(suppressions: Mapping[str, int]) -> str:
    return f"{counted(suppressions, 'suppression')}: these people would be written to again"


def counted(by_key: Mapping[str, int], what: str) -> str:
    return f"{plural(sum(by_key.values()), what)} (key {', '.join(sorted(by_key))})"


def suppressed(installation: Installation) -> Iterator[Problem]:
    """One for each address, since each has its own command."""
    for row in installation.suppressed:
        names, are = " and ".join(row.settings), "are" if len(row.settings) > 1 else "is"
        since = moment(row.since, beside=installation.now)
        text = f"{names} {are} suppressed since {since} ({row.reason}, by {row.source}): alerts to it reach nobody"
        remedy = f"lift it with `notifyctl suppressions remove {row.channel} {row.address}`"
        yield Problem(Gravity.CRITICAL, text, Code.ALERT_ADDRESS_SUPPRESSED, remedy, row.channel, row.since)


def _lost_alert(installation: Installation) -> Iterator[Problem]:
    """Unless an address is suppressed, which is then the cause."""
    lost = installation.lost_alert
    if lost is None or installation.suppressed:
        return
    why = " ".join(filter(None, (lost.status, lost.reason)))
    text = f"the last alert, {lost.template_key} at {moment(lost.at, beside=installation.now)}, reached nobody ({why})"
    remedy = f"see `notifyctl messages explain {lost.message_id}`"
    yield Problem(Gravity.WARNING, text, Code.ALERT_NOT_DELIVERED, remedy, lost.channel, lost.at)


def _cleaning(installation: Installation) -> Iterator[Problem]:
    """A note: looks at the queues go round what is left, and a backup may take its time."""
    held = installation.long_transaction
    if held is None:
        return
    who = f"database process {held.process_id} ({held.name})"
    remedy = f"let it finish, or end it with `SELECT pg_terminate_backend({held.process_id})`"
    if held.process_id is None:
        who = f"the prepared transaction {held.name}"
        remedy = f"COMMIT PREPARED '{held.name}' or ROLLBACK PREPARED '{held.name}'"
    text = f"{who} has held a transaction open for {age(held.since, installation.now)}: nothing is cleaned meanwhile"
    yield Problem(Gravity.NOTE, text, Code.CLEANING_HELD_BACK, remedy, since=held.since)


def stripe(installation: Installation) -> Iterator[Problem]:
    troubles = installation.stripe
    if troubles.failed:
        which = f"the newest is {troubles.newest_failed.id}" if troubles.newest_failed else ""
        text = f"{plural(troubles.failed, 'Stripe event')} could not be processed ({which})"
        event = troubles.newest_failed.id if troubles.newest_failed else "last"
        remedy = f"see `notifyctl stripe show {event}`, mend it, then run `notifyctl stripe replay --status FAILED`"
        yield Problem(Gravity.WARNING, text, Code.STRIPE_FAILED, remedy, since=troubles.failed_since)
    if troubles.unmatched and troubles.newest_unmatched:
        newest = troubles.newest_unmatched
        name = f" (of customer {newest.customer_id})" if newest.customer_id else ""
        events = plural(troubles.unmatched, "Stripe event is", "Stripe events are")
        text = f"{events} about nobody we know; the newest is {newest.id}{name}"
        commands = how_to_match(newest.customer_id, newest.named_client, newest.id)
        remedy = f"run `{commands.replace(', then ', '`, then `')}`"
        yield Problem(Gravity.WARNING, text, Code.STRIPE_UNMATCHED, remedy, since=troubles.unmatched_since)
    if troubles.waiting:
        text = f"{plural(troubles.waiting, 'Stripe event waits', 'Stripe events wait')} to be processed"
        remedy = "run `notifyctl jobs run stripe_event_retry`"
        yield Problem(Gravity.WARNING, text, Code.STRIPE_WAITING, remedy, since=troubles.waiting_since)
