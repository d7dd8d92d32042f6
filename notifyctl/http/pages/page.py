"""How a page is answered: by Jinja2, under a policy by which it loads nothing but our own files, and those files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from notifyctl.http.errors import CODES, MESSAGES, ApiError
from notifyctl.models.enums import BlockReason
from notifyctl.operations.pauses import PauseScope
from notifyctl.text.durations import duration, iso, moment, plural, sentence

PREFIX = "/admin/static"
FOLDER = Path(__file__).parent / "static"
TYPES = {
    "page.css": "text/css",
    "refresh.js": "text/javascript",
    "retry.js": "text/javascript",
    "zone.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
FOR_GOOD = "public, max-age=31536000, immutable"

router = APIRouter(prefix=PREFIX, include_in_schema=False)
NOTHING = "–"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # With no-referrer, a browser names the origin of our own forms as "null", and they could not be told from others'.
    "Referrer-Policy": "same-origin",
}
POLICY = "Content-Security-Policy"
WITH_A_MAIL = HEADERS | {POLICY: HEADERS[POLICY].replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")}
"""A mail has its styles in itself, and its frame is bound by the page around it. It runs no script in either case."""


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


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def share(part: float, whole: float = 1) -> str:
    """`12.3%`; a dash of nothing, and never 0 or 100 for what is not quite so."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1%"
    if 99.95 <= percent < 100:
        return "> 99.9%"
    return f"{percent:.1f}%".replace(".0%", "%")


def span(seconds: float | None) -> str:
    """`340 ms`, `1.2 s`, `4 min`, `3.5 h`; a dash when it is not known."""
    return NOTHING if seconds is None else duration(seconds)


@pass_context
def at_length(context: Context, at: datetime) -> str:
    """`2026-03-02 04:17:17Z`, as everywhere; in the zone of whoever looks, which the page names, without the Z."""
    return moment(at) if _is_utc(context) else f"{at.astimezone(context['zone']):%Y-%m-%d %H:%M:%S}"


@pass_context
def local(context: Context, text: str, beside: datetime) -> str:
    """The times in a sentence of ours, as above. A time without a date is of the day of `beside`."""
    if _is_utc(context):
        return text

    def there(found: re.Match[str]) -> str:
        try:
            at = datetime.fromisoformat(f"{found[1] or f'{beside.astimezone(UTC):%Y-%m-%d} '}{found[2]}+00:00")
        except ValueError:  # somebody else's words
            return found[0]
        same_day = not found[1] and f"{at.astimezone(context['zone']):%x}" == f"{beside.astimezone(context['zone']):%x}"
        return f"{at.astimezone(context['zone']):{'%H:%M:%S' if same_day else '%Y-%m-%d %H:%M:%S'}}"

    return _MOMENT.sub(there, text)


@pass_context
def in_field(context: Context, at: datetime | None) -> str:
    """For a field of a form, which knows no zone."""
    return f"{at.astimezone(context['zone']):%Y-%m-%dT%H:%M}" if at else ""


def _is_utc(context: Context) -> bool:
    return str(context.get("zone", UTC)) == "UTC"


_MOMENT = re.compile(r"\b(\d{4}-\d\d-\d\d )?(\d\d:\d\d:\d\d)Z\b", re.ASCII)


_COMMAND = re.compile("`([^`]+)`")


@cache
def _pages() -> Environment:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals["file"] = address
    pages.globals["never_had_one"] = (BlockReason.CLIENT_UNKNOWN, BlockReason.RECIPIENT_MISSING)
    pages.filters |= {
        "count": count,
        "share": share,
        "span": span,
        "at_length": at_length,
        "in_field": in_field,
        "local": local,
        "iso": iso,
        "plural": plural,
        "scope_query": scope_query,
        "sentence": marked_sentence,
    }
    return pages


def render(template: str, status: int = 200, headers: Mapping[str, str] = HEADERS, /, **values: object) -> HTMLResponse:
    html = _pages().get_template(template).render(**values)
    # What a provider said may hold halves of surrogate pairs.
    return HTMLResponse(html.encode("utf-8", "replace"), status, headers)


def marked_sentence(text: str) -> Markup:
    """What stands in backticks is something to type."""
    parts = _COMMAND.split(sentence(text))
    marked = [Markup("<code>{}</code>").format(part) if odd else escape(part) for odd, part in _numbered(parts)]
    return Markup("").join(marked)


def _numbered(parts: list[str]) -> list[tuple[bool, str]]:
    return [(index % 2 == 1, part) for index, part in enumerate(parts)]


def scope_query(scope: PauseScope, back: str = "") -> str:
    """For the address at which a scope is paused or resumed; `back` is the page to return to, if not the first."""
    values = {"channel": scope.channel, "template_key": scope.template_key, "client_id": scope.client_id, "next": back}
    return urlencode({name: value for name, value in values.items() if value})
