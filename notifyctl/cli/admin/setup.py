"""`notifyctl init`, `config` and `doctor`: setting up an installation and looking after it."""

import re
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic.fields import FieldInfo

from notifyctl.bootstrap import open_runtime
from notifyctl.cli import completion, options, output, terminal
from notifyctl.cli.invocation import invocation
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import OutputFormat, named
from notifyctl.db import migrations
from notifyctl.db.database import open_database
from notifyctl.doctor.check import CheckResult, CheckStatus
from notifyctl.doctor.doctor import NamedResult, can_mend, examine_installation
from notifyctl.env_file import env_file_path, find_env_file
from notifyctl.errors import ConfigurationError, InvalidInput, NotifyctlError
from notifyctl.settings import Settings, checked, is_secret, load_settings, raw_settings
from notifyctl.templates import catalogue
from notifyctl.text.choices import chosen, meant_among
from notifyctl.text.durations import plural
from notifyctl.text.files import write_new

GROUPS = (
    ("This installation", ("INSTALLATION_",)),
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

DEFAULT = "default"
FRESH = ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER")
SECRET_BYTES = 32
_PLAIN_NAME = re.compile(r"\w([\w. -]{0,30}[\w.-])?")
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


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    name: str
    value: str
    source: str
    """environment, default, or the path of the file."""
    meaning: str


def write_env_file(path: Path, **values: str) -> None:
    """With fresh secrets and these values, mode 0600. Raises NotifyctlError if the file exists, and leaves it as it is.

    The installation is called as the folder is, where that is plain enough for a file that others read as well.
    """
    with suppress(OSError):
        if _PLAIN_NAME.fullmatch(name := path.resolve().parent.name):
            values = {"INSTALLATION_NAME": name, **values}
    text = _env_text(values)
    try:
        write_new(path, text.encode(), mode=0o600)
    except FileExistsError as error:
        raise NotifyctlError(
            f"{path} exists already and is left as it is; give another name with --env-file"
        ) from error
    except OSError as error:
        raise NotifyctlError(f"{path} cannot be written: {error.strerror}; give another --env-file") from error


def effective(env_file: Path) -> list[EffectiveSetting]:
    """Every setting as it is in force; as it is written where one is at fault. Secrets and passwords are masked."""
    raw = raw_settings(env_file if env_file.is_file() else None)
    try:
        settings = checked(raw)
    except ConfigurationError:
        settings = None
    settings_in_force = []
    for name, field in _settings():
        text, source = default_text(field), DEFAULT
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


def _env_text(values: Mapping[str, str]) -> str:
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
            given = secrets.token_hex(SECRET_BYTES) if name in FRESH else values.get(name)
            line = f"{name}={given}" if given else f"#{name}={default_text(field)}"
            lines += ["", f"# {field.description}", line]
    return "\n".join(lines) + "\n"


def _masked(text: str, field: FieldInfo) -> str:
    if not is_secret(field):
        return _PASSWORD.sub(lambda match: f"{match[1] or match[2] or match[3]}***", text)
    count = sum(bool(part.strip()) for part in text.split(","))
    return "not set" if count == 0 else "set" if count == 1 else f"set ({plural(count, 'key')})"


@app.command()
def init(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Where to write it, - for stdout; without it .env, or the global --env-file."),
    ] = None,
    sandbox: Annotated[
        bool,
        typer.Option("--sandbox", help="For trying it: with a database beside it, and the sandbox for all providers."),
    ] = False,
) -> None:
    """Write a .env file with fresh secrets and every setting explained. Never overwrites one.

    With --sandbox the database is made as well, and its templates are seeded: nothing is left to be done but to start
    `notifyctl sandbox`.
    """
    path = env_file_path(env_file or invocation.get().env_file)
    if path == Path("-"):
        if sandbox:
            raise InvalidInput("--sandbox makes a database beside the file; name a file in the place of -")
        sys.stdout.write(_env_text({}))
        return
    command = "notifyctl" if path == Path(".env") else f"notifyctl --env-file {path}"
    write_env_file(path, **_sandbox_settings(path) if sandbox else {})
    output.say(f"Wrote {path} with fresh secrets; only you can read it.")
    if sandbox:
        _make_ready(path)
        output.say(f"Now start `{command} sandbox` in another terminal: it shows what arrives.")
        return
    output.say("Next, set EMAIL_SENDER, POSTMARK_SERVER_TOKEN and TWILIO_* in it. To try it without keys, take")
    output.say("`notifyctl init --sandbox` in a folder of its own: the sandbox stands in for the providers. Then run:")
    for step in ("db upgrade", "templates seed", "doctor"):
        output.say(f"  {command} {step}")


def _sandbox_settings(path: Path) -> dict[str, str]:
    from notifyctl.cli.sandbox import DEFAULT_SANDBOX, environment  # a whole server, for this alone

    database = path.absolute().parent / "notifyctl.db"
    if database.exists():
        raise NotifyctlError(f"{database} exists already, and has other secrets than a new file; take an empty folder")
    providers = dict(line.split("=", 1) for line in environment(DEFAULT_SANDBOX))
    return {"DATABASE_URL": f"sqlite:///{database}", **providers}


