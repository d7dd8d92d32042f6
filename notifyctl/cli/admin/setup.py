"""`notifyctl init`, `config` and `doctor`: setting up an installation and looking after it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from notifyctl.cli import options, output
from notifyctl.cli.environment import effective, write_env_file
from notifyctl.cli.invocation import invocation
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.doctor.check import CheckResult, CheckStatus
from notifyctl.doctor.doctor import NamedResult, can_mend, examine_installation
from notifyctl.env_file import env_file_path, find_env_file
from notifyctl.errors import ConfigurationError, NotifyctlError
from notifyctl.settings import raw_settings

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
