"""Files: text from outside, read in one way everywhere, UTF-8 whatever the locale, with or without a byte order mark;
and files of ours, which are there as a whole or not at all.
"""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from notifyctl.errors import InvalidInput

BOM = codecs.BOM_UTF8
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINES_TOLD = 10
_NO_TEXT = {
    b"PK\x03\x04": "a workbook (.xlsx, .ods) or another archive",
    b"\xd0\xcf\x11\xe0": "a workbook (.xls)",
    b"\x1f\x8b": "compressed (.gz)",
    b"%PDF-": "a PDF",
}
"""How files begin that are taken for text by their names."""


def read_text(path: Path) -> str:
    """A file's text with lines that end in \\n, whichever way they ended. Raises InvalidInput that names the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    return decoded(data, str(path)).replace("\r\n", "\n").replace("\r", "\n")


def write_new(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Raises FileExistsError for a file that is there, and OSError where it cannot be written.

    On a full disk half of it would stand in the way of the next try.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def decoded(data: bytes, name: str, save_as: str = "UTF-8") -> str:
    """Line ends stay as they are. Raises InvalidInput that says which lines of `name` are no UTF-8."""
    for beginning, kind in _NO_TEXT.items():
        if data.startswith(beginning):
            raise InvalidInput(f"{name} is {kind}, and no text; save it as {save_as}")
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
