"""pgqueuer as its users would run it for SMS: an asynchronous handler, Twilio's own client, a row of a log a message.

    python -m tests.benchmarks.peers.pgqueuer_worker work DATABASE_URL PROVIDER_URL TEMPLATE
    python -m tests.benchmarks.peers.pgqueuer_worker fill DATABASE_URL < payloads.json

The batch and the number of tasks are those at which it was fastest of many that were tried.
"""

import json
import sys
from datetime import timedelta
from time import CLOCK_REALTIME, clock_gettime

import asyncpg
import uvloop
from aiohttp import ClientSession, TCPConnector
from jinja2 import Environment
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

ACCOUNT = "AC" + "0" * 32
BATCH, TASKS = 100, 400
LOG = (
    "CREATE TABLE IF NOT EXISTS sent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recipient text NOT NULL,"
    " provider_id text NOT NULL, sent_at timestamptz NOT NULL DEFAULT now())"
)


class ToProvider(AsyncTwilioHttpClient):
    """With one pool of connections that are kept, to another host."""

    def __init__(self, provider: str) -> None:
        super().__init__(pool_connections=False)
        self.provider = provider
        self.session = ClientSession(connector=TCPConnector(limit=TASKS))

    async def request(self, method: str, url: str, *given: object, **named: object) -> object:
        return await super().request(
            method, self.provider + url.removeprefix("https://api.twilio.com"), *given, **named
        )


async def work(database_url: str, provider: str, template: str) -> None:
    words = Environment().from_string(template)
    pool = await asyncpg.create_pool(database_url, min_size=4, max_size=20)
    messages = Client(ACCOUNT, "secret", http_client=ToProvider(provider)).messages
    queuer = PgQueuer(AsyncpgPoolDriver(pool))

    @queuer.entrypoint("sms")
    async def send(job: Job) -> None:
        asked = json.loads(job.payload or b"")
        sent = await messages.create_async(to=asked["to"], from_="+15005550006", body=words.render(asked["context"]))
        await pool.execute("INSERT INTO sent (recipient, provider_id) VALUES ($1, $2)", asked["to"], sent.sid)

    await queuer.run(batch_size=BATCH, max_concurrent_tasks=TASKS, dequeue_timeout=timedelta(seconds=1))


async def fill(database_url: str) -> None:
    """Each line of the input is a list of payloads, put into the queue at once; the time when it was answers it."""
    connection = await asyncpg.connect(database_url)
    queries = Queries(AsyncpgDriver(connection))
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    await connection.execute(LOG)
    for line in sys.stdin:
        payloads = [json.dumps(payload).encode() for payload in json.loads(line)]
        await queries.enqueue(["sms"] * len(payloads), list(payloads), [0] * len(payloads))
        print(clock_gettime(CLOCK_REALTIME), flush=True)


if __name__ == "__main__":
    uvloop.run({"fill": fill, "work": work}[sys.argv[1]](*sys.argv[2:]))
