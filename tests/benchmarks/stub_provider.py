"""A provider that only answers: as little work as possible for each request, so that the sender is what is measured.

    python -m tests.benchmarks.stub_provider PORT [LATENCY_MS]

Speaks the part of Postmark and Twilio that a sender needs. GET /count says how many messages it has; GET /arrivals says
when each came and for whom, and forgets them.
"""

import asyncio
import json
import sys
from itertools import count
from time import CLOCK_REALTIME, clock_gettime
from urllib.parse import unquote_plus

try:
    from orjson import dumps, loads
    from uvloop import run
except ImportError:  # the extra `bench` has them; to look at one figure, what is always there will do
    from asyncio import run
    from json import loads

    def dumps(value: object) -> bytes:
        return json.dumps(value).encode()


ids = count(1)
arrived: list[tuple[float, str]] = []
"""When, by the wall clock, and for which recipient; of an SMS as it stands in the form."""


class Stub(asyncio.Protocol):
    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        self.needed = 0

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        while len(self.buffer) > self.needed:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head, begin = self.buffer[:end], end + 4
            self.needed = begin + _content_length(head)
            if len(self.buffer) < self.needed:
                if len(self.buffer) == begin and b"100-continue" in head:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.needed -= 1
                return
            body, self.buffer = self.buffer[begin : self.needed], self.buffer[self.needed :]
            self.needed = 0
            self.respond(head, body)

    def respond(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            self._write(_told(head))
            return
        answer = _sms(body) if b"Messages.json" in head[:120] else _batch(body)
        if self.latency:
            asyncio.get_running_loop().call_later(self.latency, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _told(head: bytes) -> bytes:
    path = head.split(b" ", 2)[1]
    if path == b"/count":
        return _answer(b"200 OK", b"%d" % len(arrived))
    if path == b"/arrivals":
        answer = _answer(b"200 OK", dumps([(at, unquote_plus(to)) for at, to in arrived]))
        arrived.clear()
        return answer
    return _answer(b"404 Not Found", b"{}")  # to whoever looks up what became of a message


def _sms(body: bytes) -> bytes:
    form = b"&" + body
    to = form[form.find(b"&To=") + 4 :].split(b"&", 1)[0]
    arrived.append((clock_gettime(CLOCK_REALTIME), to.decode()))
    return _answer(b"201 Created", b'{"sid": "SM%032x", "status": "queued", "error_code": null}' % next(ids))


def _batch(body: bytes) -> bytes:
    items = loads(body)
    now = clock_gettime(CLOCK_REALTIME)
    arrived.extend((now, item["To"]) for item in items)
    told = {"ErrorCode": 0, "Message": "OK"}
    return _answer(b"200 OK", dumps([told | {"To": item["To"], "MessageID": f"{next(ids):032x}"} for item in items]))


async def serve(port: int, latency_ms: float) -> None:
    Stub.latency = latency_ms / 1000
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
