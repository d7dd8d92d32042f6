import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyctl.http.strict_json import MAX_DEPTH, Malformed, fault_of, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_what_json_can_say_is_read_as_it_was_said(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_fault(body: bytes) -> None:
    value = parse(body)

    assert not isinstance(value, Malformed) or value.fault


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"\xff", "is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "is not JSON (at character 0)"),
        (b'{"a": 1,}', "is not JSON (at character 8)"),
        (b'{"a": 1} {}', "is not JSON (at character 9)"),
        (b'{"a": {"b": 1, "b": 1}}', "has the same name twice in one object"),
        (b"[NaN]", "has NaN or Infinity, which JSON does not know"),
        (b"[1e400]", "has a number that is too large"),
        (b"9" * 401, "has a number that is too large"),
        (b"[" * 10_000, f"is nested deeper than {MAX_DEPTH} levels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_without_the_value(body: bytes, fault: str) -> None:
    assert parse(body) == Malformed(fault)


def test_values_may_be_nested_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    assert isinstance(parse(nested(MAX_DEPTH - 1)), dict)
    assert isinstance(parse(nested(MAX_DEPTH)), Malformed)


def test_only_what_was_marked_as_malformed_is_told_as_such() -> None:
    assert fault_of((Malformed("is not UTF-8"),)) == "is not UTF-8"
    assert [fault_of(body) for body in (None, {}, [], b"", ("x",))] == [None] * 5
