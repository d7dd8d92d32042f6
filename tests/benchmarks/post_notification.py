"""POST /api/notifications a second, beside a bare FastAPI endpoint with one insert, in the same run.

    python -m tests.benchmarks.post_notification [--rounds 5]

Both servers run from the beginning, one process each, and take turns. The bare endpoint (peers/bare_notifications.py)
checks a body like ours with pydantic and inserts one row by `engine.begin()`, under uvicorn with asyncio's loop; on
SQLite it is as durable as ours. Every request of ours is for a client of its own, with an idempotency key. Clients keep
their connections; CPU is that of the server's process.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from statistics import median
from subprocess import Popen
from time import monotonic

from notifyctl.http import api_keys
from notifyctl.models.enums import Scope
from tests.benchmarks import harness
from tests.benchmarks.harness import DATABASES, NAMES, Figure, cpu_seconds, fresh_store, measures, program, ratio, turns
from tests.benchmarks.send import UNRATED, prepare
from tests.support.messages import REMINDER

BARE, OURS = "bare", "ours"
AT_LEAST = {1: 0.5, 8: 0.6, 32: 0.6}
"""Of the bare endpoint, by how many clients ask at once."""
SECONDS = 2.0
MESSAGES = 100_000
"""Clients to write to, in turn."""
numbers = count()


async def load(port: int, key: str, seconds: float, clients: int) -> float:
    """Answers a second."""
    until = monotonic() + seconds

    async def client() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        done = 0
        while monotonic() < until:
            number = next(numbers)
            asked = {"template_key": UNRATED, "client_id": f"c{number % MESSAGES}", "context": REMINDER}
            body = json.dumps(asked | {"idempotency_key": f"post {number}"}).encode()
            head = f"POST /api/notifications HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 202"), answer
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert b"QUEUED" in await reader.readexactly(length)
            done += 1
        writer.close()
        return done

    started = monotonic()
    done = sum(await asyncio.gather(*(client() for _ in range(clients))))
    return done / (monotonic() - started)


def measured(server: Popen[bytes], port: int, key: str, clients: int) -> tuple[float, float]:
    """Answers a second, and CPU of the server in microseconds for each."""
    before = cpu_seconds(server.pid)
    rate = asyncio.run(load(port, key, SECONDS, clients))
    return rate, (cpu_seconds(server.pid) - before) * 1e6 / (rate * SECONDS)


def told(runs: Sequence[tuple[float, float]]) -> str:
    rates, cpu = zip(*runs, strict=True)
    return f"{median(rates):,.0f}/s ({median(cpu):,.0f} us)"


@measures("S6")
def posts(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with fresh_store(kind) as runtime, ExitStack() as stack:
            prepare(runtime, MESSAGES)
            with runtime.database.transaction() as session:
                key = api_keys.create(session, "bench", [Scope.SEND], expires_at=None, actor="b", now=runtime.clock())
            url = runtime.settings.database_url
            # A file of its own: on SQLite, whoever writes last makes the other read its pages anew.
            bare_url = url.replace("postgresql://", "postgresql+psycopg://").replace("notifyctl.db", "bare.db")
            environment = harness.environment(runtime.settings) | {"BARE_URL": bare_url}
            app = "tests.benchmarks.peers.bare_notifications:app"
            quiet = ("--log-level", "error", "--no-access-log")
            commands = {
                BARE: ("-m", "uvicorn", app, "--loop", "asyncio", *quiet),
                OURS: ("-m", "notifyctl", "serve"),
            }
            runs = {}
            for name, command in commands.items():
                port = harness.free_port()
                server = stack.enter_context(program(*command, "--port", str(port), env=environment, port=port))
                for clients in AT_LEAST:
                    runs[clients, name] = lambda given=(server, port, key, clients): measured(*given)
            turns(1, runs)  # to warm up
            found = turns(rounds, runs)
        for clients, at_least in AT_LEAST.items():
            ours, bare = (found[clients, name] for name in (OURS, BARE))
            beside = f"{told(ours)} beside {told(bare)}"
            what = f"POST, {clients} client{'s' * (clients > 1)}, {NAMES[kind]}, of a bare endpoint"
            yield Figure(
                "S6",
                what,
                ratio([rate for rate, _ in ours], [rate for rate, _ in bare]),
                at_least=at_least,
                beside=beside,
            )


if __name__ == "__main__":
    harness.main()
