from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from notifyctl.errors import InvalidInput
from notifyctl.orchestrator.requests import MAX_LENGTHS, MAX_METADATA_BYTES, SendRequest

TO_ADDRESS = {"template_key": "T", "recipient": "a@b.example"}
TO_CLIENT = {"template_key": "T", "client_id": "acme"}


def refusal(**fields: Any) -> str:
    base = TO_ADDRESS if "client_id" not in fields else {"template_key": "T"}
    with pytest.raises(InvalidInput) as refused:
        SendRequest(**(base | fields))
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300
    return str(refused.value)


@pytest.mark.parametrize("field", MAX_LENGTHS)
class TestEveryField:
    @pytest.mark.parametrize("junk", ["a\0b", "a\ud800b", "\udcff"], ids=ascii)
    def test_takes_nothing_that_a_database_cannot_keep(self, field: str, junk: str) -> None:
        assert refusal(**{field: junk}).startswith(f"{field} has a NUL or half of a surrogate pair")

    def test_has_a_longest_length(self, field: str) -> None:
        longest = MAX_LENGTHS[field]
        base = TO_CLIENT if field == "client_id" else TO_ADDRESS
        SendRequest(**(base | {field: "x" * longest}))
        expected = f"{field} has {longest + 1:,} characters, at most {longest:,} are kept; shorten it"
        assert refusal(**{field: "x" * (longest + 1)}) == expected

    @pytest.mark.parametrize("value", [5, b"x", ["x"]], ids=repr)
    def test_is_a_string(self, field: str, value: object) -> None:
        assert refusal(**{field: value}).startswith(f"{field} must be a string, got ")


def test_the_lengths_are_those_that_were_agreed() -> None:
    assert MAX_LENGTHS == {
        "template_key": 128, "client_id": 255, "recipient": 1_000, "idempotency_key": 255, "source": 64,
        "source_ref": 255,
        "actor": 255,
    }  # fmt: skip


def test_an_idempotency_key_is_not_empty() -> None:
    assert refusal(idempotency_key="") == "idempotency_key is empty; give none, or 1 to 255 characters"


def test_the_recipient_is_not_repeated() -> None:
    assert "s3cret" not in refusal(recipient="s3cret\0")
    assert "s3cret" not in refusal(recipient="s3cret" * 1_000)


@pytest.mark.parametrize("who", [{}, {"client_id": "a", "recipient": "b"}])
def test_a_message_goes_to_a_client_or_to_an_address(who: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="give either client_id or recipient, one of the two"):
        SendRequest(template_key="T", **who)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ([("a", 1)], "the context must be an object, got a list"),
        (None, "the context must be an object, got null"),
        ({1: 2}, "the context has a name that is an integer; every name must be a string"),
        ({"a": 1, ("t",): 2}, "the context has a name that is a tuple; every name must be a string"),
        ({10**5000: 2}, "the context has a name that is an integer; every name must be a string"),
    ],
    ids=["list", "none", "number", "tuple", "huge number"],
)
def test_the_context_is_an_object_with_names(context: Any, words: str) -> None:
    assert refusal(context=context) == words


def test_metadata_is_kept_as_it_was_when_it_was_given() -> None:
    given = {"action": "PHONE_VERIFY", "count": 3, "rate": 0.5, "late": False, "note": None}
    request = SendRequest(**TO_ADDRESS, metadata=MappingProxyType(given))
    assert request.metadata == given
    given["count"] = float("nan")
    assert request.metadata["count"] == 3


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), "a\0b", "\udcff", Decimal(1), 2**63, 10**5000, b"x", {1}, object(), [1], {"a": 1}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_metadata_holds_plain_values(value: object) -> None:
    assert refusal(metadata={"a": value}).startswith("metadata a ")


def test_metadata_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    assert refusal(metadata=loop).startswith("metadata a ")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ([1], "metadata must be an object, got a list"),
        ("text", "metadata must be an object, got a string"),
        ({1: 2}, "metadata has a name that is an integer; every name must be a string"),
        ({"a\0": 2}, "metadata has a name with a NUL or half of a surrogate pair; leave it out"),
        ({"\ud800": 2}, "metadata has a name with a NUL or half of a surrogate pair; leave it out"),
    ],
)
def test_metadata_is_an_object_with_names(metadata: Any, words: str) -> None:
    assert refusal(metadata=metadata) == words


def test_metadata_has_a_largest_size() -> None:
    around = len('{"a":""}')
    SendRequest(**TO_ADDRESS, metadata={"a": "x" * (MAX_METADATA_BYTES - around)})
    expected = (
        f"metadata has {MAX_METADATA_BYTES + 1:,} bytes as JSON, at most {MAX_METADATA_BYTES:,} are kept; shorten it"
    )
    assert refusal(metadata={"a": "x" * (MAX_METADATA_BYTES - around + 1)}) == expected
    assert MAX_METADATA_BYTES == 4096
