"""Secrets at rest: sealed contexts, and keyed hashes that find an address without showing it.

Three keys are derived from each secret in NOTIFICATION_SECRET_KEY by HKDF (RFC 5869), so that none serves two purposes.
"""

import base64
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from notifyctl.errors import NotifyctlError


class Secret:
    """`id` tells secrets apart without telling anything of them: it stands on the rows that need this one."""

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret.get_secret_value().encode()
        self.id = self.derive("id").hex()[:8]

    def derive(self, purpose: str) -> bytes:
        """By HKDF (RFC 5869)."""
        return HKDF(SHA256(), 32, salt=None, info=f"notifyctl {purpose}".encode()).derive(self._secret)


def keyed_hash(key: bytes, *parts: str) -> str:
    """128 bits of an HMAC over the parts, each with its length in front: no two lists of parts are one text."""
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    document = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    return hmac.digest(key, document, "sha256").hex()[:32]


NONCE_BYTES = 12


class SealError(NotifyctlError):
    """A sealed context cannot be opened: its key is gone from NOTIFICATION_SECRET_KEY, or it was altered."""


@dataclass(frozen=True, slots=True)
class SealedContext:
    key_id: str
    text: str


class KeyRing:
    """The first secret seals and hashes; all of them open and find."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        self._keys = [_Key(secret) for secret in secrets]

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"

    @property
    def ids(self) -> list[str]:
        """The first is that of the key which seals and hashes."""
        return [key.id for key in self._keys]

    def seal(self, context: Mapping[str, object], *, message_id: str) -> SealedContext:
        """Encrypts with AES-256-GCM, bound to the message: moved to another row it does not open."""
        key = self._keys[0]
        nonce = os.urandom(NONCE_BYTES)
        plain = json.dumps(dict(context), separators=(",", ":")).encode()
        sealed = nonce + key.cipher.encrypt(nonce, plain, message_id.encode())
        return SealedContext(key.id, base64.b64encode(sealed).decode())

    def open(self, sealed: SealedContext, *, message_id: str) -> dict[str, object]:
        """Raises SealError."""
        key = next((key for key in self._keys if key.id == sealed.key_id), None)
        if key is None:
            raise SealError(
                f"message {message_id} is sealed with key {sealed.key_id}, which NOTIFICATION_SECRET_KEY lacks;"
                " add the earlier secret after the present one, separated by a comma"
            )
        try:
            blob = base64.b64decode(sealed.text, validate=True)
            plain = key.cipher.decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], message_id.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: no base64, or too short for a nonce
            raise SealError(f"the sealed context of message {message_id} was altered and cannot be opened") from error
        return _json_object(plain, message_id)

    def recipient_hash(self, channel: str, address: str) -> str:
        """The same for Ann@ and ann@: mailboxes that tell them apart are none anybody has."""
        return self.recipient_hashes(channel, address)[0]

    def recipient_hashes(self, channel: str, address: str) -> list[str]:
        """One for each secret: what was written under an earlier one must still be found."""
        return [keyed_hash(key.index_key, channel, address.lower()) for key in self._keys]

    def fingerprints(self, *parts: str) -> list[str]:
        """Tells two requests with one idempotency key apart. The first is stored; any may match."""
        return [keyed_hash(key.fingerprint_key, *parts) for key in self._keys]


def _json_object(plain: bytes, message_id: str) -> dict[str, object]:
    try:
        context = json.loads(plain)
    except (ValueError, RecursionError):
        context = None
    if not isinstance(context, dict):
        raise SealError(f"the sealed context of message {message_id} is not a JSON object and cannot be used")
    return context


class _Key(Secret):
    @cached_property
    def cipher(self) -> AESGCM:
        return AESGCM(self.derive("seal"))

    @cached_property
    def index_key(self) -> bytes:
        return self.derive("recipient index")

    @cached_property
    def fingerprint_key(self) -> bytes:
        return self.derive("fingerprint")
