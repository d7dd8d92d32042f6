"""What it costs senders to wake workers. How soon those are at work is told by pick_up.

    python -m tests.benchmarks.notify [--seconds 1] [--rounds 12]

Senders are threads of up to 8 processes, each with transactions of one message: an INSERT and nothing else, or a whole
`send`. Somebody listens. A trigger that notifies (as there was one until revision 0013), our word after the commit, and
no word at all take turns of a second, on a PostgreSQL of its own; quote the ratios.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import randrange
from threading import Event, Thread
from time import monotonic

from sqlalchemy import text
from sqlmodel import Session

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import wakeup
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.requests import SendRequest
from tests.benchmarks.harness import fresh_store
from tests.support.messages import CODE, code_pipe
from tests.support.settings import make_settings

NONE, AFTER_COMMIT, TRIGGER = "no word", "after the commit", "a trigger"
PROCESSES = 8
INSERT = text(
    "INSERT INTO message_log (id, channel, audience, template_key, template_version, recipient, source, rate_subject,"
    " status, attempts, lane, next_attempt_at, created_at, lease_generation) VALUES (gen_random_uuid(), 'SMS',"
    " 'CLIENT', 'X', 1, 'x', 'api', '', 'QUEUED', 0, 'URGENT', now(), now(), 0)"
)


def sender(url: str, threads: int, what: str) -> None:
    """A process of senders. For each line `seconds how` it prints how many messages it has committed."""
    runtime = open_runtime(make_settings(database_url=url, database_pool_size=threads + 4))
    write, wake = (insert if what == "insert" else send), wakeup.wake_after_commit
    with runtime.database.transaction() as session:
        write(runtime, session)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, how = line.split(maxsplit=1)
        wakeup.wake_after_commit = wake if how.strip() == AFTER_COMMIT else lambda session, channels: None
        ends_at = monotonic() + float(seconds)
        counts = [0] * threads

        def run(place: int, ends_at: float = ends_at, counts: list[int] = counts) -> None:
            while monotonic() < ends_at:
                with runtime.database.transaction() as session:
                    write(runtime, session)
                counts[place] += 1

        running = [Thread(target=run, args=(place,)) for place in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        print(sum(counts), flush=True)
    runtime.close()


def insert(_runtime: Runtime, session: Session) -> None:
    session.execute(INSERT)
    wakeup.wake_after_commit(session, {Channel.SMS})


def send(runtime: Runtime, session: Session) -> None:
    recipient = f"+49151{randrange(10**8):08}"
    code_pipe(runtime).send(session, SendRequest(template_key="OTP_CODE_SMS", context=CODE, recipient=recipient))


@contextmanager
def senders_of(url: str, senders: int, what: str) -> Iterator[Callable[[float, str], float]]:
    """From seconds, and how workers are woken, to messages a second."""
    processes = min(senders, PROCESSES)
    command = [sys.executable, "-m", "tests.benchmarks.notify", "--sender", url, str(senders // processes), what]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    pipes = [(process.stdin, process.stdout) for process in running if process.stdin and process.stdout]
    for _, output in pipes:
        assert output.readline() == "ready\n"

    def rate(seconds: float, how: str) -> float:
        for line, _ in pipes:
            line.write(f"{seconds} {how}\n")
            line.flush()
        return sum(int(output.readline()) for _, output in pipes) / seconds

    yield rate
    for process in running:
        process.communicate()
        assert process.returncode == 0


def set_trigger(database: Database, is_there: bool) -> None:
    with database.transaction() as session:
        session.execute(text("TRUNCATE message_log, message_payload"))
        session.execute(text("DROP TRIGGER IF EXISTS wakes ON message_log"))
        session.execute(
            text(
                "CREATE OR REPLACE FUNCTION wakes() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_notify('notifyctl', ''); RETURN NULL; END $$"
            )
        )
        if is_there:
            trigger = "CREATE TRIGGER wakes AFTER INSERT ON message_log FOR EACH STATEMENT EXECUTE FUNCTION wakes()"
            session.execute(text(trigger))


@contextmanager
def listening(database: Database) -> Iterator[None]:
    stop = Event()

    def hear() -> None:
        watcher = wakeup.Watcher(database)
        while not stop.is_set():
            watcher.wait(0.5)
        watcher.close()

    thread = Thread(target=hear)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure_senders(runtime: Runtime, arguments: argparse.Namespace) -> None:
    database, url = runtime.database, runtime.settings.database_url
    for what in arguments.what or ("insert", "send"):
        for senders in arguments.senders or (1, 8, 64):
            rates: dict[str, list[float]] = {NONE: [], AFTER_COMMIT: [], TRIGGER: []}
            with listening(database), senders_of(url, senders, what) as rate:
                for number in range(arguments.rounds):
                    # Each goes first as often as the others.
                    for how in sorted(rates, reverse=number % 2 == 1):
                        set_trigger(database, how == TRIGGER)
                        rates[how].append(rate(arguments.seconds, how))
            without = statistics.mean(rates[NONE])
            for how, found in rates.items():
                about = f"{what:<7} {senders:>3} senders  {how:<17}"
                mean = statistics.mean(found)
                print(f"{about} {mean:>7,.0f}/s  {mean / without:>5.0%}", flush=True)
    set_trigger(database, False)


def main() -> None:
    if sys.argv[1:2] == ["--sender"]:
        url, threads, what = sys.argv[2:]
        sender(url, int(threads), what)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--senders", type=int, action="append")
    parser.add_argument("--what", choices=["insert", "send"], action="append")
    arguments = parser.parse_args()
    with fresh_store("postgresql") as runtime:
        measure_senders(runtime, arguments)


if __name__ == "__main__":
    main()
