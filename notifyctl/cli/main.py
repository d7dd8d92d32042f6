"""The command tree, and the one place where an error becomes a line on stderr and an exit code."""

import io
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from notifyctl import __version__
from notifyctl.cli import (
    audit,
    clients,
    compliance,
    db,
    demo,
    health,
    jobs,
    keys,
    limits,
    messages,
    monitor,
    otp,
    pause,
    retention,
    sandbox,
    send,
    serve,
    setup,
    streams,
    stripe,
    suppressions,
    templates,
    worker,
)
from notifyctl.cli.options import Globals, given, is_utf8, usage_words
from notifyctl.cli.output import complain
from notifyctl.errors import ConfigurationError, ExitCode, InvalidInput, NotifyctlError

app = typer.Typer(
    name="notifyctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="The one pipe for one-time codes, billing mails, compliance reminders and ops alerts.",
)
setup.add_to(app)
app.add_typer(db.app, name="db")
app.add_typer(templates.app, name="templates")
app.add_typer(clients.app, name="clients")
app.add_typer(suppressions.app, name="suppressions")
send.add_to(app)
app.add_typer(messages.app, name="messages")
worker.add_to(app)
app.add_typer(jobs.app, name="jobs")
app.add_typer(audit.app, name="audit")
retention.add_to(app)
monitor.add_to(app)
app.add_typer(compliance.app, name="compliance")
serve.add_to(app)
app.add_typer(keys.app, name="keys")
app.add_typer(otp.app, name="otp")
app.add_typer(health.app, name="health")
app.add_typer(stripe.app, name="stripe")
app.add_typer(limits.app, name="limits")
pause.add_to(app)
sandbox.add_to(app)
demo.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"notifyctl {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Read settings from this file instead of ./.env.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    given.set(Globals(env_file=env_file, debug=debug))


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
            code = _whole(streams.lost(sys.stdout))
    except Exception as error:  # noqa: BLE001  the boundary: whatever it is, it becomes one line and a code
        if given.get().debug:
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
        case ConfigurationError():
            for fault in error.faults:
                _complain(fault, error.exit_code)
            return error.exit_code
        case NotifyctlError():
            return _complain(str(error), error.exit_code)
        case TyperException():
            return _usage(error)
        case Abort():
            return ExitCode.INTERRUPTED
    return _complain(
        f"unexpected {type(error).__name__}: {error}; run it as `notifyctl --debug …` for the traceback",
        ExitCode.FAILED,
    )


def _whole(error: OSError | None) -> ExitCode:
    if error is None or streams.is_read_no_further(error):
        return ExitCode.DONE
    return _complain(f"stdout cannot be written: {error.strerror}; what was printed is not whole", ExitCode.FAILED)


def _usage(error: TyperException) -> int:
    text = error.format_message()
    if text.startswith("Usage:"):  # a group without a command: its whole help
        print(text, file=sys.stderr)
        return error.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "notifyctl"
    return _complain(f"{usage_words(error)}; see `{command} --help`", ExitCode(error.exit_code))


def _complain(text: str, code: ExitCode) -> ExitCode:
    complain(f"notifyctl: {' '.join(text.split())}")
    return code
