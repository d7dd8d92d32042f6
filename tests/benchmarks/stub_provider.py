"""A provider that only answers: as little work as possible for each request, so that the sender is what is measured.

python tests/benchmarks/stub_provider.py PORT [LATENCY_MS]
"""

import asyncio
import json
import sys
from itertools import count

_ids = count(1)


class Stub(asyncio.Protocol):
    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, separator, rest = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            length = _content_length(head)
            if len(rest) < length:
                if b"100-continue" in head and not rest:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body, self.buffer = rest[:length], rest[length:]
            answer = (
                NOT_FOUND if head.startswith(b"GET") else _sms() if b"Messages.json" in head[:120] else _batch(body)
            )
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self._answer, answer)
            else:
                self._answer(answer)

    def _answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
"""To whoever looks up what became of a message."""


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _sms() -> bytes:
    body = b'{"sid": "SM%032x", "status": "queued", "error_code": null}' % next(_ids)
    return b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _batch(body: bytes) -> bytes:
    items = [
        {"To": item["To"], "MessageID": f"{next(_ids):032x}", "ErrorCode": 0, "Message": "OK"}
        for item in json.loads(body)
    ]
    answer = json.dumps(items).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(answer),
        answer,
    )


async def serve(port: int, latency_ms: float) -> None:
    Stub.latency = latency_ms / 1000
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
