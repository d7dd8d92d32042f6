"""The values put into a template: are they the ones it declares? Pure, and never repeats a value."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from hashlib import sha256
from math import isfinite
from urllib.parse import urlsplit

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import VariableType
from notifyctl.models.template import Template, Variable
from notifyctl.setting_rules import NOT_IN_URL
from notifyctl.text.choices import meant_among

MAX_VALUE_CHARACTERS = 10_000
MAX_CONTEXT_BYTES = 32 * 1024
MAX_BYTES_A_CHARACTER = 4
MAX_NAMES_SHOWN = 5
MAX_RATE_SUBJECT = 200
RATE_SUBJECT_KEPT = 150
"""Of a longer one, before its hash."""
UNKNOWN = "?"
MAX_INTEGER = 2**63 - 1
"""What both databases and every JSON reader can hold."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LINE_BREAK = re.compile(r"[\r\n]")


def context_faults(variables: Mapping[str, Variable], context: object) -> list[str]:
    """What is wrong with `context`, a sentence each; empty when it fits.

    An optional variable may be left out or None. The sentences name variables and types, never a value.
    Takes whatever a caller passes, and never raises.
    """
    if not isinstance(context, Mapping):
        return [f"the context must be an object, got {kind_of(context)}"]
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


def from_text(variables: Mapping[str, Variable], texts: Mapping[str, str]) -> dict[str, object]:
    """What was typed on a command line, as its variables' types; text that does not fit stays text."""
    return {name: _typed(variables[name].type, text) if name in variables else text for name, text in texts.items()}


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(context: Mapping[str, object]) -> str:
    """The same text for the same values in any order. Raises InvalidInput for what is no JSON object."""
    if fault := name_fault("the context", context):
        raise InvalidInput(fault)
    try:
        return _CANONICAL.encode(dict(context))
    except TypeError:
        cause = "it has a value or a name of a type that JSON does not know"
    except (ValueError, RecursionError):
        cause = "it has NaN, an endless number, or values nested too deep"
    raise InvalidInput(f"the context is not JSON: {cause}")


def rate_subject(template: Template, context: Mapping[str, object]) -> str:
    """What a rate is counted by, as text that fits an index and tells any two values apart. Never raises.

    A value that is missing or not of its declared type counts as unknown: such a message is blocked anyway.
    """
    values = context if isinstance(context, Mapping) else {}
    parts = (f"{name}={_rated(template.variables.get(name), values.get(name))}" for name in template.rate_limit_by)
    subject = "; ".join(parts)
    if len(subject) <= MAX_RATE_SUBJECT:
        return subject
    return f"{subject[:RATE_SUBJECT_KEPT]}…{sha256(subject.encode()).hexdigest()[:32]}"


def _rated(variable: Variable | None, value: object) -> str:
    if variable is None or _TYPE_FAULT[variable.type](value):
        return UNKNOWN
    return str(value).replace("\0", "\ufffd").encode(errors="replace").decode()


def name_fault(what: str, value: object) -> str | None:
    """Why `value` is no object with names, in a sentence about `what`."""
    if not isinstance(value, Mapping):
        return f"{what} must be an object, got {kind_of(value)}"
    for name in value:
        if not isinstance(name, str):
            return f"{what} has a name that is {kind_of(name)}; every name must be a string"
    return None


def _value_faults(variable: Variable, value: object) -> list[str]:
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
        return [f"is longer than {MAX_VALUE_CHARACTERS} characters"]
    if fault := _TYPE_FAULT[variable.type](value):
        return [fault]
    if not isinstance(value, str):
        return []
    faults = []
    if not is_unicode(value):
        faults.append("has half a surrogate pair, which no encoding can carry")
    if "\0" in value:
        faults.append("has a NUL character")
    if variable.in_header and _LINE_BREAK.search(value):
        faults.append("has a line break, but stands in the subject")
    return faults


def _not_string(value: object) -> str | None:
    return None if isinstance(value, str) else f"must be a string, got {kind_of(value)}"


def _not_integer(value: object) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be an integer, got {kind_of(value)}"
    return None if abs(value) <= MAX_INTEGER else "does not fit into 64 bits"


def _not_number(value: object) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"must be a number, got {kind_of(value)}"
    fits = abs(value) <= MAX_INTEGER if isinstance(value, int) else isfinite(value)
    return None if fits else "is not a finite number that fits into 64 bits"


def _not_date(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a date as YYYY-MM-DD, got {kind_of(value)}"
    if not _DATE.fullmatch(value):
        return "must be a date as YYYY-MM-DD, got another string"
    try:
        date.fromisoformat(value)
    except ValueError:
        return "must be a date as YYYY-MM-DD, got a day that does not exist"
    return None


def _not_url(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a url, got {kind_of(value)}"
    try:
        parts = urlsplit(value)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        named = False
    if not named:
        return "must be a url that begins with http:// or https:// and a host"
    return "must be a url with blanks, quotes and brackets encoded" if NOT_IN_URL.search(value) else None


_TYPE_FAULT: dict[VariableType, Callable[[object], str | None]] = {
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


def kind_of(value: object) -> str:
    return _KINDS.get(type(value)) or f"a {type(value).__name__[:40]}"


def _unknown(names: Sequence[object], variables: Mapping[str, Variable]) -> str:
    shown = ", ".join(_shown(name) for name in names[:MAX_NAMES_SHOWN])
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    verb = "is" if len(names) == 1 else "are"
    takes = f"the template takes {', '.join(variables) or 'no variables'}"
    only = names[0] if len(names) == 1 and isinstance(names[0], str) else ""
    return f"{shown}{more} {verb} unknown{meant_among(only[:40], variables, takes)}"


def _shown(name: object) -> str:
    if not isinstance(name, str):
        return f"a name that is {kind_of(name)}"
    text = name[:64]
    return text if text.isidentifier() and text.isascii() else ascii(text)


def is_unicode(text: str) -> bool:
    """Without half a surrogate pair, which no encoding can carry."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(context: Mapping[str, object]) -> int:
    texts = [value for value in context.values() if isinstance(value, str)]
    if sum(map(len, texts)) <= MAX_CONTEXT_BYTES // MAX_BYTES_A_CHARACTER:
        return 0  # however it is written, it fits
    return sum(len(text.encode(errors="replace")) for text in texts)


def _typed(kind: VariableType, text: str) -> object:
    if kind in (VariableType.INTEGER, VariableType.NUMBER) and _INTEGER.fullmatch(text):
        return int(text)
    if kind is VariableType.NUMBER:
        try:
            return float(text)
        except ValueError:
            return text
    return text
