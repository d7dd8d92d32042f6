import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st

from notifyctl.errors import InvalidInput
from notifyctl.orchestrator.addresses import normal_address, normal_email, normal_phone, region_of


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ann@acme.example", "ann@acme.example"),
        ("Ann.B+news@ACME.Example", "Ann.B+news@acme.example"),
        ("  ann@acme.example ", "ann@acme.example"),
        ("Postmaster@acme.example", "postmaster@acme.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@XN--BCHER-KVA.example", "ann@xn--bcher-kva.example"),
        ("o'neil@acme.example", "o'neil@acme.example"),
        ("ann@sandbox.test", "ann@sandbox.test"),
    ],
)
def test_an_email_address_has_one_spelling(written: str, normal: str) -> None:
    assert normal_email(written) == normal
    assert normal_email(normal) == normal


@pytest.mark.parametrize(
    "written",
    [
        "",
        "ann",
        "@acme.example",
        "ann@",
        "ann@acme",
        "ann@b@acme.example",
        "ann..b@acme.example",
        ".ann@acme.example",
        "Ann <ann@acme.example>",
        '"ann b"@acme.example',
        "ann@[127.0.0.1]",
        "ann@acme.invalid",
        "ünn@acme.example",
        f"{'a' * 65}@acme.example",
        f"ann@{'a' * 64}.example",
        f"{'a' * 64}@{'.'.join(['b' * 60] * 4)}.example",
        "ann@acme.example\r\nBcc: eve@evil.example",
        "ann\r\n@acme.example",
        "ann@acme.example\n",
        "ann\0@acme.example",
        "ann@acme.example, eve@evil.example",
    ],
)
def test_what_is_no_single_deliverable_email_address_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(InvalidInput, match="is not valid") as refusal:
        normal_email(written)
    assert "\n" not in str(refusal.value)


@given(
    st.from_regex(r"[a-z0-9_+.-]{1,66}", fullmatch=True),
    st.sampled_from(["acme.example", "ACME.example", "a.b.test", "bücher.example", "acme", "acme..example", ""]),
)
def test_the_short_way_for_plain_names_decides_as_the_library_does(name: str, domain: str) -> None:
    address = f"{name}@{domain}"
    try:
        expected = validate_email(
            address, allow_smtputf8=False, strict=True, check_deliverability=False, test_environment=True
        ).ascii_email
    except ValueError:
        with pytest.raises(InvalidInput):
            normal_email(address)
    else:
        assert normal_email(address) == expected


@pytest.mark.parametrize(
    ("written", "region", "normal"),
    [
        ("+491701234567", None, "+491701234567"),
        ("+49 (0) 170 / 123-45.67", None, "+491701234567"),
        ("0170 1234567", "DE", "+491701234567"),
        ("0170 1234567", "de", "+491701234567"),
        ("0049 170 1234567", "DE", "+491701234567"),
        ("+1\u00a0415\u00a0555\u00a02671", "DE", "+14155552671"),
        ("+15005550006", None, "+15005550006"),
        ("+80012345678", None, "+80012345678"),
    ],
)
def test_all_spellings_of_a_phone_number_are_one(written: str, region: str | None, normal: str) -> None:
    assert normal_phone(written, region) == normal
    assert normal_phone(normal) == normal


@pytest.mark.parametrize(
    ("written", "region"),
    [
        ("", "DE"),
        ("+", None),
        ("0170 1234567", None),
        ("0049 170 1234567", None),
        ("+49170CALLME", None),
        ("+49 170 1234567 ext. 5", None),
        ("+491701234567x5", None),
        ("+491701234567;ext=5", None),
        ("+49", None),
        ("+4917", None),
        ("+4917012345678901234", None),
        ("+999123456789", None),
        ("++491701234567", None),
        ("+49170\n1234567", None),
        ("+٤٩١٧٠١٢٣٤٥٦٧", None),
        ("1" * 500, "DE"),
        ("0170 1234567", "Germany"),
    ],
)
def test_what_is_no_possible_phone_number_is_refused_in_one_line(written: str, region: str | None) -> None:
    with pytest.raises(InvalidInput, match="phone number") as refusal:
        normal_phone(written, region)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("phone", "region"),
    [("+491701234567", "DE"), ("+14155552671", "US"), ("+12644971234", "AI"), ("+80012345678", "001")],
)
def test_the_region_is_that_of_the_number_and_not_only_of_its_country_code(phone: str, region: str) -> None:
    assert region_of(phone) == region


def test_a_number_that_no_plan_knows_has_no_region() -> None:
    assert region_of("+19995551234") is None


def test_the_region_of_what_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not valid"):
        region_of("ann@acme.example")


def test_the_channel_decides_what_an_address_is() -> None:
    assert normal_address("EMAIL", "ann@ACME.example") == "ann@acme.example"
    assert normal_address("SMS", "0170 1234567", "DE") == "+491701234567"
    with pytest.raises(InvalidInput, match="phone number"):
        normal_address("SMS", "ann@acme.example")
