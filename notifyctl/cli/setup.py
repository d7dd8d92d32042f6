"""`notifyctl init`, `config` and `doctor`: setting up an installation and looking after it."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from notifyctl.cli import options, output
from notifyctl.cli.output import Shown, named
from notifyctl.errors import ConfigurationError, NotifyctlError

if TYPE_CHECKING:
    from notifyctl.doctor.doctor import Examined, Installation

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


def add_to(app: typer.Typer) -> None:
    app.command()(init)
    app.command()(config)
    app.command()(doctor)


def init(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Where to write it; without it .env, or the global --env-file."),
    ] = None,
) -> None:
    """Write a .env file with fresh secrets and every setting explained. Never overwrites one."""
    from notifyctl.cli.environment import write_env_file
    from notifyctl.env_file import env_file_path

    path = env_file_path(env_file or options.given.get().env_file)
    write_env_file(path)
    command = "notifyctl" if path == Path(".env") else f"notifyctl --env-file {path}"
    output.say(f"Wrote {path} with fresh secrets; only you can read it.")
    output.say("Next, set EMAIL_SENDER, POSTMARK_SERVER_TOKEN and TWILIO_* in it. To try it without keys,")
    output.say(f"`{command} sandbox` stands in for Postmark and Twilio and prints what to set. Then run:")
    for step in ("db upgrade", "templates seed", "doctor"):
        output.say(f"  {command} {step}")


def config(form: options.Format = options.OutputFormat.TABLE) -> None:
    """Show the settings in force and where each comes from; secrets are masked. Exit 2 if any is at fault."""
    from notifyctl.cli.environment import effective
    from notifyctl.env_file import find_env_file
    from notifyctl.settings import raw_settings

    file = find_env_file(options.given.get().env_file)
    found = [asdict(setting) for setting in effective(options.env_file())]
    output.rows(found, form, columns=("name", "value", "source", "meaning"), shown=SETTINGS_SHOWN)
    for remark in raw_settings(file).remarks():
        output.say(f"Note: {remark}")
    options.settings()


def doctor(
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend what is safe to mend: modes of files, triggers of the audit log. Audited."),
    ] = False,
    form: options.Format = options.OutputFormat.TABLE,
) -> None:
    """Check this installation: what is wrong, and how to mend it. Exit 1 if anything fails."""
    found = _examine(fix=fix)
    rows = [{"check": item.check, **asdict(item.finding)} for item in found]
    output.rows(rows, form, columns=("check", "status", "problem", "remedy"), shown=CHECKS_SHOWN, styles=STYLES)
    failed = [item.check for item in found if item.finding.status == "fail"]
    if failed:
        names = ", ".join(dict.fromkeys(failed))
        raise NotifyctlError(f"{len(failed)} of {len(found)} checks failed: {names}")


def _examine(*, fix: bool) -> "list[Examined]":
    from notifyctl.doctor import provider_checks
    from notifyctl.doctor import settings_checks as checks
    from notifyctl.doctor.doctor import Examined, Finding, Installation, Status, examine

    try:
        settings = options.settings()
    except ConfigurationError as error:
        remedy = "correct it; `notifyctl config` shows where it comes from"
        return [Examined("settings", Finding(Status.FAIL, fault, remedy)) for fault in error.faults]
    with closing(Installation(settings, options.env_file())) as installation:
        offline = (*checks.OFFLINE, *provider_checks.PROVIDERS)
        found = list(examine(installation, offline=offline, schema=checks.SCHEMA, stored=checks.STORED))
        if fix:
            found = _mend(installation, found)
    return [Examined("settings", Finding()), *found]


def _mend(installation: "Installation", found: "list[Examined]") -> "list[Examined]":
    from notifyctl.doctor.doctor import mend

    if any(item.check in ("database", "schema") and item.finding.status != "ok" for item in found):
        output.say("Nothing was mended: what is done is audited, and the database cannot be used.")
        return found
    now = installation.database.clock()
    return [mend(installation, item, actor=options.actor(), now=now) for item in found]
