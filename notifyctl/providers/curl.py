"""HTTP over libcurl that knows, after a failure, whether the request may have arrived."""

import io
import math
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pycurl as untyped_pycurl

from notifyctl.providers.certificates import ADVICE, Authorities, public_authorities
from notifyctl.providers.contract import CONNECT_TIMEOUT

# Its names come from a C module without stubs.
pycurl: Any = untyped_pycurl
Handle = Any

MAX_IDLE_SECONDS = 30
"""Load balancers close connections that were idle for 60 s or more, perhaps just as we write to one."""

HELD_UP_SECONDS = 0.5
"""A thread that comes back later than this was not listening: the time is its own, and not the server's."""

_ERROR_NAMES = {
    value: name.removeprefix("E_")
    for name, value in sorted(vars(pycurl).items(), reverse=True)
    if name.startswith("E_") and not name.startswith(("E_MULTI_", "E_FTP_PARTIAL_FILE"))
}
_NOT_TRUSTED = frozenset({"PEER_FAILED_VERIFICATION", "SSL_CACERT_BADFILE", "SSL_ISSUER_ERROR"})
_ABOUT_THE_NAME = "subject name"
"""Of a certificate that is trusted, but is another host's."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    header_lines: tuple[bytes, ...]
    body: bytes
    url: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def site(self) -> str:
        """Who was asked: scheme, host and port, without a password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def header(self, name: str) -> str | None:
        prefix = f"{name}:".lower().encode()
        for line in reversed(self.header_lines):
            if line.lower().startswith(prefix):
                return line[len(prefix) :].decode("latin-1").strip()
        return None


@dataclass(frozen=True, slots=True)
class TransferFailure:
    """No whole answer came. `may_have_arrived` is False only if the server cannot have seen the whole request."""

    code: str
    detail: str
    may_have_arrived: bool
    received: HttpAnswer | None = None
    """What came of an answer that was cut off, or did not end: it may be all there, and only its length be wrong."""


Outcome = HttpAnswer | TransferFailure


class Transfer:
    """One GET or POST at a time on a libcurl handle, which is used again so that its connection stays open.

    libcurl sends a request again by itself when a kept-alive connection ends without an answer, although the
    server may have acted on the first. It cannot with a POST whose body it is unable to rewind: hence READFUNCTION
    without a SEEKFUNCTION, and never POSTFIELDS. How far libcurl has read also tells whether all can have arrived.
    """

    def __init__(self, timeout_seconds: float, authorities: Authorities | None = None) -> None:
        """`authorities`: the public ones unless others are named."""
        self._authorities = authorities or public_authorities()
        self._upload = io.BytesIO()
        self._download = io.BytesIO()
        self._header_lines: list[bytes] = []
        self._size = 0
        self._url: str | None = None
        self._headers: Sequence[str] = ()
        self.send_by: float | None = None
        """By time.monotonic. Asked while the body is handed over: a process that was frozen meanwhile, and wakes up to
        find that others have sent it, gives up what it has not written."""
        self._timeout_seconds = timeout_seconds
        self._held_up_seconds = 0.0
        self.started_at = 0.0
        self.answer_by: float | None = None
        """By time.monotonic, once libcurl's own limits were put off: it sets no alarm for the new ones."""
        self.handle = _new_handle(timeout_seconds, self._authorities)
        self.handle.setopt(pycurl.READFUNCTION, self._read)
        self.handle.setopt(pycurl.WRITEFUNCTION, self._download.write)
        self.handle.setopt(pycurl.HEADERFUNCTION, self._take_header_line)

    def prepare(self, url: str, headers: Sequence[str], body: bytes | None) -> None:
        """A POST of `body`, or a GET when that is None. Has no `send_by` any more."""
        self.send_by = None
        if self._held_up_seconds:
            self._held_up_seconds, self.answer_by = 0.0, None
            self._limit()
        _refill(self._upload, body or b"")
        _refill(self._download, b"")
        self._header_lines.clear()
        self._size = len(body or b"")
        self.handle.setopt(pycurl.HTTPGET if body is None else pycurl.POST, 1)
        self.handle.setopt(pycurl.POSTFIELDSIZE_LARGE, self._size)
        if url != self._url:
            self.handle.setopt(pycurl.URL, url.encode())
            self._url = url
        if headers is not self._headers:
            # Without an empty Expect, libcurl waits up to a second for "100 Continue" before a large body.
            self.handle.setopt(pycurl.HTTPHEADER, [line.encode() for line in (*headers, "Expect:")])
            self._headers = headers

    def perform(self, timeout_seconds: float) -> Outcome:
        """Blocks until the answer is there or `timeout_seconds` have passed."""
        self.handle.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_seconds * 1000)))
        self.handle.setopt(pycurl.FRESH_CONNECT, _is_ended(self.handle.getinfo(pycurl.ACTIVESOCKET)))
        try:
            self.handle.perform()
        except pycurl.error as error:
            return self.failure(*error.args)
        return self.answer()

    def _take_header_line(self, line: bytes) -> None:
        """Of the last head that comes: what a proxy says before it lets us through is no part of the answer."""
        if line.startswith(b"HTTP/"):
            self._header_lines.clear()
        self._header_lines.append(line)

    def _read(self, size: int) -> bytes | int:
        if self.send_by is not None and monotonic() > self.send_by:
            return int(pycurl.READFUNC_ABORT)
        return self._upload.read(size)

    def answer(self) -> HttpAnswer:
        status = self.handle.getinfo(pycurl.RESPONSE_CODE)
        return HttpAnswer(status, tuple(self._header_lines), self._download.getvalue(), self._url or "")

    def failure(self, number: int, message: str) -> TransferFailure:
        read_by_libcurl = self._upload.tell()
        code = _ERROR_NAMES.get(number, f"CURL_{number}")
        detail = message or code
        if code in _NOT_TRUSTED and _ABOUT_THE_NAME not in detail:
            detail = f"{detail}; trusted: {self._authorities}; {ADVICE}"
        if "CONNECT tunnel failed" in detail:
            detail = (
                f"{detail}, from the proxy that HTTPS_PROXY or ALL_PROXY names; check its login and what it lets out"
            )
        received = self.answer()
        known = received if received.status and received.body else None
        return TransferFailure(code, detail, may_have_arrived=read_by_libcurl >= self._size, received=known)

    def allow(self, seconds: float, left_at: float) -> None:
        """The server has so much longer: until `left_at`, and again from now on, somebody listened to it."""
        if self.answer_by is None:
            self.answer_by = self.started_at + self._timeout_seconds
        if self.answer_by <= left_at:
            return  # its time was over before
        self.answer_by += seconds
        self._held_up_seconds += seconds
        self._limit()

    def _limit(self) -> None:
        more = self._held_up_seconds
        self.handle.setopt(pycurl.TIMEOUT_MS, int((self._timeout_seconds + more) * 1000))
        self.handle.setopt(pycurl.CONNECTTIMEOUT_MS, int((CONNECT_TIMEOUT.total_seconds() + more) * 1000))

    def close(self) -> None:
        self.handle.close()


