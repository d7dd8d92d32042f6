"""From the request of a one-time code to the provider's call, on an idle system: p50 and p95.

    python tests/benchmarks/otp_latency.py [--codes 60] [--database sqlite|postgresql]

A real server and a real worker; the request is POST /api/otp/send on a connection that is kept, the call is when the
sandbox read it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from otp_verify import free_port, serve
from worker_rate import fresh_database

from notifyctl.bootstrap import open_runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.http import api_keys
from notifyctl.models.enums import Channel, Scope
from notifyctl.sandbox import Sandbox
from tests.support.settings import PEPPER, SECRET, make_settings
from tests.support.templates import seed_templates

GAP_SECONDS = 0.25


def measure(kind: str, codes: int) -> None:
    with Sandbox() as sandbox, fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, default=60)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        measure(kind, arguments.codes)


if __name__ == "__main__":
    main()
