import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Audience, Channel, Lane, OnDoubt, VariableType
from notifyctl.models.template import Template, Variable
from notifyctl.templates.context import MAX_VALUE_CHARACTERS, canonical_json, context_faults, from_text, rate_subject

STRING, INTEGER, NUMBER = VariableType.STRING, VariableType.INTEGER, VariableType.NUMBER
DATE, URL = VariableType.DATE, VariableType.URL


def faults(kind: VariableType, value: object, **declared: bool) -> list[str]:
    return context_faults({"x": Variable(kind, **declared)}, {"x": value})


def test_a_context_that_fits_has_no_faults():
    variables = {
        "name": Variable(STRING),
        "count": Variable(INTEGER),
        "rate": Variable(NUMBER),
        "day": Variable(DATE),
        "link": Variable(URL),
        "note": Variable(STRING, optional=True),
    }
    context = {
        "name": "Zoë",
        "count": 3,
        "rate": 2.5,
        "day": "2026-02-28",
        "link": "https://a.example/?b=1&c=%20",
    }
    assert context_faults(variables, context) == []


def test_missing_and_unknown_variables_are_named_together():
    found = context_faults({"name": Variable(STRING), "day": Variable(DATE)}, {"nmae": "Ann", "day": "2026-01-02"})
    assert found == ["name is missing (string)", "nmae is unknown; did you mean name? The template takes name, day"]


def test_many_unknown_names_are_cut_short():
    (found,) = context_faults({}, {f"n{number}": 1 for number in range(100)})
    assert found == "n0, n1, n2, n3, n4 and 95 more are unknown; the template takes no variables"


def test_an_unknown_name_cannot_write_to_the_terminal_or_break_the_database():
    (found,) = context_faults({}, {"\x1b[31m\0\ud800": 1})
    assert found.isascii()
    assert found.isprintable()


def test_an_optional_variable_may_be_left_out_or_null():
    variables = {"amount": Variable(STRING, optional=True)}
    assert context_faults(variables, {}) == []
    assert context_faults(variables, {"amount": None}) == []


