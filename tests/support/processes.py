"""Real programs that a test starts: what they print is kept, and none outlives its test."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any

import pytest

Environment = Callable[..., dict[str, str]]
NOTIFYCTL = (sys.executable, "-m", "notifyctl")
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
"""What Python tells its audit hooks when a program is started."""
FORKED_WITH = {"stdin", "stdout", "stderr", "text", "cwd", "env", "start_new_session", "process_group"}
ASKED_BY_LIBRARIES = ("uname -p",)
"""Python's own platform.processor(), which Stripe's SDK names to the server."""
SUBREAPER = 36
"""prctl(2): orphans further down become ours, to be waited for as if we had started them."""


class Watch:
    """Fails a test in one line that starts a program behind the back of its fixtures."""

    def __init__(self) -> None:
        self.is_on = False
        """While a test runs, and what is set up for it."""
        self._known = threading.local()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on or event not in STARTS or getattr(self._known, "now", False):
            return
        command = " ".join(map(os.fsdecode, arguments[1])) if event == "subprocess.Popen" else event
        if command not in ASKED_BY_LIBRARIES:
            pytest.fail(f"The test starts a program without the fixture `processes`: {command}", pytrace=False)

    @contextmanager
    def known(self) -> Iterator[None]:
        """What is started in here is looked after."""
        before = getattr(self._known, "now", False)
        self._known.now = True
        try:
            yield
        finally:
            self._known.now = before


watch = Watch()


class WarmParent:
    """A Python that has imported notifyctl already (warm_parent.py), and forks. On Linux only."""

    def __init__(self, folder: Path) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = folder / "warm_parent.log"
        self._lock = threading.Lock()
        script = Path(__file__).with_name("warm_parent.py")
        with theirs, self._log.open("wb") as log, watch.known():
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script), str(theirs.fileno())],
                env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        while not Path(f"/proc/{self._process.pid}/cmdline").read_bytes():  # for a moment it has no name yet
            sleep(0.001)

    def fork(self, request: Mapping[str, Any], streams: list[int]) -> int:
        """The id of a child of ours."""
        with self._lock:
            _prctl(SUBREAPER, 1)
            try:
                socket.send_fds(self._ours, [json.dumps(request).encode()], streams)
                answer = self._ours.recv(100)
            finally:
                _prctl(SUBREAPER, 0)
        assert answer, self._log.read_text()
        return int(answer)

    def close(self) -> None:
        self._ours.close()
        self._process.wait(30)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Forked(subprocess.Popen[Any]):
    """As subprocess.Popen of this interpreter, forked off `parent`."""

    def __init__(self, parent: WarmParent, command: list[str], **options: Any) -> None:
        self._parent = parent
        super().__init__(command, **options)

    def _execute_child(self, args: list[str], *given: Any) -> None:
        (_, _, _, _, cwd, env, _, _, _, reads, to_it, from_it, writes, from_its_stderr, complains, *rest) = given
        new_session, process_group = rest[-2:]
        request = {
            "command": args[2:] if args[1] == "-m" else args[1:],
            "environment": dict(os.environ if env is None else env),
            "folder": str(cwd or Path.cwd()),
            "new_session": new_session,
            "process_group": None if process_group == -1 else process_group,
        }
        streams = [place if stream == -1 else stream for place, stream in enumerate((reads, writes, complains))]
        self.pid = self._parent.fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(reads, to_it, from_it, writes, from_its_stderr, complains)


class Processes:
    """Whatever a program writes to stderr, and to stdout if nobody reads it, is in `folder`.

    notifyctl, and scripts that work with it, come from a parent that has imported it already; `fresh` asks for an
    interpreter that starts from nothing.
    """

    def __init__(self, folder: Path, parent: WarmParent | None) -> None:
        self.folder = folder
        self._parent = parent
        self._started: list[subprocess.Popen[Any]] = []

    def start(
        self, *command: str | Path, log: Path | None = None, fresh: bool = False, **options: Any
    ) -> subprocess.Popen[Any]:
        """As subprocess.Popen, in `folder`. stdout and stderr go to `log` or a file of this process, unless given."""
        words = [str(word) for word in command]
        with (log or self._log(len(self._started) + 1)).open("ab") as output, watch.known():
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "cwd": self.folder, **options}
            if self._parent is not None and not fresh and _can_be_forked(words, options):
                process: subprocess.Popen[Any] = Forked(self._parent, words, **options)
            else:
                process = subprocess.Popen(words, **options)
        self._started.append(process)
        return process

    def notifyctl(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[Any]:
        return self.start(*NOTIFYCTL, *arguments, **options)

    def run(
        self, *command: str | Path, text_in: str | None = None, timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """To its end, with its output as text; after a minute it has hung."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        if text_in is not None:
            pipes["stdin"] = subprocess.PIPE
        process = self.start(*command, **(pipes | options))
        out, err = process.communicate(text_in, timeout)
        with self._log(self._started.index(process) + 1).open("a", errors="backslashreplace") as kept:
            kept.write(f"$ {' '.join(map(str, command))}\n{out or ''}{err or ''}exit {process.returncode}\n")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def said_by(self, process: subprocess.Popen[Any]) -> str:
        """What has gone to the file of this process up to now."""
        return self._log(self._started.index(process) + 1).read_text()

    def on_terminal(self, *command: str | Path, **options: Any) -> str:
        """All that it leaves on the screen of a terminal of its own, stdout and stderr as they come."""
        ours, its_end = os.openpty()
        process = self.start(*command, **({"stdout": its_end, "stderr": its_end} | options))
        os.close(its_end)
        screen = b""
        try:
            while part := os.read(ours, 65_536):
                screen += part
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        process.wait(30)
        text = screen.decode().replace("\r\n", "\n")
        self._log(self._started.index(process) + 1).write_text(text)
        return text

    def end(self) -> None:
        """Kills those that still run, and those that they have started."""
        for process in self._started:
            family = descendants(process.pid) if process.poll() is None else []
            if process.returncode is None:
                process.kill()
            process.wait()
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def said(self, lines: int = 40) -> dict[str, str]:
        """The end of what each has printed, by file."""
        logs = sorted(self.folder.glob("*.log"))
        said = {log.name: "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs}
        return {name: text for name, text in said.items() if text}

    def _log(self, number: int) -> Path:
        return self.folder / f"process-{number}.log"


def _can_be_forked(command: list[str], options: Mapping[str, Any]) -> bool:
    """What depends on how the interpreter starts cannot."""
    if not options.keys() <= FORKED_WITH or any(name.startswith("PYTHON") for name in options.get("env") or os.environ):
        return False
    return command[0] == sys.executable and (command[1:3] == ["-m", "notifyctl"] or command[1].endswith(".py"))


def descendants(pid: int) -> list[int]:
    """Those that it has started, those that they have, and so on."""
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listing.read_text().split()):
                found += [child, *descendants(child)]
    return found
