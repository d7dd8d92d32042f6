"""Names out of a known set, as people type them: found whatever the case, and with the nearest one where none is."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from notifyctl.errors import InvalidInput, NotFound

MOST_LISTED = 12
Name = TypeVar("Name", bound=str)
Member = TypeVar("Member", bound=StrEnum)


def chosen(text: str, names: Iterable[Name]) -> Name | None:
    """The one that is meant by `text`, in any case."""
    known = list(names)
    return next((name for name in known if name == text), None) or next(
        (name for name in known if name.lower() == text.lower()), None
    )


def nearest(text: str, names: Iterable[str]) -> str | None:
    """What was probably meant by a text that is none of them."""
    by_lower = {name.lower(): name for name in names}
    beginning = [name for lower, name in by_lower.items() if len(text) > 1 and lower.startswith(text.lower())]
    if beginning:
        return min(beginning, key=len)
    close = get_close_matches(text.lower(), by_lower, n=1, cutoff=0.65)
    return by_lower[close[0]] if close else None


def meant(text: str, names: Iterable[str]) -> str:
    """`; did you mean FAILED?`, to go on behind what is wrong; empty where nothing is near."""
    name = nearest(text, names)
    return f"; did you mean {name}?" if name else ""


def meant_among(text: str, names: Iterable[str], rest: str) -> str:
    """`; did you mean FAILED? Known are …`, with `rest` behind it; `; known are …` where nothing is near."""
    suggestion = meant(text, names)
    return f"{suggestion} {rest[:1].upper()}{rest[1:]}" if suggestion else f"; {rest}"


def is_none_of(text: str, names: Iterable[str]) -> str:
    """`is unknown; did you mean FAILED? It is one of FAILED, SENT`, to go on behind what was typed.

    Of many names, all are listed only where none of them is near.
    """
    known = list(names)
    if len(known) > MOST_LISTED and (suggestion := meant(text, known)):
        return f"is unknown{suggestion}"
    listed = f"it is one of {', '.join(known)}"
    return f"is unknown{meant_among(text, known, listed)}"


def member(kind: type[Member], value: str, what: str) -> Member:
    """`value` as one of a closed set, also from a caller whose types nobody has checked. Raises InvalidInput."""
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidInput(f"{what} {value!r} {is_none_of(str(value), kind)}") from error


def no_template(key: str, known: Iterable[str]) -> NotFound:
    """`known`: all there are."""
    if not (names := list(known)):
        return NotFound(f"there is no template {key!r}, nor any other yet; run `notifyctl templates seed`")
    return _no_such("template", key, names, "notifyctl templates list")


def no_client(client_id: str, known: Iterable[str]) -> NotFound:
    """`known`: those among which the nearest is looked for."""
    return _no_such("client", client_id, known, "notifyctl clients list")


def _no_such(kind: str, name: str, known: Iterable[str], listed_by: str) -> NotFound:
    shows = f"`{listed_by}` shows those there are"
    return NotFound(f"there is no {kind} {name!r}{meant_among(name, known, shows)}")
