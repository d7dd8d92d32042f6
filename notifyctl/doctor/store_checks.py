"""Checks of the database: one function a check, named as its row."""

from collections.abc import Sequence
from datetime import timedelta

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.audit import append_only, seal_store
from notifyctl.audit.seal import count_unsealed, is_old, writer_in_words
from notifyctl.clients import store as client_store
from notifyctl.clients.plans import load_plans
from notifyctl.clock import system_clock
from notifyctl.db import failures, migrations
from notifyctl.db.wakeup import require_listening
from notifyctl.doctor.check import CheckContext, CheckResult, CheckStatus
from notifyctl.health import store as health_store
from notifyctl.health import upkeep
from notifyctl.health.installation import lost_suppressions, read_job_statuses
from notifyctl.http import api_key_store
from notifyctl.keyring import KeyRing
from notifyctl.operations import breakers, store_state
from notifyctl.operations.problem import Code
from notifyctl.otp import store as otp_store
from notifyctl.otp.codes import PepperRing
from notifyctl.providers.registry import PROVIDERS
from notifyctl.templates import catalogue
from notifyctl.templates.lint import Severity, unlike_shipped
from notifyctl.text.durations import age, plural

KEYS_END_WITHIN = timedelta(days=7)
OVERDUE = timedelta(seconds=300)
CLOCK_TOLERANCE = timedelta(seconds=2)
DAY, TIME_TO_TYPE = timedelta(hours=24), timedelta(minutes=10)
ENOUGH_CODES, LEAST_USED = 50, 0.2
RECEIPTS_SINCE, RECEIPTS_UNTIL = timedelta(hours=24), timedelta(hours=1)


def database(context: CheckContext) -> CheckResult:
    file = context.database_file
    if file is not None and not file.exists():
        return CheckResult(CheckStatus.FAIL, f"there is no {file} yet", "run `notifyctl db upgrade`")
    migrations.schema_status(context.database)
    with context.database.read() as session:
        found = failures.obstacle(session)
    if found:
        why, remedy = found
        return CheckResult(CheckStatus.FAIL, f"it cannot be written: {why}", remedy)
    return CheckResult()


def schema(context: CheckContext) -> CheckResult:
    migrations.require_fitting_schema(context.database)
    status = migrations.schema_status(context.database)
    if not status.is_current:
        return CheckResult(CheckStatus.WARN, f"it fits, but {status.difference}", "upgrade this program as well")
    return CheckResult()


def recovery(context: CheckContext) -> CheckResult:
    with context.database.read() as session:
        found = store_state.forgotten(session)
    if found is None:
        return CheckResult()
    return CheckResult(
        CheckStatus.FAIL,
        f"the database may have forgotten what was done since {found.since:%Y-%m-%d %H:%M} UTC: {found.cause}",
        "run `notifyctl db recover`, or start `notifyctl worker`: nothing is sent before",
    )


def clock(context: CheckContext) -> CheckResult:
    difference = abs(context.database.clock() - system_clock())
    if difference > CLOCK_TOLERANCE:
        return CheckResult(
            CheckStatus.WARN,
            f"the clocks of this host and the database differ by {difference.total_seconds():.1f} s",
            "let NTP set both",
        )
    return CheckResult()


def listen_url(context: CheckContext) -> CheckResult:
    require_listening(context.database)
    return CheckResult()


def durability(context: CheckContext) -> CheckResult:
    with context.database.read() as session:
        unsafe = health_store.unsafe_settings(session)
    if not unsafe:
        return CheckResult()
    where = "for its role" if unsafe == ["synchronous_commit"] else "in postgresql.conf"
    return CheckResult(
        CheckStatus.WARN,
        f"{' and '.join(unsafe)} off: a crash of the server loses messages that were accepted",
        f"set {' and '.join(f'{name} = on' for name in unsafe)} {where}",
    )


def secret_keys_in_use(context: CheckContext) -> CheckResult:
    key_ids = KeyRing(context.settings.notification_secret_key).ids
    with context.database.read() as session:
        suppressions = lost_suppressions(session, context.settings)
        unfinished = health_store.count_unfinished(session)
    sealed = {key: count for key, count in unfinished.items() if key not in key_ids}
    problems = []
    if suppressions:
        problems.append(upkeep.not_found(suppressions))
    if sealed:
        problems.append(f"{upkeep.counted(sealed, 'waiting message')}: they cannot be opened and will fail")
    if not problems:
        return CheckResult()
    return CheckResult(
        CheckStatus.FAIL,
        f"{upkeep.LACKS_KEY} {'; and of '.join(problems)}",
        f"{upkeep.PUT_IT_BACK}, or {upkeep.REKEY}" if suppressions else upkeep.PUT_IT_BACK,
    )


