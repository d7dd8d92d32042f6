"""Where the program begins: what must be so before anything that takes time is imported."""

import os
import sys
from typing import NoReturn

from notifyctl.errors import ExitCode
from notifyctl.stopping import exit_on_signal_as_pid_1, ignore_hangups


def main() -> NoReturn:
    exit_on_signal_as_pid_1()
    try:
        _speak_utf8()
        # Not before: it takes a tenth of a second, in which a container may be told to stop.
        from notifyctl.cli.main import main as run

        run()
    except KeyboardInterrupt:  # while it is imported; later on `run` itself says so
        if sys.stderr:
            print("notifyctl: interrupted", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        ignore_hangups()


def _speak_utf8() -> None:
    """Where the locale has another encoding, begins again in Python's UTF-8 mode (PEP 540): arguments, names of files
    and variables are UTF-8 whatever the locale. What a terminal is shown stays in the terminal's own encoding.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding().lower() == "utf-8" or not sys.executable:
        return
    variables = {"PYTHONIOENCODING": f"{sys.stdout.encoding}:backslashreplace"} if sys.stdout else {}
    arguments = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, {**variables, **os.environ})  # noqa: S606  our own program, once more


if __name__ == "__main__":
    main()
