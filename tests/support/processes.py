"""Real programs that a test starts: what they print is kept, and none outlives its test."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Environment = Callable[..., dict[str, str]]
NOTIFYCTL = (sys.executable, "-m", "notifyctl")


class Processes:
    """Whatever a program writes to stderr, and to stdout if nobody reads it, is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[Any]] = []

    def start(self, *command: str | Path, **options: Any) -> subprocess.Popen[Any]:
        """As subprocess.Popen; `stdout` and `stderr` go to a file of this process unless they are given."""
        with (self.folder / f"process-{len(self._started) + 1}.log").open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command], **{"stdout": output, "stderr": output, **options}
            )
        self._started.append(process)
        return process

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """To its end, with its output as text; after a minute it has hung."""
        wanted: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60}
        ended = subprocess.run([str(word) for word in command], check=False, **(wanted | options))
        with (self.folder / "runs.log").open("a") as kept:
            kept.write(
                f"$ {' '.join(map(str, command))}\n{ended.stdout or ''}{ended.stderr or ''}exit {ended.returncode}\n"
            )
        return ended

    def end(self) -> None:
        """Kills those that still run."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def said(self, lines: int = 40) -> dict[str, str]:
        """The end of what each has printed, by file."""
        logs = sorted(self.folder.glob("*.log"))
        return {log.name: "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs}