def templates(context: CheckContext) -> CheckResult:
    files = catalogue.files_of(context.settings)
    with context.database.read() as session:
        changes = catalogue.diff(session, files, settings=context.settings)
    if all(change.status is catalogue.SeedStatus.NEW for change in changes):
        return CheckResult(
            CheckStatus.WARN, "no template is seeded: nothing can be sent", "run `notifyctl templates seed`"
        )
    unlike = [
        file.template_key for file in files if any(severity is Severity.ERROR for severity, *_ in unlike_shipped(file))
    ]
    if unlike:
        return CheckResult(
            CheckStatus.FAIL,
            f"your files of {_few(unlike)} do not take what notifyctl brings: where seeded, messages are refused",
            "`notifyctl templates lint` says what to put back; then run `notifyctl templates seed`",
        )
    kept = [change for change in changes if change.status is catalogue.SeedStatus.KEPT]
    drifted = [
        change.template_key
        for change in changes
        if change.status not in (catalogue.SeedStatus.UNCHANGED, catalogue.SeedStatus.KEPT)
    ]
    if kept and not drifted:
        keys, folders = _few([change.template_key for change in kept]), sorted({change.folder for change in kept})
        return CheckResult(
            CheckStatus.WARN,
            f"{keys} came from {', '.join(folders)}, and this host does not find them there",
            "set NOTIFICATION_TEMPLATES to that folder, and put back what it lacks; seeding keeps them meanwhile",
        )
    if drifted:
        return CheckResult(
            CheckStatus.WARN,
            f"{_few(drifted)} differ between the files and the store",
            "look at `notifyctl templates diff`, then run `notifyctl templates seed`",
        )
    return CheckResult()


def plans_of_clients(context: CheckContext) -> CheckResult:
    plans = load_plans(context.settings.notification_plan_registry).plans
    with context.database.read() as session:
        counts = client_store.count_by_plan(session)
    unknown = {plan: count for plan, count in counts.items() if plan not in plans}
    if unknown:
        plans_and_counts = ", ".join(f"{plan} ({count})" for plan, count in sorted(unknown.items()))
        return CheckResult(
            CheckStatus.WARN,
            f"clients have plans that the registry lacks: {plans_and_counts}; they get no feature of any plan",
            "add the plans to NOTIFICATION_PLAN_REGISTRY, or `notifyctl clients set ID --plan …`",
        )
    return CheckResult()


def leases(context: CheckContext) -> CheckResult:
    with context.database.read() as session:
        count = health_store.count_expired_leases(session, context.database.clock())
    if count:
        return CheckResult(
            CheckStatus.WARN,
            f"{plural(count, 'message is', 'messages are')} held by a worker that has gone",
            "start `notifyctl worker`: it finds out whether they went out",
        )
    return CheckResult()


def due_messages(context: CheckContext) -> CheckResult:
    since = context.database.clock() - OVERDUE
    with context.database.read() as session:
        moving = [channel for channel, sent in spike_store.sent(session, since).items() if sent]
        down = breakers.not_closed(session)
        count = health_store.count_due_before(session, since, moving, down)
    if down and not count:
        outages = "; ".join(f"{channel}: its provider is taken for down ({why})" for channel, why in down.items())
        pages = " and ".join(PROVIDERS[channel].status_page for channel in down)
        remedy = f"look at {pages}; all goes on when a probe gets through, and `notifyctl health` says who probes"
        return CheckResult(CheckStatus.WARN, outages, remedy)
    if count:
        return CheckResult(
            CheckStatus.FAIL,
            f"{plural(count, 'message has', 'messages have')} been due for over {OVERDUE.total_seconds():.0f} s",
            "start `notifyctl worker`, or look why it does not send: `notifyctl workers`",
        )
    return CheckResult()


def receipts(context: CheckContext) -> CheckResult:
    now = context.database.clock()
    with context.database.read() as session:
        counts = health_store.receipts(session, now - RECEIPTS_SINCE, now - RECEIPTS_UNTIL)
    silent = [f"{row.sent} {row.channel}" for row in counts if not row.confirmed]
    if silent:
        return CheckResult(
            CheckStatus.WARN,
            f"no receipt has come for any of {' and '.join(silent)} sent 1 to 24 h ago",
            "check the webhook addresses at the provider, and that `notifyctl serve` can be reached",
        )
    return CheckResult()


def workers(context: CheckContext) -> CheckResult:
    return _problems(context, Code.NO_WORKER)


def alert_recipients(context: CheckContext) -> CheckResult:
    """Whether those who are alerted can be written to."""
    return _problems(context, Code.ALERT_ADDRESS_SUPPRESSED, Code.ALERT_NOT_DELIVERED)


def stripe_events(context: CheckContext) -> CheckResult:
    return _problems(context, Code.STRIPE_FAILED, Code.STRIPE_UNMATCHED, Code.STRIPE_WAITING)


