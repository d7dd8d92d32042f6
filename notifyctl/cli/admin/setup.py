"""`notifyctl init`, `config`, `db` and `doctor`: setting up an installation and looking after it."""

import os
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import sleep
from typing import Annotated

import typer
from pydantic.fields import FieldInfo

from notifyctl.audit.chain import SealKeys
from notifyctl.cli import options, output
from notifyctl.cli.invocation import invocation
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.db import migrations
from notifyctl.db.database import open_database
from notifyctl.db.migrations import require_fitting_schema, schema_status
from notifyctl.doctor.check import CheckResult, CheckStatus
from notifyctl.doctor.doctor import NamedResult, can_mend, examine_installation
from notifyctl.env_file import env_file_path, find_env_file
from notifyctl.errors import ConfigurationError, InvalidInput, NotifyctlError, ProviderError
from notifyctl.operations.heartbeats import new_name
from notifyctl.operations.witness import Witness
from notifyctl.providers.contract import SentRecord
from notifyctl.recovery import store as recovery_store
from notifyctl.recovery.records import RecoverySummary
from notifyctl.recovery.recover import BY_HAND, NOT_RECOVERED, NotYet, Recovery
from notifyctl.setting_rules import database_url
from notifyctl.settings import Settings, checked, is_secret, raw_settings
from notifyctl.stopping import interrupt_on_signal
from notifyctl.text.durations import moment, plural
from notifyctl.transfer import backup_store, copy_store

