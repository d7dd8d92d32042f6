"""An error of a page is a page as well, where a browser asks for one."""

import json

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifyctl.http.errors import RETRY_AFTER_SECONDS
from notifyctl.http.pages.page import PREFIX, render
from notifyctl.http.pages.sessions import HOME, safe_next

ADMIN = "/admin"
REFERENCE = "/docs"
TITLES = {
    403: "Refused",
    404: "Not found",
    405: "Not this way",
    413: "Too much at once",
    422: "Not understood",
    500: "Something went wrong",
    503: "No database",
}


class PageErrors:
    """Keeps the status and the headers of what errors.py has answered, and says the same for a person."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_page(scope):
            await self._app(scope, receive, send)
            return
        begun: Message | None = None
        body = b""

        async def change(message: Message) -> None:
            nonlocal begun, body
            if message["type"] == "http.response.start" and _is_error(message):
                begun = message
            elif begun is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _answer(scope, receive, send, begun, body)

        await self._app(scope, receive, change)


def _is_page(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path = scope["path"]
    is_ours = path in (ADMIN, REFERENCE) or (path.startswith(f"{ADMIN}/") and not path.startswith(PREFIX))
    return is_ours and "text/html" in Headers(scope=scope).get("accept", "")


def _is_error(message: Message) -> bool:
    return message["status"] >= 400 and Headers(raw=message["headers"]).get("content-type") == "application/json"


def _requested_page(scope: Scope) -> str:
    """Of ours; where it is none, the first one."""
    return safe_next(scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""))


async def _answer(scope: Scope, receive: Receive, send: Send, begun: Message, body: bytes) -> None:
    status = begun["status"]
    answer = render(
        "fault.html",
        status,
        status=status,
        title=TITLES.get(status, "Error"),
        message=json.loads(body)["message"],
        address=_requested_page(scope) if status >= 500 and scope["method"] == "GET" else HOME,
        retry_seconds=RETRY_AFTER_SECONDS if status == 503 and scope["method"] == "GET" else 0,
    )
    for name, value in Headers(raw=begun["headers"]).items():
        if name not in ("content-type", "content-length"):
            answer.headers.setdefault(name, value)
    await answer(scope, receive, send)
