"""Which events `notifyctl stripe replay` works on, by its options: from our store, a file, or Stripe."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain
from tempfile import TemporaryFile
from typing import BinaryIO

from notifyctl.billing.event import Event
from notifyctl.billing.replay import listing_store
from notifyctl.billing.replay.listing_store import EventFilter
from notifyctl.billing.replay.sources import (
    KEPT_AT_STRIPE,
    EventSpool,
    MissingEvent,
    ReplayItem,
    SourceFilter,
    fetch_events,
    spool_file,
    stored_items,
)
from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output
from notifyctl.errors import InvalidInput, NotFound, NotifyctlError
from notifyctl.models.enums import Origin, StripeEventStatus
from notifyctl.providers.stripe import build_stripe_api, other_mode

MOST_SHOWN = 50


@dataclass(slots=True)
class Warnings:
    """Of one kind of thing, the first are said at once and all are counted."""

    count: int = 0

    def add(self, text: str) -> None:
        self.count += 1
        if self.count <= MOST_SHOWN:
            output.say(text)
        elif self.count == MOST_SHOWN + 1:
            output.say("… and more of these, which are only counted")


@dataclass(frozen=True, slots=True)
class ReplayChoice:
    """The command line."""

    ids: list[str]
    file: str | None
    from_api: bool
    status: str | None
    types: list[str]
    since: "datetime | None"
    until: "datetime | None"

    def check(self) -> None:
        if self.file is not None and self.from_api:
            raise InvalidInput("--file and --from-api are two sources; give one of them")
        if self.status and (self.file is not None or self.from_api):
            raise InvalidInput("--status is that of stored events; leave it out with --file and --from-api")

    @property
    def is_everything(self) -> bool:
        return not (self.ids or self.file or self.from_api or self.status or self.types or self.since or self.until)

    def wanted(self) -> SourceFilter:
        ids = frozenset(self.ids) if self.ids else None
        return SourceFilter(ids=ids, types=tuple(self.types), since=self.since, until=self.until)


@dataclass(slots=True)
class Chosen:
    items: "Iterable[ReplayItem]"
    total: int | None
    """None: nobody knows before the end."""
    faults: Warnings = field(default_factory=Warnings)
    other_bodies: Warnings = field(default_factory=Warnings)


def choose(runtime: Runtime, choice: ReplayChoice, open_things: ExitStack, *, is_rehearsal: bool) -> Chosen:
    if choice.file is not None:
        return _from_file(runtime, choice, choice.file, open_things)
    if choice.from_api:
        return _from_api(runtime, choice, open_things, is_rehearsal=is_rehearsal)
    return _from_store(runtime, choice)


def _from_store(runtime: Runtime, choice: ReplayChoice) -> Chosen:
    with runtime.database.read() as session:
        choice = replace(choice, ids=[listing_store.whole_id(session, text) for text in choice.ids])
    criteria = EventFilter(
        ids=set(choice.ids) if choice.ids else None,
        status=options.one_of(StripeEventStatus, "--status", choice.status),
        types=choice.types,
        since=choice.since,
        until=choice.until,
    )
    with runtime.database.read() as session:
        chosen = Chosen(stored_items(runtime.database, criteria), listing_store.count(session, criteria))
        statuses = listing_store.statuses(session, choice.ids)
    for event_id in choice.ids:
        if event_id not in statuses:
            chosen.faults.add(f"{event_id} is not stored here; --from-api asks Stripe for it")
    return chosen


def _from_file(runtime: Runtime, choice: ReplayChoice, name: str, open_things: ExitStack) -> Chosen:
    spool = open_things.enter_context(EventSpool(Origin.FILE))
    chosen = Chosen(spool, None)
    for fault in spool_file(_opened(name, open_things), name, choice.wanted(), spool, runtime.clock()):
        chosen.faults.add(f"{name} line {fault.line}: {fault.text}")
    chosen.total = len(spool)
    return chosen


def _peeked(items: Iterator[ReplayItem]) -> "tuple[int | None, Iterable[ReplayItem]]":
    """0 if there is none, else None; and the same items."""
    first = next(items, None)
    return (0, ()) if first is None else (None, chain([first], items))


def _opened(name: str, open_things: ExitStack) -> BinaryIO:
    """A file that can be sought in. Raises InvalidInput."""
    try:
        file = open_things.enter_context(options.opened_input(name))
        return file if file.seekable() else open_things.enter_context(_copy(file))
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}; give another file, or - for stdin") from error
    except ValueError as error:
        raise InvalidInput(f"{name!r} cannot be read: no file has such a name; give another file") from error


@contextmanager
def _copy(pipe: BinaryIO) -> Iterator[BinaryIO]:
    with TemporaryFile(prefix="notifyctl-") as copy:
        shutil.copyfileobj(pipe, copy)
        copy.seek(0)
        yield copy


def _from_api(runtime: Runtime, choice: ReplayChoice, open_things: ExitStack, *, is_rehearsal: bool) -> Chosen:
    """A rehearsal looks at all of them before it begins: they are laid out on disk."""
    api = open_things.enter_context(build_stripe_api(runtime.settings))
    if warning := other_mode(runtime.settings):
        output.say(warning)
    now = runtime.clock()
    if choice.since is not None and choice.since < now - KEPT_AT_STRIPE:
        output.say("Stripe keeps events for 30 days; those made earlier are not among these.")
    chosen = Chosen((), None)

    def kept() -> Iterator[tuple[Event, bytes]]:
        for listed in fetch_events(api, choice.wanted(), now):
            if isinstance(listed, MissingEvent):
                chosen.faults.add(
                    f"{listed.event_id}: Stripe no longer has it, or never had: it keeps events for 30 days"
                )
            else:
                yield listed

    if not is_rehearsal and not choice.ids:
        items = (ReplayItem(event.id, event.created, Origin.API, partial(bytes, raw)) for event, raw in kept())
        chosen.total, chosen.items = _peeked(items)
        return chosen
    spool = open_things.enter_context(EventSpool(Origin.API))
    for event, raw in kept():
        spool.add(event, raw)
    chosen.items, chosen.total = spool, len(spool)
    return chosen


def nothing_to_replay(choice: ReplayChoice, faults: Warnings) -> NotifyctlError:
    if choice.file is not None and faults.count:
        return NotifyctlError(f"{choice.file} has no event that can be replayed; nothing was changed")
    where = choice.file or ("Stripe" if choice.from_api else "the store")
    return NotFound(f"{where} has no such event; `notifyctl stripe events` shows those that are stored")