def _new_handle(timeout_seconds: float, authorities: Authorities) -> Handle:
    handle = pycurl.Curl()
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    handle.setopt(pycurl.FOLLOWLOCATION, 0)
    _trust(handle, authorities)
    # Nothing is asked for compressed, but what something on the way compresses is read all the same.
    handle.setopt(pycurl.ACCEPT_ENCODING, "identity")
    handle.setopt(pycurl.TCP_NODELAY, 1)
    handle.setopt(pycurl.TCP_KEEPALIVE, 1)
    handle.setopt(pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(CONNECT_TIMEOUT.total_seconds() * 1000))
    handle.setopt(pycurl.TIMEOUT_MS, int(timeout_seconds * 1000))
    # Otherwise libcurl may raise SIGALRM in whatever thread is running.
    handle.setopt(pycurl.NOSIGNAL, 1)
    return handle


def _trust(handle: Handle, authorities: Authorities) -> None:
    """By the provider itself, and by a proxy that is itself reached by HTTPS."""
    # As bytes: pycurl takes text for ASCII, and a path may have any letter in it.
    files = [os.fsencode(path) for path in authorities.files]
    if len(files) == 1:
        handle.setopt(pycurl.CAINFO, files[0])
        handle.setopt(pycurl.PROXY_CAINFO, files[0])
    elif files:
        handle.setopt(pycurl.CAINFO_BLOB, authorities.pem())
        handle.setopt(pycurl.PROXY_CAINFO_BLOB, authorities.pem())
    if authorities.folders:
        folders = os.fsencode(os.pathsep.join(authorities.folders))
        handle.setopt(pycurl.CAPATH, folders)
        handle.setopt(pycurl.PROXY_CAPATH, folders)


def _is_ended(descriptor: int) -> bool:
    """Whether the server has ended this idle connection. libcurl itself looks at most once a second."""
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _refill(buffer: io.BytesIO, content: bytes) -> None:
    buffer.seek(0)
    buffer.truncate(buffer.write(content))
    buffer.seek(0)