def test_a_required_variable_may_not_be_null():
    assert faults(STRING, None) == ["x must be a string, got null"]


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        (STRING, 5, "x must be a string, got an integer"),
        (STRING, ["a"], "x must be a string, got a list"),
        (INTEGER, "5", "x must be an integer, got a string"),
        (INTEGER, 5.0, "x must be an integer, got a number"),
        (INTEGER, True, "x must be an integer, got a boolean"),
        (INTEGER, 2**63, "x does not fit into 64 bits"),
        (NUMBER, False, "x must be a number, got a boolean"),
        (NUMBER, float("nan"), "x is not a finite number that fits into 64 bits"),
        (NUMBER, float("inf"), "x is not a finite number that fits into 64 bits"),
        (DATE, "02.03.2026", "x must be a date as YYYY-MM-DD, got another string"),
        (DATE, "20260302", "x must be a date as YYYY-MM-DD, got another string"),
        (DATE, "2026-03-02T00:00", "x must be a date as YYYY-MM-DD, got another string"),
        (DATE, "2026-03-02\n", "x must be a date as YYYY-MM-DD, got another string"),
        (DATE, "２０２６-03-02", "x must be a date as YYYY-MM-DD, got another string"),
        (DATE, "2026-02-30", "x must be a date as YYYY-MM-DD, got a day that does not exist"),
        (DATE, 20260302, "x must be a date as YYYY-MM-DD, got an integer"),
        (URL, "javascript:alert(1)", "x must be a url that begins with http:// or https:// and a host"),
        (URL, "ftp://a.example/", "x must be a url that begins with http:// or https:// and a host"),
        (URL, "https://", "x must be a url that begins with http:// or https:// and a host"),
        (URL, "https://[a", "x must be a url that begins with http:// or https:// and a host"),
        (URL, "https://a.example/b c", "x must be a url with blanks, quotes and brackets encoded"),
        (URL, 'https://a.example/"onclick="', "x must be a url with blanks, quotes and brackets encoded"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(kind, value, fault):
    assert faults(kind, value) == [fault]


def test_a_number_of_thousands_of_digits_is_refused():
    assert faults(INTEGER, -(10**5000)) == ["x does not fit into 64 bits"]
    assert faults(NUMBER, 10**5000) == ["x is not a finite number that fits into 64 bits"]


@pytest.mark.parametrize("kind", list(VariableType))
def test_a_fault_never_repeats_the_value(kind):
    for value in ("s3cret-value", "s3cret\nvalue", "s3cret\0", "s3cret" * 3000, {"s3cret": 1}):
        assert "s3cret" not in " ".join(faults(kind, value, in_header=True))


def test_a_line_break_is_refused_only_in_a_variable_of_the_subject():
    assert faults(STRING, "a\r\nBcc: b@example.com") == []
    assert faults(STRING, "a\r\nBcc: b@example.com", in_header=True) == [
        "x has a line break, but stands in the subject"
    ]


def test_a_nul_is_refused_everywhere():
    assert faults(STRING, "a\0b") == ["x has a NUL character"]
    assert faults(URL, "https://a.example/\0") != []


def test_half_a_surrogate_pair_is_refused():
    assert faults(STRING, "a\ud800") == ["x has half a surrogate pair, which no encoding can carry"]


def test_a_value_of_absurd_size_is_refused():
    assert faults(STRING, "a" * MAX_VALUE_CHARACTERS) == []
    assert faults(STRING, "a" * (MAX_VALUE_CHARACTERS + 1)) == ["x is longer than 10000 characters"]


def test_a_context_over_32_kib_is_refused_however_it_is_cut_up():
    variables = {name: Variable(STRING) for name in "abcd"}
    assert context_faults(variables, dict.fromkeys(variables, "x" * 8192)) == []
    assert context_faults(variables, dict.fromkeys(variables, "x" * 8193)) == ["all values together are over 32 KiB"]
    assert context_faults(variables, dict.fromkeys(variables, "€" * 2731)) == ["all values together are over 32 KiB"]


def test_text_from_a_command_line_takes_the_declared_type():
    variables = {
        "n": Variable(INTEGER),
        "r": Variable(NUMBER),
        "code": Variable(STRING),
        "day": Variable(DATE),
    }
    typed = from_text(variables, {"n": "-7", "r": "2.5", "code": "007", "day": "2026-01-02", "other": "1"})
    assert typed == {"n": -7, "r": 2.5, "code": "007", "day": "2026-01-02", "other": "1"}


@pytest.mark.parametrize("text", ["", "x", "1_000", "1.5", "٣", "9" * 5000])
def test_text_that_is_no_integer_stays_text(text):
    assert from_text({"n": Variable(INTEGER)}, {"n": text}) == {"n": text}


TEMPLATE = Template(
    template_key="T",
    channel=Channel.EMAIL,
    audience=Audience.CLIENT,
    lane=Lane.BULK,
    billing=False,
    requires_provisioned=False,
    requires_active_subscription=False,
    plan_required_feature_key=None,
    rate_limit_window_seconds=60,
    rate_limit_max_sends=1,
    rate_limit_by=("item", "count"),
    sensitive=False,
    expires_after_seconds=None,
    on_doubt=OnDoubt.HOLD,
    audit_sent=None,
    enabled=True,
    description="",
    version=1,
    variables={"item": Variable(STRING), "count": Variable(INTEGER, optional=True), "rate": Variable(NUMBER)},
)


def nested(depth: int) -> dict[str, Any]:
    outer: dict[str, Any] = {}
    inner = outer
    for _ in range(depth):
        inner["a"] = {}
        inner = inner["a"]
    return outer


def a_loop() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["item"] = [loop, loop]
    return loop


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
NAMES = st.sampled_from([*VariableType, "x\0", "\ud800"]) | TEXT | st.integers() | st.tuples(st.integers(), TEXT)
EXTREMES = {
    "endless": 10**5000,
    "long": "x" * 50_000,
    "deep": nested(100_000),
    "circular": a_loop(),
    "object": object(),
    "class": type,
    "function": print,
}
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=5) | st.datetimes()
    | st.decimals() | st.sets(st.integers(), max_size=2) | st.complex_numbers()
    | st.sampled_from(list(EXTREMES)).map(lambda name: EXTREMES[name])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)
CONTEXTS = st.dictionaries(NAMES, VALUES, max_size=6) | VALUES
EVERY_TYPE = {kind.value: Variable(kind, in_header=True) for kind in VariableType}


