"""One secret of the installation, and the keys that are derived from it, so that none serves two purposes."""

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr


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
    return hmac.new(key, document, hashlib.sha256).hexdigest()[:32]
