"""Verify requests a second at one and two server processes, beside a bare endpoint on the same stack.

    python -m tests.benchmarks.otp_verify [--seconds 5] [--clients 16] [--database sqlite|postgresql]

The bare endpoint is FastAPI and SQLAlchemy with one indexed read and one update in a transaction. Each guess is a
wrong one for a phone of its own with a live code, so that every request counts, compares, writes and audits.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.http import api_keys
from notifyctl.models.columns import table
from notifyctl.models.enums import OtpAction, OtpState, Scope
from notifyctl.models.otp import OtpChallenge, OtpSubject
from notifyctl.otp.codes import PepperRing
from tests.benchmarks.harness import free_port, fresh_database
from tests.support.settings import PEPPER, SECRET, make_settings
from tests.support.templates import seed_templates

PHONES = 40_000
BARE = """
import os, sys
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import text
from notifyctl.db.database import Database
database = Database(os.environ["DATABASE_URL"])
app = FastAPI()
class Asked(BaseModel):
    phone_number: str
    action: str
    code: str
@app.post("/api/otp/verify", status_code=400)
def bare(asked: Asked):
    number = int(asked.phone_number[-6:])
    with database.transaction() as session:
        session.execute(text("SELECT hits FROM bare WHERE id = :id"), {"id": number}).one()
        session.execute(text("UPDATE bare SET hits = hits + 1 WHERE id = :id"), {"id": number})
    return {"verified": False}
"""


def phone(number: int) -> str:
    return f"+4915112{number:06}"


def prepare(runtime: Runtime) -> str:
    """A live code for each phone, written as sends would have, and a row for the bare endpoint."""
    now, peppers = runtime.clock(), PepperRing(runtime.settings.otp_pepper)
    hashes = [next(iter(peppers.phone_hashes(phone(number)))) for number in range(PHONES)]
    subjects = [
        {
            "phone_hash": found, "key_id": peppers.ids[0], "failed_count": 0, "consecutive_failures": 0,
            "updated_at": now,
        }
        for found in hashes
    ]  # fmt: skip
    challenges = [
        {
            "id": f"c{number}", "phone_hash": found, "prefix_hash": "p", "action": OtpAction.PHONE_VERIFY,
            "code_hash": "0" * 32, "key_id": peppers.ids[0], "state": OtpState.LIVE, "created_at": now,
            "expires_at": now + timedelta(hours=1),
        }
        for number, found in enumerate(hashes)
    ]  # fmt: skip
    from sqlalchemy import text

    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(OtpSubject), subjects)
        bulk.insert_rows(session, table(OtpChallenge), challenges)
        session.execute(text("CREATE TABLE bare (id INTEGER PRIMARY KEY, hits INTEGER NOT NULL)"))
        rows = ", ".join(f"({number}, 0)" for number in range(PHONES))
        session.execute(text(f"INSERT INTO bare VALUES {rows}"))
        return api_keys.create(session, "bench", [Scope.OTP], expires_at=None, actor="bench", now=now)


def load(ports: list[int], key: str, seconds: float, clients: int, numbers: "count[int]") -> float:
    """Answers a second. Every client keeps its connection; clients are spread over the ports."""
    until = monotonic() + seconds

    def client(index: int) -> int:
        connection, done = HTTPConnection("127.0.0.1", ports[index % len(ports)]), 0
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while monotonic() < until:
            asked = {"phone_number": phone(next(numbers) % PHONES), "action": "PHONE_VERIFY", "code": "000000"}
            connection.request("POST", "/api/otp/verify", json.dumps(asked), headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 400, answer.status
            done += 1
        return done

    started = monotonic()
    with ThreadPoolExecutor(clients) as pool:
        total = sum(pool.map(client, range(clients)))
    return total / (monotonic() - started)


def serve(command: list[str], environment: dict[str, str], port: int) -> "subprocess.Popen[bytes]":
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while True:
        assert server.poll() is None
        try:
            create_connection(("127.0.0.1", port)).close()
        except OSError:
            sleep(0.05)
        else:
            return server


def measure(kind: str, seconds: float, clients: int) -> None:
    with fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        runtime = open_runtime(make_settings(database_url=database_url))
        seed_templates(runtime)
        key = prepare(runtime)
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DATABASE_URL": database_url,
            "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, "PYTHONPATH": str(Path(__file__).parents[2]),
        }  # fmt: skip
        numbers = count()
        for processes in (1, 2):
            rates = {}
            for name in ("bare", "verify"):
                ports = [free_port() for _ in range(processes)]
                bare = [
                    "-m",
                    "uvicorn",
                    "--app-dir",
                    str(runtime_dir()),
                    "bare:app",
                    "--http",
                    "h11",
                    "--log-level",
                    "error",
                ]
                ours = ["-m", "notifyctl", "serve"]
                servers = [
                    serve([sys.executable, *(bare if name == "bare" else ours), "--port", str(port)], environment, port)
                    for port in ports
                ]
                load(ports, key, 1, clients, numbers)
                rates[name] = load(ports, key, seconds, clients, numbers)
                for server in servers:
                    server.terminate()
                    server.wait(20)
            ratio = rates["verify"] / rates["bare"]
            print(
                f"{kind:<11} {processes} process{'es' if processes > 1 else ''}:"
                f" verify {rates['verify']:.0f}/s, bare {rates['bare']:.0f}/s ({ratio:.0%})"
            )
        with runtime.database.read() as session:
            from sqlalchemy import text

            counted = session.execute(text("SELECT sum(failed_count) FROM otp_subject")).scalar_one()
        assert counted > 0
        runtime.close()


def runtime_dir() -> Path:
    import tempfile

    folder = Path(tempfile.gettempdir()) / "notifyctl-bare-endpoint"
    folder.mkdir(exist_ok=True)
    (folder / "bare.py").write_text(BARE)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        measure(kind, arguments.seconds, arguments.clients)


if __name__ == "__main__":
    main()