@given(CONTEXTS)
def test_nothing_that_a_caller_can_pass_raises_and_every_fault_is_a_short_line(context: Any) -> None:
    for fault in context_faults(EVERY_TYPE, context):
        assert fault.isprintable()
        assert len(fault) < 600


@given(CONTEXTS)
def test_what_has_no_faults_can_be_written_as_json(context: Any) -> None:
    if not context_faults({"string": Variable(STRING), "number": Variable(NUMBER)}, context):
        assert json.loads(canonical_json(context)) == context
        canonical_json(context).encode()


@given(CONTEXTS, st.permutations(["string", "integer", "number", "date", "url", "absent"]))
def test_a_rate_subject_never_raises_and_can_be_kept(context: Any, by: list[str]) -> None:
    subject = rate_subject(replace(TEMPLATE, variables=EVERY_TYPE, rate_limit_by=tuple(by)), context)
    assert len(subject) <= 200
    assert "\0" not in subject
    subject.encode()


@given(CONTEXTS)
def test_canonical_json_is_json_or_a_refusal_in_one_line(context: Any) -> None:
    try:
        text = canonical_json(context)
    except InvalidInput as error:
        refusal = str(error)
    else:
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        return
    assert refusal.startswith("the context ")
    assert refusal.isprintable()
    assert len(refusal) < 200


@pytest.mark.parametrize(
    ("context", "subject"),
    [
        ({"item": "TL-20", "count": 3}, "item=TL-20; count=3"),
        ({"item": "TL-20"}, "item=TL-20; count=?"),
        ({"item": "TL-20", "count": None}, "item=TL-20; count=?"),
        ({"item": 5, "count": "3"}, "item=?; count=?"),
        ({"item": "a\0b\ud800", "count": 10**5000}, "item=a\ufffdb?; count=?"),
        ({"item": nested(100_000)}, "item=?; count=?"),
        ([], "item=?; count=?"),
    ],
    ids=["as declared", "absent", "null", "other types", "not to be kept", "deep", "no object"],
)  # fmt: skip
def test_the_rate_is_counted_by_values_of_the_declared_type(context: Any, subject: str) -> None:
    assert rate_subject(TEMPLATE, context) == subject


def test_a_rate_subject_of_a_variable_that_is_not_declared_is_unknown() -> None:
    assert rate_subject(replace(TEMPLATE, rate_limit_by=("nope",)), {"nope": "x"}) == "nope=?"


def test_a_long_rate_subject_is_cut_and_still_tells_values_apart() -> None:
    fits = "x" * (200 - len("item=; count=?"))
    assert rate_subject(TEMPLATE, {"item": fits}) == f"item={fits}; count=?"
    one, other = (rate_subject(TEMPLATE, {"item": "x" * 1_000_000 + last}) for last in "ab")
    assert (len(one), one[:150], one[150]) == (183, "item=" + "x" * 145, "…")
    assert one != other


def test_the_order_of_names_makes_no_difference() -> None:
    assert canonical_json({"b": "ä", "a": [1, None]}) == '{"a":[1,null],"b":"\\u00e4"}'
    assert canonical_json(MappingProxyType({"a": 1})) == '{"a":1}'


@pytest.mark.parametrize(
    "context",
    [
        {"a": float("nan")}, {"a": float("inf")}, {"a": Decimal(1)}, {"a": b"x"}, {"a": {1}}, {"a": 10**5000},
        {"a": datetime(2026, 1, 1, tzinfo=UTC)}, {1: 2}, {1: 2, "a": 3}, {("a",): 1}, [1], None, nested(100_000),
        a_loop(),
    ],
    ids=lambda context: str(type(context)),
)  # fmt: skip
def test_what_is_no_json_has_no_canonical_form(context: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^the context "):
        canonical_json(context)


@pytest.mark.parametrize(
    ("context", "fault"),
    [
        ([1], "the context must be an object, got a list"),
        (None, "the context must be an object, got null"),
        ({10**5000: 1}, "a name that is an integer is unknown; the template takes no variables"),
        ({nested: 1}, "a name that is a function is unknown; the template takes no variables"),
    ],
)
def test_a_context_or_a_name_of_another_kind_is_named_by_its_kind(context: Any, fault: str) -> None:
    assert context_faults({}, context) == [fault]
