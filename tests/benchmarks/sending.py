"""How fast workers send a backlog, beside the bare loop and pgqueuer in the same run.

    python -m tests.benchmarks.sending [--rounds 5] [--only S1,S2,S3,S10]

A rate is from the first request that reaches the provider to the last commit: a daemon starts once. Exposure is from
the provider's answer to our commit: what is in doubt when a worker is killed in between.
"""

import json
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen
from threading import Event, Thread
from time import CLOCK_REALTIME, clock_gettime, sleep
from typing import TypeVar

import psycopg
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel
from tests.benchmarks import harness
from tests.benchmarks.harness import DATABASES, NAMES, Figure, Provider, measures, program, ratio, turns, wait_until
from tests.benchmarks.peers import bare_loop

SLOW_MS = 50
MESSAGES, OF_PGQUEUER = {0: 20_000, SLOW_MS: 10_000}, 8_000
"""By the provider's latency: enough for some seconds."""
CONNECTIONS = {0: 16, SLOW_MS: 400}
"""Of the bare loop: those with which it was fastest."""
EXPOSED_MS = {
    ("postgresql", Channel.SMS): 28,
    ("sqlite", Channel.SMS): 32,
    ("postgresql", Channel.EMAIL): 65,
    ("sqlite", Channel.EMAIL): 90,
}
"""At p95, before the work on speed began, on the machine of docs/performance.md."""
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    per_second: float
    cpu_us: Sequence[float]
    """Of the sender's processes and of PostgreSQL's, a message."""
    exposures_ms: Sequence[float] = ()


class Field:
    """A store, a provider, and those who send from the one to the other."""

    def __init__(self, runtime: Runtime, provider: Provider, channel: Channel, latency_ms: int) -> None:
        self._runtime, self._channel, self._latency_ms = runtime, channel, latency_ms
        self._url, self._provider, self._messages = runtime.settings.database_url, provider, MESSAGES[latency_ms]
        words = "SELECT subject, text_body, html_body FROM notification_template_version WHERE template_key = :key"
        with runtime.database.read() as session:
            found = session.execute(text(words), {"key": harness.TEMPLATES[channel]}).mappings().one()
        self._server = None if runtime.database.is_sqlite else server_of(self._url)
        self._words = {name: found[name] for name in ("subject", "text_body", "html_body")}

    def ours(self, *flags: str) -> Run:
        harness.queue(self._runtime, self._channel, self._messages)
        environment = harness.environment(self._runtime.settings)
        with Commits(self._runtime) as commits, program("-m", "notifyctl", "worker", *flags, env=environment) as worker:

            def finished() -> dict[str, float]:
                wait_until(lambda: not self._is_waiting())
                return commits.of_recipients()

            arrived, cpu_us, committed = self._measured([worker], self._messages, finished)
        assert arrived.keys() == committed.keys()
        exposures = [(committed[to] - came) * 1000 - self._latency_ms for to, came in arrived.items()]
        return Run(rate(arrived, max(committed.values())), cpu_us, exposures)

    def bare(self) -> Run:
        with closing(bare_loop.store_of(self._url)) as store:
            store.fill([(n, self._recipient(n), json.dumps(harness.values(n))) for n in range(self._messages)])
            arguments = (self._url, self._provider.url, self._channel.value, str(CONNECTIONS[self._latency_ms]))
            command = ("-m", "tests.benchmarks.peers.bare_loop", *arguments)
            with program(*command, env=harness.environment(self._runtime.settings), stdin=PIPE, stdout=PIPE) as loop:
                harness.tell(loop, self._words)
                arrived, cpu_us, ended_at = self._measured([loop], self._messages, lambda: float(harness.heard(loop)))
            assert store.sent() == self._messages
        return Run(rate(arrived, ended_at), cpu_us)

    def pgqueuer(self) -> Run:
        """Two processes of it, as it is fastest."""
        module = ("-m", "tests.benchmarks.peers.pgqueuer_worker")
        environment = harness.environment(self._runtime.settings)
        with ExitStack() as stack:
            peer = stack.enter_context(a_database(self._url, "peer"))
            fill = stack.enter_context(program(*module, "fill", peer, env=environment, stdin=PIPE, stdout=PIPE))
            for first in range(0, OF_PGQUEUER, 1_000):
                harness.tell(
                    fill,
                    [{"to": self._recipient(n), "context": harness.values(n)} for n in range(first, first + 1_000)],
                )
                harness.heard(fill)
            command = (*module, "work", peer, self._provider.url, self._words["text_body"])
            workers = [stack.enter_context(program(*command, env=environment)) for _ in range(2)]
            connection = stack.enter_context(psycopg.connect(peer, autocommit=True))

            def finished() -> float:
                counted = "SELECT count(*), extract(epoch FROM max(sent_at))::float8 FROM sent"
                wait_until(lambda: connection.execute(counted).fetchall()[0][0] == OF_PGQUEUER)
                return float(connection.execute(counted).fetchall()[0][1])

            arrived, cpu_us, ended_at = self._measured(workers, OF_PGQUEUER, finished)
        return Run(rate(arrived, ended_at), cpu_us)

    def _measured(
        self, processes: Sequence[Popen[bytes]], messages: int, finished: Callable[[], T]
    ) -> tuple[dict[str, float], Sequence[float], T]:
        """When each message came to the provider, what CPU one took, and what `finished` says."""
        wait_until(lambda: self._provider.count() > 0)
        begun = self._spent(processes)
        wait_until(lambda: self._provider.count() >= messages)
        last = finished()
        spent = [after - before for before, after in zip(begun, self._spent(processes), strict=True)]
        return self._provider.arrivals(), [seconds * 1e6 / messages for seconds in spent], last

    def _spent(self, processes: Sequence[Popen[bytes]]) -> tuple[float, float]:
        """Seconds of CPU by the senders, and by PostgreSQL."""
        server = 0 if self._server is None else harness.cpu_seconds(self._server)
        return sum(harness.cpu_seconds(process.pid) for process in processes), server

    def _is_waiting(self) -> bool:
        unfinished = text("SELECT 1 FROM message_log WHERE status NOT IN ('SENT', 'DELIVERED') LIMIT 1")
        with self._runtime.database.read() as session:
            return session.execute(unfinished).first() is not None

    def _recipient(self, number: int) -> str:
        return f"+4915{number:09}" if self._channel is Channel.SMS else f"c{number}@client.example"


