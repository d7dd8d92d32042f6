"""The table of commands, and the one place where an error becomes a line on stderr and an exit code."""

import errno
import io
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer._click.core import Command
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException
from typer.main import get_command, get_group

from notifyctl import __version__
from notifyctl.cli import streams
from notifyctl.cli.examples import lines_of
from notifyctl.cli.invocation import Invocation, in_a_hurry, invocation, is_utf8, usage_words
from notifyctl.cli.output import complain
from notifyctl.errors import ExitCode, InvalidInput, NotifyctlError
from notifyctl.stopping import exit_on_signal


class Entry(NamedTuple):
    """A command before its module is imported."""

    module: str
    help: str
    """The first sentence of a command's own help; all of the help of a group."""
    app: str = "app"
    """What it is called in the module: a Typer that has this name, or a command of this name."""
    is_daemon: bool = False
    """It may be told to stop while it is still being imported."""


COMMANDS = {
    "init": Entry("notifyctl.cli.admin.setup", "Write a .env file with fresh secrets and every setting explained."),
    "config": Entry(
        "notifyctl.cli.admin.setup", "Show the settings in force and where each comes from; secrets are masked."
    ),
    "doctor": Entry("notifyctl.cli.admin.setup", "Check this installation: what is wrong, and how to mend it."),
    "deploy": Entry(
        "notifyctl.cli.admin.deploy", "Print files to run it with: for systemd, cron, Compose, Prometheus and Grafana."
    ),
    "send": Entry("notifyctl.cli.messages.send", "Queue one message for the worker."),
    "worker": Entry(
        "notifyctl.cli.admin.worker", "Send what is queued and run the jobs, until SIGTERM.", is_daemon=True
    ),
    "workers": Entry("notifyctl.cli.admin.worker", "Who is at work, on all hosts."),
    "retention": Entry(
        "notifyctl.cli.admin.jobs",
        "Remove what is older than the settings say, as the daily job does.",
        app="retention_app",
    ),
    "monitor": Entry(
        "notifyctl.cli.health.monitor",
        "Look for a spike of failures in each channel, alert about it, and print one line for Nagios.",
    ),
    "serve": Entry("notifyctl.cli.admin.serve", "Answer HTTP requests, until SIGTERM.", is_daemon=True),
    "open": Entry(
        "notifyctl.cli.admin.keys",
        "Print a link that signs you in on the page, once and within ten minutes.",
        app="link_app",
    ),
    "pause": Entry("notifyctl.cli.admin.limits", "Hold messages: they are accepted and wait.", app="holds"),
    "resume": Entry("notifyctl.cli.admin.limits", "Let go what `pause` with the same options held.", app="holds"),
    "demo": Entry(
        "notifyctl.cli.demo.demo",
        "See the main job once: clients, templates, every gate, a retry, Stripe's webhooks, a backlog, an explanation.",
    ),
    "db": Entry(
        "notifyctl.cli.admin.database", "The database: create and upgrade its tables, back up, restore, recover, copy."
    ),
    "templates": Entry("notifyctl.cli.messages.templates", "What messages say, and under which rules they go out."),
    "clients": Entry("notifyctl.cli.clients.clients", "Clients: list, show, set, import from CSV, erase."),
    "suppressions": Entry("notifyctl.cli.clients.suppressions", "Addresses that must not be written to."),
    "messages": Entry("notifyctl.cli.messages.messages", "See, explain, retry and cancel messages."),
    "jobs": Entry("notifyctl.cli.admin.jobs", "What is done at set times: see how it went, do it now."),
    "audit": Entry("notifyctl.cli.admin.audit", "The audit log: list it, verify it, export it."),
    "compliance": Entry(
        "notifyctl.cli.clients.compliance", "What expires of a client's: import from CSV, list, renew, remove."
    ),
    "keys": Entry("notifyctl.cli.admin.keys", "API keys: create, list, revoke."),
    "otp": Entry("notifyctl.cli.messages.otp", "One-time codes: a phone's locks and limits."),
    "health": Entry("notifyctl.cli.health.health", "How the traffic is: failures, rates, latency, backlog."),
    "stripe": Entry("notifyctl.cli.stripe.events", "Stripe's events: see them, replay them, compare with Stripe."),
    "limits": Entry("notifyctl.cli.admin.limits", "The global per-minute limits."),
    "sandbox": Entry(
        "notifyctl.cli.sandbox",
        "Run a local server that speaks Postmark's, Twilio's and Stripe's APIs and shows what arrived in an inbox"
        " page.",
    ),
    "help": Entry("notifyctl.cli.help", "Show the help of a command, as --help behind it does."),
}
GROUPS = {
    "Look": ("health", "open", "messages", "workers", "jobs", "monitor", "doctor", "config", "audit"),
    "Act": (
        "send", "pause", "resume", "limits", "clients", "suppressions", "compliance", "otp", "templates", "stripe",
    ),
    "Set up": ("init", "db", "keys", "deploy"),
    "Run": ("worker", "serve", "retention"),
    "Try": ("demo", "sandbox", "help"),
}  # fmt: skip
"""How the help sorts them."""


