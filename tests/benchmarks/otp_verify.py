"""Verify requests a second beside a bare endpoint on the same stack, at one server process.

The bare endpoint is FastAPI and SQLAlchemy with one indexed read and one update in a transaction. Each guess is a
wrong one for a phone of its own with a live code, so that every request counts, compares, writes and audits.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from time import monotonic

from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.http import api_keys
from notifyctl.models.columns import table
from notifyctl.models.enums import OtpAction, OtpState, Scope
from notifyctl.models.otp import OtpChallenge, OtpSubject
from notifyctl.otp.codes import PepperRing
from tests.benchmarks.harness import (
    DATABASES,
    NAMES,
    Figure,
    environment,
    free_port,
    fresh_store,
    main,
    measures,
    program,
    ratio,
    turns,
)

SECONDS = 2.0
"""Of a round; each server has half of that before it counts."""
CLIENTS = 16
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
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(OtpSubject), subjects)
        bulk.insert_rows(session, table(OtpChallenge), challenges)
        session.execute(text("CREATE TABLE bare (id INTEGER PRIMARY KEY, hits INTEGER NOT NULL)"))
        rows = ", ".join(f"({number}, 0)" for number in range(PHONES))
        session.execute(text(f"INSERT INTO bare VALUES {rows}"))
        return api_keys.create(session, "bench", [Scope.OTP], expires_at=None, actor="bench", now=now)


def load(port: int, key: str, seconds: float, numbers: "count[int]") -> float:
    """Answers a second. Every client keeps its connection."""
    until = monotonic() + seconds

    def client(_number: int) -> int:
        connection, done = HTTPConnection("127.0.0.1", port), 0
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
    with ThreadPoolExecutor(CLIENTS) as pool:
        total = sum(pool.map(client, range(CLIENTS)))
    return total / (monotonic() - started)


@measures("S7")
def verify(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with fresh_store(kind) as runtime, tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "bare.py").write_text(BARE)
            key, numbers, env = prepare(runtime), count(), environment(runtime.settings)
            bare_port, port = free_port(), free_port()
            bare = ("-m", "uvicorn", "--app-dir", folder, "bare:app", "--http", "h11", "--log-level", "error")
            ours = ("-m", "notifyctl", "serve", "--port", str(port))
            with (
                program(*bare, "--port", str(bare_port), env=env, port=bare_port),
                program(*ours, env=env, port=port),
            ):
                for each in (bare_port, port):
                    load(each, key, SECONDS / 2, numbers)
                runs = {
                    "bare": partial(load, bare_port, key, SECONDS, numbers),
                    "verify": partial(load, port, key, SECONDS, numbers),
                }
                found = turns(rounds, runs)
            with runtime.database.read() as session:
                assert session.execute(text("SELECT sum(failed_count) FROM otp_subject")).scalar_one() > 0
        rates = {name: statistics.median(found[name]) for name in found}
        yield Figure(
            "S7",
            f"OTP verify, to the bare endpoint, {NAMES[kind]}",
            ratio(found["verify"], found["bare"]),
            at_least=0.6,
            beside=f"{rates['verify']:.0f}/s, bare {rates['bare']:.0f}/s",
        )


if __name__ == "__main__":
    main()
