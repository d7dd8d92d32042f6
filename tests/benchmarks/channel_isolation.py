"""What a hanging provider of one channel costs the other: the rate of emails with Twilio well and with Twilio hanging.

    python -m tests.benchmarks.channel_isolation [--messages 10000] [--rounds 3] [--database sqlite|postgresql]

One worker serves both channels. Quote the ratio.
"""

import argparse
import statistics
from threading import Thread
from time import perf_counter

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Fault, Faults, Sandbox
from notifyctl.worker.worker import Worker
from tests.benchmarks.harness import DATABASES, fresh_store, provider, queue, ratio, sent, turns, wait_until

PLENTY = 100_000_000


def rate_of_emails(runtime: Runtime, twilio: Sandbox, messages: int, *, hangs: bool) -> float:
    """The worker runs until every email is sent, whatever becomes of the SMS."""
    twilio.set_faults(Channel.SMS, Faults((Fault("hang"),) if hangs else ()))
    before = sent(runtime, Channel.EMAIL)
    queue(runtime, Channel.EMAIL, messages)
    queue(runtime, Channel.SMS, 100)
    worker = Worker(runtime, build_senders(runtime.settings, list(Channel), 100))
    running = Thread(target=worker.run)
    started = perf_counter()
    running.start()
    wait_until(lambda: sent(runtime, Channel.EMAIL) == before + messages)
    seconds = perf_counter() - started
    worker.stop()
    running.join()
    hung = len(twilio.presented(Channel.SMS)) - twilio.accepted(Channel.SMS)
    assert (hung > 0) is hangs, "the SMS did not do what this round is about"
    twilio.clear()
    return messages / seconds


def measure(kind: str, messages: int, rounds: int) -> None:
    with provider() as postmark, Sandbox() as twilio:
        limits = {f"notification_{channel}_per_minute_limit": PLENTY for channel in ("email", "sms")}
        with fresh_store(kind, postmark_api_url=postmark, twilio_api_url=twilio.url, **limits) as runtime:
            runs = {
                "well": lambda: rate_of_emails(runtime, twilio, messages, hangs=False),
                "hanging": lambda: rate_of_emails(runtime, twilio, messages, hangs=True),
            }
            rates = turns(rounds, runs)
    told = ", ".join(f"{statistics.median(found):,.0f}/s with Twilio {name}" for name, found in rates.items())
    print(f"{kind:<11} emails {told}: {ratio(rates['hanging'], rates['well']):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=DATABASES, action="append")
    arguments = parser.parse_args()
    for kind in arguments.database or DATABASES:
        measure(kind, arguments.messages, arguments.rounds)


if __name__ == "__main__":
    main()
