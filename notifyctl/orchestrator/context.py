"""The values put into a template: are they the ones it declares? Pure, and never repeats a value."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from notifyctl.models.template import Variable, VariableType

MAX_VALUE_CHARACTERS = 10_000
MAX_CONTEXT_BYTES = 32 * 1024
MAX_BYTES_A_CHARACTER = 4
MAX_NAMES_SHOWN = 5
MAX_INTEGER = 2**63 - 1
"""What both databases and every JSON reader can hold."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LINE_BREAK = re.compile(r"[\r\n]")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")


def context_faults(variables: Mapping[str, Variable], context: Mapping[str, Any]) -> list[str]:
    """What is wrong with `context`, a sentence each; empty when it fits.

    An optional variable may be left out or None. The sentences name variables and types, never a value.
    """
    faults = [
        f"{name} is missing ({variable.type})"
        for name, variable in variables.items()
        if name not in context and not variable.optional
    ]
    unknown = [name for name in context if name not in variables]
    if unknown:
        faults.append(_unknown(unknown, variables))
    for name, variable in variables.items():
        value = context.get(name)
        if value is not None or (name in context and not variable.optional):
            faults += [f"{name} {fault}" for fault in _value_faults(variable, value)]
    if _bytes(context) > MAX_CONTEXT_BYTES:
        faults.append(f"all values together are over {MAX_CONTEXT_BYTES // 1024} KiB")
    return faults


def from_text(variables: Mapping[str, Variable], texts: Mapping[str, str]) -> dict[str, Any]:
    """What was typed on a command line, as its variables' types; text that does not fit stays text."""
    return {name: _typed(variables[name].type, text) if name in variables else text for name, text in texts.items()}


def _value_faults(variable: Variable, value: Any) -> list[str]:
    if fault := _TYPE_FAULT[variable.type](value):
        return [fault]
    if not isinstance(value, str):
        return []
    faults = []
    if len(value) > MAX_VALUE_CHARACTERS:
        faults.append(f"is longer than {MAX_VALUE_CHARACTERS} characters")
    if not value.isascii() and not _is_unicode(value):
        faults.append("has half a surrogate pair, which no encoding can carry")
    if "\0" in value:
        faults.append("has a NUL character")
    if variable.in_header and _LINE_BREAK.search(value):
        faults.append("has a line break, but stands in the subject")
    return faults


def _not_string(value: Any) -> str | None:
    return None if isinstance(value, str) else f"must be a string, got {_kind(value)}"


def _not_integer(value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be an integer, got {_kind(value)}"
    return None if abs(value) <= MAX_INTEGER else "does not fit into 64 bits"


def _not_number(value: Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"must be a number, got {_kind(value)}"
    fits = abs(value) <= MAX_INTEGER if isinstance(value, int) else isfinite(value)
    return None if fits else "is not a finite number that fits into 64 bits"


def _not_date(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be a date as YYYY-MM-DD, got {_kind(value)}"
    if not _DATE.fullmatch(value):
        return "must be a date as YYYY-MM-DD, got another string"
    try:
        date.fromisoformat(value)
    except ValueError:
        return "must be a date as YYYY-MM-DD, got a day that does not exist"
    return None


def _not_url(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be a url, got {_kind(value)}"
    try:
        parts = urlsplit(value)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        named = False
    if not named:
        return "must be a url that begins with http:// or https:// and a host"
    return "must be a url with blanks, quotes and brackets encoded" if _NOT_IN_URL.search(value) else None


_TYPE_FAULT: dict[VariableType, Callable[[Any], str | None]] = {
    VariableType.STRING: _not_string,
    VariableType.INTEGER: _not_integer,
    VariableType.NUMBER: _not_number,
    VariableType.DATE: _not_date,
    VariableType.URL: _not_url,
}

_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _unknown(names: list[Any], variables: Mapping[str, Variable]) -> str:
    shown = ", ".join(_shown(name) for name in names[:MAX_NAMES_SHOWN])
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    verb = "is" if len(names) == 1 else "are"
    return f"{shown}{more} {verb} unknown; the template takes {', '.join(variables) or 'no variables'}"


def _shown(name: Any) -> str:
    text = str(name)[:64]
    return text if text.isidentifier() and text.isascii() else ascii(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(context: Mapping[str, Any]) -> int:
    texts = [value for value in context.values() if isinstance(value, str)]
    if sum(map(len, texts)) <= MAX_CONTEXT_BYTES // MAX_BYTES_A_CHARACTER:
        return 0  # however it is written, it fits
    return sum(len(text.encode(errors="replace")) for text in texts)


def _typed(kind: VariableType, text: str) -> Any:
    if kind in (VariableType.INTEGER, VariableType.NUMBER) and _INTEGER.fullmatch(text):
        return int(text)
    if kind is VariableType.NUMBER:
        try:
            return float(text)
        except ValueError:
            return text
    return text
