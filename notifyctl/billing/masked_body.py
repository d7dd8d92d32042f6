"""An event's body as it may be shown: without what tells who somebody is, and without links that open doors."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from notifyctl.orchestrator.masking import mask

HIDDEN = "***"
_PERSONAL = re.compile(
    r"(.*_)?(name|phone|ip|ip_address|line1|line2|postal_code|city|dynamic_last4|last4|fingerprint|client_secret)"
)
_ADDRESS = re.compile(r"[^\s@<>,;:'\"()]+@[^\s@<>,;:'\"()]+\.\w+|(?<!\w)\+\d{7,15}(?!\w)")


def masked_body(raw: bytes) -> str:
    """Indented JSON. What is no JSON is not shown at all."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return HIDDEN
    return json.dumps(_masked(value, ""), indent=2, ensure_ascii=False)


def _masked(value: Any, name: str) -> Any:
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
            return _ADDRESS.sub(lambda found: mask(found[0]), value)
    return value
