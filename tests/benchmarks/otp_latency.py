"""From the request of a one-time code to the provider's call, on an idle system: p50 and p95.

    python tests/benchmarks/otp_latency.py [--codes 60] [--database sqlite|postgresql]

A real worker process; the request is one `send` in a transaction of its own, the call is when the sandbox read it.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from conftest import PEPPER, SECRET, make_settings, seed_templates
from factories import CODE, send
from worker_rate import fresh_database

from notifyctl.bootstrap import open_runtime
from notifyctl.models.template import Channel
from notifyctl.providers.sandbox import Sandbox
from notifyctl.store import migrations
from notifyctl.store.database import Database

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
            sleep(3)
            asked = []
            for number in range(codes + 3):
                asked.append(monotonic())
                send(runtime, "OTP_CODE_SMS", CODE, recipient=f"+4915112{number:06}")
                sleep(GAP_SECONDS)
            worker.terminate()
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