def rate(arrived: dict[str, float], ended_at: float) -> float:
    return len(arrived) / (ended_at - min(arrived.values()))


def server_of(url: str) -> int:
    """The process from which all of PostgreSQL's descend."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchall()
    return int(rows[0][0].split()[0])


@contextmanager
def a_database(url: str, name: str) -> Iterator[str]:
    """Beside the one of this URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        yield url.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


class Commits:
    """When the record of each message was committed, by the wall clock: its audit row stays as it was written.

    PostgreSQL says so. SQLite is looked at every 2 ms: what was the last audit row then?
    """

    LAST = text("SELECT coalesce(max(id), 0) FROM audit_log")

    def __init__(self, runtime: Runtime) -> None:
        self._database = runtime.database
        self._seen: list[tuple[int, float]] = []
        """The last audit row, and since when."""
        self._has_ended = Event()
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> "Commits":
        with self._database.read() as session:
            self._before: int = session.execute(self.LAST).scalar_one()
        if self._database.is_sqlite:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        if self._database.is_sqlite:
            self._thread.join()

    def _watch(self) -> None:
        version = -1
        with self._database.engine.connect() as connection:
            driver = connection.connection.cursor()
            while not self._has_ended.is_set():
                sleep(0.002)
                if (now := driver.execute("PRAGMA data_version").fetchone()[0]) != version:
                    at, version = clock_gettime(CLOCK_REALTIME), now
                    self._seen.append((driver.execute(self.LAST.text).fetchone()[0], at))

    def of_recipients(self) -> dict[str, float]:
        at = "0" if self._database.is_sqlite else "extract(epoch FROM pg_xact_commit_timestamp(audit_log.xmin))::float8"
        rows = text(
            f"SELECT recipient, audit_log.id, {at} FROM audit_log JOIN message_log ON message_log.id = message_id"
            " WHERE audit_log.id > :before AND action = 'NOTIFICATION_SENT'"
        )
        with self._database.read() as session:
            found = session.execute(rows, {"before": self._before}).all()
        if not self._database.is_sqlite:
            return {recipient: when for recipient, _, when in found}
        wait_until(lambda: self._seen[-1][0] >= max(number for _, number, _ in found))
        ends = [last for last, _ in self._seen]
        return {recipient: self._seen[bisect_left(ends, number)][1] for recipient, number, _ in found}


