"""The three standard streams, such that no output can change what a command does or how it ends.

Whoever calls us may have closed a stream, may have filled the disk behind it, or may read no further. What a command
found is in its exit code, and what it does it does to its end: a replay that stopped half-way because nobody read its
table would be worse than one without a table.
"""

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
_closed: set[str] = set()


class _Enduring(io.FileIO):
    """Remembers the first error of writing, and drops what comes after it."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.lost is None:
            try:
                return self._write(data)
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes

    def _write(self, data: Any) -> int:
        # None: a program that shares it has made it non-blocking, and it takes nothing just now.
        while (written := super().write(data)) is None:
            select.select([], [self.fileno()], [])
        return written


def hold() -> None:
    """To be called first of all: a number that is free would be given to the next file, such as the database."""
    for name, number in _NUMBERS.items():
        if was_closed := _fill(number):
            _closed.add(name)
        stream: TextIO | None = getattr(sys, name)
        if was_closed or stream is None:
            setattr(sys, name, _opened(number, "utf-8"))
        elif number and _is_ours_to_replace(stream, number):
            with contextlib.suppress(OSError):
                stream.flush()
            setattr(sys, name, _opened(number, stream.encoding))


def lost(stream: TextIO) -> OSError | None:
    """Why nothing more can be written to it; None while it can, as far as is known."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Enduring) else None


def was_closed(name: str) -> bool:
    """Whoever called us has closed it. To most commands that is no fault: they have nobody to tell."""
    return name in _closed


def is_read_no_further(error: OSError) -> bool:
    """The reader of our pipe has gone (`| head`), and has what it wanted."""
    return error.errno == errno.EPIPE


def _fill(number: int) -> bool:
    """Whether it was closed. It then leads nowhere."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        return True
    return False


def _is_ours_to_replace(stream: TextIO, number: int) -> bool:
    """Not what a host program or a test has put in the place of a stream."""
    if not isinstance(stream, io.TextIOWrapper) or isinstance(getattr(stream.buffer, "raw", None), _Enduring):
        return False
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def _opened(number: int, encoding: str) -> TextIO:
    if number == 0:
        return open(number, encoding=encoding, closefd=False)
    raw = _Enduring(number)
    # A terminal that cannot show a character gets its code, rather than an error halfway through a table.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=number != 1 or raw.isatty()
    )
