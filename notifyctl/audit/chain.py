"""What a seal over audit rows is: the bytes that are hashed, the chain of digests, and a MAC over each digest.

A digest needs no key: with an export and a head kept elsewhere, anybody can check the chain. The MAC needs a key that
is not in the database, so write access to the database alone makes no seal. docs/audit.md specifies the bytes, which
never change.
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

from notifyctl.audit.row_store import StoredRow
from notifyctl.audit.seal_store import StoredCheckpoint, StoredSeal
from notifyctl.db.bulk import ODD, stored_moment
from notifyctl.errors import InvalidInput
from notifyctl.keyring import Secret

_ROW, _SEAL, _CHECKPOINT = (f"notifyctl audit {what} 1\n".encode() for what in ("row", "seal", "checkpoint"))
_MARK = struct.Struct(">q32s")
"""Of a row: its id, and its hash."""
_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})", re.ASCII)
_AROUND = " \t\r\n\ufeff"
"""What may surround a head that was kept in a file."""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a chain: the number of its last seal, and that seal's digest."""

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Tip:
    """What the next seal extends."""

    head: ChainHead
    last_id: int
    """The highest row id that is sealed."""


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
    """Keys derived from NOTIFICATION_SECRET_KEY. The first one seals; all of them verify."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        known = [Secret(secret) for secret in secrets]
        self.present_id = known[0].id
        self._keys = {secret.id: secret.derive("audit seal") for secret in known}

    def mac(self, document: bytes) -> str:
        """With the current key."""
        return self._mac(self.present_id, document)

    def confirm(self, key_id: str, document: bytes, mac: bytes) -> bool | None:
        """None when the key is not configured any more."""
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
    """The seal that extends `tip` by `rows`: all rows with ids above its last one, up to the last of them."""
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
    """Whether one of our keys made it; None when we do not have that key."""
    return keys.confirm(text(seal.key_id), _SEAL + (seal.digest or b""), seal.mac or b"")


def tip_after(seal: StoredSeal) -> Tip:
    return Tip(ChainHead(seal.id, text(seal.digest)), seal.last_audit_id or 0)


def hashes_of(seal: StoredSeal) -> dict[int, bytes]:
    """Row id -> hash. For a seal that is whole."""
    return dict(_MARK.iter_unpack(seal.row_hashes or b""))


def checkpoint_after(seal: StoredSeal, rows_removed: int, keys: SealKeys, now: datetime) -> StoredCheckpoint:
    """Replaces all seals up to this one."""
    key_id, moment = keys.present_id.encode(), stored_moment(now)
    bare = StoredCheckpoint(seal.id, seal.last_audit_id, seal.digest, rows_removed, moment, key_id, None)
    return re_signed(bare, keys)


def re_signed(checkpoint: StoredCheckpoint, keys: SealKeys) -> StoredCheckpoint:
    """With the current key."""
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
    """The JSON in a row. Raises ValueError or RecursionError for anything else."""
    return None if stored is None else _DECODER.decode(stored.decode())


def _document(checkpoint: StoredCheckpoint) -> bytes:
    *values, _mac = checkpoint
    return _CHECKPOINT + _packed(values)


def _packed(values: Iterable[bytes | int | None]) -> bytes:
    """Each value behind its length, so that no two lists have the same bytes."""
    return b"".join(map(_pack, values))


def _pack(value: bytes | int | None) -> bytes:
    if value is None:
        return b"\0"
    plain = b"%d" % value if isinstance(value, int) else value
    return b"\1" + len(plain).to_bytes(4, "big") + plain


def _canonical(metadata: bytes | None) -> bytes | None:
    """One spelling for each JSON value: PostgreSQL keeps the value and not its spelling."""
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
        # Of two members with one name SQLite reads the first, and Python the last.
        raise ValueError("a member twice")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