class Transfers:
    """Up to `concurrency` transfers at once, run by the thread that calls `wait`.

    Waits with `poll`, since CurlMulti.select cannot see file descriptors above 1023. libcurl has a descriptor watched
    anew for each request, and to tell poll of that takes no system call.

    A thread that was held up between two calls, by a database or by a signal that stopped the process, finds the
    answers that have come meanwhile: without `_make_up` libcurl would look at its clock first, and call them lost.
    """

    def __init__(self, concurrency: int, timeout_seconds: float, authorities: Authorities | None = None) -> None:
        self._timeout_seconds = timeout_seconds
        self._authorities = authorities or public_authorities()
        self._all, self._idle = list[Transfer](), list[Transfer]()
        self._running: dict[Handle, Transfer] = {}
        self._poll = select.poll()
        self._watched = set[int]()
        self._timer: float | None = None
        self._left_at = monotonic()
        self._put_off: set[Transfer] = set()
        """Those that got more time than libcurl was told when they began."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, concurrency)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def borrow(self) -> Transfer:
        if not self._idle:
            self._idle = [Transfer(self._timeout_seconds, self._authorities)]
            self._all += self._idle
            self._idle[0].handle.setopt(pycurl.UPLOAD_BUFFERSIZE, 16_384)  # an SMS is one, and each keeps its buffer
        return self._idle.pop()

    def give_back(self, transfer: Transfer) -> None:
        self._idle.append(transfer)

    def start(self, transfer: Transfer) -> None:
        transfer.started_at = monotonic()
        self._running[transfer.handle] = transfer
        self._multi.add_handle(transfer.handle)

    def push(self) -> None:
        """Dials and sends what has just been started, as far as that goes without waiting."""
        self._make_up(self._left_at)
        self._fire_timer()
        self._left_at = monotonic()

    def wait(self, timeout_seconds: float) -> list[tuple[Transfer, Outcome]]:
        """What has finished, once something has; empty when nothing did in time."""
        deadline = monotonic() + timeout_seconds
        self._make_up(self._left_at)
        while True:
            self._fire_timer()
            finished = self._finished() or self._overdue()
            self._left_at = monotonic()
            left = deadline - self._left_at
            if finished or left <= 0 or not self._running:
                return finished
            seconds = self._until_timer(left)
            ready = self._poll.poll(math.ceil(seconds * 1000))
            self._make_up(self._left_at + seconds)
            for descriptor, events in ready:
                self._multi.socket_action(descriptor, _curl_events(events))

    def _make_up(self, expected_at: float) -> None:
        """Gives every transfer the time that has passed since this thread should have been here."""
        late = monotonic() - expected_at
        if late > HELD_UP_SECONDS:
            for transfer in self._running.values():
                transfer.allow(late, expected_at)
            self._put_off.update(self._running.values())

    def _overdue(self) -> list[tuple[Transfer, Outcome]]:
        now = monotonic()
        overdue = [waiting for waiting in self._put_off if waiting.answer_by is not None and waiting.answer_by <= now]
        cause = pycurl.E_OPERATION_TIMEDOUT, "no answer in time"
        return [(self._stop(transfer.handle), transfer.failure(*cause)) for transfer in overdue]

    def _finished(self) -> list[tuple[Transfer, Outcome]]:
        finished: list[tuple[Transfer, Outcome]] = []
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read(len(self._running) or 1)
            for handle in succeeded:
                transfer = self._stop(handle)
                finished.append((transfer, transfer.answer()))
            for handle, number, message in failed:
                transfer = self._stop(handle)
                finished.append((transfer, transfer.failure(number, message)))
        return finished

    def _stop(self, handle: Handle) -> Transfer:
        self._multi.remove_handle(handle)
        stopped = self._running.pop(handle)
        self._put_off.discard(stopped)
        return stopped

    def _fire_timer(self) -> None:
        if self._timer is not None and monotonic() >= self._timer:
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _until_timer(self, seconds: float) -> float:
        alarms = [transfer.answer_by for transfer in self._put_off if transfer.answer_by is not None]
        if self._timer is not None:
            alarms.append(self._timer)
        return max(0.0, min(seconds, min(alarms) - monotonic())) if alarms else seconds

    def _set_timer(self, milliseconds: int) -> None:
        self._timer = None if milliseconds < 0 else monotonic() + milliseconds / 1000

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        if what != pycurl.POLL_REMOVE:
            self._watched.add(descriptor)
            self._poll.register(descriptor, _polled(what))
        elif descriptor in self._watched:
            self._watched.remove(descriptor)
            self._poll.unregister(descriptor)

    def close(self) -> None:
        for handle in self._running:
            self._multi.remove_handle(handle)
        self._running.clear()
        for transfer in self._all:
            transfer.close()
        self._multi.close()


def _polled(what: int) -> int:
    return (select.POLLIN if what & pycurl.POLL_IN else 0) | (select.POLLOUT if what & pycurl.POLL_OUT else 0)


def _curl_events(events: int) -> int:
    """What the other end has closed can be read, to its end."""
    return (pycurl.CSELECT_OUT if events & select.POLLOUT else 0) | (
        pycurl.CSELECT_IN if events & ~select.POLLOUT else 0
    )
