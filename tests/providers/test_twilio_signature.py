"""Whether a call is Twilio's own: what the signature covers, and what it must not be fooled by."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyctl.providers.receipts import MalformedReceipt
from notifyctl.providers.twilio.receipts import Call, read_signed

TOKEN = "4f1d2c3b4a5968778695a4b3c2d1e0f9"
URL = "https://notify.example/api/webhooks/twilio/status?message_id=019cae51-7b2a-7d31-9c53-2b6f0c1d7a55"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
FIELDS = (("MessageSid", "SM1"), ("MessageStatus", "delivered"), ("To", "+4915112345678"), ("Body", ""))


def sign(url: str, pairs: Sequence[tuple[str, str]] = (), token: str = TOKEN) -> str:
    """As the documentation has it: the URL, then each name and value, sorted, without a repeated value."""
    signed = url + "".join(name + value for name, value in sorted(set(pairs)))
    return b64encode(hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def a_call(pairs: Sequence[tuple[str, str]] = FIELDS, *, url: str = URL, signed_url: str = "") -> Call:
    return Call(url, FORM, urlencode(pairs).encode(), sign(signed_url or url, pairs))


def test_a_signed_form_is_read() -> None:
    assert read_signed(a_call(), TOKEN) == dict(FIELDS)


TAMPERED = {
    "another token": {"signature": sign(URL, FIELDS, "another")},
    "no signature": {"signature": ""},
    "half a signature": {"signature": sign(URL, FIELDS)[:14]},
    "a signature in other letters": {"signature": sign(URL, FIELDS).swapcase()},
    "a signature that is not ASCII": {"signature": "\xe9" * 28},
    "another message": {"url": URL.replace("7a55", "7a56")},
    "another path": {"url": URL.replace("/status", "/inbound")},
    "another host": {"url": URL.replace("notify.example", "evil.example")},
    "http": {"url": URL.replace("https", "http")},
    "a parameter more in the URL": {"url": URL + "&a=b"},
    "another value": {"body": urlencode(FIELDS).replace("delivered", "failed").encode()},
    "a parameter more": {"body": urlencode([*FIELDS, ("ErrorCode", "21610")]).encode()},
    "a parameter less": {"body": urlencode(FIELDS[1:]).encode()},
    "a second value": {"body": urlencode([*FIELDS, ("MessageStatus", "failed")]).encode()},
    "no body": {"body": b""},
    "a body that is no text": {"body": b"\xff\xfe\x00"},
    "JSON": {"content_type": "application/json", "body": json.dumps(dict(FIELDS)).encode()},
}


@pytest.mark.parametrize("changed", TAMPERED.values(), ids=TAMPERED.keys())
def test_what_was_tampered_with_is_not_twilios(changed: dict[str, object]) -> None:
    assert read_signed(replace(a_call(), **changed), TOKEN) is None


@pytest.mark.parametrize(
    ("ours", "twilios"),
    [
        ("https://notify.example/x?a=b", "https://notify.example:443/x?a=b"),
        ("https://notify.example:443/x?a=b", "https://notify.example/x?a=b"),
        ("https://notify.example:8443/x", "https://notify.example:8443/x"),
        ("http://notify.example/x", "http://notify.example:80/x"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://user:word@notify.example/x", "https://user:word@notify.example/x"),
        ("https://notify.example/behind/a/proxy/x", "https://notify.example/behind/a/proxy/x"),
        ("https://notify.example/x?name=%C3%A4+%20", "https://notify.example/x?name=%C3%A4+%20"),
    ],
)
def test_the_port_may_be_signed_or_not(ours: str, twilios: str) -> None:
    assert read_signed(a_call(url=ours, signed_url=twilios), TOKEN) == dict(FIELDS)


def test_a_parameter_that_comes_twice_is_signed_with_both_values_and_read_as_the_first() -> None:
    pairs = [*FIELDS, ("MessageStatus", "aborted"), ("MessageStatus", "delivered")]
    assert read_signed(a_call(pairs), TOKEN) == dict(FIELDS)


def test_what_twilio_adds_some_day_is_signed_as_well() -> None:
    pairs = [*FIELDS, ("Zürich", "grüße €"), ("empty", ""), ("a&b", "c=d"), ("emoji", "📦")]
    assert read_signed(a_call(pairs), TOKEN) == dict(pairs)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=6))
def test_any_form_that_is_signed_is_read_and_no_other(pairs: list[tuple[str, str]]) -> None:
    found = read_signed(a_call(pairs), TOKEN)
    assert found is not None
    assert set(found) == {name for name, _ in pairs}
    assert read_signed(replace(a_call(pairs), signature=sign(URL, pairs, "no")), TOKEN) is None


@settings(max_examples=300)
@given(st.binary(max_size=60), st.text(max_size=40), st.sampled_from([FORM, "application/json", "", "\xff;"]))
def test_nothing_that_a_stranger_sends_is_more_than_refused(body: bytes, signature: str, content_type: str) -> None:
    assert read_signed(Call(URL, content_type, body, signature), TOKEN) is None


def json_call(body: bytes, *, hashed: bytes | None = None) -> Call:
    digest = hashlib.sha256(body if hashed is None else hashed).hexdigest()
    url = f"{URL}&bodySHA256={digest}"
    return Call(url, "application/json", body, sign(url))


def test_json_is_read_where_the_url_has_its_hash() -> None:
    body = b'{"MessageSid": "SM1", "MessageStatus": "delivered", "ErrorCode": 30005, "Odd": [1]}'
    assert read_signed(json_call(body), TOKEN) == {
        "MessageSid": "SM1", "MessageStatus": "delivered", "ErrorCode": "30005",
    }  # fmt: skip


def test_the_hash_is_over_the_bytes_that_came() -> None:
    assert read_signed(json_call(b'{"Body": "\xc3\xa4"}'), TOKEN) == {"Body": "ä"}
    assert read_signed(json_call(b'{"Body":"\xc3\xa4"}', hashed=b'{"Body": "\xc3\xa4"}'), TOKEN) is None


def test_json_with_the_right_hash_and_a_wrong_signature_is_not_twilios() -> None:
    assert read_signed(replace(json_call(b"{}"), signature=sign(URL)), TOKEN) is None


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_signed_json_that_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReceipt):
        read_signed(json_call(body), TOKEN)


def test_a_form_of_endless_fields_is_malformed() -> None:
    with pytest.raises(MalformedReceipt, match="200 fields"):
        read_signed(a_call([(f"n{number}", "") for number in range(201)]), TOKEN)


def test_quoting_of_the_body_makes_no_difference() -> None:
    body = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in FIELDS)
    assert read_signed(replace(a_call(), body=body.encode()), TOKEN) == dict(FIELDS)
