import pytest
from email_validator import validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyctl.errors import InvalidInput
from notifyctl.text.addresses import AddressError, normal_address, normal_email, normal_phone, parse_address, region_of


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ann@acme.example", "ann@acme.example"),
        ("Ann.B+news@ACME.Example", "Ann.B+news@acme.example"),
        ("  ann@acme.example ", "ann@acme.example"),
        ("Postmaster@acme.example", "postmaster@acme.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@XN--BCHER-KVA.example", "ann@xn--bcher-kva.example"),
        ("\u202aann@acme.example\u202c", "ann@acme.example"),
        ("\u00a0ann@acme.example\u200b", "ann@acme.example"),
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


@pytest.mark.usefixtures("exhaustive")
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
        ("\u202a+49\u202f170\u20111234567\u202c", None, "+491701234567"),
        ("\u2066+49 170\u2009123\u201345\u221267\u2069\ufeff", None, "+491701234567"),
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


def test_an_address_that_is_looked_for_tells_its_channel() -> None:
    assert parse_address("ann@ACME.example") == ("EMAIL", "ann@acme.example")
    assert parse_address("0170 1234567", "DE") == ("SMS", "+491701234567")
    with pytest.raises(AddressError):
        parse_address("ann")


def number_of_digits(text: str) -> str:
    return f"+{text.strip('+')}"


WRITTEN_NUMBERS = (
    st.text("+0123456789 ().-/\u00a0", max_size=30)
    | st.text("+0123456789", min_size=6, max_size=17).map(number_of_digits)
    | st.builds(
        lambda country, zeros, rest: f"+{country}{zeros}{rest}",
        st.sampled_from([1, 7, 36, 39, 44, 49, 52, 54, 55, 63, 81, 86, 91, 225, 375, 380, 800, 870]),
        st.sampled_from(["", "0", "00", "000", "8", "88", "1", "11", "01", "06", "9"]),
        st.text("0123456789", min_size=6, max_size=11),
    )
)


@pytest.mark.usefixtures("exhaustive")
@settings(max_examples=300)
@given(WRITTEN_NUMBERS, st.sampled_from([None, "DE", "us", "PH", "XX", "001"]))
def test_the_normal_form_of_a_number_is_its_own_normal_form(written: str, region: str | None) -> None:
    try:
        normal = normal_phone(written, region)
    except InvalidInput:
        return
    assert normal_phone(normal) == normal
    assert normal_phone(normal, region) == normal


@pytest.mark.parametrize("written", ["+630040727970", "+490015112345678"])
def test_a_number_whose_normal_form_would_be_yet_another_number_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not valid \(its national prefix stands in it more than once\)"):
        normal_phone(written)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        (
            "+49170CALLME",
            "phone number is not valid (only digits, spaces and + ( ) - . / are); write it as +491701234567, without"
            " letters or an extension",
        ),
        (
            "0170 1234567",
            "phone number has no country code; write it as +491701234567, or set OTP_DEFAULT_REGION",
        ),
        ("+999123456789", "phone number is not valid (Could not interpret numbers after plus-sign); correct it"),
        ("+4917", "phone number is too short or too long for its country; correct it"),
    ],
)
def test_the_fault_of_a_phone_number_does_not_name_it_and_the_message_does(written: str, fault: str) -> None:
    with pytest.raises(AddressError) as refusal:
        normal_phone(written)
    assert refusal.value.fault == fault
    assert repr(written) in str(refusal.value)
    assert str(refusal.value).replace(f"{written!r} ", "") == fault


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("ann", "email address is not valid (An email address must have an @-sign); correct it"),
        ("s3cret s3cret@acme.example", "email address is not valid"),
        ("s3cret@s3cret\u2019s.example", "email address is not valid"),
        ("s3cret@xn--s3cret--.example", "email address is not valid"),
        ("s3cret@[IPv6:s3cret]", "email address is not valid"),
        ("s3cret" * 1_000 + "@acme.example", "email address is not valid"),
        ("s3cret@" + "s3cret." * 60 + "example", "email address is not valid"),
        ('"s3cret"s3cret@acme.example', "email address is not valid"),
    ],
)
def test_the_fault_of_an_email_address_does_not_name_it(written: str, fault: str) -> None:
    with pytest.raises(AddressError) as refusal:
        normal_email(written)
    assert refusal.value.fault.startswith(fault)
    assert "s3cret" not in refusal.value.fault
    assert len(refusal.value.fault) < 250
    assert repr(written)[1:40] in str(refusal.value)


@given(st.text(st.characters(min_codepoint=0x400, max_codepoint=0x52F), min_size=1, max_size=8), st.booleans())
def test_no_character_of_an_address_is_in_its_fault(text: str, in_domain: bool) -> None:
    with pytest.raises(AddressError) as refusal:
        normal_email(f"a@{text}" if in_domain else f"{text}@acme.example")
    assert not set(text) & set(refusal.value.fault)


def test_the_region_of_what_is_no_number_has_a_fault_too() -> None:
    with pytest.raises(AddressError) as refusal:
        region_of("ann@acme.example")
    assert "acme" not in refusal.value.fault
