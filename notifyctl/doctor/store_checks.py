"""What `notifyctl doctor` looks at in the database: one function a check, named as its row."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from notifyctl.clock import system_clock
from notifyctl.doctor.doctor import Finding, Installation, Status
from notifyctl.orchestrator.audit_seal import count_unsealed, is_old, writer_in_words
from notifyctl.orchestrator.installation import jobs as standings_of
from notifyctl.orchestrator.plans import load_plans
from notifyctl.orchestrator.problem import Code
from notifyctl.orchestrator.sealing import KeyRing
from notifyctl.store import api_keys, append_only, breakers, clients, diagnosis, migrations, secret_keys, spikes
from notifyctl.store import audit_seals as seals

KEYS_END_WITHIN = timedelta(days=7)
OVERDUE = timedelta(seconds=300)
CLOCK_TOLERANCE = timedelta(seconds=2)
RECEIPTS_SINCE, RECEIPTS_UNTIL = timedelta(hours=24), timedelta(hours=1)


def database(installation: Installation) -> Finding:
    file = installation.database_file
    if file is not None and not file.exists():
        return Finding(Status.FAIL, f"there is no {file} yet", "run `notifyctl db upgrade`")
    migrations.schema_status(installation.database)
    return Finding()


def schema(installation: Installation) -> Finding:
    migrations.require_current_schema(installation.database)
    return Finding()


def clock(installation: Installation) -> Finding:
    difference = abs(installation.database.clock() - system_clock())
    if difference > CLOCK_TOLERANCE:
        return Finding(
            Status.WARN,
            f"the clocks of this host and the database differ by {difference.total_seconds():.1f} s",
            "let NTP set both",
        )
    return Finding()


def secret_keys_in_use(installation: Installation) -> Finding:
    known = KeyRing(installation.settings.notification_secret_key).ids
    with installation.database.read() as session:
        suppressions = _without(secret_keys.count_suppressions(session), known)
        sealed = _without(secret_keys.count_unfinished(session), known)
    problems = []
    if suppressions:
        problems.append(f"{_counted(suppressions, 'suppression')}: these people would be written to again")
    if sealed:
        problems.append(f"{_counted(sealed, 'waiting message')}: they cannot be opened and will fail")
    if not problems:
        return Finding()
    return Finding(
        Status.FAIL,
        f"NOTIFICATION_SECRET_KEY lacks the key of {'; and of '.join(problems)}",
        "put the old key back into NOTIFICATION_SECRET_KEY, behind the new one and separated by a comma",
    )


def templates(installation: Installation) -> Finding:
    from notifyctl.orchestrator import catalogue

    files = catalogue.load(catalogue.templates_dir())
    with installation.database.read() as session:
        changes = catalogue.diff(session, files, settings=installation.settings)
    if all(change.status is catalogue.SeedStatus.NEW for change in changes):
        return Finding(Status.WARN, "no template is seeded: nothing can be sent", "run `notifyctl templates seed`")
    drifted = [change.template_key for change in changes if change.status is not catalogue.SeedStatus.UNCHANGED]
    if drifted:
        return Finding(
            Status.WARN,
            f"{_few(drifted)} differ between the files and the store",
            "look at `notifyctl templates diff`, then run `notifyctl templates seed`",
        )
    return Finding()


def plans_of_clients(installation: Installation) -> Finding:
    plans = load_plans(installation.settings.notification_plan_registry).plans
    with installation.database.read() as session:
        counts = clients.count_by_plan(session)
    unknown = {plan: count for plan, count in counts.items() if plan not in plans}
    if unknown:
        found = ", ".join(f"{plan} ({count})" for plan, count in sorted(unknown.items()))
        return Finding(
            Status.WARN,
            f"clients have plans that the registry lacks: {found}; they get no feature of any plan",
            "add the plans to NOTIFICATION_PLAN_REGISTRY, or `notifyctl clients set ID --plan …`",
        )
    return Finding()


def leases(installation: Installation) -> Finding:
    with installation.database.read() as session:
        count = diagnosis.count_expired_leases(session, installation.database.clock())
    if count:
        return Finding(
            Status.WARN,
            f"{count} messages are held by a worker that has gone",
            "start `notifyctl worker`: it finds out whether they went out",
        )
    return Finding()


def due_messages(installation: Installation) -> Finding:
    since = installation.database.clock() - OVERDUE
    with installation.database.read() as session:
        moving = [channel for channel, sent in spikes.sent(session, since).items() if sent]
        down = breakers.not_closed(session)
        count = diagnosis.count_due_before(session, since, moving, down)
    if down and not count:
        said = "; ".join(f"{channel}: its provider is taken for down ({reason})" for channel, reason in down.items())
        return Finding(Status.WARN, said, "mostly wait; `notifyctl health` says whether anybody probes it")
    if count:
        return Finding(
            Status.FAIL,
            f"{count} messages have been due for over {OVERDUE.total_seconds():.0f} s",
            "start `notifyctl worker`, or look why it does not send: `notifyctl workers`",
        )
    return Finding()


def receipts(installation: Installation) -> Finding:
    now = installation.database.clock()
    with installation.database.read() as session:
        counts = diagnosis.receipts(session, now - RECEIPTS_SINCE, now - RECEIPTS_UNTIL)
    silent = [f"{row.sent} {row.channel}" for row in counts if not row.confirmed]
    if silent:
        return Finding(
            Status.WARN,
            f"no receipt has come for any of {' and '.join(silent)} sent 1 to 24 h ago",
            "check the webhook addresses at the provider, and that `notifyctl serve` can be reached",
        )
    return Finding()


def workers(installation: Installation) -> Finding:
    return _said(installation, Code.NO_WORKER)


def alert_recipients(installation: Installation) -> Finding:
    """Whether those who are alerted can be written to."""
    return _said(installation, Code.ALERT_ADDRESS_SUPPRESSED, Code.ALERT_NOT_DELIVERED)


def stripe_events(installation: Installation) -> Finding:
    return _said(installation, Code.STRIPE_FAILED, Code.STRIPE_UNMATCHED, Code.STRIPE_WAITING)


def sandbox(installation: Installation) -> Finding:
    return _said(installation, Code.SANDBOX)


def _said(installation: Installation, *codes: Code) -> Finding:
    return Finding.of([problem for problem in installation.beside_the_traffic if problem.code in codes])


def jobs(installation: Installation) -> Finding:
    with installation.database.read() as session:
        found = standings_of(session, installation.database.clock())
    troubled = [one for one in found if one.problem]
    if troubled:
        remedies = dict.fromkeys(one.remedy for one in troubled)
        return Finding(Status.WARN, "; ".join(one.problem for one in troubled), "; ".join(remedies))
    return Finding()


def keys_about_to_end(installation: Installation) -> Finding:
    now = installation.database.clock()
    with installation.database.read() as session:
        ending = api_keys.ending(session, now, now + KEYS_END_WITHIN)
    if ending:
        names = _few([key.name for key in ending])
        return Finding(
            Status.WARN,
            f"API keys end within {KEYS_END_WITHIN.days} days: {names}",
            "make new ones with `notifyctl keys create` before callers are refused",
        )
    return Finding()


def audit_triggers(installation: Installation) -> Finding:
    with installation.database.read() as session:
        gaps = append_only.gaps(session.connection())
    if not gaps:
        return Finding()
    return Finding(
        Status.FAIL,
        f"the audit log can be changed: {', '.join(gaps)} missing, switched off or not as made",
        "make the triggers again with `notifyctl doctor --fix`, as the database role that owns the tables;"
        " `notifyctl audit verify` says what was changed meanwhile",
        lambda session: append_only.protect(session.connection()),
    )


def audit_seals(installation: Installation) -> Finding:
    from notifyctl.orchestrator.words import age

    now = installation.database.clock()
    with installation.database.read() as session:
        unsealed = count_unsealed(session)
        writing = [writer for writer in seals.writers(session).values() if writer.since and is_old(writer.since, now)]
    if unsealed.oldest_at is None or not is_old(unsealed.oldest_at, now):
        return Finding()
    rows = f"{unsealed.rows} audit rows are not sealed, the oldest for {age(unsealed.oldest_at, now)}"
    problem = f"{rows}: who changes them now cannot be found out"
    if writing:
        return Finding(
            Status.WARN, f"{problem}; {writer_in_words(writing[0])}", "end that transaction: it holds up all sealing"
        )
    return Finding(Status.WARN, problem, "start `notifyctl worker`, or look what `notifyctl jobs run audit_seal` says")


def _without(counts: Mapping[str, int], known: Sequence[str]) -> dict[str, int]:
    return {key: count for key, count in counts.items() if key not in known}


def _counted(counts: Mapping[str, int], what: str) -> str:
    total = sum(counts.values())
    return f"{total} {what}{'s' if total != 1 else ''} (key {', '.join(sorted(counts))})"


def _few(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