GROUPS = (
    ("Secrets", ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER")),
    ("Database", ("DATABASE_",)),
    ("Your company, as its mails show it", ("BRAND_", "SUPPORT_", "NOTIFICATION_TEMPLATES")),
    ("Email, by Postmark", ("POSTMARK_", "EMAIL_", "NOTIFICATION_EMAIL_")),
    ("SMS, by Twilio", ("TWILIO_", "SMS_", "NOTIFICATION_SMS_")),
    ("Billing, from Stripe", ("STRIPE_",)),
    ("Alerts", ("OPS_", "ADMIN_", "NOTIFICATION_SPIKE_")),
    ("One-time codes", ("OTP_",)),
    ("Compliance reminders", ("COMPLIANCE_", "QUIET_")),
    ("HTTP", ("PUBLIC_", "HTTP_")),
    ("Other", ("",)),
)
"""Title, and how the names of its settings begin. The first that fits takes a setting."""

FRESH = ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER")
SECRET_BYTES = 32
_PASSWORD = re.compile(r"(://[^:/@]*:).*(?=@)|([?&]\w*password=)[^&]+|(\bpassword\s*=\s*)(?:'[^']*'|\S+)")
"""In a URL, in its options, and in what libpq takes instead of a URL."""
app = typer.Typer()
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
WIDE = 120
SETTINGS_SHOWN = (
    named("name", whole=True),
    named("value"),
    named("source"),
    named("meaning", from_width=WIDE),
)
"""A narrow terminal leaves the meaning to docs and .env, which explain each."""
CHECKS_SHOWN = (
    named("status", whole=True),
    named("check", whole=True),
    named("problem", from_width=WIDE),
    named("remedy", from_width=WIDE),
    Shown("problem and remedy", lambda row: "\n".join(filter(None, (row["problem"], row["remedy"]))), below_width=WIDE),
)
schema = typer.Typer(name="db", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    name: str
    value: str
    source: str
    """environment, default, or the path of the file."""
    meaning: str


def write_env_file(path: Path) -> None:
    """With fresh secrets, mode 0600. Raises NotifyctlError if the file exists: it is never overwritten."""
    text = _env_text()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise NotifyctlError(
            f"{path} exists already and is left as it is; give another name with --env-file"
        ) from error
    except OSError as error:
        raise NotifyctlError(f"{path} cannot be written: {error.strerror}; give another --env-file") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def effective(env_file: Path) -> list[EffectiveSetting]:
    """Every setting as it is in force; as it is written where one is at fault. Secrets and passwords are masked."""
    raw = raw_settings(env_file if env_file.is_file() else None)
    try:
        settings = checked(raw)
    except ConfigurationError:
        settings = None
    settings_in_force = []
    for name, field in _settings():
        text, source = default_text(field), "default"
        if name in raw.known:
            text = _text(getattr(settings, name.lower())) if settings and not is_secret(field) else raw.known[name]
            source = "environment" if name in raw.environment else str(env_file)
        settings_in_force.append(EffectiveSetting(name, _masked(text, field), source, field.description or ""))
    return settings_in_force


def default_text(field: FieldInfo) -> str:
    """As it would stand in a .env file; empty when there is none."""
    try:
        default = None if field.is_required() else field.get_default(call_default_factory=True)
    except ConfigurationError:
        return ""  # a database needs a home directory, or a setting
    return _text(default)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(str(part) for part in value)
    return str(value)


def _settings() -> list[tuple[str, FieldInfo]]:
    return [(name.upper(), field) for name, field in Settings.model_fields.items()]


def _env_text() -> str:
    lines = [
        "# Settings of notifyctl. A variable in the environment wins over its line here.",
        "# Lines with a # show the default. Keep this file to yourself: it holds secrets.",
        "# Write values without quotes, and comments on lines of their own: so systemd and Docker read the same.",
    ]
    left = _settings()
    for title, beginnings in GROUPS:
        chosen = [(name, field) for name, field in left if name.startswith(beginnings)]
        left = [item for item in left if item not in chosen]
        if chosen:
            lines += ["", f"## {title}"]
        for name, field in chosen:
            value = f"{name}={secrets.token_hex(SECRET_BYTES)}" if name in FRESH else f"#{name}={default_text(field)}"
            lines += ["", f"# {field.description}", value]
    return "\n".join(lines) + "\n"


def _masked(text: str, field: FieldInfo) -> str:
    if not is_secret(field):
        return _PASSWORD.sub(lambda match: f"{match[1] or match[2] or match[3]}***", text)
    count = sum(bool(part.strip()) for part in text.split(","))
    return "not set" if count == 0 else "set" if count == 1 else f"set ({count} keys)"


@app.command()
def init(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Where to write it; without it .env, or the global --env-file."),
    ] = None,
) -> None:
    """Write a .env file with fresh secrets and every setting explained. Never overwrites one."""
    path = env_file_path(env_file or invocation.get().env_file)
    write_env_file(path)
    command = "notifyctl" if path == Path(".env") else f"notifyctl --env-file {path}"
    output.say(f"Wrote {path} with fresh secrets; only you can read it.")
    output.say("Next, set EMAIL_SENDER, POSTMARK_SERVER_TOKEN and TWILIO_* in it. To try it without keys,")
    output.say(f"`{command} sandbox` stands in for Postmark and Twilio and prints what to set. Then run:")
    for step in ("db upgrade", "templates seed", "doctor"):
        output.say(f"  {command} {step}")


@app.command()
def config(form: options.Format = OutputFormat.TABLE) -> None:
    """Show the settings in force and where each comes from; secrets are masked. Exit 2 if any is at fault."""
    file = find_env_file(invocation.get().env_file)
    settings = [asdict(setting) for setting in effective(options.env_file())]
    output.rows(settings, form, columns=("name", "value", "source", "meaning"), shown=SETTINGS_SHOWN)
    for remark in raw_settings(file).remarks():
        output.say(f"Note: {remark}")
    options.settings()


@app.command()
def doctor(
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend what is safe to mend: modes of files, triggers of the audit log. Audited."),
    ] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Check this installation: what is wrong, and how to mend it. Exit 1 if anything fails."""
    results = _examine(fix=fix)
    rows = [{"check": item.check, **asdict(item.result)} for item in results]
    output.rows(rows, form, columns=("check", "status", "problem", "remedy"), shown=CHECKS_SHOWN, styles=STYLES)
    failed = [item.check for item in results if item.result.status is CheckStatus.FAIL]
    if failed:
        names = ", ".join(dict.fromkeys(failed))
        raise NotifyctlError(f"{len(failed)} of {len(results)} checks failed: {names}")


def _examine(*, fix: bool) -> list[NamedResult]:
    try:
        settings = options.settings()
    except ConfigurationError as error:
        remedy = "correct it; `notifyctl config` shows where it comes from"
        return [NamedResult("settings", CheckResult(CheckStatus.FAIL, fault, remedy)) for fault in error.faults]
    results = examine_installation(settings, options.env_file(), mend_as=options.actor() if fix else None)
    if fix and not can_mend(results):
        output.say("Nothing was mended: what is done is audited, and the database cannot be used.")
    return [NamedResult("settings", CheckResult()), *results]


@schema.command()
def upgrade() -> None:
    """Bring the database to the schema of this version, beside running workers. Safe to run again.

    One that was interrupted is finished by the next; two hosts at once take turns. It is the only command that makes a
    database file which is not there, and then says so.
    """
    with opened_runtime(migrated=False, create=True) as runtime:
        if runtime.database.is_new:
            output.say(f"There was no database file {runtime.database.url.database}: it is a new one.")
        before = schema_status(runtime.database)
        after = migrations.upgrade(runtime.database, tell=output.say)
    if after.is_newer_than_code:
        output.say(f"{runtime.database} is left as it is: {after.difference}, which may work on it.")
    elif before.revision == after.revision:
        output.say(f"{runtime.database} is up to date at revision {after.revision}.")
    else:
        output.say(f"{runtime.database} upgraded from {before.revision or 'empty'} to revision {after.revision}.")


@schema.command()
def status(form: options.Format = OutputFormat.TABLE) -> None:
    """Show the database's revision and this version's own, and whether they fit. Exit 5 unless they do."""
    with opened_runtime(migrated=False) as runtime:
        schema_now = schema_status(runtime.database)
        output.document(
            {
                "database": str(runtime.database),
                "revision": schema_now.revision,
                "head": schema_now.head,
                "oldest_code": schema_now.oldest_code,
                "current": schema_now.is_current,
                "fits": schema_now.fits,
            },
            form,
        )
        require_fitting_schema(runtime.database)


@schema.command()
def recover(
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="What the database knows of before is whole: 2h, 7d, or 2026-03-01T12:00Z. Needed after a restore by"
            " hand; what was found by itself is known already.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the providers, and change nothing.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Ask the providers what a database that went back in time has forgotten. Nothing is sent meanwhile.

    Messages that wait and went out already become SENT, DELIVERED or BOUNCED; those of which nothing is known are
    written anew; who asked for no more is suppressed. Safe to run again, and after a kill. A worker does the same by
    itself where it finds that the database has forgotten something.
    """
    with opened_runtime() as runtime:
        actor, moment = options.actor(), None
        witness = Witness(runtime.database, runtime.clock)
        witness.keep_file()
        witness.examine()
        if since is not None:
            moment = options.parse_moment(since, runtime.clock())
            if not dry_run:
                with runtime.database.transaction() as session:
                    recovery_store.mark_restored(session, moment, BY_HAND, now=runtime.clock())
        recovery = Recovery(runtime.settings, runtime.database, runtime.clock, runtime.keys, new_name())
        summary = _recovered(partial(recovery.run, dry_run=dry_run, since=moment, watch=_watched))
    if summary is None:
        output.say("The database has not gone back in time, as far as anybody knows; --since says otherwise.")
        return
    output.document(summary.details | {"by": actor, "dry_run": dry_run}, form)
    output.say("Not to be had from anybody, to be looked after by hand:")
    for what in NOT_RECOVERED:
        output.say(f"  {what}")
    output.say(f"Stripe's events: notifyctl stripe replay --from-api --since {summary.since:%Y-%m-%dT%H:%MZ}")


def _recovered(run: Callable[[], RecoverySummary | NotYet | None]) -> RecoverySummary | None:
    """Waits for what a worker would wait for."""
    told = ""
    while isinstance(result := run(), NotYet):
        if result.has_no_answer:
            raise ProviderError(f"Nothing is sent before this is recovered: {result.why}; run it again")
        if result.why != told:
            output.say(f"Waiting: {result.why}")
        told = result.why
        sleep(1)
    return result


def _watched(records: Iterable[SentRecord], label: str) -> Iterable[SentRecord]:
    return output.track(records, label, None)


@schema.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; only you can read it.")],
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Write all of the database into one new file, while everything runs, and verify it.

    For PostgreSQL it takes pg_dump and pg_restore, and the backup is one of theirs, in custom format. Exit 1 if the
    audit log in it does not verify; it is kept then. It holds no keys and no files: look after .env and templates, too.
    """
    interrupt_on_signal()
    with opened_runtime() as runtime:
        keys = SealKeys(runtime.settings.notification_secret_key)
        made = backup_store.backup(runtime.database, file, keys=keys, actor=options.actor(), tracked=output.track)
    output.document(asdict(made), form)
    output.say(
        "It holds personal data, and no keys: keep NOTIFICATION_SECRET_KEY and OTP_PEPPER elsewhere, without which what"
        " is sealed in it cannot be opened. Your .env and template files are not in it."
    )
    if made.audit_problem:
        raise NotifyctlError(f"{file} is written, but its audit log does not verify: {made.audit_problem}")


@schema.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `db backup` has written.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also in the place of a database with rows in it.")
    ] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Put a backup in the place of the database, and hold every message in it. Refused while a worker is at work.

    On SQLite what was there stays beside it, under another name. On PostgreSQL it is one transaction, and what was
    there is gone. What was sent since the backup is not known to it: nothing is sent before the providers were asked.
    """
    interrupt_on_signal()
    with opened_runtime(migrated=False) as runtime:
        done = backup_store.restore(runtime.database, file, replace=replace, actor=options.actor())
        output.document({"database": str(runtime.database), **asdict(done)}, form)
    if done.kept:
        output.say(f"What was there is {done.kept} now.")
    if done.revision != migrations.head_revision():
        output.say(f"It is of revision {done.revision}: run `notifyctl db upgrade` first.")
    waiting, since = plural(done.waiting, "message"), moment(done.taken_at)
    output.say(f"{waiting} wait: what of them was sent since {since} is not known here.")
    output.say("Nothing is sent before the providers were asked: start a worker, or run `notifyctl db recover`.")


@schema.command()
def copy(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="As in DATABASE_URL; a password may be in PGPASSFILE instead.")
    ],
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Copy all of the database to another, empty one, of SQLite or PostgreSQL, and compare both. Run it again to go on.

    Refused while a worker is at work; nobody else writes meanwhile. Afterwards this database holds its messages, so
    that none leaves from both. The last line says which setting to change.
    """
    interrupt_on_signal()
    try:
        url = database_url(to)
    except ValueError as error:
        raise InvalidInput(f"--to {error}") from None
    with opened_runtime() as runtime:
        target = open_database(runtime.settings.model_copy(update={"database_url": url}), create=True)
        try:
            done = copy_store.copy(runtime.database, target, actor=options.actor(), tracked=output.track)
        finally:
            target.close()
    output.document({"from": str(runtime.database), "to": str(target), **asdict(done)}, form)
    output.say("Both are the same, and EMAIL and SMS are paused in the old one: nothing is sent from there.")
    raw = raw_settings(find_env_file(invocation.get().env_file))
    if "DATABASE_URL" in raw.environment:
        where = "in the environment"
    else:
        where = (
            f"in {raw.file.place('DATABASE_URL')}" if "DATABASE_URL" in raw.file.values else f"in {options.env_file()}"
        )
    password = ", with the password in the place of ***" if "***" in str(target) else ""
    output.say(
        f"Now set DATABASE_URL={str(target).replace('+psycopg', '', 1)} {where}{password}, and start the workers."
    )
