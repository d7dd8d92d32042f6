"""A provider's answer to what it does not accept, by its code, in the provider's own words where they matter."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel, FailureReason
from notifyctl.providers.postmark.codes import POSTMARK_CODES
from notifyctl.providers.twilio.codes import TWILIO_CODES

STRIPE = "STRIPE"
EMAIL_SEARCH, SMS_SEARCH = "EMAIL-SEARCH", "SMS-SEARCH"
_OWNER = {EMAIL_SEARCH: Channel.EMAIL, SMS_SEARCH: Channel.SMS}
APIS = (*Channel, STRIPE, *_OWNER)
"""What faults are set for: what is sent to the provider of a channel, Stripe, or the lists that a provider is asked
for."""

CODES = {"EMAIL": POSTMARK_CODES, "SMS": TWILIO_CODES, STRIPE: {}}
CLASSES = ("transient", "hard", *FailureReason)
INACTIVE = 406
_NOT_VALID = 300

# The HTTP status beside a code, where it is not the usual one.
_USUAL_STATUS: Mapping[str, int] = {Channel.EMAIL: 422, Channel.SMS: 400}
_STATUS: Mapping[str, Mapping[int, int]] = {
    Channel.EMAIL: {10: 401, 100: 503, 409: 415, 429: 429},
    Channel.SMS: {
        **{code: 401 for code in (20003,)},
        **{code: 403 for code in (403, 20005, 20006, 20008, 20010, 20403)},
        **{code: 404 for code in (404, 20404)},
        **{20004: 405, 20409: 409, 20410: 410, 20413: 413, 20426: 426, 20429: 429},
        **{20500: 500, 503: 503, 20503: 503, 21730: 503},
    },
    STRIPE: {},
}
_WORDS: Mapping[str, Mapping[int, str]] = {
    Channel.EMAIL: {
        10: "Request does not contain a valid Server token.",
        100: "The API is down for maintenance. Try again later.",
        300: "Invalid email request: a field of the message is not valid.",
        405: "Not allowed to send: this server has run out of credits.",
        412: "While your account is pending approval, all recipient addresses must share the same domain as the"
        " 'From' address.",
        429: "Too many requests. Slow down.",
    },
    Channel.SMS: {
        20003: "Authenticate",
        20429: "Too Many Requests",
        20503: "Service Unavailable",
        21211: "The 'To' number {to} is not a valid phone number.",
        21408: "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}.",
        21610: "Attempt to send to unsubscribed recipient",
        21612: "The 'To' phone number: {to}, is not currently reachable using the 'From' phone number via SMS.",
        21614: "'To' number is not a valid mobile number",
    },
    STRIPE: {
        429: "Request rate limit exceeded. Learn more about rate limits here https://docs.stripe.com/rate-limits.",
        500: "An unknown error occurred",
    },
}
_TOO_MANY: Mapping[str, int] = {Channel.EMAIL: 429, Channel.SMS: 20429, STRIPE: 429}
_STRIPES_CODES = range(400, 600)


class ApiRefusal(Exception):
    """The answer in the place of an accepting one."""

    def __init__(self, http_status: int, code: int, message: str, retry_after: int | None = None) -> None:
        """`retry_after`: seconds; stands in a header, so an item of a batch cannot carry it."""
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.message = message
        self.retry_after = retry_after


Endpoint = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[ApiRefusal], Response]


def with_refusals(endpoint: Endpoint, refuse: Refuse) -> Endpoint:
    """An endpoint that may raise ApiRefusal, with the answer that its API gives then."""

    async def respond(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ApiRefusal as refusal:
            return refuse(refusal)

    return respond


def codes_of(api: str, code_or_status: int | str) -> tuple[int, ...]:
    """The codes of this API that a code or a class stands for. Raises InvalidInput if none does."""
    api = _OWNER.get(api, api)
    if api == STRIPE:
        if code_or_status in _STRIPES_CODES:
            return (int(code_or_status),)
        raise InvalidInput(f"{code_or_status!r} is no code of Stripe's API; its codes are HTTP's, 400 to 599")
    codes = tuple(
        code
        for code, meaning in CODES[api].items()
        if code_or_status in (code, "transient" if meaning.transient else "hard", meaning.reason)
    )
    if not codes:
        raise InvalidInput(
            f"{code_or_status!r} is no code or class of {api}'s provider; codes are in docs/provider-codes.md, "
            f"classes are {', '.join(CLASSES)}"
        )
    return codes


def by_code(api: str, code: int, recipients: Sequence[str] = ()) -> ApiRefusal:
    """For any code, known or not."""
    api = _OWNER.get(api, api)
    if api == Channel.EMAIL and code == INACTIVE:
        return all_inactive(recipients)
    meaning = CODES[api].get(code)
    words = _WORDS[api].get(code) or (meaning.remark if meaning else f"Refused on purpose, with {code}")
    status = _STATUS[api].get(code, _USUAL_STATUS.get(api, code))
    return ApiRefusal(status, code, words.format(to=recipients[0] if recipients else ""))


def by_magic(api: str, code: int, recipient: str) -> ApiRefusal:
    """As `by_code`, where it is the recipient that brings the code: Postmark has one code for all that is not valid."""
    if api == Channel.EMAIL and code == _NOT_VALID:
        return ApiRefusal(422, code, f"Invalid 'To' address: '{recipient}'.")
    return by_code(api, code, (recipient,))


def too_many(api: str, retry_after: int | None) -> ApiRefusal:
    code = _TOO_MANY[_OWNER.get(api, api)]
    return ApiRefusal(429, code, by_code(api, code).message, retry_after)


def all_inactive(recipients: Sequence[str]) -> ApiRefusal:
    # Client libraries read the addresses out of this sentence, so its shape matters.
    return ApiRefusal(
        422,
        INACTIVE,
        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
        f"{', '.join(recipients)}. Inactive recipients are ones that have generated a hard bounce, a spam "
        "complaint, or a manual suppression.",
    )
