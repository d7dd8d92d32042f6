"""A server on a real socket that answers by script, rightly or wrongly: one step for each request."""

import contextlib
import ipaddress
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """A well-formed answer on a connection that stays open. `body` is JSON unless it is text."""

    status: int
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        body = (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()
        headers = {"Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Bytes:
    """Exactly these bytes in answer to a request, then the end of the connection."""

    content: bytes


class Step:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


HANG = Step("reads the request and never answers")
CUT_AFTER_READING = Step("reads the request and closes the connection")
RESET_AFTER_READING = Step("reads the request and resets the connection")
CUT_BEFORE_READING = Step("closes the connection before it reads the request")
STOP_READING = Step("reads only the head of the request, then hangs")

Script = Reply | Bytes | Step


class ScriptedServer:
    """Steps are taken in the order in which requests come; the last one is repeated."""

    def __init__(self, *script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = deque(script)
        self._tls = tls
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()
        self.requests: list[Request] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def follow(self, *script: Script) -> None:
        """From the next request on."""
        with self._lock:
            self._script = deque(script)

    def wait_until_disconnected(self) -> None:
        """Until this end of every connection is closed."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._connections, timeout=5)

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with self._changed:
            self._connections.add(connection)
        with contextlib.suppress(OSError), self._secured(connection) as stream:
            while not self._stopping.is_set() and self._take_step(stream):
                pass
        with self._changed:
            self._connections.remove(connection)
            self._changed.notify_all()

    @contextlib.contextmanager
    def _secured(self, connection: socket.socket) -> Iterator[socket.socket]:
        with connection:
            if self._tls is None:
                yield connection
                return
            with self._tls.wrap_socket(connection, server_side=True) as stream:
                yield stream

    def _next_step(self) -> Script:
        with self._lock:
            return self._script.popleft() if len(self._script) > 1 else self._script[0]

    def _take_step(self, stream: socket.socket) -> bool:
        """Whether the connection stays open."""
        head = b""
        if self._script[0] is CUT_BEFORE_READING:
            self._next_step()
            return False
        while b"\r\n\r\n" not in head:
            chunk = stream.recv(1 if self._script[0] is STOP_READING else 65536)
            if not chunk:
                return False
            head += chunk
        step = self._next_step()
        if step is STOP_READING:
            self._stopping.wait()
            return False
        self.requests.append(_read(stream, head))
        return self._answer(stream, step)

    def _answer(self, stream: socket.socket, step: Script) -> bool:
        match step:
            case Reply():
                stream.sendall(step.encoded())
                return True
            case Bytes():
                stream.sendall(step.content)
            case _ if step is HANG:
                self._stopping.wait()
            case _ if step is RESET_AFTER_READING:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def _read(stream: socket.socket, received: bytes) -> Request:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    missing = int(headers.get("content-length", "0")) - len(body)
    while missing > 0 and (chunk := stream.recv(65536)):
        body += chunk
        missing -= len(chunk)
    return Request(first.split(" ")[1], headers, body)


def closed_port() -> str:
    """The URL of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def deaf_port() -> Iterator[str]:
    """The URL of a port whose queue of connections is full: connecting to it takes for ever."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listening.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(address)
        yield f"http://127.0.0.1:{address[1]}"


def self_signed_context(folder: Path) -> ssl.SSLContext:
    """A server's certificate for 127.0.0.1 that no authority vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _context(folder, key, _certificate("127.0.0.1", key, key, "127.0.0.1"))


def private_authority(folder: Path, host: str = "127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """An authority's certificate as a PEM file, and a server for 127.0.0.1 with one that it signed, for `host`."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("Acme Root", authority_key, authority_key, "Acme Root", is_authority=True)
    file = folder / "authority.pem"
    file.write_bytes(authority.public_bytes(Encoding.PEM))
    return file, _context(folder, key, _certificate(host, key, authority_key, "Acme Root"))


def _context(folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    pem = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    signing_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        with contextlib.suppress(ValueError):
            address = x509.IPAddress(ipaddress.ip_address(subject))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(signing_key, hashes.SHA256())
