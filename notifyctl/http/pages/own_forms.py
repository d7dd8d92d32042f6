"""Forms that change something are taken from our own pages only."""

import logging
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from notifyctl.http.dependencies import RuntimeDep
from notifyctl.http.errors import ApiError
from notifyctl.http.request_log import origin_of

log = logging.getLogger("notifyctl.http")


def _own_origin(request: Request, runtime: RuntimeDep) -> None:
    """Browsers name the origin of every form that is posted; the cookie's SameSite is the other guard.

    Only the host is compared: whether a proxy before us speaks TLS is not known here.
    """
    origin = request.headers.get("origin", "")
    ours = {request.headers.get("host", "").lower(), _host(runtime.settings.public_base_url or "")}
    if _host(origin) not in ours - {""}:
        log.warning("foreign form refused", extra=origin_of(request.scope))
        text = "This form was not sent from a page of this site. Open the page again and repeat what you did."
        raise ApiError(403, "forbidden", text)


OwnForm = Depends(_own_origin)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


async def _fields(request: Request) -> dict[str, str]:
    """Of a form without files. What is twice in it counts as it stands last."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}


Fields = Annotated[dict[str, str], Depends(_fields)]