class LazyGroup(TyperGroup):
    """What is in its help, completed and suggested comes from the table; a module is imported when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS and COMMANDS[name].is_daemon:
            exit_on_signal()
        return name, load(name) if name in COMMANDS else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        room = formatter.width - 6 - max(map(len, COMMANDS))
        sorted_ones = {name for names in GROUPS.values() for name in names}
        rest = tuple(name for name in self.commands if name not in sorted_ones)
        for title, names in {**GROUPS, **({"More": rest} if rest else {})}.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(room)) for name in names])


def load(name: str) -> Any:
    """The command of this name, from its module."""
    entry = COMMANDS[name]
    with in_a_hurry():
        module = import_module(entry.module)
    tree = typer.Typer(rich_markup_mode=None)
    tree.add_typer(getattr(module, entry.app))
    command = get_group(tree).commands[name]
    command.help = command.help or entry.help
    _add_examples(command, name)
    return command


def _add_examples(command: Command, path: str) -> None:
    """Each on a line of its own, which the mark at the beginning asks for."""
    if lines := lines_of(path):
        command.epilog = "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
    for name, inner in getattr(command, "commands", {}).items():
        _add_examples(inner, f"{path} {name}")


app = typer.Typer(
    name="notifyctl",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="The one pipe for one-time codes, billing mails, compliance reminders and ops alerts.",
)


def _not_imported() -> None:
    """Stands for a command in help, completion and suggestions."""


for _name, _entry in COMMANDS.items():
    app.command(_name, help=_entry.help)(_not_imported)


def _version(wanted: bool) -> None:
    if wanted:
        from notifyctl.db.migrations import head_revision  # the database's library: nobody else waits for it here

        print(f"notifyctl {__version__} (schema {head_revision()})")
        raise typer.Exit


@app.callback()
def _globals(
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read settings from this file instead of .env.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Show the version, the revision of its schema, and exit.",
        ),
    ] = False,
) -> None:
    invocation.set(Invocation(env_file=env_file, debug=debug))


def whole_tree() -> TyperGroup:
    """With all of its commands imported, for what describes them."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    root.commands = {name: load(name) for name in COMMANDS}
    return root


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code (errors.ExitCode), whatever becomes of its output.

    Only a command that ends well and that has no code of its own fails with an output that could not be written.
    """
    streams.hold()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if argv is None else argv
    try:
        _require_text(arguments)
        code = app(arguments, standalone_mode=False, prog_name="notifyctl")
        sys.stdout.flush()
        if code is None:
            code = _code_of_output(streams.lost(sys.stdout))
    except Exception as error:  # noqa: BLE001  the boundary: whatever it is, it becomes one line and a code
        if invocation.get().debug:
            traceback.print_exception(error)
        code = _explain(error)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:
        _complain("interrupted", ExitCode.INTERRUPTED)
    sys.exit(code if isinstance(code, int) else ExitCode.DONE)


def _require_text(arguments: list[str]) -> None:
    """Python hands on bytes that are not UTF-8 as halves of surrogate pairs, over which everything else stumbles."""
    for argument in arguments:
        if "\0" in argument or not is_utf8(argument):
            raise InvalidInput(f"the argument {argument[:80]!a} is not UTF-8; write it in UTF-8")


def _explain(error: Exception) -> int:
    match error:
        case InvalidInput():
            for fault in error.faults:
                _complain(fault, error.exit_code)
            return error.exit_code
        case NotifyctlError():
            return _complain(str(error), error.exit_code)
        case TyperException():
            return _usage(error)
        case Abort():
            return ExitCode.INTERRUPTED
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            place = error.filename or "a file"
            return _complain(f"{place} cannot be written: {error.strerror}; make room and try again", ExitCode.FAILED)
        case OSError(filename=str() | bytes() as name, strerror=str() as cause):
            what = f"{os.fsdecode(name)} cannot be used: {cause}"
            return _complain(f"{what}; see whether it is there, and who may write to it", ExitCode.FAILED)
        case RuntimeError() if "home directory" in str(error):
            return _complain("there is no home directory; set HOME to a folder that may be written to", ExitCode.FAILED)
    return _complain(
        f"unexpected {type(error).__name__}: {error}; run it as `notifyctl --debug …` for the traceback",
        ExitCode.FAILED,
    )


def _code_of_output(error: OSError | None) -> ExitCode:
    if error is None or streams.is_read_no_further(error):
        return ExitCode.DONE
    return _complain(f"stdout cannot be written: {error.strerror}; what was printed is not whole", ExitCode.FAILED)


def _usage(error: TyperException) -> int:
    text = error.format_message()
    if text.startswith("Usage:"):  # a group without a command: its whole help
        print(text, file=sys.stderr)
        return error.exit_code
    return _complain(usage_words(error), ExitCode(error.exit_code))


def _complain(text: str, code: ExitCode) -> ExitCode:
    complain(f"notifyctl: {' '.join(text.split())}")
    return code
