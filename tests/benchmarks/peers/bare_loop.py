"""The bare loop: claim 500, render, send, record 500 in one commit, and nothing else.

    python -m tests.benchmarks.peers.bare_loop DATABASE_URL PROVIDER_URL SMS|EMAIL CONNECTIONS

What one process can do on this machine that loses messages when it dies, knows no limit, asks nobody and leaves no
trace: no gates, leases, audit, seals, retries. It uses nothing of notifyctl. SMS go out over CONNECTIONS at once by
libcurl's multi interface; of emails one batch is out while the next is claimed and rendered. The first line of its
input has the words; it prints when the last commit had returned, and ends with its input.
"""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from itertools import chain
from time import CLOCK_REALTIME, clock_gettime
from typing import Any
from urllib.parse import urlencode

import psycopg
import pycurl
from jinja2 import Environment

try:
    from orjson import dumps, loads
except ImportError:
    from json import loads

    def dumps(value: object) -> bytes:
        return json.dumps(value).encode()


CLAIM = 500
ACCOUNT = "AC" + "0" * 32
Row = tuple[int, str, str]
"""Its number, its recipient, and the values for its words as JSON."""
Sent = tuple[int, str]
"""The number and the provider's id."""


class PostgreSQL:
    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def fill(self, rows: Sequence[Row]) -> None:
        self.connection.execute("DROP TABLE IF EXISTS bare")
        self.connection.execute(
            "CREATE TABLE bare (id bigint PRIMARY KEY, recipient text, context text, status text, provider_id text,"
            " sent_at timestamptz)"
        )
        self.connection.execute("CREATE INDEX ON bare (id) WHERE status = 'QUEUED'")
        with self.connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN") as copy:
            for row in rows:
                copy.write_row((*row, "QUEUED", None, None))
        self.connection.execute("VACUUM ANALYZE bare")

    def close(self) -> None:
        self.connection.close()

    def claim(self) -> list[Row]:
        return self.connection.execute(
            "UPDATE bare SET status = 'SENDING' WHERE id = ANY(ARRAY(SELECT id FROM bare WHERE status = 'QUEUED'"
            " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING id, recipient, context",
            (CLAIM,),
        ).fetchall()

    def record(self, sent: Sequence[Sent]) -> None:
        ids, names = zip(*sent, strict=True)
        self.connection.execute(
            "UPDATE bare SET status = 'SENT', provider_id = name, sent_at = now()"
            " FROM unnest(%s::bigint[], %s::text[]) AS sent (number, name) WHERE id = number",
            (list(ids), list(names)),
        )

    def sent(self) -> int:
        return self.connection.execute("SELECT count(*) FROM bare WHERE status = 'SENT'").fetchall()[0][0]


class SQLite:
    def __init__(self, url: str) -> None:
        self.connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
        self.connection.execute("PRAGMA synchronous = FULL")

    def fill(self, rows: Sequence[Row]) -> None:
        self.connection.execute("DROP TABLE IF EXISTS bare")
        self.connection.execute(
            "CREATE TABLE bare (id integer PRIMARY KEY, recipient text, context text, status text, provider_id text,"
            " sent_at real)"
        )
        self.connection.execute("CREATE INDEX ix_bare ON bare (id) WHERE status = 'QUEUED'")
        self.connection.execute("BEGIN")
        self.connection.executemany("INSERT INTO bare VALUES (?, ?, ?, 'QUEUED', NULL, NULL)", rows)
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()

    def claim(self) -> list[Row]:
        return self.connection.execute(
            "UPDATE bare SET status = 'SENDING' WHERE id IN (SELECT id FROM bare WHERE status = 'QUEUED' ORDER BY id"
            " LIMIT ?) RETURNING id, recipient, context",
            (CLAIM,),
        ).fetchall()

    def record(self, sent: Sequence[Sent]) -> None:
        self.connection.execute(
            "UPDATE bare SET status = 'SENT', provider_id = value ->> 1, sent_at = unixepoch('subsec')"
            " FROM json_each(?) WHERE bare.id = value ->> 0",
            (dumps(sent).decode(),),
        )

    def sent(self) -> int:
        return self.connection.execute("SELECT count(*) FROM bare WHERE status = 'SENT'").fetchone()[0]


