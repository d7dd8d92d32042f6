"""Did Stripe sign this? Asked of Stripe's own library, over the bytes as they came."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import SecretStr
from stripe import SignatureVerificationError, WebhookSignature

TOLERANCE_SECONDS = 300
"""Between the time of the signature and ours, either way."""


class SignatureFault(StrEnum):
    """What is wrong, in words for our log. Nothing of the request is in them."""

    MISSING = "no Stripe-Signature header"
    MALFORMED = "the Stripe-Signature header has no t= and v1= that can be read"
    NOT_TEXT = "the body is not UTF-8, so that Stripe did not sign it"
    WRONG = (
        "no signature fits the body: check that STRIPE_WEBHOOK_SECRET is the signing secret of this very endpoint"
        " (`stripe listen` has one of its own), and that no proxy changes the body"
    )
    OUTSIDE_TOLERANCE = (
        f"rightly signed, but more than {TOLERANCE_SECONDS} s from our time: check this host's clock, and the"
        " database's, if it is on another host"
    )


def signature_fault(
    body: bytes, header: str | None, secrets: Sequence[SecretStr], now: datetime
) -> SignatureFault | None:
    """None when one of `secrets` signed the body within the tolerance. Several are in force while one is rolled."""
    if not header:
        return SignatureFault.MISSING
    header = ",".join(part.strip() for part in header.split(","))
    signed_at = _signed_at(header)
    if signed_at is None:
        return SignatureFault.MALFORMED
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return SignatureFault.NOT_TEXT
    if not any([_fits(text, header, secret.get_secret_value()) for secret in secrets]):
        return SignatureFault.WRONG
    # The library knows only signatures that are too old, and only by the host's clock.
    return SignatureFault.OUTSIDE_TOLERANCE if abs(now.timestamp() - signed_at) > TOLERANCE_SECONDS else None


def _signed_at(header: str) -> int | None:
    """None for a header that the library could not read either."""
    parts = [part.split("=") for part in header.split(",")]
    times = [part[1] for part in parts if part[0] == "t" and len(part) > 1]
    if not header.isascii() or not times or not any(part[0] == "v1" and len(part) > 1 for part in parts):
        return None
    return int(times[0]) if times[0].isdigit() and len(times[0]) < 20 else None


def _fits(text: str, header: str, secret: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(text, header, secret, tolerance=None))
    except SignatureVerificationError:  # it has the whole body in it, and must not get any further
        return False
