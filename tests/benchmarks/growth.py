"""What everyday work costs beside millions of finished messages, beside the same with few, in one run.

    python -m tests.benchmarks.growth [--finished 30000000] [--waiting 1000000] [--database sqlite|postgresql]
        [--small URL --big URL]

Both stores have the same traffic in the last hour. Each round does everything once in the small store and once in the
big one; what is written is rolled back. Quote the ratios. Thirty million messages need 50 GB and half an hour to write.
`--small` and `--big` name stores that an earlier run, or nobody, has filled.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Event, Thread
from time import perf_counter, sleep

import requests
from sqlalchemy import text
from sqlmodel import Session

from notifyctl.audit import chain, row_store, seal_store
from notifyctl.audit import log as audit_log
from notifyctl.audit import seal as audit_seal
from notifyctl.audit.chain import SealKeys
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.delivery import outbox, result_store
from notifyctl.delivery.outbox import Queue
from notifyctl.delivery.receipts import apply
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.health import summary
from notifyctl.health.problems import problems
from notifyctl.http import api_keys
from notifyctl.http.server import create_app
from notifyctl.models.enums import Channel, Lane, MessageStatus, Scope
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.retention.retention import Retention
from notifyctl.retention.retention import count as count_removable
from tests.benchmarks.harness import environment, fresh_database, provider
from tests.support.api import serving
from tests.support.big_store import Size, fill
from tests.support.messages import REMINDER
from tests.support.receipts import a_receipt
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

BATCH = 100
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEVER = "0" * 32
LISTED = {
    "everything": lambda now: MessageFilter(),
    **{f"--status {status}": (lambda now, status=status: MessageFilter(status=status)) for status in MessageStatus},
    "--template, rare": lambda now: MessageFilter(template_key="OPS_ALERT_SMS"),
    "--template, common": lambda now: MessageFilter(template_key="OTP_CODE_SMS"),
    "--client": lambda now: MessageFilter(client_id="c77"),
    "--to": lambda now: MessageFilter(recipient_hashes=[NEVER]),
    "--since": lambda now: MessageFilter(since=now - HOUR),
    "--until": lambda now: MessageFilter(until=now - 600 * DAY),
    "reason, rare": lambda now: MessageFilter(reason="CLIENT_UNKNOWN"),
    "channel": lambda now: MessageFilter(channel=Channel.SMS),
}


class Store:
    def __init__(self, runtime: Runtime, url: str, key: str) -> None:
        self.runtime, self._url, self._key = runtime, url, key
        self._numbers = count()
        with runtime.database.read() as session:
            sent = MessageFilter(status=MessageStatus.SENT, channel=Channel.EMAIL, until=runtime.clock() - HOUR)
            self._sent = message_store.find(session, sent, limit=1_000)

    @contextmanager
    def _undone(self) -> Iterator[Session]:
        with self.runtime.database.transaction() as session, session.begin_nested() as work:
            yield session
            work.rollback()

    def send(self) -> None:
        number = next(self._numbers)
        with self._undone() as session:
            request = SendRequest(
                template_key="COMPLIANCE_EXPIRY_REMINDER",
                client_id="c9",
                context=REMINDER | {"item_reference": f"bench-{number}"},
                idempotency_key=f"bench-{number}",
            )
            self.runtime.orchestrator.send(session, request)

    def claim(self) -> None:
        with self._undone() as session:
            self._claim(session)

    def _claim(self, session: Session) -> list[outbox.DueMessage]:
        now = self.runtime.clock()
        queue = Queue(Lane.BULK, MessageStatus.QUEUED)
        assert outbox.due(session, Channel.EMAIL, now=now, most=BATCH)[queue] == BATCH
        due = outbox.lock_due(session, Channel.EMAIL, queue, now=now, most=BATCH)
        ids = [message.id for message in due]
        outbox.claim(session, ids, owner="bench", provider="postmark", now=now, lease_until=now + HOUR)
        return due

    def claim_and_record(self) -> None:
        now = self.runtime.clock()
        with self._undone() as session:
            results = [
                AttemptResult(
                    id=message.id,
                    lease_generation=message.lease_generation + 1,
                    status=MessageStatus.SENT,
                    provider_message_id=f"b-{message.id}",
                    sent_at=now,
                )
                for message in self._claim(session)
            ]
            assert len(result_store.record(session, "bench", results)) == BATCH

    def receipt(self) -> None:
        row = self._sent[next(self._numbers) % len(self._sent)]
        receipt = a_receipt(None, provider_message_id=row.provider_message_id, event_id=f"bench {next(self._numbers)}")
        with self._undone() as session:
            assert apply.apply(session, self.runtime.keys, receipt, now=self.runtime.clock()) is apply.Result.APPLIED

    def listed(self, name: str) -> Callable[[], None]:
        def look() -> None:
            with self.runtime.database.read() as session:
                message_store.find(session, LISTED[name](self.runtime.clock()), limit=50)

        return look

    def explain(self) -> None:
        row = self._sent[next(self._numbers) % len(self._sent)]
        with self.runtime.database.read() as session:
            assert message_store.get(session, row.id)
            assert len(audit_log.of_message(session, row.id)) == 2

    def summary(self) -> None:
        with self.runtime.database.read() as session:
            found = summary.read_health(session, self.runtime.settings, self.runtime.clock(), HOUR)
            summary.summary(found, problems(found))

    def timeseries(self) -> None:
        with self.runtime.database.read() as session:
            summary.timeseries(session, self.runtime.clock(), window_minutes=60, bucket_minutes=5)

    def metrics(self) -> None:
        answer = requests.get(f"{self._url}/metrics", headers={"Authorization": f"Bearer {self._key}"}, timeout=600)
        assert answer.status_code == 200

    def retention_dry_run(self) -> None:
        with self.runtime.database.read() as session:
            count_removable(session, self.runtime.settings, self.runtime.clock())

    def work(self) -> dict[str, Callable[[], None]]:
        return {
            "send": self.send,
            f"claim {BATCH}": self.claim,
            f"claim and record {BATCH}": self.claim_and_record,
            "receipt": self.receipt,
            **{f"list {name}": self.listed(name) for name in LISTED},
            "explain": self.explain,
            "summary": self.summary,
            "timeseries": self.timeseries,
            "/metrics": self.metrics,
            "retention, dry run": self.retention_dry_run,
        }


def opened(stack: ExitStack, database_url: str, size: Size | None) -> Store:
    migrations.upgrade(Database(database_url))
    runtime = open_runtime(make_settings(database_url=database_url))
    stack.callback(runtime.close)
    if size is not None:
        seed_templates(runtime)
        fill(runtime, size, runtime.clock())
    with runtime.database.transaction() as session:
        name = f"growth {runtime.clock():%H%M%S%f}"
        key = api_keys.create(session, name, [Scope.READ], actor="test", now=runtime.clock(), expires_at=None)
    return Store(runtime, stack.enter_context(serving(create_app(runtime))), key)


def milliseconds(do: Callable[[], None]) -> float:
    started = perf_counter()
    do()
    return (perf_counter() - started) * 1_000


def compare(kind: str, small: Store, big: Store, rounds: int, only: str) -> None:
    beside = zip(small.work().items(), big.work().values(), strict=True)
    for (name, in_small), in_big in beside:
        if only not in name:
            continue
        taken: list[tuple[float, float]] = []
        for _ in range(rounds + 2):
            taken.append((milliseconds(in_small), milliseconds(in_big)))
            if sum(taken[-1]) > 5_000:
                break
        few, many = (statistics.median(each) for each in zip(*taken[2:] or taken, strict=True))
        print(f"{kind:<11} {name:<28} {few:>9.2f} ms {many:>9.2f} ms   x{many / few:.2f}", flush=True)


def sizes(store: Store) -> None:
    """In bytes a message, of tables and indexes."""
    listed = text(
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relkind IN ('r', 'i')"
        " AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 30"
    )
    messages = text("SELECT reltuples FROM pg_class WHERE oid = 'message_log'::regclass")
    with store.runtime.database.read() as session:
        of = float(session.execute(messages).scalar_one())
        for name, size in session.execute(listed):
            print(f"{name:<40} {size / 1e6:>9,.0f} MB {size / of:>7.0f} bytes a message")


def retention_beside_a_worker(store: Store, seconds: float) -> None:
    """The oldest month goes while a real worker sends; by turns retention rests, so that both rates are of one run."""
    runtime = store.runtime
    with runtime.database.read() as session:
        oldest = session.execute(
            text("SELECT min(created_at) FROM (SELECT created_at FROM message_log ORDER BY id LIMIT 1) AS first")
        ).scalar_one()
    oldest = datetime.fromisoformat(str(oldest)).replace(tzinfo=UTC)
    days = (runtime.clock() - oldest).days - 29
    ages = {"notification_retention_message_days": days, "notification_retention_audit_days": 36_500}
    may_go, has_ended = Event(), Event()
    began = perf_counter()
    retention = Retention(
        runtime.database, runtime.settings.model_copy(update=ages), runtime.clock, actor="bench",
        stopping=lambda: not may_go.wait() or has_ended.is_set(),
    )  # fmt: skip
    removed: list[int] = []
    rates: dict[str, list[float]] = {"alone": [], "beside": []}
    with provider(0) as provider_url, working(runtime, provider_url):
        wait_until(lambda: sent_since(store, 5) > 0)
        thread = Thread(target=lambda: removed.append(retention.run().removed.messages))
        thread.start()
        busy = 0.0
        while thread.is_alive():
            for name, gate in (("alone", may_go.clear), ("beside", may_go.set)):
                gate()
                sleep(1)
                sleep(seconds)
                rates[name].append(sent_since(store, seconds))
            busy += seconds + 1
        may_go.set()
        thread.join()
    alone, beside = (statistics.median(each) for each in rates.values())
    print(f"removed {sum(removed):,} messages in {busy:.0f} s of work ({perf_counter() - began:.0f} s in all)")
    print(f"a worker sends {alone:,.0f}/s alone, {beside:,.0f}/s beside it: {beside / alone:.0%}", flush=True)


def sent_since(store: Store, seconds: float) -> float:
    """A second."""
    counted = text("SELECT count(*) FROM message_log WHERE sent_at IS NOT NULL AND sent_at >= :since")
    since = store.runtime.clock() - timedelta(seconds=seconds)
    value = f"{since:%Y-%m-%d %H:%M:%S.%f}" if store.runtime.database.is_sqlite else since
    with store.runtime.database.read() as session:
        return float(session.execute(counted, {"since": value}).scalar_one()) / seconds


def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        sleep(0.2)


def seal_as_one(runtime: Runtime) -> None:
    """All audit rows, as if they were one: to seal sixty million takes a worker hours."""
    with runtime.database.transaction() as session:
        last = row_store.page(session, after=row_store.highest_id(session) - 1)
        seal = chain.seal_of(
            last, audit_seal.tip_in(session), SealKeys(runtime.settings.notification_secret_key), runtime.clock()
        )
        texts = {name: chain.text(getattr(seal, name)) for name in ("previous_digest", "key_id", "digest", "mac")}
        seal_store.add(session, seal._asdict() | texts | {"sealed_at": runtime.clock()})


@contextmanager
def working(runtime: Runtime, provider_url: str) -> Iterator[None]:
    settings = runtime.settings.model_copy(update={"postmark_api_url": provider_url, "twilio_api_url": provider_url})
    seal_as_one(runtime)
    command = [sys.executable, "-m", "notifyctl", "worker"]
    # It has jobs of its own, and this is not about them.
    kept = {f"NOTIFICATION_RETENTION_{what}_DAYS": "36500" for what in ("MESSAGE", "CONTEXT", "AUDIT")}
    with subprocess.Popen(command, env=environment(settings) | kept, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finished", type=int, default=30_000_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--retention", type=float, metavar="SECONDS", help="as well, in turns of so many seconds")
    parser.add_argument("--small")
    parser.add_argument("--big")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.small:
            stores = (opened(stack, url, None) for url in (arguments.small, arguments.big))
            small, big = stores
            compare("given", small, big, arguments.rounds, arguments.only)
            if arguments.retention:
                retention_beside_a_worker(big, arguments.retention)
            return
        for kind in arguments.database or ["sqlite", "postgresql"]:
            small_size = Size(100_000, waiting=10_000)
            small = opened(stack, stack.enter_context(fresh_database(kind)), small_size)
            big_size = Size(arguments.finished, waiting=arguments.waiting)
            big = opened(stack, stack.enter_context(fresh_database(kind)), big_size)
            compare(kind, small, big, arguments.rounds, arguments.only)
            if kind == "postgresql":
                sizes(big)
            if arguments.retention:
                retention_beside_a_worker(big, arguments.retention)


if __name__ == "__main__":
    main()
