"""From the request of a one-time code to the provider's call, on an idle system: p50 and p95.

    python -m tests.benchmarks.otp_latency [--codes 60] [--database sqlite|postgresql|pooled]

A real server and a real worker; the request is POST /api/otp/send on a connection that is kept, the call is when the
sandbox read it. `pooled` is PostgreSQL behind PgBouncer in transaction mode, where nobody can listen: what
it costs to ask instead is printed as well.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

import psycopg

from notifyctl.bootstrap import open_runtime
from notifyctl.db import migrations, wakeup
from notifyctl.db.database import Database
from notifyctl.http import api_keys
from notifyctl.models.enums import Channel, Scope
from notifyctl.sandbox import Sandbox
from tests.benchmarks.harness import free_port, fresh_database
from tests.benchmarks.otp_verify import serve
from tests.support.poolers import start_pooler
from tests.support.processes import Processes
from tests.support.settings import PEPPER, SECRET, make_settings
from tests.support.templates import seed_templates

GAP_SECONDS = 0.25
QUESTIONS = 20_000


@contextmanager
def database_of(kind: str) -> Iterator[str]:
    with fresh_database("postgresql" if kind == "pooled" else kind) as database_url, ExitStack() as ending:
        migrations.upgrade(Database(database_url))
        if kind != "pooled":
            yield database_url
            return
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        programs = Processes(folder, None)
        ending.callback(programs.end)
        yield start_pooler(database_url, programs, "transaction")


def cost_of_a_question(database_url: str) -> str:
    """Of those that a worker asks again and again where it cannot listen."""
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid() AS server").fetchone() or (0,)
        before, asked_at = seconds_at_work(pid), monotonic()
        for _ in range(QUESTIONS):
            connection.execute("SELECT pg_current_snapshot()::text").fetchone()
        each = (monotonic() - asked_at) / QUESTIONS
        at_work = (seconds_at_work(pid) - before) / QUESTIONS
    share = at_work / wakeup.POLL_SECONDS
    return (
        f"{each * 1000:.2f} ms, {at_work * 1e6:.0f} µs of the server's CPU; an idle worker costs {share:.2%} of a core"
    )


def seconds_at_work(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def measure(kind: str, codes: int) -> None:
    with Sandbox() as sandbox, database_of(kind) as database_url:
        runtime = open_runtime(make_settings(database_url=database_url))
        seed_templates(runtime)
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DATABASE_URL": database_url,
            "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, "EMAIL_SENDER": "hello@acme.example",
            "POSTMARK_SERVER_TOKEN": "x", "POSTMARK_API_URL": sandbox.url, "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
            "TWILIO_AUTH_TOKEN": "x", "TWILIO_FROM_NUMBER": "+15005550006", "TWILIO_API_URL": sandbox.url,
            "NOTIFICATION_SMS_PER_MINUTE_LIMIT": "100000",
        }  # fmt: skip
        command = [sys.executable, "-m", "notifyctl", "worker"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:
            port = free_port()
            server = serve([sys.executable, "-m", "notifyctl", "serve", "--port", str(port)], environment, port)
            sleep(3)
            with runtime.database.transaction() as session:
                key = api_keys.create(
                    session, "bench", [Scope.OTP], expires_at=None, actor="bench", now=runtime.clock()
                )
            question = cost_of_a_question(database_url) if kind == "pooled" else ""
            connection = HTTPConnection("127.0.0.1", port)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            asked = []
            for number in range(codes + 3):
                body = json.dumps({"phone_number": f"+4915112{number:06}", "action": "PHONE_VERIFY"})
                asked.append(monotonic())
                connection.request("POST", "/api/otp/send", body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 202
                sleep(GAP_SECONDS)
            worker.terminate()
            server.terminate()
            server.wait(20)
        called = sandbox.presented(Channel.SMS)
        runtime.close()
    assert len(called) == len(asked)
    # The first ones fill caches and open connections.
    waits = sorted((after - before) * 1000 for before, after in zip(asked[3:], called[3:], strict=True))
    print(f"{kind:<11} p50 {statistics.median(waits):.1f} ms, p95 {waits[int(len(waits) * 0.95)]:.1f} ms")
    if question:
        print(f"{kind:<11} a question takes {question}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, default=60)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "pooled"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        measure(kind, arguments.codes)


if __name__ == "__main__":
    main()
