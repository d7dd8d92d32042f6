"""`notifyctl db`: the tables of the database, and all of its content elsewhere and back."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from notifyctl.audit.chain import SealKeys
from notifyctl.cli import options, output
from notifyctl.cli.invocation import invocation
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.db import migrations
from notifyctl.db.database import open_database
from notifyctl.db.migrations import require_fitting_schema, schema_status
from notifyctl.env_file import find_env_file
from notifyctl.errors import InvalidInput, NotifyctlError, ProviderError
from notifyctl.operations.heartbeats import new_name
from notifyctl.operations.witness import Witness
from notifyctl.recovery import store as recovery_store
from notifyctl.recovery.records import RecoverySummary
from notifyctl.recovery.recover import BY_HAND, NOT_RECOVERED, NotYet, Recovery
from notifyctl.setting_rules import database_url
from notifyctl.settings import raw_settings
from notifyctl.stopping import interrupt_on_signal
from notifyctl.text.durations import moment, plural
from notifyctl.transfer import backup_store, copy_store

app = typer.Typer(name="db", no_args_is_help=True)


@app.command()
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


@app.command()
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


@app.command()
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
        actor, moment = options.actor(), options.moment("--since", since, runtime.clock())
        witness = Witness(runtime.database, runtime.clock)
        witness.keep_file()
        witness.examine()
        if moment is not None and not dry_run:
            with runtime.database.transaction() as session:
                recovery_store.mark_restored(session, moment, BY_HAND, now=runtime.clock())
        recovery = Recovery(
            runtime.settings,
            runtime.database,
            runtime.clock,
            runtime.keys,
            new_name(),
            replay_stripe=runtime.replay_stripe,
        )
        summary = _recovered(partial(recovery.run, dry_run=dry_run, since=moment, watch=_watched))
    if summary is None:
        output.say("The database has not gone back in time, as far as anybody knows; --since says otherwise.")
        return
    output.document(summary.details | {"by": actor, "dry_run": dry_run}, form)
    output.say("Not to be had from anybody, to be looked after by hand:")
    for what in NOT_RECOVERED:
        output.say(f"  {what}")
    if not summary.has_stripe:
        since_then = f"{summary.since:%Y-%m-%dT%H:%MZ}"
        output.say(
            f"Stripe's events, which takes STRIPE_API_KEY: notifyctl stripe replay --from-api --since {since_then}"
        )


def _recovered(run: Callable[[], RecoverySummary | NotYet | None]) -> RecoverySummary | None:
    """Waits for what a worker would wait for."""
    told = ""
    while isinstance(result := run(), NotYet):
        if result.has_no_answer:
            raise ProviderError(f"nothing is sent before this is recovered: {result.why}; run it again")
        if result.why != told:
            output.say(f"Waiting: {result.why}")
        told = result.why
        sleep(1)
    return result


def _watched(records: Iterable[output.Item], label: str) -> Iterable[output.Item]:
    return output.track(records, label, None)


@app.command()
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
    if made.unaudited:
        output.say(f"No audit row tells of this backup: {made.unaudited}")
    if made.audit_problem:
        raise NotifyctlError(f"{file} is written, but its audit log does not verify: {made.audit_problem}")


@app.command()
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
    output.say(f"{waiting} may have gone out already: what was sent since {since} is not known here.")
    output.say("Nothing is sent before the providers were asked: start a worker, or run `notifyctl db recover`.")


@app.command()
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