def _make_ready(path: Path) -> None:
    try:
        settings = load_settings(path)
    except ConfigurationError as error:
        path.unlink()  # it would be in the way of the next try
        raise ConfigurationError([*error.faults, f"{path} was taken away again"]) from error
    runtime = open_runtime(settings, database=open_database(settings, create=True))
    try:
        migrations.upgrade(runtime.database)
        with runtime.database.transaction() as session:
            files = catalogue.files_of(settings)
            catalogue.seed(session, files, settings=settings, now=runtime.clock(), actor=options.actor())
    finally:
        runtime.close()
    output.say(
        f"{runtime.database} is at revision {migrations.head_revision()} and has {plural(len(files), 'template')}."
    )


@app.command()
@lists
def config(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Only these settings, as EMAIL_SENDER.",
            autocompletion=completion.among(name.upper() for name in Settings.model_fields),
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that have their defaults, which a terminal leaves out.")
    ] = False,
) -> ListedRows:
    """Show the settings in force and where each comes from; secrets are masked. Exit 2 if any is at fault."""
    settings = {setting.name: setting for setting in effective(options.env_file())}
    wanted = [settings[_setting(name, settings)] for name in names or settings]
    hides = not names and not every and output.on_terminal()
    shown = [setting for setting in wanted if not (hides and setting.source == DEFAULT)]
    left_out = len(wanted) - len(shown)
    remarks = raw_settings(find_env_file(invocation.get().env_file)).remarks()
    return ListedRows(
        rows=map(asdict, shown),
        columns=("name", "value", "source", "meaning"),
        key="name",
        shown=SETTINGS_SHOWN,
        hints=[f"{plural(left_out, 'setting')} more with their defaults: --all, or config NAME"] if left_out else (),
        remarks=[f"Note: {remark}" for remark in remarks],
        then=options.settings,
    )


def _setting(name: str, known: Iterable[str]) -> str:
    """Raises InvalidInput."""
    found = chosen(name, known)
    if found is None:
        raise InvalidInput(
            f"there is no setting {name!r}{meant_among(name, known, '`notifyctl config --all` lists all')}"
        )
    return found


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
    if form is OutputFormat.TABLE and output.on_terminal():
        _print_examined(results)
    else:
        rows = [{"check": item.check, **asdict(item.result)} for item in results]
        output.rows(rows, form, columns=("check", "status", "problem", "remedy"))
    counts = Counter(item.result.status for item in results)
    if counts[CheckStatus.FAIL]:
        failed = dict.fromkeys(item.check for item in results if item.result.status is CheckStatus.FAIL)
        raise NotifyctlError(
            f"{counts[CheckStatus.FAIL]} of {plural(len(results), 'check')} failed: {', '.join(failed)}"
        )
    warn = (
        f"{counts[CheckStatus.WARN]} of {plural(len(results), 'check')} warn"
        if counts[CheckStatus.WARN]
        else "all is well"
    )
    output.hint(f"No check failed; {warn}.")


LINES_BESIDE_CHECKS = 2
"""The last line, and that of the prompt."""


def _print_examined(results: Sequence[NamedResult]) -> None:
    """What is wrong first, a line a cause; that all else is well is a line, which names it where there is room."""
    order = (CheckStatus.FAIL, CheckStatus.WARN, CheckStatus.OK)
    checks: dict[CheckResult, list[str]] = {}
    for item in sorted(results, key=lambda item: order.index(item.result.status)):
        if item.result.problem:
            checks.setdefault(item.result, []).append(item.check)
    lines: list[tuple[terminal.Cell, ...]] = [
        (
            (result.status.value, STYLES[result.status]),
            names[0] if len(names) == 1 else plural(len(names), "check"),
            "; ".join(filter(None, (result.problem, result.remedy))),
        )
        for result, names in checks.items()
    ]
    if well := [item.check for item in results if not item.result.problem]:
        ok = (("ok", STYLES["ok"]), f"{len(well)} {'more' if lines else 'checks'}")
        named = [*lines, (*ok, ", ".join(well))]
        has_room = terminal.height_of(*terminal.listed(named)) < terminal.console().height - LINES_BESIDE_CHECKS
        lines = named if has_room else [*lines, (*ok, "`--format json` names them")]
    terminal.listing(lines)


def _examine(*, fix: bool) -> list[NamedResult]:
    try:
        settings = options.settings()
    except ConfigurationError as error:
        where = "correct it; `notifyctl config` shows where it comes from"
        return [
            NamedResult("settings", CheckResult(CheckStatus.FAIL, fault, "" if "`" in fault else where))
            for fault in error.faults  # some say themselves what to do
        ]
    results = examine_installation(settings, options.env_file(), mend_as=options.actor() if fix else None)
    if fix and not can_mend(results):
        output.say("Nothing was mended: what is done is audited, and the database cannot be used.")
    return [NamedResult("settings", CheckResult()), *results]