@contextmanager
def a_field(kind: str, channel: Channel, latency_ms: int = 0) -> Iterator[Field]:
    # PostgreSQL keeps for us when it committed what.
    with harness.store_and_provider(kind, latency_ms, track_commit_timestamp="on") as (runtime, provider):
        yield Field(runtime, provider, channel, latency_ms)


def of(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    return ratio([run.per_second for run in ours], [run.per_second for run in theirs])


def told(runs: Sequence[Run]) -> str:
    per_second = statistics.median(run.per_second for run in runs)
    here, there = (statistics.median(each) for each in zip(*(run.cpu_us for run in runs), strict=True))
    return f"{per_second:,.0f}/s ({here:,.0f}{f' + {there:,.0f}' if there else ''} us)"


def exposure(what: str, kind: str, channel: Channel, runs: Sequence[Run]) -> Figure:
    p50, p95 = (statistics.median(harness.percentile(run.exposures_ms, share) for run in runs) for share in (0.5, 0.95))
    return Figure(
        "S10", f"{what}, exposure p95", p95, "ms", at_most=EXPOSED_MS[kind, channel], beside=f"p50 {p50:.0f} ms"
    )


@measures("S1", "S10")
def sms(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with a_field(kind, Channel.SMS) as field:
            runs = {"ours": field.ours, "bare": field.bare}
            if kind == "postgresql":
                runs |= {"two": lambda field=field: field.ours("--processes", "2"), "pgqueuer": field.pgqueuer}
            found = turns(rounds, runs)
        name, ours = f"SMS, {NAMES[kind]}", found["ours"]
        beside = f"{told(ours)} beside {told(found['bare'])}"
        yield Figure(
            "S1", f"{name}, one process, of the bare loop", of(ours, found["bare"]), at_least=0.45, beside=beside
        )
        if kind == "postgresql":
            two, peer = found["two"], found["pgqueuer"]
            yield Figure("S1", f"{name}, two processes, of one", of(two, ours), at_least=1.7, beside=told(two))
            yield Figure("S1", f"{name}, one process, of pgqueuer with two", of(ours, peer), beside=told(peer))
        yield exposure(name, kind, Channel.SMS, ours)


@measures("S2", "S10")
def emails(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with a_field(kind, Channel.EMAIL) as field:
            found = turns(rounds, {"ours": field.ours, "bare": field.bare})
        name, ours, bare = f"email, {NAMES[kind]}", found["ours"], found["bare"]
        beside = f"{told(ours)} beside {told(bare)}"
        yield Figure("S2", f"{name}, one process, of the bare loop", of(ours, bare), at_least=0.6, beside=beside)
        yield exposure(name, kind, Channel.EMAIL, ours)


@measures("S3")
def slow_provider(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with a_field(kind, Channel.SMS, SLOW_MS) as field:
            runs = {"ours": field.ours, "bare": field.bare}
            found = turns(rounds, runs | ({"pgqueuer": field.pgqueuer} if kind == "postgresql" else {}))
        name, ours = f"SMS at {SLOW_MS} ms, {NAMES[kind]}", found["ours"]
        beside = f"{told(ours)} beside {told(found['bare'])}"
        yield Figure("S3", f"{name}, of the bare loop", of(ours, found["bare"]), at_least=0.6, beside=beside)
        if peer := found.get("pgqueuer"):
            yield Figure("S3", f"{name}, of pgqueuer with two", of(ours, peer), at_least=2, beside=told(peer))


if __name__ == "__main__":
    harness.main()
