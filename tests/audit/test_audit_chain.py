import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyctl.audit.chain import row_hash
from notifyctl.audit.row_store import StoredRow

TEXTS = st.none() | st.text(max_size=4).map(str.encode)
ROWS = st.builds(
    StoredRow,
    id=st.integers(-(2**63), 2**63 - 1),
    action=TEXTS,
    actor=TEXTS,
    client_id=TEXTS,
    message_id=TEXTS,
    metadata=st.none()
    | st.dictionaries(st.text(max_size=2), st.integers()).map(lambda value: json.dumps(value).encode()),
    created_at=TEXTS,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def with_metadata(document: str | bytes) -> bytes:
    metadata = document.encode(errors="surrogatepass") if isinstance(document, str) else document
    return row_hash(StoredRow(1, b"a", b"b", None, None, metadata, b"c"))


def is_same(first: Any, second: Any) -> bool:
    """As JSON has it: for Python, True is 1 and 1 is 1.0."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


@pytest.mark.usefixtures("exhaustive")
@given(ROWS, ROWS)
def test_two_rows_have_one_hash_only_if_they_are_the_same(first: StoredRow, second: StoredRow) -> None:
    assert row_hash(first) == row_hash(first._replace())
    if first._replace(metadata=None) != second._replace(metadata=None):
        assert row_hash(first) != row_hash(second)


@given(st.lists(st.binary(max_size=3), min_size=3, max_size=3), st.data())
def test_what_stands_in_one_column_is_not_taken_for_what_stands_in_the_next(texts: list[bytes], data: Any) -> None:
    """`ab` and `c` are not `a` and `bc`."""
    whole = b"".join(texts)
    cut = data.draw(st.integers(0, len(whole)))
    first = StoredRow(1, texts[0], texts[1] + texts[2], None, None, None, None)
    second = StoredRow(1, whole[:cut], whole[cut:], None, None, None, None)
    assert (row_hash(first) == row_hash(second)) == (first == second)


@given(VALUES)
def test_the_spelling_of_json_does_not_matter(value: Any) -> None:
    plain = json.dumps(value)
    assert with_metadata(plain) == with_metadata(json.dumps(value, indent=3, ensure_ascii=False, sort_keys=True))


@pytest.mark.usefixtures("exhaustive")
@given(VALUES, VALUES)
@settings(max_examples=300)
def test_its_value_does(first: Any, second: Any) -> None:
    assert (with_metadata(json.dumps(first)) == with_metadata(json.dumps(second))) == is_same(first, second)


@given(st.binary())
def test_whatever_stands_in_the_place_of_json_has_a_hash(document: bytes) -> None:
    assert len(with_metadata(document)) == 32
