"""Events that are to be replayed: stored ones by their ids, others laid out on disk, so that memory holds few."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from notifyctl.billing.envelope import Event
from notifyctl.models.stripe_event import Origin


@dataclass(frozen=True, slots=True)
class Item:
    event_id: str
    created: datetime
    origin: Origin | None = None
    """None: it is stored already."""
    load: Callable[[], bytes] | None = None
    """Its body, unless it is stored."""


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    created: datetime
    number: int
    event_id: str
    offset: int
    length: int


class EventSpool:
    """Takes events in any order and hands them out, as often as asked, oldest first. The file has no name."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._file = TemporaryFile(prefix="notifyctl-")  # noqa: SIM115  closed by __exit__
        self._places: list[_Place] = []
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, event: Event, raw: bytes) -> None:
        self._file.seek(self._end)
        self._file.write(raw)
        self._places.append(_Place(event.created, len(self._places), event.id, self._end, len(raw)))
        self._end += len(raw)

    def __iter__(self) -> Iterator[Item]:
        self._places.sort()
        for place in self._places:
            yield Item(place.event_id, place.created, self._origin, partial(self._read, place))

    def _read(self, place: _Place) -> bytes:
        self._file.seek(place.offset)
        return self._file.read(place.length)
