"""One spelling for every address: what is stored, hashed, compared and written to."""

import re
from functools import lru_cache

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel

CACHED = 65_536
MAX_NAME, MAX_EMAIL = 64, 254
"""Characters before the @, and in all (RFC 5321)."""
_SHOWN = 80
_PHONE = "phone number"
_PLAIN_NAME = re.compile(r"[a-z0-9_+-]+(\.[a-z0-9_+-]+)*")
_PHONE_CHARACTERS = re.compile(r"\+?[0-9() ./\-]+")
_CUT_SHORT = re.compile(r"\d[.,]\d+E\+?\d+", re.IGNORECASE | re.ASCII)
MARKS = "".join(
    map(chr, [0xAD, 0x2060, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
)
"""Nobody sees them, and address books and web pages put them around what is copied there: soft hyphen, word joiner,
byte order mark, what has no width, and what turns the direction of writing. Some are letters' own within a name.
"""
_SPACES = " \u00a0\u2007\u2009\u202f\u3000"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2212"
_AS_TYPED = str.maketrans(_SPACES + _HYPHENS, " " * len(_SPACES) + "-" * len(_HYPHENS), MARKS)
"""Without what word processors put in the place of blanks and hyphens."""


class AddressError(InvalidInput):
    """An address that is none. `fault` says why without the address, for what is stored; str() names it to a person."""

    def __init__(self, kind: str, text: str, fault: str, *, said: str | None = None) -> None:
        """`said` is what a person is told in the place of `fault`."""
        super().__init__(f"{kind} {_shown(text)} {said or fault}")
        self.fault = f"{kind} {fault}"


@lru_cache(maxsize=CACHED)
def normal_email(text: str) -> str:
    """The address as mail systems compare it: domain in lower case and in its ASCII (IDNA) form.

    Domains reserved for tests (.test, .example) are accepted, names are never looked up. Raises AddressError.
    """
    typed = text.strip(_SPACES + MARKS)
    name, _, domain = typed.rpartition("@")
    if len(name) <= MAX_NAME and _PLAIN_NAME.fullmatch(name) and (normal := _normal_domain(domain)):
        # Nothing is left to ask about such a name, and the many addresses of one domain are asked once.
        address = f"{name}@{normal}"
        if len(address) <= MAX_EMAIL:
            return address
    try:
        return _validated(typed)
    except ValueError as error:
        # The library quotes from the address only behind a colon or in brackets.
        unquoted = re.split("[:(]", str(error))[0]
        fault, said = _email_fault(unquoted), _email_fault(str(error))
        raise AddressError("email address", text, fault, said=said) from error


def _email_fault(cause: str) -> str:
    return f"is not valid ({cause.strip(' .').replace('. ', ': ')}); correct it"


@lru_cache(maxsize=CACHED)
def _normal_domain(domain: str) -> str | None:
    try:
        return _validated(f"a@{domain}").removeprefix("a@")
    except ValueError:
        return None


def _validated(text: str) -> str:
    """Raises email_validator.EmailNotValidError, which is a ValueError."""
    from email_validator import validate_email  # takes as long as all else that `health` loads

    validated = validate_email(
        text, allow_smtputf8=False, strict=True, check_deliverability=False, test_environment=True
    )
    return str(validated.ascii_email)


@lru_cache(maxsize=CACHED)
def normal_phone(text: str, default_region: str | None = None) -> str:
    """E.164. A number whose length is possible is taken: numbering plans change faster than tables of them.

    `default_region` (ISO 3166, two letters) is the region of numbers without +. Raises AddressError.
    """
    number = text.translate(_AS_TYPED).strip(" ")
    if _CUT_SHORT.fullmatch(number):
        fault = "is not valid (a spreadsheet has cut it short); give its column the format Text, and write it once more"
        raise AddressError(_PHONE, text, fault)
    if not _PHONE_CHARACTERS.fullmatch(number) or len(number) > _SHOWN:
        fault = "is not valid (only digits, spaces and + ( ) - . / are)"
        raise AddressError(_PHONE, text, f"{fault}; write it as +491701234567, without letters or an extension")
    if not number.startswith("+") and not default_region:
        raise AddressError(_PHONE, text, "has no country code; write it as +491701234567, or set OTP_DEFAULT_REGION")
    normal = _e164(number, default_region and default_region.upper(), text)
    if normal == number:
        return normal
    # Each reading takes off one national prefix: of a number with two, only the writer knows which one is meant.
    if _e164(normal, None, text) != normal:
        fault = "is not valid (its national prefix stands in it more than once); correct it"
        raise AddressError(_PHONE, text, fault)
    return normal


def _e164(typed: str, region: str | None, text: str) -> str:
    """`text` is what the caller wrote. Raises AddressError."""
    import phonenumbers

    try:
        number = phonenumbers.parse(typed, region)
    except phonenumbers.NumberParseException as error:
        raise AddressError(_PHONE, text, f"is not valid ({_phone_cause(error)}); correct it") from error
    possible = phonenumbers.is_possible_number_with_reason(number)
    # A local number, without its area code, reaches nobody from here.
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise AddressError(_PHONE, text, "is too short or too long for its country; correct it")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=CACHED)
def region_of(phone: str) -> str | None:
    """ISO 3166 region of an E.164 number, "001" where it belongs to no country, None where it tells none.

    Several countries share a code such as +1, and then only the numbers that the plan knows have a region.
    Raises AddressError.
    """
    import phonenumbers

    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(phone))
    except phonenumbers.NumberParseException as error:
        raise AddressError(_PHONE, phone, f"is not valid ({_phone_cause(error)}); correct it") from error


def normal_address(channel: str, text: str, default_region: str | None = None) -> str:
    """The email address or phone number that `channel` writes to. Raises AddressError."""
    return normal_email(text) if channel == "EMAIL" else normal_phone(text, default_region)


def parse_address(text: str, default_region: str | None = None) -> tuple[Channel, str]:
    """What an address that somebody looks for is of, and its normal form. Raises AddressError."""
    channel = Channel.EMAIL if "@" in text else Channel.SMS
    return channel, normal_address(channel, text, default_region)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _phone_cause(error: Exception) -> str:
    """Without its number in front; the library's words are the same for every phone number."""
    return str(error).split(") ", 1)[-1].rstrip(".")
