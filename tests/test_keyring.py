import base64
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from notifyctl.keyring import NONCE_BYTES, KeyRing, SealedContext, SealError, _Key

OLD = SecretStr("old-0f8e7d6c5b4a39281706f5e4d3c2b1a0")
NEW = SecretStr("new-1a2b3c4d5e6f708192a3b4c5d6e7f809")
CONTEXT = {"code": "123456", "valid_minutes": 10, "domain": None}


def test_a_sealed_context_opens_and_does_not_show_its_values() -> None:
    keys = KeyRing([NEW])
    sealed = keys.seal(CONTEXT, message_id="m-1")
    assert keys.open(sealed, message_id="m-1") == CONTEXT
    assert b"123456" not in base64.b64decode(sealed.text)


def test_the_same_context_is_never_sealed_to_the_same_text() -> None:
    keys = KeyRing([NEW])
    assert keys.seal(CONTEXT, message_id="m-1").text != keys.seal(CONTEXT, message_id="m-1").text


def test_while_rotating_the_first_key_seals_and_all_open() -> None:
    before = KeyRing([OLD]).seal(CONTEXT, message_id="m-1")
    rotating = KeyRing([NEW, OLD])
    assert rotating.open(before, message_id="m-1") == CONTEXT
    assert rotating.seal(CONTEXT, message_id="m-1").key_id == KeyRing([NEW]).seal({}, message_id="m").key_id


def test_after_rotation_the_error_names_the_missing_key_and_the_mend() -> None:
    before = KeyRing([OLD]).seal(CONTEXT, message_id="m-1")
    with pytest.raises(SealError, match=f"{before.key_id}, which NOTIFICATION_SECRET_KEY lacks; add"):
        KeyRing([NEW]).open(before, message_id="m-1")


def test_a_sealed_context_moved_to_another_message_does_not_open() -> None:
    keys = KeyRing([NEW])
    sealed = keys.seal(CONTEXT, message_id="m-1")
    with pytest.raises(SealError, match="m-2 was altered"):
        keys.open(sealed, message_id="m-2")


@pytest.mark.parametrize("position", [0, 11, 12, -1], ids=["nonce", "end of nonce", "text", "tag"])
def test_a_sealed_context_with_one_changed_byte_does_not_open(position: int) -> None:
    keys = KeyRing([NEW])
    sealed = keys.seal(CONTEXT, message_id="m-1")
    blob = bytearray(base64.b64decode(sealed.text))
    blob[position] ^= 1
    with pytest.raises(SealError, match="was altered"):
        keys.open(replace(sealed, text=base64.b64encode(blob).decode()), message_id="m-1")


@pytest.mark.parametrize("text", ["", "abc", "AAAA", "A" * 12, "A" * 16, "äöü=", "\ud800", "AAAA\nAAAA", "A" * 40])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    keys = KeyRing([NEW])
    with pytest.raises(SealError, match="m-1 was altered"):
        keys.open(SealedContext(keys.ids[0], text), message_id="m-1")


@given(st.text() | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()))
def test_any_text_opens_or_is_refused_as_altered(text: str) -> None:
    keys = KeyRing([NEW])
    with pytest.raises(SealError):
        keys.open(SealedContext(keys.ids[0], text), message_id="m-1")


def test_blanks_and_other_strange_characters_in_the_text_are_no_base64() -> None:
    keys = KeyRing([NEW])
    sealed = keys.seal(CONTEXT, message_id="m-1")
    with pytest.raises(SealError, match="m-1 was altered"):
        keys.open(replace(sealed, text=f"{sealed.text[:8]} {sealed.text[8:]}"), message_id="m-1")


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xff", b"{", b"[1]", b"null", b'"a"', b"5", b"1" * 5_000, b"[" * 100_000],
    ids=["nothing", "no text", "half", "list", "null", "string", "number", "huge number", "deep"],
)
def test_a_sealed_text_that_is_no_json_object_does_not_open(plain: bytes) -> None:
    key, nonce = _Key(NEW), os.urandom(NONCE_BYTES)
    text = base64.b64encode(nonce + key.cipher.encrypt(nonce, plain, b"m-1")).decode()
    with pytest.raises(SealError, match="message m-1 is not a JSON object"):
        KeyRing([NEW]).open(SealedContext(key.id, text), message_id="m-1")


def test_an_address_written_under_an_earlier_key_is_still_found() -> None:
    written = KeyRing([OLD]).recipient_hash("EMAIL", "ann@acme.example")
    rotating = KeyRing([NEW, OLD])
    assert written in rotating.recipient_hashes("EMAIL", "ann@acme.example")
    assert rotating.recipient_hash("EMAIL", "ann@acme.example") != written


def test_a_hash_tells_channels_addresses_and_purposes_apart() -> None:
    keys = KeyRing([NEW])
    hashes = [
        keys.recipient_hash("EMAIL", "ann@acme.example"),
        keys.recipient_hash("SMS", "ann@acme.example"),
        keys.recipient_hash("EMAIL", "bob@acme.example"),
        keys.fingerprints("EMAIL", "ann@acme.example")[0],
        keys.fingerprints("EMAILann", "@acme.example")[0],
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_first_id_is_that_of_the_key_which_seals() -> None:
    keys = KeyRing([NEW, OLD])
    assert keys.ids[0] == keys.seal(CONTEXT, message_id="m-1").key_id
    assert keys.ids == [*KeyRing([NEW]).ids, *KeyRing([OLD]).ids]


def test_a_key_ring_shows_no_secret() -> None:
    shown = repr(KeyRing([NEW, OLD]))
    assert "new-" not in shown
    assert "old-" not in shown
