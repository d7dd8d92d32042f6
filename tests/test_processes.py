"""Programs that tests start: what they print is kept, none outlives its test, and none is started in another way."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from notifyctl import __version__
from notifyctl.db.migrations import head_revision
from tests.support.processes import NOTIFYCTL, Processes

WITHOUT: dict[str, Callable[[], object]] = {
    "a program": lambda: subprocess.run(["true"], check=True),
    "a fork": lambda: os.fork() or os._exit(0),
    "a shell": lambda: os.system("true"),
    "a spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
}


@pytest.mark.parametrize("start", WITHOUT.values(), ids=WITHOUT)
def test_a_test_that_starts_one_without_the_fixture_fails_in_one_line(start: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^The test starts a program without the fixture `processes`: .+$"):
        start()


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + 30
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_none_outlives_its_test_nor_does_what_it_has_started(tmp_path: Path, processes: Processes) -> None:
    started = Processes(tmp_path, None)
    shell = started.start("bash", "-c", "setsid sleep 60 & echo $!; wait")
    wait_until(lambda: started.said_by(shell))
    grandchild = int(started.said_by(shell))
    assert is_alive(grandchild)
    started.end()
    wait_until(lambda: not is_alive(grandchild))
    assert shell.returncode == -signal.SIGKILL


def test_what_they_print_is_kept_for_a_failure(processes: Processes) -> None:
    processes.start("bash", "-c", "echo one; echo two >&2").wait(30)
    assert processes.run("bash", "-c", "cat; echo bad >&2; exit 3", text_in="given\n").returncode == 3
    first, second = processes.said().values()
    assert first == "one\ntwo"
    assert second.splitlines()[1:] == ["given", "bad", "exit 3"]


@pytest.mark.parametrize("fresh", [True, False], ids=["a fresh interpreter", "a fork"])
class TestOneThatIsForked:
    """It is told apart from a fresh interpreter by nothing but its pace."""

    def test_has_its_own_arguments_streams_environment_folder_and_code(
        self, processes: Processes, tmp_path: Path, fresh: bool
    ) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import os, sys\n"
            "print(sys.argv[1:], sys.stdin.read(), dict(os.environ) | {'LC_CTYPE': ''}, os.getcwd(), __name__)\n"
            "print(os.getsid(0) == os.getpid(), os.getppid(), sys.stdout.encoding, sys.path[0], file=sys.stderr)\n"
            "sys.exit(7)"
        )
        folder = tmp_path / "folder"
        folder.mkdir()
        ran = processes.run(
            sys.executable, script, "a", text_in="ü", env={"A": "1"}, cwd=folder, start_new_session=True, fresh=fresh
        )
        assert (ran.returncode, ran.stdout) == (
            7, f"['a'] ü {{'A': '1', 'LC_CTYPE': ''}} {folder} __main__\n",
        )  # fmt: skip
        assert ran.stderr == f"True {os.getpid()} utf-8 {tmp_path}\n"

    def test_is_the_program(self, processes: Processes, fresh: bool) -> None:
        ran = processes.run(*NOTIFYCTL, "--version", fresh=fresh)
        assert (ran.returncode, ran.stdout, ran.stderr) == (
            0,
            f"notifyctl {__version__} (schema {head_revision()})\n",
            "",
        )

    def test_shows_an_error_that_nobody_caught(self, processes: Processes, tmp_path: Path, fresh: bool) -> None:
        (tmp_path / "script.py").write_text("print('begun')\nraise LookupError('lost')")
        ran = processes.run(sys.executable, tmp_path / "script.py", fresh=fresh)
        assert (ran.returncode, ran.stdout, ran.stderr.splitlines()[-1]) == (1, "begun\n", "LookupError: lost")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
    def test_ends_by_a_signal(self, processes: Processes, tmp_path: Path, number: signal.Signals, fresh: bool) -> None:
        (tmp_path / "script.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)")
        process = processes.start(sys.executable, tmp_path / "script.py", fresh=fresh)
        wait_until(lambda: processes.said_by(process))
        process.send_signal(number)
        assert process.wait(30) == -number
