"""What `notifyctl doctor` looks at: one function a check, named as its row."""

import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path

from notifyctl.cli.doctor import Finding, Installation, Status
from notifyctl.cli.otp_checks import otp_conversion, otp_countries, otp_peppers
from notifyctl.clock import system_clock
from notifyctl.errors import InvalidInput
from notifyctl.orchestrator.addresses import normal_email, normal_phone
from notifyctl.orchestrator.audit_seal import count_unsealed, is_late
from notifyctl.orchestrator.plans import load_plans
from notifyctl.orchestrator.sealing import KeyRing
from notifyctl.store import api_keys, clients, diagnosis, job_runs, migrations, secret_keys
from notifyctl.worker.job_standing import standings

KEYS_END_WITHIN = timedelta(days=7)
OVERDUE = timedelta(seconds=300)
CLOCK_TOLERANCE = timedelta(seconds=2)
RECEIPTS_SINCE, RECEIPTS_UNTIL = timedelta(hours=24), timedelta(hours=1)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def secrets(installation: Installation) -> Finding:
    settings = installation.settings
    keys = {secret.get_secret_value() for secret in settings.notification_secret_key}
    if keys.intersection(secret.get_secret_value() for secret in settings.otp_pepper):
        return Finding(
            Status.WARN,
            "NOTIFICATION_SECRET_KEY and OTP_PEPPER share a secret",
            "put a fresh OTP_PEPPER before the present one, separated by a comma",
        )
    return Finding()


def env_file_mode(installation: Installation) -> Finding:
    return _private([installation.env_file])


def database_file_mode(installation: Installation) -> Finding:
    file = installation.database_file
    return _private([Path(f"{file}{suffix}") for suffix in ("", "-wal", "-shm")]) if file else Finding()


def email(installation: Installation) -> Finding:
    settings = installation.settings
    missing = _missing(POSTMARK_SERVER_TOKEN=settings.postmark_server_token, EMAIL_SENDER=settings.email_sender)
    if missing:
        return Finding(Status.FAIL, f"no email can be sent: {missing} not set", f"set {missing}")
    for name, value in (("EMAIL_SENDER", settings.email_sender), ("EMAIL_REPLY_TO", settings.email_reply_to)):
        if value:
            _check_email(name, parseaddr(value)[1] or value)
    return Finding()


def sms(installation: Installation) -> Finding:
    settings = installation.settings
    if not settings.sms_enabled:
        return Finding(problem="SMS_ENABLED is false")
    sender = settings.twilio_messaging_service_sid or settings.twilio_from_number
    missing = _missing(
        TWILIO_ACCOUNT_SID=settings.twilio_account_sid,
        TWILIO_AUTH_TOKEN=settings.twilio_auth_token,
        **{"TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM_NUMBER": sender},
    )
    if missing:
        return Finding(Status.FAIL, f"no SMS can be sent: {missing} not set", f"set {missing}, or SMS_ENABLED=false")
    return Finding()


def webhooks(installation: Installation) -> Finding:
    settings = installation.settings
    missing = _missing(
        PUBLIC_BASE_URL=settings.public_base_url,
        POSTMARK_WEBHOOK_TOKEN=settings.postmark_webhook_token,
        STRIPE_WEBHOOK_SECRET=settings.stripe_webhook_secret,
    )
    if missing:
        return Finding(
            Status.WARN, f"{missing} not set: some receipts or Stripe events cannot come in", f"set {missing}"
        )
    return Finding()


def alert_addresses(installation: Installation) -> Finding:
    settings = installation.settings
    missing = _missing(OPS_ALERT_EMAIL=settings.ops_alert_email, ADMIN_ALERT_EMAILS=settings.admin_recipients)
    if missing:
        return Finding(Status.WARN, f"{missing} not set: nobody hears of trouble", f"set {missing}")
    _check_email("OPS_ALERT_EMAIL", settings.ops_alert_email or "")
    for address in settings.admin_recipients:
        _check_email("ADMIN_ALERT_EMAILS", address)
    if settings.ops_alert_sms_number:
        try:
            normal_phone(settings.ops_alert_sms_number, settings.otp_default_region)
        except InvalidInput as error:
            raise InvalidInput(f"OPS_ALERT_SMS_NUMBER: {error}") from error
    return Finding()


def welcome_mail(installation: Installation) -> Finding:
    if installation.settings.login_url is None:
        return Finding(problem="LOGIN_URL is not set: no WELCOME_EMAIL is sent by itself")
    return Finding()


def plan_registry(installation: Installation) -> Finding:
    load_plans(installation.settings.notification_plan_registry)
    return Finding()


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
    with installation.database.read() as session:
        count = diagnosis.count_due_before(session, installation.database.clock() - OVERDUE)
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


def jobs(installation: Installation) -> Finding:
    with installation.database.read() as session:
        found = standings(job_runs.records(session), job_runs.first_start(session), installation.database.clock())
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


def audit_seals(installation: Installation) -> Finding:
    from notifyctl.orchestrator.words import age

    now = installation.database.clock()
    with installation.database.read() as session:
        unsealed = count_unsealed(session)
    if unsealed.oldest_at is None or not is_late(unsealed, now):
        return Finding()
    return Finding(
        Status.WARN,
        f"{unsealed.rows} audit rows are not sealed, the oldest for {age(unsealed.oldest_at, now)}:"
        " who changes them now cannot be found out",
        "start `notifyctl worker`, or look what `notifyctl jobs run audit_seal` waits for",
    )


OFFLINE = (
    secrets,
    env_file_mode,
    database_file_mode,
    plan_registry,
    email,
    sms,
    webhooks,
    alert_addresses,
    welcome_mail,
    otp_countries,
)
SCHEMA = (database, schema)
STORED = (
    clock,
    secret_keys_in_use,
    otp_peppers,
    otp_conversion,
    templates,
    plans_of_clients,
    leases,
    due_messages,
    receipts,
    jobs,
    audit_seals,
    keys_about_to_end,
)


def _private(files: Iterable[Path]) -> Finding:
    open_ones = [file for file in files if file.exists() and file.stat().st_mode & _OTHERS]
    if not open_ones:
        return Finding()

    def close() -> None:
        for file in open_ones:
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)

    names = " ".join(str(file) for file in open_ones)
    return Finding(Status.WARN, f"others can read {names}", f"chmod 600 {names}", close)


def _without(counts: Mapping[str, int], known: Sequence[str]) -> dict[str, int]:
    return {key: count for key, count in counts.items() if key not in known}


def _counted(counts: Mapping[str, int], what: str) -> str:
    total = sum(counts.values())
    return f"{total} {what}{'s' if total != 1 else ''} (key {', '.join(sorted(counts))})"


def _few(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _missing(**values: object) -> str:
    return ", ".join(name for name, value in values.items() if not value)


def _check_email(name: str, value: str) -> None:
    try:
        normal_email(value)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error
