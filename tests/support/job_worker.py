"""A real worker whose jobs are probes: `python job_worker.py FILE NAME=BEHAVIOUR …`, settings from the environment.

Each run of a probe writes a line to FILE when it begins, so that a test can count what was really done.
"""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import sleep

from notifyctl.bootstrap import open_runtime
from notifyctl.errors import DatabaseError
from notifyctl.models.enums import Channel
from notifyctl.providers.registry import build_senders
from notifyctl.settings import Settings
from notifyctl.worker import worker as daemon
from notifyctl.worker.jobs import runs, scheduler
from notifyctl.worker.jobs.registry import Job, JobContext
from notifyctl.worker.logging import configure_logging
from notifyctl.worker.worker import Worker

PERIOD = timedelta(seconds=2)


def hurry() -> None:
    """What a worker does every five or ten seconds, this one does every second or two."""
    scheduler.BUSY_SECONDS = 1
    runs.RENEW_SECONDS = 1
    runs.GRACE_SECONDS = 0.5
    daemon.UPKEEP_SECONDS = 2.0


def hang(_: JobContext) -> str:
    Event().wait()
    return "never"


def work(_: JobContext) -> str:
    """Is over before another looks: a run that is on its way would hide that its slot is not claimed for good."""
    return "worked"


def end_when_told(context: JobContext) -> str:
    while not context.stopping():
        sleep(0.02)
    return "ended early"


def fail(_: JobContext) -> str:
    raise ValueError("no such thing as +4915112345678")


def lose_the_database(_: JobContext) -> str:
    raise DatabaseError("the database is away")


BEHAVIOURS: dict[str, Callable[[JobContext], str]] = {
    "work": work,
    "hang": hang,
    "obey": end_when_told,
    "fail": fail,
    "database": lose_the_database,
}


def probe(file: Path, name: str, behaviour: str, every: timedelta) -> Job:
    def do(context: JobContext) -> str:
        with file.open("a") as written:
            written.write(f"{name} {os.getpid()}\n")
        return BEHAVIOURS[behaviour](context)

    return Job(name, every, do)


def main() -> None:
    configure_logging()
    hurry()
    file = Path(sys.argv[1])
    jobs = []
    for given in sys.argv[2:]:
        name, behaviour, *seconds = given.split("=")
        jobs.append(probe(file, name, behaviour, timedelta(seconds=int(seconds[0])) if seconds else PERIOD))
    runtime = open_runtime(Settings(_env_file=None))
    senders = build_senders(runtime.settings, list(Channel), 10)
    worker = Worker(runtime, senders, jobs=jobs)
    worker.stop_on_signals()
    worker.run()
    runtime.close()


if __name__ == "__main__":
    main()
