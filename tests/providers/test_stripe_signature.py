"""Signatures made by Stripe's own library, over bytes."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from notifyctl.providers.stripe import SignatureFault, signature_fault
from tests.support.stripe_payloads import NOW, OLD_SECRET, WEBHOOK_SECRET, signed

NOON = datetime.fromtimestamp(NOW, UTC)
SECRETS = (SecretStr(WEBHOOK_SECRET), SecretStr(OLD_SECRET))
BODY = '{"id": "evt_1", "name": "Ü"}'.encode()


def header(body: bytes = BODY, *, secret: str = WEBHOOK_SECRET, at: int = NOW) -> str:
    return signed(body, secret=secret, at=at)["Stripe-Signature"]


@pytest.mark.parametrize("secret", [WEBHOOK_SECRET, OLD_SECRET])
def test_any_of_the_secrets_will_do(secret: str) -> None:
    assert signature_fault(BODY, header(secret=secret), SECRETS, NOON) is None


@pytest.mark.parametrize("seconds", [-301, -300, 0, 300, 301])
def test_five_minutes_are_allowed_either_way(seconds: int) -> None:
    fault = signature_fault(BODY, header(), SECRETS, NOON + timedelta(seconds=seconds))
    assert fault is (SignatureFault.OUTSIDE_TOLERANCE if abs(seconds) > 300 else None)


def test_a_stranger_is_not_told_about_clocks() -> None:
    assert signature_fault(BODY, header(secret="whsec_x", at=1), SECRETS, NOON) is SignatureFault.WRONG


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (None, SignatureFault.MISSING),
        ("", SignatureFault.MISSING),
        (",", SignatureFault.MALFORMED),
        ("t", SignatureFault.MALFORMED),
        (f"t={NOW}", SignatureFault.MALFORMED),
        (f"t={NOW},v0=abc", SignatureFault.MALFORMED),
        ("t=-1,v1=abc", SignatureFault.MALFORMED),
        ("t=1_0,v1=abc", SignatureFault.MALFORMED),
        (f"t={NOW},v1=ü", SignatureFault.MALFORMED),
        (f"t={NOW},v1=", SignatureFault.WRONG),
        (f"t={NOW},v1=abc", SignatureFault.WRONG),
    ],
)
def test_what_is_wrong_with_a_header_is_named(given: str | None, fault: SignatureFault) -> None:
    assert signature_fault(BODY, given, SECRETS, NOON) is fault


def test_bytes_that_are_no_text_were_signed_by_nobody() -> None:
    assert signature_fault(b"\xff", header(), SECRETS, NOON) is SignatureFault.NOT_TEXT


def test_an_empty_secret_signs_nothing() -> None:
    assert signature_fault(BODY, header(secret="x"), (SecretStr(""),), NOON) is SignatureFault.WRONG


def test_no_fault_has_a_secret_or_a_body_in_it() -> None:
    assert not any(WEBHOOK_SECRET in fault or "evt_1" in fault for fault in SignatureFault)