def store_of(url: str) -> PostgreSQL | SQLite:
    return (SQLite if url.startswith("sqlite") else PostgreSQL)(url)


class Words:
    """Templates as they stand in the store, compiled once; what ours may use besides is not in them."""

    def __init__(self, subject: str | None, text_body: str, html_body: str | None) -> None:
        self.subject, self.text = (Environment().from_string(part or "") for part in (subject, text_body))
        self.html = Environment(autoescape=True).from_string(html_body or "")


def sms(store: PostgreSQL | SQLite, words: Words, provider: str, connections: int) -> None:
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, connections)
    free = [handle(f"{provider}/2010-04-01/Accounts/{ACCOUNT}/Messages.json") for _ in range(connections)]
    for curl in free:
        curl.setopt(pycurl.USERPWD, f"{ACCOUNT}:secret")
    waiting: list[Row] = []
    sent: list[Sent] = []
    is_empty = False
    while True:
        if len(waiting) < len(free) and not is_empty:
            claimed = store.claim()
            is_empty = not claimed
            waiting += claimed
        while free and waiting:
            curl = free.pop()
            curl.number, to, context = waiting.pop()
            form = {"To": to, "From": "+15005550006", "Body": words.text.render(loads(context))}
            curl.setopt(pycurl.POSTFIELDS, urlencode(form))
            curl.answer = BytesIO()
            curl.setopt(pycurl.WRITEDATA, curl.answer)
            multi.add_handle(curl)
        multi.perform()
        for curl in finished(multi):
            sent.append((curl.number, loads(curl.answer.getvalue())["sid"]))
            free.append(curl)
        if len(sent) >= CLAIM or (is_empty and sent and len(free) == connections):
            store.record(sent)
            sent.clear()
        if is_empty and not waiting and len(free) == connections:
            return
        if not free or is_empty:
            multi.select(0.1)


def finished(multi: pycurl.CurlMulti) -> Iterator[pycurl.Curl]:
    more = 1
    while more:
        more, done, failed = multi.info_read()
        assert not failed, failed
        for curl in done:
            multi.remove_handle(curl)
            yield curl


def emails(store: PostgreSQL | SQLite, words: Words, provider: str) -> None:
    curl = handle(f"{provider}/email/batch")
    curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "X-Postmark-Server-Token: x", "Expect:"])

    def post(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answer = BytesIO()
        curl.setopt(pycurl.POSTFIELDS, dumps(batch))
        curl.setopt(pycurl.WRITEDATA, answer)
        curl.perform()
        return loads(answer.getvalue())

    def batches() -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
        while rows := store.claim():
            values = [loads(context) for _, _, context in rows]
            yield [number for number, _, _ in rows], [
                {
                    "From": "hello@acme.example", "To": to, "Subject": words.subject.render(value),
                    "TextBody": words.text.render(value), "HtmlBody": words.html.render(value),
                    "Metadata": {"id": str(number)},
                }
                for (number, to, _), value in zip(rows, values, strict=True)
            ]  # fmt: skip

    with ThreadPoolExecutor(1) as out:
        calling: Callable[[], list[dict[str, Any]]] | None = None
        numbers: list[int] = []
        for next_numbers, batch in chain(batches(), [([], [])]):
            if calling is not None:
                store.record([(n, told["MessageID"]) for n, told in zip(numbers, calling(), strict=True)])
            if batch:
                numbers, calling = next_numbers, out.submit(post, batch).result


def handle(url: str) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.POST, 1)
    curl.setopt(pycurl.NOSIGNAL, 1)
    return curl


def main() -> None:
    url, provider, channel, connections = sys.argv[1:]
    words = Words(**json.loads(sys.stdin.readline()))
    store = store_of(url)
    with closing(store):
        if channel == "SMS":
            sms(store, words, provider, int(connections))
        else:
            emails(store, words, provider)
        print(clock_gettime(CLOCK_REALTIME), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
