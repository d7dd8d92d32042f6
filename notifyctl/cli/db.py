"""`notifyctl db`: the schema."""

import typer

from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.store.migrations import require_current_schema, schema_status
from notifyctl.store.migrations import upgrade as run

schema = typer.Typer(name="db", no_args_is_help=True)


@schema.command()
def upgrade() -> None:
    """Bring the database to the schema of this version. Safe to run again, and on two hosts at once.

    It is the only command that makes a database file which is not there, and then says so.
    """
    with opened_runtime(migrated=False, create=True) as runtime:
        if runtime.database.is_new:
            output.say(f"There was no database file {runtime.database.url.database}: it is a new one.")
        before = schema_status(runtime.database)
        after = run(runtime.database)
    if before.revision == after.revision:
        output.say(f"{runtime.database} is up to date at revision {after.revision}.")
    else:
        output.say(f"{runtime.database} upgraded from {before.revision or 'empty'} to revision {after.revision}.")


@schema.command()
def status(form: options.Format = OutputFormat.TABLE) -> None:
    """Show the database's revision and the one this version needs. Exit 5 unless they agree."""
    with opened_runtime(migrated=False) as runtime:
        schema_now = schema_status(runtime.database)
        output.document(
            {
                "database": str(runtime.database),
                "revision": schema_now.revision,
                "head": schema_now.head,
                "current": schema_now.is_current,
            },
            form,
        )
        require_current_schema(runtime.database)
