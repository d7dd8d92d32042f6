"""The audit log as lines of JSON, each seal behind its rows, so that the chain can be checked offline."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TypeVar

from notifyctl.audit import row_store, seal_store
from notifyctl.audit.chain import Tip, plain_metadata, text, tip_after, tip_at
from notifyctl.audit.row_store import StoredRow
from notifyctl.audit.seal_store import StoredSeal
from notifyctl.db.database import Database
from notifyctl.errors import NotifyctlError
from notifyctl.text.durations import iso

Stored = TypeVar("Stored", StoredRow, StoredSeal)


@dataclass(frozen=True, slots=True)
class Span:
    """What is exported: the seals from `start` to `end` with their rows, and the rows that are not sealed yet."""

    start: Tip
    end: Tip


def span(database: Database, since: datetime | None) -> Span:
    """From the seal that holds the first row since then; without `since` from the beginning."""
    with database.read() as session:
        first = tip_at(seal_store.checkpoint(session))
        before = seal_store.newest_before(session, since) if since is not None else None
        newest = seal_store.newest(session)
    return Span(tip_after(before) if before else first, tip_after(newest) if newest else first)


def lines(database: Database, exported: Span, now: datetime) -> Iterator[str]:
    """A first line with the start, then rows and seals, and a last line that says that the export is complete.

    Keeps no transaction open between lines. Raises NotifyctlError when retention removed rows during the export.
    """
    start = exported.start
    yield _line("start", format=1, exported_at=iso(now, "seconds"), after=_tip_fields(start))
    counts = {"rows": 0, "seals": 0, "unsealed": 0}
    rows = row_store.InPieces(_every(database, row_store.page, start.last_id))
    seals = _every(database, seal_store.page, start.head.number)
    for seal in takewhile(lambda seal: seal.id <= exported.end.head.number, seals):
        for row in rows.up_to(seal.last_audit_id or 0):
            counts["rows"] += 1
            yield _line("row", **row_fields(row))
        counts["seals"] += 1
        yield _line("seal", **_seal_fields(seal))
    # Read again: unsealed rows with lower ids may have been committed in between.
    for row in _every(database, row_store.page, exported.end.last_id):
        counts["unsealed"] += 1
        yield _line("row", **row_fields(row))
    _require_untouched(database, start)
    yield _line("end", **counts, head=str(exported.end.head))


def row_fields(row: StoredRow) -> dict[str, object]:
    """As text and JSON. Of a row that was tampered with, whatever can be decoded."""
    texts = {name: None if value is None else text(value) for name, value in row._asdict().items() if name != "id"}
    try:
        metadata = plain_metadata(row.metadata)
    except (ValueError, RecursionError):
        metadata = texts["metadata"]
    return {"id": row.id, **texts, "metadata": metadata}


def _seal_fields(seal: StoredSeal) -> dict[str, object]:
    """Without the hashes of the rows, which a verifier computes from the rows."""
    return {
        "number": seal.id,
        "first_id": seal.first_audit_id,
        "last_id": seal.last_audit_id,
        "row_count": seal.row_count,
        "previous_digest": text(seal.previous_digest),
        "key_id": text(seal.key_id),
        "sealed_at": text(seal.sealed_at),
        "digest": text(seal.digest),
        "mac": text(seal.mac),
    }


def _tip_fields(tip: Tip) -> dict[str, object]:
    return {"number": tip.head.number, "digest": tip.head.digest, "last_id": tip.last_id}


def _line(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))


def _every(database: Database, page: Callable[..., list[Stored]], after: int) -> Iterator[Stored]:
    while True:
        with database.read() as session:
            stored = page(session, after=after)
        if not stored:
            return
        yield from stored
        after = stored[-1].id


def _require_untouched(database: Database, start: Tip) -> None:
    with database.read() as session:
        begins = tip_at(seal_store.checkpoint(session))
    if begins.head.number > start.head.number:
        raise NotifyctlError("retention removed rows while they were exported; export them again")
