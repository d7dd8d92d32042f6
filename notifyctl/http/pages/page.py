"""How a page is answered: written by Jinja2, under a policy by which it loads nothing but our own files."""

import re
from functools import cache
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from notifyctl.http.pages.figures import count, day_and_time, share, span
from notifyctl.http.pages.files import address
from notifyctl.models.enums import BlockReason
from notifyctl.orchestrator.words import iso

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # With no-referrer, a browser names the origin of our own forms as "null", and they could not be told from others'.
    "Referrer-Policy": "same-origin",
}
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
        "day_and_time": day_and_time,
        "iso": iso,
        "sentence": sentence,
    }
    return pages


def render(template: str, status: int = 200, /, **values: object) -> HTMLResponse:
    html = _pages().get_template(template).render(**values)
    # What a provider said may hold halves of surrogate pairs.
    return HTMLResponse(html.encode("utf-8", "replace"), status, HEADERS)


def sentence(text: str) -> Markup:
    """Begins with a capital and ends with a stop; what stands in backticks is something to type."""
    text = text.strip()
    parts = _COMMAND.split(f"{text[:1].upper()}{text[1:]}".rstrip(".") + ".")
    marked = [Markup("<code>{}</code>").format(part) if odd else escape(part) for odd, part in _numbered(parts)]
    return Markup("").join(marked)


def _numbered(parts: list[str]) -> list[tuple[bool, str]]:
    return [(index % 2 == 1, part) for index, part in enumerate(parts)]
