"""JSON answers, in ASCII: a message may hold half a surrogate pair, which UTF-8 cannot carry."""

import json
from typing import Any

from starlette.responses import Response

_encode = json.JSONEncoder(separators=(",", ":")).encode


def answer(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(payload), status, headers, "application/json")
