"""Events in files, as people have them: one event, an array, a page of Stripe's list, JSON lines, or several of these.

Nothing of a file is kept in memory but the value that is being read.
"""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import BinaryIO

from notifyctl.errors import InvalidInput
from notifyctl.text.files import UTF16_MARKS

MAX_VALUE = 64 * 1024 * 1024
"""Characters of one value that is no array: a page with some ten thousand events."""
_CHUNK = 1024 * 1024
_BOM = codecs.BOM_UTF8
"""At the beginning of a file, and of each of those that were put together into one."""
_BLANKS = " \t\r\n\ufeff"
_EVENTS = ("event", "v2.core.event")
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class FileEvent:
    line: int
    """Where the value begins that the event is in, counted from 1."""
    raw: bytes


@dataclass(frozen=True, slots=True)
class FileFault:
    line: int
    text: str


def read_events(file: BinaryIO, name: str) -> Iterator[FileEvent | FileFault]:
    """`file` can be sought in. Raises InvalidInput when it cannot be read at all."""
    start = file.read(len(_BOM))
    if start.startswith(UTF16_MARKS):
        raise InvalidInput(f"{name} is UTF-16; save it as UTF-8")
    begin = len(_BOM) if start == _BOM else 0
    file.seek(begin)
    is_by_line = _is_json_lines(file)
    file.seek(begin)
    yield from _by_line(file) if is_by_line else _by_value(file)


def _is_json_lines(file: BinaryIO) -> bool:
    """A value a line, one of which may be broken; else values that may have several lines."""
    lines = (line for line in iter(lambda: file.readline(MAX_VALUE), b"") if line.strip())
    first, second = (next(lines, b"").removeprefix(_BOM) for _ in range(2))
    if not first.lstrip().startswith(b"{"):
        return not first.lstrip().startswith(b"[")
    return not second or second.startswith(b"{") or _is_json(first)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _by_line(file: BinaryIO) -> Iterator[FileEvent | FileFault]:
    for number, line in enumerate(file, start=1):
        raw = line.strip().removeprefix(_BOM)
        if not raw:
            continue
        try:
            value = json.loads(raw.decode())
        except UnicodeDecodeError:
            yield FileFault(number, "is not UTF-8")
        except JSONDecodeError as error:
            yield FileFault(number, f"is not JSON: {error.msg} (character {error.pos + 1})")
        except RecursionError:
            yield FileFault(number, "is nested too deeply")
        else:
            yield from _events_in(value, raw, number)


def _by_value(file: BinaryIO) -> Iterator[FileEvent | FileFault]:
    """After a value that cannot be read, nobody can tell where the next one begins."""
    window = _Window(file)
    try:
        while window.skip_blanks():
            if window.take("["):
                yield from _elements(window)
            else:
                yield from _events_in(*window.value())
    except _Unreadable as error:
        yield FileFault(error.line, f"{error}; what comes after it was not read")


def _elements(window: "_Window") -> Iterator[FileEvent | FileFault]:
    window.skip_blanks()
    if window.take("]"):
        return
    while True:
        yield from _events_in(*window.value())
        window.skip_blanks()
        if window.take("]"):
            return
        if not window.take(","):
            raise _Unreadable(window.line, "is not JSON: a comma or the end of the array is missing")
        window.skip_blanks()


def _events_in(value: object, raw: bytes, line: int) -> Iterator[FileEvent | FileFault]:
    match value:
        case {"object": kind} if kind in _EVENTS:
            yield FileEvent(line, raw)
        case {"object": "list", "data": list(items)}:
            # Stripe lists the newest first, and of one second nothing else tells which came first.
            yield from _each(items[::-1], line)
        case list(items):
            yield from _each(items, line)
        # Amazon EventBridge and Azure Event Grid wrap it.
        case {"detail": {"object": kind} as event} | {"data": {"object": kind} as event} if kind in _EVENTS:
            yield FileEvent(line, _as_bytes(event))
        case {"id": str(), "type": str(), **others} if "object" not in others:
            yield FileEvent(line, raw)
        case {"data": list(items)}:
            yield from _each(items, line)
        case dict():
            yield FileFault(line, "is no Stripe event: it has no id, or no type")
        case _:
            yield FileFault(line, f"is no Stripe event, but {str(value)[:20]!r}")


def _each(items: list[object], line: int) -> Iterator[FileEvent | FileFault]:
    for item in items:
        yield from _events_in(item, _as_bytes(item), line)


def _as_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class _Unreadable(Exception):
    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


class _Window:
    """The part of a file that is being read, as text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._is_all = False
        self.line = 1

    def skip_blanks(self) -> bool:
        """False at the end of the file."""
        while True:
            start = self._at
            rest = len(self._text)
            while self._at < rest and self._text[self._at] in _BLANKS:
                self._at += 1
            self.line += self._text.count("\n", start, self._at)
            if self._at < rest:
                return True
            if not self._fill(_CHUNK):
                return False

    def take(self, char: str) -> bool:
        is_there = self._text.startswith(char, self._at)
        self._at += is_there
        return is_there

    def value(self) -> tuple[object, bytes, int]:
        """The value that begins here, its text, and its line. Raises _Unreadable."""
        more = _CHUNK
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._fill(more)):
                    raise self._fault(error) from None
                more *= 2
            except RecursionError:
                raise _Unreadable(self.line, "is nested too deeply") from None
            else:
                return self._passed(value, end)

    def _passed(self, value: object, end: int) -> tuple[object, bytes, int]:
        text, line = self._text[self._at : end], self.line
        self.line += text.count("\n")
        self._at = end
        return value, text.encode(), line

    def _may_be_cut(self, error: JSONDecodeError) -> bool:
        """Whether the rest of the value may be all that is missing."""
        is_at_end = error.pos >= len(self._text) - len("-Infinity") or error.msg.startswith("Unterminated string")
        return is_at_end and not self._is_too_long

    @property
    def _is_too_long(self) -> bool:
        return len(self._text) - self._at > MAX_VALUE

    def _fault(self, error: JSONDecodeError) -> "_Unreadable":
        if self._is_too_long:
            return _Unreadable(self.line, f"is longer than {MAX_VALUE} characters; write one event a line")
        return _Unreadable(self.line + self._text.count("\n", self._at, error.pos), f"is not JSON: {error.msg}")

    def _fill(self, count: int) -> bool:
        """Reads on; False when there is no more."""
        if self._is_all:
            return False
        chunk = self._file.read(count)
        self._is_all = not chunk
        try:
            more = self._decoder.decode(chunk, final=self._is_all)
        except UnicodeDecodeError as error:
            line = self.line + self._text.count("\n", self._at) + chunk.count(b"\n", 0, error.start)
            raise _Unreadable(line, "is not UTF-8") from None
        self._text, self._at = self._text[self._at :] + more, 0
        return not self._is_all
