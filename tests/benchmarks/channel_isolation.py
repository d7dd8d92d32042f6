"""What a hanging provider of one channel costs the other: the rate of emails with Twilio well and with Twilio hanging.

    python -m tests.benchmarks.channel_isolation [--messages 10000] [--rounds 3] [--database sqlite|postgresql]

One worker process serves both channels. Quote the ratio.
"""

import argparse
import statistics
from time import perf_counter, sleep

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Fault, Faults, Sandbox
from notifyctl.worker.worker import Worker
from tests.benchmarks.harness import fresh_database, provider, queue, rewind, sent
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

PLENTY = 100_000_000


def rate_of_emails(runtime: Runtime, messages: int) -> float:
    """The worker runs until every email is sent, whatever becomes of the SMS."""
    from threading import Thread

    worker = Worker(runtime, build_senders(runtime.settings, list(Channel), 100))
    running = Thread(target=worker.run)
    started = perf_counter()
    running.start()
    while sent(runtime, Channel.EMAIL) < messages:
        sleep(0.02)
    seconds = perf_counter() - started
    worker.stop()
    running.join()
    return messages / seconds


def measure(kind: str, arguments: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {"both well": [], "Twilio hangs": []}
    with provider(0) as postmark, Sandbox() as twilio, fresh_database(kind) as database_url:
        migrations.upgrade(Database(database_url))
        settings = make_settings(
            database_url=database_url,
            postmark_api_url=postmark,
            twilio_api_url=twilio.url,
            notification_email_per_minute_limit=PLENTY,
            notification_sms_per_minute_limit=PLENTY,
        )
        runtime = open_runtime(settings)
        seed_templates(runtime)
        queue(runtime, Channel.EMAIL, arguments.messages)
        queue(runtime, Channel.SMS, 100)
        for _ in range(arguments.rounds):
            for name, found in rates.items():
                rewind(runtime)
                faults = (Fault("hang"),) if name == "Twilio hangs" else ()
                twilio.set_faults(Channel.SMS, Faults(faults))
                found.append(rate_of_emails(runtime, arguments.messages))
                hung = len(twilio.presented(Channel.SMS)) - twilio.accepted(Channel.SMS)
                assert (hung > 0) is (name == "Twilio hangs"), "the SMS did not do what this round is about"
                twilio.clear()
        runtime.close()
    well, hanging = (statistics.median(found) for found in rates.values())
    print(
        f"{kind:<11} emails {well:,.0f}/s with Twilio well, {hanging:,.0f}/s with Twilio hanging: {hanging / well:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or ["sqlite", "postgresql"]:
        measure(kind, arguments)


if __name__ == "__main__":
    main()
