"""What the pages load besides themselves, under addresses that change with the content."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Response

from notifyctl.http.errors import CODES, MESSAGES, ApiError

PREFIX = "/admin/static"
FOLDER = Path(__file__).parent / "static"
TYPES = {
    "page.css": "text/css",
    "refresh.js": "text/javascript",
    "retry.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
FOR_GOOD = "public, max-age=31536000, immutable"

router = APIRouter(prefix=PREFIX, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    content: bytes
    digest: str


@cache
def _file(name: str) -> StaticFile:
    content = (FOLDER / name).read_bytes()
    return StaticFile(content, sha256(content).hexdigest()[:16])


def address(name: str) -> str:
    return f"{PREFIX}/{_file(name).digest}/{name}"


@router.get("/{digest}/{name}")
def show(digest: str, name: str) -> Response:
    """For everyone: the page to sign in on needs them too.

    While servers of two versions stand side by side, one may be asked for the other's file: it gives its own.
    """
    if name not in TYPES:
        raise ApiError(404, CODES[404], MESSAGES[404])
    file = _file(name)
    caching = FOR_GOOD if digest == file.digest else "no-store"
    return Response(file.content, media_type=TYPES[name], headers={"Cache-Control": caching})
