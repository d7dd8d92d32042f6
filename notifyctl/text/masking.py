"""What logs and listings show of people: enough of an address to recognise it, too little to use."""

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

HIDDEN = "***"
_PERSONAL = re.compile(
    r"(.*_)?(name|phone|ip|ip_address|line1|line2|postal_code|city|dynamic_last4|last4|fingerprint|client_secret)"
)
_ADDRESS = re.compile(r"[^\s@<>,;:'\"()]+@[^\s@<>,;:'\"()]+\.\w+|(?<!\w)\+\d{7,15}(?!\w)")
_KEPT_START, _KEPT_END = 3, 2


def mask(address: str | None) -> str:
    """`anna@acme.example` -> `a***@acme.example`, `+491701234534` -> `+49********34`, others -> `***`."""
    if not address:
        return ""
    name, at, domain = address.rpartition("@")
    if at:
        return f"{name[:1] if len(name) > 1 else ''}***@{domain}"
    hidden = len(address) - _KEPT_START - _KEPT_END
    if not address.startswith("+") or hidden < _KEPT_START:
        return HIDDEN
    return address[:_KEPT_START] + "*" * hidden + address[-_KEPT_END:]


def masked_body(raw: bytes) -> str:
    """JSON without what tells who somebody is, and without links that open doors; indented. Else nothing of it."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return HIDDEN
    return json.dumps(_masked(value, ""), indent=2, ensure_ascii=False)


def _masked(value: object, name: str) -> object:
    match value:
        case Mapping():
            return {key: _masked(item, str(key)) for key, item in value.items()}
        case list():
            return [_masked(item, name) for item in value]
        case str() if _PERSONAL.fullmatch(name):
            return mask(value) if name.endswith("phone") else HIDDEN
        case str() if value.startswith(("http://", "https://")):
            return f"{urlsplit(value).scheme}://{urlsplit(value).netloc.rpartition('@')[2]}/{HIDDEN}"
        case str():
            return _ADDRESS.sub(lambda match: mask(match[0]), value)
    return value
