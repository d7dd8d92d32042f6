import pytest

from notifyctl.text.masking import mask


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("anna@acme.example", "a***@acme.example"),
        ("an@acme.example", "a***@acme.example"),
        ("a@acme.example", "***@acme.example"),
        ("+491701234534", "+49********34"),
        ("+15005550006", "+15*******06"),
        ("+12345", "***"),
        ("someone", "***"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_can_be_recognised_but_not_used(address: str | None, masked: str) -> None:
    assert mask(address) == masked
