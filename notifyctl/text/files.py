"""Text from outside, read in one way everywhere: UTF-8 whatever the locale, with or without a byte order mark."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from notifyctl.errors import InvalidInput

BOM = codecs.BOM_UTF8
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINES_TOLD = 10


def read_text(path: Path) -> str:
    """A file's text with lines that end in \\n, whichever way they ended. Raises InvalidInput that names the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    return decoded(data, str(path)).replace("\r\n", "\n").replace("\r", "\n")


def decoded(data: bytes, name: str, save_as: str = "UTF-8") -> str:
    """Line ends stay as they are. Raises InvalidInput that says which lines of `name` are no UTF-8."""
    if data.startswith(UTF16_MARKS) or b"\0" in data[:4]:
        raise InvalidInput(f"{name} is UTF-16; save it as {save_as}")
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError:
        lines = ", ".join(str(number) for number in _undecodable_lines(data))
        raise InvalidInput(f"{name} is not UTF-8 in line {lines}; save it as {save_as}") from None


def _undecodable_lines(data: bytes) -> Iterator[int | str]:
    shown = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            if shown == _LINES_TOLD:
                yield "…"
                return
            shown += 1
            yield number
