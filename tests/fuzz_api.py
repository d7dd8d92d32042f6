"""Schemathesis against a real server: every endpoint, with what its document allows and what it does not.

`make test-api` runs it; arguments are handed on to `schemathesis run`.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

BIN = Path(sys.executable).parent
CONFIG = Path(__file__).resolve().with_name("schemathesis.toml")
START_SECONDS = 20
TOKEN = "postmark-webhook-token"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="notifyctl-fuzz-") as folder:
        home = Path(folder)
        variables = {"PATH": os.environ["PATH"], "HOME": folder, "DATABASE_URL": f"sqlite:///{home}/notifyctl.db"}
        variables |= {"PUBLIC_BASE_URL": "https://notify.acme.example", "POSTMARK_WEBHOOK_TOKEN": TOKEN}
        variables |= {"STRIPE_WEBHOOK_SECRET": "whsec_1", "TWILIO_AUTH_TOKEN": "1"}
        for command in (["init"], ["db", "upgrade"], ["templates", "seed"]):
            _notifyctl(home, variables, *command)
        key = _notifyctl(home, variables, "keys", "create", "fuzz", "--scope", "admin").strip()
        with _server(home, variables) as url:
            return _fuzz(url, key, home)


def _notifyctl(home: Path, variables: dict[str, str], *arguments: str) -> str:
    ran = subprocess.run([BIN / "notifyctl", *arguments], cwd=home, env=variables, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(ran.stderr)
    return ran.stdout


@contextmanager
def _server(home: Path, variables: dict[str, str]) -> Iterator[str]:
    log = home / "serve.log"
    with log.open("wb") as stderr:
        server = subprocess.Popen([BIN / "notifyctl", "serve", "--port", "0"], cwd=home, env=variables, stderr=stderr)
    try:
        yield _url(log, server)
    finally:
        server.terminate()
        code = server.wait(timeout=60)
        failures = [line for line in log.read_text().splitlines() if '"request failed"' in line]
        print(f"server: exit {code}, {len(failures)} unexpected errors", *failures[:5], sep="\n")
        if code or failures:
            sys.exit(1)


def _url(log: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline and server.poll() is None:
        if found := re.search(r"http://[\d.]+:\d+", log.read_text()):
            return found[0]
        sleep(0.05)
    sys.exit(f"the server did not start:\n{log.read_text()}")


def _fuzz(url: str, key: str, home: Path) -> int:
    command = [BIN / "schemathesis", "--config-file", CONFIG, "run", f"{url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {key}", "--header", f"X-Postmark-Token: {TOKEN}"]
    return subprocess.run([*command, *sys.argv[1:]], cwd=home).returncode


if __name__ == "__main__":
    sys.exit(main())
