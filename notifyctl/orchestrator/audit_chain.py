"""What a seal over audit rows is: the bytes that are hashed, the chain of digests, and the key's word on each.

A digest needs no key: with an export and a head from elsewhere, anybody can check the chain. The MAC needs the key that
the database does not have: whoever has only the database makes no seal. docs/audit.md has the bytes; they are for ever.
"""

import hashlib
import hmac
import json
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from notifyctl.errors import InvalidInput
from notifyctl.orchestrator.secret import Secret
from notifyctl.store.audit_rows import StoredRow
from notifyctl.store.audit_seals import StoredCheckpoint, StoredSeal
from notifyctl.store.exact import ODD, stored_moment

_ROW, _SEAL, _CHECKPOINT = (f"notifyctl audit {what} 1\n".encode() for what in ("row", "seal", "checkpoint"))
_MARK = struct.Struct(">q32s")
"""Of a row: its id, and its hash."""
_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})", re.ASCII)
_AROUND = " \t\r\n\ufeff"
"""What a file that the head was kept in may have put around it."""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands: the number of its last seal, and that seal's digest."""

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Tip:
    """What the next seal goes on from."""

    head: ChainHead
    last_id: int
    """No seal so far holds a row with a higher id."""


BEGINNING = Tip(ChainHead(0, "0" * 64), 0)


def parse_head(text: str) -> ChainHead:
    """Raises InvalidInput."""
    match = _HEAD.fullmatch(text.strip(_AROUND).lower())
    if match is None:
        raise InvalidInput(
            f"{text[:80]!r} is no head: it is NUMBER:DIGEST, as `notifyctl audit export --head` prints it"
        )
    return ChainHead(int(match[1]), match[2])


class SealKeys:
    """The keys of NOTIFICATION_SECRET_KEY for this purpose. The first seals; all of them verify."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        known = [Secret(secret) for secret in secrets]
        self.present_id = known[0].id
        self._keys = {secret.id: secret.derive("audit seal") for secret in known}

    def mac(self, document: bytes) -> str:
        """By the present key."""
        return self._mac(self.present_id, document)

    def confirm(self, key_id: str, document: bytes, mac: bytes) -> bool | None:
        """None when the key is not there any more."""
        if key_id not in self._keys:
            return None
        return hmac.compare_digest(self._mac(key_id, document).encode(), mac)

    def _mac(self, key_id: str, document: bytes) -> str:
        return hmac.new(self._keys[key_id], document, hashlib.sha256).hexdigest()


def row_hash(row: StoredRow) -> bytes:
    row_id, action, actor, client_id, message_id, metadata, created_at = row
    values = (b"%d" % row_id, action, actor, client_id, message_id, _canonical(metadata), created_at)
    return hashlib.sha256(_ROW + _packed(values)).digest()


def seal_of(rows: Sequence[StoredRow], tip: Tip, keys: SealKeys, now: datetime) -> StoredSeal:
    """The seal that goes on from `tip` over `rows`: every one there is with an id from there to the last of them."""
    bare = StoredSeal(
        id=tip.head.number + 1,
        first_audit_id=tip.last_id + 1,
        last_audit_id=rows[-1].id,
        row_count=len(rows),
        row_hashes=b"".join(_MARK.pack(row.id, row_hash(row)) for row in rows),
        previous_digest=tip.head.digest.encode(),
        key_id=keys.present_id.encode(),
        sealed_at=stored_moment(now),
        digest=None,
        mac=None,
    )
    digest = digest_of(bare)
    return bare._replace(digest=digest.encode(), mac=keys.mac(_SEAL + digest.encode()).encode())


def digest_of(seal: StoredSeal) -> str:
    *values, _digest, _mac = seal
    return hashlib.sha256(_SEAL + _packed(values)).hexdigest()


def is_whole(seal: StoredSeal) -> bool:
    return seal.digest == digest_of(seal).encode()


def is_ours(seal: StoredSeal, keys: SealKeys) -> bool | None:
    """Whether a key of ours made it; None when we do not have that key."""
    return keys.confirm(text(seal.key_id), _SEAL + (seal.digest or b""), seal.mac or b"")


def tip_after(seal: StoredSeal) -> Tip:
    return Tip(ChainHead(seal.id, text(seal.digest)), seal.last_audit_id or 0)


def hashes_of(seal: StoredSeal) -> dict[int, bytes]:
    """Row id -> hash, of a seal that is whole."""
    return dict(_MARK.iter_unpack(seal.row_hashes or b""))


def checkpoint_after(seal: StoredSeal, rows_removed: int, keys: SealKeys, now: datetime) -> StoredCheckpoint:
    """In the place of all seals up to this one."""
    key_id, moment = keys.present_id.encode(), stored_moment(now)
    bare = StoredCheckpoint(seal.id, seal.last_audit_id, seal.digest, rows_removed, moment, key_id, None)
    return signed_anew(bare, keys)


def signed_anew(checkpoint: StoredCheckpoint, keys: SealKeys) -> StoredCheckpoint:
    """By the present key."""
    bare = checkpoint._replace(key_id=keys.present_id.encode())
    return bare._replace(mac=keys.mac(_document(bare)).encode())


def is_our_checkpoint(checkpoint: StoredCheckpoint, keys: SealKeys) -> bool | None:
    """As of a seal."""
    return keys.confirm(text(checkpoint.key_id), _document(checkpoint), checkpoint.mac or b"")


def tip_at(checkpoint: StoredCheckpoint | None) -> Tip:
    """Where the chain begins."""
    if checkpoint is None:
        return BEGINNING
    return Tip(ChainHead(checkpoint.seal_id, text(checkpoint.digest)), checkpoint.last_audit_id or 0)


def text(stored: bytes | None) -> str:
    return (stored or b"").decode(errors="replace")


def plain_metadata(stored: bytes | None) -> object:
    """The JSON in a row. Raises ValueError or RecursionError for what is none."""
    return None if stored is None else _DECODER.decode(stored.decode())


def _document(checkpoint: StoredCheckpoint) -> bytes:
    *values, _mac = checkpoint
    return _CHECKPOINT + _packed(values)


def _packed(values: Iterable[bytes | int | None]) -> bytes:
    """Each with its length in front, so that no two lists are the same bytes."""
    return b"".join(map(_pack, values))


def _pack(value: bytes | int | None) -> bytes:
    if value is None:
        return b"\0"
    plain = b"%d" % value if isinstance(value, int) else value
    return b"\1" + len(plain).to_bytes(4, "big") + plain


def _canonical(metadata: bytes | None) -> bytes | None:
    """The same for all spellings of one JSON value; PostgreSQL keeps the value, and not how it was spelled."""
    if metadata is None:
        return None
    try:
        value = plain_metadata(metadata)
    except (ValueError, RecursionError):
        return ODD + metadata
    return _ENCODER.encode(value).encode()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # SQLite itself reads the first of two members with one name, and Python the last.
        raise ValueError("a member twice")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
