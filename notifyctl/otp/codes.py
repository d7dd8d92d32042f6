"""Codes and the keyed hashes that stand for them and for phones.

Three keys are derived from each secret in OTP_PEPPER: for phones, for their prefixes, for codes. Six digits can be
tried out in a second: what keeps a stolen database useless is that the pepper is not in it.
"""

import hmac
import secrets
from collections.abc import Sequence
from functools import cached_property

from pydantic import SecretStr

from notifyctl.keyring import Secret, keyed_hash
from notifyctl.models.enums import OtpAction
from notifyctl.otp.store import CodeRow

DIGITS = 6


def new_code() -> str:
    """Six digits, every one of the million as likely as any other (NIST SP 800-63B-4, 3.1.3.2)."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"


def new_challenge_id() -> str:
    return secrets.token_hex(16)


class PepperRing:
    """The first pepper hashes; all of them find and compare."""

    def __init__(self, peppers: Sequence[SecretStr]) -> None:
        self._peppers = [_Pepper(pepper) for pepper in peppers]

    def __repr__(self) -> str:
        return f"PepperRing({', '.join(self.ids)})"

    @property
    def ids(self) -> list[str]:
        return [pepper.id for pepper in self._peppers]

    def phone_hashes(self, phone: str) -> dict[str, str]:
        """Hash -> the id of its pepper, the present one first."""
        return {keyed_hash(pepper.phone_key, phone): pepper.id for pepper in self._peppers}

    def prefix_hashes(self, prefix: str) -> list[str]:
        """The present one first."""
        return [keyed_hash(pepper.prefix_key, prefix) for pepper in self._peppers]

    def code_hash(self, challenge_id: str, phone: str, action: OtpAction, code: str) -> str:
        """Bound to all three: moved to another row, phone or action, it fits no code."""
        return self._peppers[0].code_hash(challenge_id, phone, action, code)

    def fits(self, challenge: CodeRow, phone: str, code: str) -> bool:
        """Compares in constant time, on bytes. False when the challenge's pepper is gone."""
        pepper = next((pepper for pepper in self._peppers if pepper.id == challenge.key_id), None)
        if pepper is None:
            return False
        code_hash = pepper.code_hash(challenge.id, phone, challenge.action, code)
        return hmac.compare_digest(code_hash.encode(), challenge.code_hash.encode())


class _Pepper(Secret):
    @cached_property
    def phone_key(self) -> bytes:
        return self.derive("phone index")

    @cached_property
    def prefix_key(self) -> bytes:
        return self.derive("phone prefix index")

    @cached_property
    def code_key(self) -> bytes:
        return self.derive("one-time code")

    def code_hash(self, challenge_id: str, phone: str, action: OtpAction, code: str) -> str:
        return keyed_hash(self.code_key, "1", challenge_id, phone, action, code)
