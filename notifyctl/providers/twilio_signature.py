"""Whether Twilio itself sent a webhook, and what it says.

https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlsplit

from twilio.request_validator import RequestValidator, add_port, remove_port

from notifyctl.providers.answers import read_json
from notifyctl.providers.receipts import MalformedReceipt

MAX_FIELDS = 200
BODY_HASH = "bodySHA256"


@dataclass(frozen=True, slots=True)
class Call:
    """`url` is the one that Twilio called, which the signature covers: ours as seen from outside, query included."""

    url: str
    content_type: str
    body: bytes
    signature: str


class _Parameters(dict[str, list[str]]):
    """As RequestValidator wants them where a name may come more than once."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


def read_signed(call: Call, auth_token: str) -> dict[str, str] | None:
    """The parameters, of a repeated one the first value. None when the signature is not Twilio's.

    Raises MalformedReceipt for a body that cannot be read.
    """
    if call.content_type.partition(";")[0].strip().lower() == "application/json":
        return _of_json(call.body) if _has_signed_body(call) and _is_signed(call, {}, auth_token) else None
    parameters = _of_form(call.body)
    if not _is_signed(call, parameters, auth_token):
        return None
    return {name: values[0] for name, values in parameters.items()}


def _is_signed(call: Call, parameters: dict[str, list[str]], auth_token: str) -> bool:
    """Twilio signs some URLs with their port and some without, so both count. Compares bytes, in constant time."""
    validator = RequestValidator(auth_token)  # type: ignore[no-untyped-call]
    parts = urlsplit(call.url)
    spellings = {call.url, add_port(parts), remove_port(parts)}  # type: ignore[no-untyped-call]
    signed = call.signature.encode("latin-1", "replace")
    expected = [validator.compute_signature(url, parameters) for url in spellings]  # type: ignore[no-untyped-call]
    return any([hmac.compare_digest(signature.encode(), signed) for signature in expected])


def _has_signed_body(call: Call) -> bool:
    """Of JSON the signature covers only the URL, which has the hash of the body in it."""
    digest = parse_qs(urlsplit(call.url).query).get(BODY_HASH, [""])[0].lower()
    return hmac.compare_digest(hashlib.sha256(call.body).hexdigest().encode(), digest.encode("utf-8", "replace"))


def _of_form(body: bytes) -> _Parameters:
    parameters = _Parameters()
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise MalformedReceipt(f"The form has over {MAX_FIELDS} fields") from None
    for name, value in pairs:
        parameters.setdefault(name, []).append(value)
    return parameters


def _of_json(body: bytes) -> dict[str, str]:
    try:
        fields = read_json(body)
    except (ValueError, RecursionError):
        raise MalformedReceipt("The body is not JSON") from None
    if not isinstance(fields, dict):
        raise MalformedReceipt("The body is not a JSON object")
    return {name: str(value) for name, value in fields.items() if isinstance(value, str | int)}
