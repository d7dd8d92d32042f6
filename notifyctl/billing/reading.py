"""Values out of JSON that anybody may have written. What is not of the expected type is None, never an error."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

MAX_ID = 120
"""Characters of an id: it becomes part of keys and indexes. Stripe's own have at most some 70."""
MAX_AMOUNT = 2**63 - 1
LAST_SECOND = 253_370_764_799
"""The end of the year 9998: at the very end of the calendar, another zone is beyond it."""
_ID = re.compile(r"[!-~]+")
_WORD = re.compile(r"[a-z][a-z_]*")

Json = Mapping[str, object]
NOTHING: Json = {}


def at(value: object, *path: str) -> Json:
    """The object at the end of `path`; an empty one where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else NOTHING


def each(value: object, *path: str) -> Iterator[Json]:
    """The objects in the list at the end of `path`, which may also be Stripe's kind of list, with `data`."""
    holder = at(value, *path[:-1]).get(path[-1])
    items = holder.get("data") if isinstance(holder, Mapping) else holder
    return (item for item in items if isinstance(item, Mapping)) if isinstance(items, list) else iter(())


def identifier(value: object) -> str | None:
    """An id: printable ASCII without blanks. Of an object in an id's place, its id."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) and len(value) <= MAX_ID and _ID.fullmatch(value) else None


def client_name(value: object) -> str | None:
    """An id of ours that somebody wrote into Stripe: it may have other characters, but none that cannot be kept."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    return value if value.isprintable() else None


def word(value: object) -> str | None:
    """A member of one of Stripe's enumerations, known to us or not."""
    return value if isinstance(value, str) and len(value) <= MAX_ID and _WORD.fullmatch(value) else None


def integer(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) <= MAX_AMOUNT else None


def moment(value: object) -> datetime | None:
    """Seconds since 1970 as an aware datetime."""
    seconds = integer(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None and 0 < seconds <= LAST_SECOND else None


def text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
