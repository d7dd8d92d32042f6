import pytest

from notifyctl.models.template import Variable, VariableType
from notifyctl.orchestrator.context import MAX_VALUE_CHARACTERS, context_faults, from_text

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
    assert found == ["name is missing (string)", "nmae is unknown; the template takes name, day"]


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