def cleaning(context: CheckContext) -> CheckResult:
    """Whether somebody's transaction keeps the database from it."""
    return _problems(context, Code.CLEANING_HELD_BACK)


def sandbox(context: CheckContext) -> CheckResult:
    return _problems(context, Code.SANDBOX)


def _problems(context: CheckContext, *codes: Code) -> CheckResult:
    return CheckResult.of([problem for problem in context.beside_the_traffic if problem.code in codes])


def jobs(context: CheckContext) -> CheckResult:
    with context.database.read() as session:
        troubled = [job for job in read_job_statuses(session, context.database.clock()) if job.problem]
    if troubled:
        remedies = dict.fromkeys(job.remedy for job in troubled)
        return CheckResult(CheckStatus.WARN, "; ".join(job.problem for job in troubled), "; ".join(remedies))
    return CheckResult()


def keys_about_to_end(context: CheckContext) -> CheckResult:
    now = context.database.clock()
    with context.database.read() as session:
        ending = api_key_store.expiring(session, now, now + KEYS_END_WITHIN)
    if ending:
        names = _few([key.name for key in ending])
        return CheckResult(
            CheckStatus.WARN,
            f"API keys end within {KEYS_END_WITHIN.days} days: {names}",
            "make new ones with `notifyctl keys create` before callers are refused",
        )
    return CheckResult()


def audit_triggers(context: CheckContext) -> CheckResult:
    with context.database.read() as session:
        gaps = append_only.gaps(session.connection())
    if not gaps:
        return CheckResult()
    return CheckResult(
        CheckStatus.FAIL,
        f"the audit log can be changed: {', '.join(gaps)} missing, switched off or not as made",
        "make the triggers again with `notifyctl doctor --fix`, as the database role that owns the tables;"
        " `notifyctl audit verify` says what was changed meanwhile",
        lambda session: append_only.protect(session.connection()),
    )


def audit_seals(context: CheckContext) -> CheckResult:
    now = context.database.clock()
    with context.database.read() as session:
        unsealed = count_unsealed(session)
        writing = [
            writer for writer in seal_store.writers(session).values() if writer.since and is_old(writer.since, now)
        ]
    if unsealed.oldest_at is None or not is_old(unsealed.oldest_at, now):
        return CheckResult()
    rows = plural(unsealed.rows, "audit row is", "audit rows are")
    oldest = age(unsealed.oldest_at, now)
    problem = f"{rows} not sealed, the oldest for {oldest}: who changes them now cannot be found out"
    if writing:
        return CheckResult(
            CheckStatus.WARN,
            f"{problem}; {writer_in_words(writing[0])}",
            "end that transaction: it holds up all sealing",
        )
    return CheckResult(
        CheckStatus.WARN, problem, "start `notifyctl worker`, or look what `notifyctl jobs run audit_seal` says"
    )


def otp_peppers(context: CheckContext) -> CheckResult:
    pepper_ids = PepperRing(context.settings.otp_pepper).ids
    with context.database.read() as session:
        in_use = otp_store.keys_in_use(session, context.database.clock())
    forgotten = {key: count for key, count in in_use.items() if key not in pepper_ids}
    if not forgotten:
        return CheckResult()
    return CheckResult(
        CheckStatus.WARN,
        f"OTP_PEPPER lacks the pepper of {plural(sum(forgotten.values()), 'phone')} with wrong codes or a lock"
        f" (key {', '.join(sorted(forgotten))}): all that is forgotten",
        "put the old pepper back into OTP_PEPPER, behind the new one and separated by a comma, for a day",
    )


def otp_conversion(context: CheckContext) -> CheckResult:
    """Codes that nobody types in are what SMS pumping looks like."""
    until = context.database.clock() - TIME_TO_TYPE
    with context.database.read() as session:
        sent, used = otp_store.conversion(session, until - DAY, until)
    if sent < ENOUGH_CODES or used >= LEAST_USED * sent:
        return CheckResult()
    return CheckResult(
        CheckStatus.WARN,
        f"of {plural(sent, 'code')} of the last 24 h only {used} were used",
        "if these are no people, set OTP_ALLOWED_COUNTRIES, OTP_PREFIX_HOURLY_LIMIT and OTP_GLOBAL_HOURLY_LIMIT",
    )


SCHEMA = (database, schema)
STORED = (
    recovery,
    clock,
    listen_url,
    durability,
    secret_keys_in_use,
    otp_peppers,
    otp_conversion,
    templates,
    sandbox,
    workers,
    plans_of_clients,
    leases,
    due_messages,
    receipts,
    jobs,
    alert_recipients,
    stripe_events,
    cleaning,
    audit_triggers,
    audit_seals,
    keys_about_to_end,
)


def _few(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
